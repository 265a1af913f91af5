//! What Slurm is asked, without its accounting: states by `squeue`, the wish to stop by `scancel`.

use crate::engine::batch::known::{Known, Verdict};
use crate::engine::batch::system::Named;
use std::collections::{BTreeMap, BTreeSet};
use std::process::{Command, Output, Stdio};

/// Columns of fixed width; the reason may have blanks in it and comes last.
const FORMAT: &str = "JobArrayID:64,State:32,exit_code:16,Reason:128";

/// How many tasks an array may have by default.
const LARGEST: u32 = 1000;

/// The states of jobs, in one call. A job that Slurm has forgotten is not in the answer.
pub fn states(ids: &[String]) -> Result<BTreeMap<String, Known>, String> {
    let mut known = BTreeMap::new();
    for (cluster, numbers) in clusters(ids) {
        // The tasks of an array are asked about by the array.
        let arrays: BTreeSet<&str> = numbers.iter().map(|id| id.split('_').next().unwrap_or(id)).collect();
        let list = arrays.into_iter().collect::<Vec<_>>().join(",");
        let at = at(cluster);
        let mut words = vec!["--noheader", "--array", "--states=all", "--jobs", &list, "--Format", FORMAT];
        words.extend(at.as_deref());
        let output = run("squeue", &words)?;
        match failure("squeue", &output) {
            // Said when all that is asked about is forgotten.
            Some(text) if text.contains("Invalid job id") => {}
            Some(text) => return Err(text),
            None => {
                let found = parse(&String::from_utf8_lossy(&output.stdout)).into_iter();
                known.extend(found.map(|(id, job)| (whole(&id, cluster), job)));
            }
        }
    }
    Ok(known)
}

/// The id of a job, with its cluster where that is not the usual one: `12`, `12;other`, `12_3;other`.
pub fn whole(id: &str, cluster: Option<&str>) -> String {
    cluster.map_or_else(|| id.to_string(), |cluster| format!("{id};{cluster}"))
}

/// The ids by their clusters, without these.
fn clusters(ids: &[String]) -> BTreeMap<Option<&str>, Vec<&str>> {
    let mut all: BTreeMap<Option<&str>, Vec<&str>> = BTreeMap::new();
    for id in ids {
        let (id, cluster) = id.split_once(';').map_or((id.as_str(), None), |(id, at)| (id, Some(at)));
        all.entry(cluster).or_default().push(id);
    }
    all
}

/// The option that has one of Slurm's programs ask another cluster.
fn at(cluster: Option<&str>) -> Option<String> {
    cluster.map(|cluster| format!("--clusters={cluster}"))
}

fn parse(text: &str) -> BTreeMap<String, Known> {
    let line = |line: &str| {
        let mut words = line.split_whitespace();
        let (id, state, code) = (words.next()?, words.next()?, words.next()?.parse().ok()?);
        let reason = words.collect::<Vec<_>>().join(" ");
        Some((id.to_string(), known(state, code, reason)))
    };
    text.lines().filter_map(line).collect()
}

fn known(state: &str, code: u32, reason: String) -> Known {
    let verdict = match state {
        "COMPLETED" | "FAILED" => Verdict::Ended,
        "CANCELLED" | "REVOKED" => Verdict::Cancelled,
        "TIMEOUT" | "DEADLINE" => Verdict::Timeout,
        "OUT_OF_MEMORY" => Verdict::Memory,
        "PREEMPTED" | "NODE_FAIL" | "BOOT_FAIL" => Verdict::Again,
        _ => Verdict::Open,
    };
    let running = matches!(state, "RUNNING" | "COMPLETING" | "STOPPED" | "SUSPENDED" | "SIGNALING");
    Known { state: state.into(), verdict, pending: state == "PENDING", running, code, reason }
}

/// The ids of jobs by their names, which only one submission has, and their tasks in an array; in one call.
pub fn named(names: &BTreeSet<String>, cluster: Option<&str>) -> Result<BTreeMap<Named, String>, String> {
    let names = names.iter().map(String::as_str).collect::<Vec<_>>().join(",");
    let at = at(cluster);
    let format = "JobArrayID:64,Name:256";
    let mut words = vec!["--noheader", "--array", "--states=all", "--name", &names, "--Format", format];
    words.extend(at.as_deref());
    let output = run("squeue", &words)?;
    if let Some(text) = failure("squeue", &output) {
        return Err(text);
    }
    let text = String::from_utf8_lossy(&output.stdout);
    // Of another cluster, its name stands above.
    let pairs = text.lines().filter_map(|line| {
        let (id, name) = line.trim().split_once(char::is_whitespace)?;
        let task = id.split_once('_').map(|(_, task)| task.parse());
        let task = task.transpose().ok()?;
        id.starts_with(|c: char| c.is_ascii_digit())
            .then(|| ((name.trim().to_string(), task), whole(id, cluster)))
    });
    Ok(pairs.collect())
}

/// How many tasks an array may have, as the cluster says; Slurm's own default where it does not.
pub fn largest_array() -> u32 {
    let said = run("scontrol", &["show", "config"]).map(|output| output.stdout).unwrap_or_default();
    let said = String::from_utf8_lossy(&said).into_owned();
    let line =
        said.lines().find_map(|line| line.trim().strip_prefix("MaxArraySize")?.trim().strip_prefix('='));
    line.and_then(|size| size.trim().parse().ok()).filter(|size| *size > 0).unwrap_or(LARGEST)
}

/// Asks jobs to save and stop (level 1: those that wait are cancelled), or ends them (level 2).
pub fn cancel(ids: &[String], level: u8) {
    let mut ways: Vec<Vec<&str>> = vec![vec!["--quiet"]];
    if level == 1 {
        // The job's own process gets the signal and hands it on.
        ways = vec![vec!["--quiet", "--state=PENDING"], vec!["--quiet", "--batch", "--signal=TERM"]];
    }
    for way in ways {
        for (cluster, numbers) in clusters(ids) {
            let at = at(cluster);
            let words: Vec<&str> = way.iter().copied().chain(at.as_deref()).chain(numbers).collect();
            // A job that is over already cannot be cancelled, and need not be; whoever waits sees what became of it.
            let _ = run("scancel", &words);
        }
    }
}

/// Runs one of Slurm's programs to its end.
fn run(program: &str, words: &[&str]) -> Result<Output, String> {
    let mut command = Command::new(program);
    command.args(words).stdin(Stdio::null());
    // The caller's own habits would change the answers.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("SQUEUE_") || text.starts_with("SCANCEL_") {
            command.env_remove(&name);
        }
    }
    command.output().map_err(|e| format!("{program}: {e}"))
}

/// What a program complained of, on one line.
pub fn failure(program: &str, output: &Output) -> Option<String> {
    if output.status.success() {
        return None;
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = said.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
    Some(format!("{program} failed: {}", lines.join("; ").trim_start_matches(&format!("{program}: error: "))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read() {
        let known = parse(
            "12_0      FAILED   1792   NonZeroExitCode\n13   PENDING  0  ReqNodeNotAvail, Reserved  \ngarbage\n",
        );
        assert_eq!(known.len(), 2);
        assert_eq!((known["12_0"].code >> 8, known["12_0"].verdict), (7, Verdict::Ended));
        assert_eq!(known["13"].line("13"), "job 13 waits: ReqNodeNotAvail, Reserved");
        assert_eq!(known["13"].verdict, Verdict::Open);
    }
}
