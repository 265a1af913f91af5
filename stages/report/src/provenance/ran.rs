//! When and where the stages ran, and how long they took.

use super::here::Here;
use super::lineage::{Lineage, Ran, Stage};
use crate::document::{Block, Section, Table, code};
use std::time::Duration;

/// The section: what all stages have in common, then each stage's own.
pub fn section(lineage: Option<&Lineage>, here: Option<&Here>) -> Option<Section> {
    let mut section = Section::new("Run");
    let ran: Vec<(&Stage, &Ran)> = lineage
        .iter()
        .flat_map(|l| &l.stages)
        .filter_map(|stage| Some((stage, stage.ran.as_ref()?)))
        .collect();
    if let Some(lineage) = lineage {
        section.blocks.extend(study(lineage).map(Block::Table));
    }
    if !ran.is_empty() {
        section.blocks.push(Block::Table(stages(&ran)));
        section.text(total(&ran));
    }
    section.blocks.extend(here.map(|here| Block::Table(here.table())));
    (!section.blocks.is_empty()).then_some(section)
}

fn study(lineage: &Lineage) -> Option<Table> {
    let study = &lineage.study;
    let mut table = Table::new("The study.", &["Study", "Value"]);
    let mut row = |name: &str, value: &str| {
        if !value.is_empty() {
            table.row([name.into(), code(value)]);
        }
    };
    row("name", &study.name);
    row("file", &study.file);
    row("variant", study.variant.as_deref().unwrap_or_default());
    row("profile", study.profile.as_deref().unwrap_or_default());
    row("set by hand", &study.set.join(" "));
    (!table.rows.is_empty()).then_some(table)
}

/// What is said of a place, in the order of the columns.
const PLACE: [(&str, fn(&Ran) -> String); 7] = [
    ("Machine", machine),
    ("Engine", |r| r.engine.clone().unwrap_or_default()),
    ("Device", |r| r.device.clone().unwrap_or_default()),
    ("Threads", |r| r.threads.map(|n| n.to_string()).unwrap_or_default()),
    ("Processes", |r| r.processes.map(|n| n.to_string()).unwrap_or_default()),
    ("libtorch", |r| r.libtorch.clone().unwrap_or_default()),
    ("Commit", commit),
];

fn machine(ran: &Ran) -> String {
    let cpus = ran.cpus.map(|n| format!("{n} CPUs"));
    let memory = ran.memory.map(memory);
    let gpus = (!ran.gpus.is_empty()).then(|| ran.gpus.join(", "));
    let words = [ran.host.clone(), ran.processor.clone(), cpus, memory, gpus];
    words.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn commit(ran: &Ran) -> String {
    let changed = if ran.changed { ", with changes that are not in it" } else { "" };
    ran.commit.as_deref().map(|c| format!("{}{changed}", code(c))).unwrap_or_default()
}

/// One row for each action; what is the same for all stands in the caption.
fn stages(ran: &[(&Stage, &Ran)]) -> Table {
    let mut caption = String::new();
    let mut columns: Vec<(&str, fn(&Ran) -> String)> = Vec::new();
    for (name, of) in PLACE {
        let first = of(ran[0].1);
        match ran.iter().all(|r| of(r.1) == first) {
            true if first.is_empty() => {}
            true => caption += &format!("{name}: {first}. "),
            false => columns.push((name, of)),
        }
    }
    let mut titles = vec!["Stage", "Finished (UTC)", "Took #"];
    titles.extend(columns.iter().map(|c| c.0));
    let mut table = Table::new(caption.trim_end(), &titles);
    for (stage, ran) in ran {
        let name = match &stage.entry {
            Some(entry) => format!("{} {}", stage.stage, code(entry)),
            None => stage.stage.clone(),
        };
        let finished = ran.finished.map(|f| date(f, "%F %H:%M")).unwrap_or_default();
        let mut cells = vec![name, finished, ran.seconds.map(duration).unwrap_or_default()];
        cells.extend(columns.iter().map(|c| c.1(ran)));
        table.rows.push(cells);
    }
    table
}

fn total(ran: &[(&Stage, &Ran)]) -> String {
    let seconds: f64 = ran.iter().filter_map(|r| r.1.seconds).sum();
    format!("{} of work in all; what ran side by side took less.", duration(seconds))
}

/// `3 min 51 s`.
pub fn duration(seconds: f64) -> String {
    let Ok(time) = Duration::try_from_secs_f64(seconds) else { return "?".into() };
    let whole = time.as_secs();
    match whole {
        0..10 => format!("{seconds:.1} s"),
        10..60 => format!("{whole} s"),
        60..3600 => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
    }
}

/// Bytes as binary units.
pub fn memory(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30))
}

/// Seconds since 1970 as a day, or a day and a minute, in UTC.
pub fn date(seconds: u64, form: &str) -> String {
    let time = i64::try_from(seconds).ok().and_then(|s| jiff::Timestamp::from_second(s).ok());
    time.map(|t| t.strftime(form).to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_durations_are_right() {
        assert_eq!(date(951_782_400, "%F"), "2000-02-29");
        assert_eq!(date(1_735_689_599, "%F %H:%M"), "2024-12-31 23:59");
        assert_eq!([0.25, 59.9, 231.4, 7_325.0].map(duration), ["0.2 s", "59 s", "3 min 51 s", "2 h 2 min"]);
        assert_eq!(duration(f64::NAN), "?");
    }
}
