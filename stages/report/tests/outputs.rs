//! What `report` does to what stands at its output.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../../../crates/stage/tests/support/outputs.rs"]
mod rules;

use rules::{everything, keeps_folders, refuses, stands_apart, succeeds};
use std::fs;
use std::path::Path;
use std::process::Command;

fn report(log: &Path, to: &Path, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_report"));
    command.arg("--log").arg(log).arg("--report").arg(to).args(["--place", "false"]).args(more);
    command
}

fn log(folder: &Path) -> std::path::PathBuf {
    let line =
        |i: usize| format!("{{\"step\":{i},\"mse\":0.5,\"learning_rate\":0.1,\"images_per_second\":9.0}}\n");
    fs::write(folder.join("log.jsonl"), (1..20).map(line).collect::<String>()).unwrap();
    folder.join("log.jsonl")
}

#[test]
fn what_is_not_its_own_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let log = log(dir.path());
    keeps_folders(dir.path(), "--report", |to| report(&log, to, &[]));
    stands_apart(dir.path(), "--report", &log, |to| report(&log, to, &[]));
    // A paper with names like ours.
    let paper = dir.path().join("paper");
    fs::create_dir_all(paper.join("figures")).unwrap();
    fs::write(paper.join("report.md"), "# My paper\n").unwrap();
    fs::write(paper.join("figures/mine.svg"), "<svg/>").unwrap();
    refuses(dir.path(), report(&log, &paper, &[]), &["holds report.html, which report did not make"]);
    fs::write(paper.join("report.html"), "<!doctype html>\n<html lang=\"en\">\n").unwrap();
    refuses(dir.path(), report(&log, &paper, &[]), &["holds report.html, which report did not make"]);
}

#[test]
fn an_earlier_report_is_replaced_unless_somebody_worked_on_it() {
    let dir = tempfile::tempdir().unwrap();
    let (log, to) = (log(dir.path()), dir.path().join("report"));
    succeeds(report(&log, &to, &[]));
    let first = everything(dir.path());
    succeeds(report(&log, &to, &[]));
    assert!(everything(dir.path()) == first);
    succeeds(report(&log, &to, &["--title", "Another"]));
    assert!(fs::read_to_string(to.join("report.md")).unwrap().starts_with("# Another"));

    let figure = fs::read_dir(to.join("figures")).unwrap().next().unwrap().unwrap().path();
    for edited in [to.join("report.md"), to.join("report.html"), figure] {
        let text = fs::read_to_string(&edited).unwrap();
        fs::write(&edited, format!("{text}edited")).unwrap();
        let name = edited.file_name().unwrap().to_str().unwrap();
        refuses(dir.path(), report(&log, &to, &[]), &["--report", name, "which report did not make"]);
        fs::write(&edited, text).unwrap();
    }
    for mine in ["thesis.txt", "figures/mine.svg", "mine.parquet"] {
        fs::write(to.join(mine), "mine").unwrap();
        refuses(dir.path(), report(&log, &to, &[]), &[&format!("holds {mine}, which report did not make")]);
        fs::remove_file(to.join(mine)).unwrap();
    }
    succeeds(report(&log, &to, &[]));
}

#[test]
fn a_report_of_the_time_before_marks_is_known() {
    let dir = tempfile::tempdir().unwrap();
    let (log, to) = (log(dir.path()), dir.path().join("report"));
    succeeds(report(&log, &to, &[]));
    let page = fs::read_to_string(to.join("report.html")).unwrap();
    fs::write(to.join("report.html"), page.split("<!-- made by").next().unwrap()).unwrap();
    fs::write(to.join("figures/mine.svg"), "mine").unwrap();
    refuses(dir.path(), report(&log, &to, &[]), &["holds figures/mine.svg"]);
    fs::remove_file(to.join("figures/mine.svg")).unwrap();
    succeeds(report(&log, &to, &[]));
    assert_eq!(fs::read_to_string(to.join("report.html")).unwrap(), page);
}
