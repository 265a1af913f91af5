//! `pipeline plan --cost`.

use super::output::{print, print_json};
use crate::cli::Global;
use crate::error::Result;
use crate::session::Session;
use crate::session::cost::{Basis, Estimate, Total, estimate};
use crate::session::plan::Planned;
use crate::text::{counted, day, duration, significant, size, table};
use serde_json::json;

/// A time of this many seconds and more is told in days.
const DAYS: f64 = 2.0 * 86_400.0;
/// GPUs of one machine, beside those that the study asks for.
const MACHINE: u32 = 8;

/// Says what the stages that would run are expected to cost.
pub fn cost(global: &Global, session: &Session, planned: &[Planned]) -> Result<()> {
    let (stages, total) = estimate(session, planned);
    if global.json {
        return print_json(&json!({ "stages": stages, "total": total }));
    }
    if stages.is_empty() {
        return print("nothing would run\n");
    }
    let mut rows = vec![["stage", "time", "GPU hours", "CPU hours", "disk", ""].map(String::from).to_vec()];
    rows.extend(stages.iter().map(row));
    print(&(table(&rows) + &summary(&total)))
}

fn row(one: &Estimate) -> Vec<String> {
    let unknown = || "unknown".to_string();
    let time = one.seconds.map_or_else(unknown, |seconds| match one.parts {
        Some(1) => time(seconds),
        Some(parts) => format!("{parts} × {}", time(seconds)),
        None => format!("? × {}", time(seconds)),
    });
    let hours = |hours: Option<f64>| hours.map_or_else(unknown, self::hours);
    let disk = one.disk.map_or_else(unknown, size);
    vec![one.stage.clone(), time, hours(one.gpu_hours), hours(one.cpu_hours), disk, basis(&one.basis)]
}

fn basis(basis: &Basis) -> String {
    match basis {
        Basis::Nothing => "nothing is known of it".into(),
        Basis::Study => "as the study says".into(),
        Basis::Runs { count, newest, host, scaled } => {
            let host = host.as_ref().map(|host| format!(" on {host}")).unwrap_or_default();
            let scaled = scaled.map(|by| format!(", × {}", significant(by))).unwrap_or_default();
            format!("{} like it, that of {}{host}{scaled}", counted(*count, "result"), day(*newest))
        }
    }
}

/// What all of it takes, and what is not in that.
fn summary(total: &Total) -> String {
    let mut text = format!(
        "\nin all: {} GPU hours, {} CPU hours, {} of outputs\n",
        hours(total.gpu_hours),
        hours(total.cpu_hours),
        size(total.disk)
    );
    let of = |gpus: u32| {
        format!("{} on {}", time(total.gpu_hours * 3600.0 / f64::from(gpus)), counted(gpus as usize, "GPU"))
    };
    if total.gpu_hours > 0.0 {
        let mut machines = vec![1, total.gpus, MACHINE];
        machines.sort_unstable();
        machines.dedup();
        let on: Vec<String> = machines.into_iter().filter(|gpus| *gpus > 0).map(of).collect();
        text += &format!("the GPUs' part takes {}\n", on.join(", "));
    }
    text += &format!("from end to end at the least {}, when no stage waits for room\n", time(total.seconds));
    if !total.unknown.is_empty() {
        text += &format!("not in these sums, as it is unknown: {}\n", total.unknown.join(", "));
    }
    text
}

fn hours(hours: f64) -> String {
    match hours {
        h if h >= 100.0 => format!("{h:.0}"),
        h if h >= 0.1 => format!("{h:.1}"),
        h => significant((h * 1e4).round() / 1e4),
    }
}

fn time(seconds: f64) -> String {
    if seconds >= DAYS { format!("{:.1} days", seconds / 86_400.0) } else { duration(seconds) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_hours() {
        assert_eq!([time(60.0), time(DAYS), time(302_400.0)], ["1 min 0 s", "2.0 days", "3.5 days"]);
        assert_eq!(
            [hours(0.0), hours(0.01234), hours(84.44), hours(1234.5)],
            ["0", "0.01230", "84.4", "1234"]
        );
    }

    #[test]
    fn the_sum_says_days_on_so_many_gpus_and_what_it_lacks() {
        let total = Total {
            gpu_hours: 84.0,
            cpu_hours: 672.0,
            disk: 1 << 30,
            seconds: 302_400.0,
            gpus: 1,
            unknown: vec!["download".into()],
        };
        let text = summary(&total);
        assert!(text.contains("84.0 GPU hours, 672 CPU hours, 1.0 GiB"), "{text}");
        assert!(text.contains("takes 3.5 days on 1 GPU, 10 h 30 min on 8 GPUs"), "{text}");
        assert!(text.contains("at the least 3.5 days") && text.contains("unknown: download"), "{text}");
    }
}
