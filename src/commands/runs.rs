//! `pipeline runs`: what has been run.

use super::output::{print, print_json};
use crate::cache::runs::{AttemptReport, Report, Status, all, past};
use crate::cli::Global;
use crate::error::{Error, Result};
use crate::text::{day_and_time, duration, size, table, visible, with};
use store::Store;
use study::{Choice, hint};

/// Prints the past runs of the study, the newest last, or one of them in full.
pub fn runs(global: &Global, run: Option<&str>, every: bool) -> Result<()> {
    let graph = study::load(&Choice { variants: Vec::new(), ..global.choice() })?;
    let store = Store::look(&graph.root, &graph.name)?;
    if let Some(name) = run {
        let report = past(&store, name)?.ok_or_else(|| {
            let past = all(&store);
            let near = hint(name, past.iter().filter_map(|report| report.name.as_deref()));
            Error::NoSuchRun { name: name.into(), near }
        })?;
        return if global.json { print_json(&report) } else { print(&in_full(&report)) };
    }
    let mut reports = all(&store);
    reports.retain(|report| every || report.study == graph.name);
    if global.json {
        return print_json(&reports);
    }
    if reports.is_empty() {
        return print("nothing has run yet\n");
    }
    let mut head: Vec<String> =
        ["run", "name", "date (UTC)", "took", "result", "stages", "commit", "machine", "note"]
            .map(String::from)
            .into();
    if every {
        head.insert(1, "study".into());
    }
    let rows = reports.iter().map(|report| {
        let mut row = line(report);
        if every {
            row.insert(1, report.study.clone());
        }
        row
    });
    print(&table(&std::iter::once(head).chain(rows).collect::<Vec<_>>()))
}

fn line(report: &Report) -> Vec<String> {
    let or_none =
        |text: &Option<String>| text.as_deref().map_or("-".into(), |text| visible(text).replace('\n', " "));
    vec![
        report.run.clone(),
        or_none(&report.name),
        day_and_time(report.started),
        duration(report.finished.saturating_sub(report.started) as f64),
        report.result().into(),
        counts(report),
        commit(report),
        report.facts.machine.host.clone(),
        or_none(&report.note),
    ]
}

/// `3 ran, 5 cached`.
fn counts(report: &Report) -> String {
    let kinds = [
        ("ran", vec![Status::Ran]),
        ("fetched", vec![Status::Fetched]),
        ("cached", vec![Status::Cached, Status::Restored]),
        ("replaced", vec![Status::Replaced]),
        ("failed", vec![Status::Failed]),
        ("skipped", vec![Status::Skipped]),
    ];
    let count = |(name, of): &(&str, Vec<Status>)| {
        let count = report.stages.iter().filter(|row| of.contains(&row.status)).count();
        (count > 0).then(|| format!("{count} {name}"))
    };
    kinds.iter().filter_map(count).collect::<Vec<_>>().join(", ")
}

/// The beginning of the commit, with a `+` when files differed from it.
fn commit(report: &Report) -> String {
    let of = &report.facts.commit;
    let short: String = of.commit.iter().flat_map(|commit| commit.chars().take(8)).collect();
    match short.is_empty() {
        true => "-".into(),
        false => short + if of.changed { "+" } else { "" },
    }
}

/// The column of what a program ran with, which few say.
const WITH: usize = 3;

fn in_full(report: &Report) -> String {
    let (asked, machine) = (&report.asked, &report.facts.machine);
    let mut rows: Vec<Vec<String>> = Vec::new();
    let mut row = |name: &str, value: String| {
        if !value.is_empty() {
            rows.push(vec![name.into(), visible(&value).replace('\n', " ")]);
        }
    };
    row("run", report.run.clone());
    row("name", report.name.clone().unwrap_or_default());
    row("note", report.note.clone().unwrap_or_default());
    row("study", report.study.clone());
    row("file", asked.file.display().to_string());
    row("profile", asked.profile.clone().unwrap_or_default());
    row("variants", asked.variants.join(", "));
    row("set", asked.set.join(" "));
    row("with", asked.with.join(" "));
    row("started (UTC)", day_and_time(report.started));
    row("took", duration(report.finished.saturating_sub(report.started) as f64));
    row("result", report.result().into());
    row("error", report.error.clone().unwrap_or_default());
    let changed = if report.facts.commit.changed { ", with changes that are not in it" } else { "" };
    row("commit", report.facts.commit.commit.as_ref().map(|c| format!("{c}{changed}")).unwrap_or_default());
    row("runner", report.runner.clone());
    row("machine", machine.host.clone());
    row("processor", machine.processor.clone());
    row("CPUs", if machine.cpus > 0 { machine.cpus.to_string() } else { String::new() });
    row("memory", if machine.memory > 0 { size(machine.memory) } else { String::new() });
    row("GPUs", machine.gpus.join(", "));
    row("driver", machine.driver.clone());
    row("kernel", machine.kernel.clone());
    let mut text = table(&rows);
    let stages = report.stages.iter().map(|row| {
        let status = format!("{:?}", row.status).to_lowercase();
        let took = row.seconds.map(duration).unwrap_or_default();
        vec![row.stage.clone(), status, took, visible(&with(&row.reported)).into_owned(), row.reason.clone()]
    });
    let mut stages: Vec<Vec<String>> = stages.collect();
    if stages.iter().all(|row| row[WITH].is_empty()) {
        stages.iter_mut().for_each(|row| drop(row.remove(WITH)));
    }
    text += "\n";
    text += &table(&stages);
    if !report.attempts.is_empty() {
        let head = ["attempt", "", "took", "ended", "memory", "GPUs", "on"].map(String::from).to_vec();
        let rows = report.attempts.iter().map(attempt);
        text += "\n";
        text += &table(&std::iter::once(head).chain(rows).collect::<Vec<_>>());
    }
    text
}

fn attempt(attempt: &AttemptReport) -> Vec<String> {
    let ended = match (&attempt.failure, attempt.exit) {
        (Some(failure), _) => failure.to_string(),
        (None, code) => format!("exit {}", code.unwrap_or_default()),
    };
    vec![
        attempt.task.clone(),
        attempt.attempt.to_string(),
        duration(attempt.seconds),
        ended,
        attempt.peak_memory.map(size).unwrap_or_default(),
        attempt.gpus.join(","),
        format!("{} ({})", attempt.host, attempt.engine),
    ]
}
