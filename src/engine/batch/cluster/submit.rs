//! Handing attempts to a cluster's `submit`.
//!
//! A process of its own calls the command and writes the ids down, in a session of its own and with the lock of whoever
//! waits: a runner that is killed meanwhile loses no job, and whoever comes after it waits until the ids are there.

use super::call::call;
use crate::engine::batch::prepare;
use crate::engine::batch::submission::{Of, Submission};
use crate::engine::batch::system::{Batch, Refusal, Submitted, clock, limit};
use crate::engine::error::{Error, Result};
use rustix::process::setsid;
use serde::{Deserialize, Serialize};
use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use store::IoContext;
use study::clusters::{Act, Cluster};
use study::graph::Step;

/// The hidden first argument that makes the runner the process that submits.
pub const WORD: &str = "__submit";
/// How long a submission may take.
const PATIENCE: Duration = Duration::from_secs(600);
/// What `submit` ends with when it is to be tried again later.
const TRY_AGAIN: i32 = 75;

/// What that process is told.
#[derive(Serialize, Deserialize)]
struct Order {
    words: Vec<String>,
    /// In which it is called.
    root: PathBuf,
    folders: Vec<(u32, PathBuf)>,
    submission: Submission,
}

/// What it answers.
#[derive(Serialize, Deserialize)]
enum Answer {
    Submitted(Vec<Submission>, Vec<String>),
    Failed { text: String, again: bool },
}

/// Submits one batch and notes its ids on disk.
pub fn submit(cluster: &Cluster, batch: &Batch) -> Result<Submitted, Refusal> {
    let never = |e: Error| Refusal::Never(e.to_string());
    let name = prepare::name(batch);
    let (first, array) = (batch.folders[0].1, batch.folders.len() > 1);
    // A job that was given up, and begins after all, is not to find the one of those that came after it. The script of an
    // array is needed as long as one of its tasks may begin; logs are kept so long.
    let place =
        if array { batch.logs.join(format!("{name}.worker")) } else { first.join(format!("{name}.worker")) };
    let log = if array { batch.logs.join(format!("{name}.out")) } else { prepare::output(first) };
    let numbered: Vec<(u32, &Path)> =
        batch.folders.iter().zip(cluster.first..).map(|((_, folder), number)| (number, *folder)).collect();
    let of = Of::Cluster(Box::new(cluster.clone()));
    let submission =
        Submission { name: name.clone(), owner: batch.owner.run.clone(), of, ..Submission::default() };
    let order = || -> Result<Order> {
        let index = cluster.index.as_deref();
        prepare::write_script(&place, &prepare::script(&numbered, &name, index)?)?;
        for (number, folder) in &numbered {
            Submission { index: array.then_some(*number), ..submission.clone() }.write(folder)?;
        }
        let tasks = if array { numbered.len() } else { 0 };
        let values =
            Values { name: &name, worker: &place, log: &log, root: &batch.session.graph.root, tasks };
        let words = command(cluster, batch.step(), &values);
        let folders = numbered.iter().map(|(number, folder)| (*number, folder.to_path_buf())).collect();
        Ok(Order { words, root: cluster.root.clone(), folders, submission })
    };
    let answer = order().and_then(|order| ask(batch, &order)).map_err(never)?;
    match answer {
        Answer::Submitted(submissions, warnings) => Ok((submissions, warnings)),
        Answer::Failed { text, again } => {
            // A job that was submitted all the same finds that it is not meant.
            for (_, folder) in &batch.folders {
                batch.owner.claim(folder).map_err(never)?;
            }
            let later = again || cluster.busy.iter().any(|words| text.contains(words.as_str()));
            Err(if later { Refusal::Later(text) } else { Refusal::Never(text) })
        }
    }
}

/// What a job is called, and where its files are.
pub struct Values<'a> {
    pub name: &'a str,
    pub worker: &'a Path,
    pub log: &'a Path,
    pub root: &'a Path,
    /// Of an array; 0 of a single job.
    pub tasks: usize,
}

/// The words of `submit` for a job or an array of a step.
pub fn command(cluster: &Cluster, step: &Step, values: &Values) -> Vec<String> {
    cluster
        .command(Act::Submit, |place| value(cluster, step, values, place), &cluster.options)
        .unwrap_or_default()
}

/// What is filled in for one of the places.
pub fn value(cluster: &Cluster, step: &Step, values: &Values, place: &str) -> String {
    let (resources, each) = (&step.resources, step.processes.map_or(1, |p| p.per_node));
    let some = |number: u64| if number > 0 { (number * u64::from(each)).to_string() } else { String::new() };
    let cpus = resources.cpus.or(step.processes.map(|_| 1)).unwrap_or(0);
    let last = u64::from(cluster.first) + values.tasks as u64;
    let text = |path: &Path| path.display().to_string();
    match place {
        "name" => values.name.into(),
        "worker" => text(values.worker),
        "log" => text(values.log),
        "root" => text(values.root),
        "array" if values.tasks > 0 => format!("{}-{}", cluster.first, last - 1),
        "tasks" if values.tasks > 0 => values.tasks.to_string(),
        "nodes" => step.processes.filter(|p| p.nodes > 1).map_or_else(String::new, |p| p.nodes.to_string()),
        "cpus" => some(cpus.into()),
        "gpus" => some(resources.gpus.into()),
        "memory" => some(resources.memory.0.div_ceil(1 << 20)),
        "time" => limit(step).map_or_else(String::new, clock),
        "seconds" => limit(step).map_or_else(String::new, |time| time.as_secs().max(1).to_string()),
        "stage" => step.stage.clone(),
        _ => String::new(),
    }
}

/// Has the other process submit.
fn ask(batch: &Batch, order: &Order) -> Result<Answer> {
    let runner = store::process::program().at("finding", Path::new("the runner itself"))?;
    let lock = batch.owner.lock.0.try_clone().at("sharing", batch.folders[0].1)?;
    let mut command = Command::new(runner);
    command.arg(WORD).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    // SAFETY: the closure makes two system calls, one on a file that it owns, and touches no other memory.
    unsafe {
        command.pre_exec(move || {
            setsid()?;
            Ok(rustix::io::fcntl_setfd(&lock, rustix::io::FdFlags::empty())?)
        });
    }
    let failed = |source| Error::Start { what: format!("what submits stage {}", batch.step().stage), source };
    let mut child = command.spawn().map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(&serde_json::to_vec(order).map_err(|e| failed(e.into()))?).map_err(failed)?;
    }
    let output = child.wait_with_output().map_err(failed)?;
    serde_json::from_slice(&output.stdout).map_err(|e| failed(e.into()))
}

/// Submits what standard input says.
pub fn main() -> u8 {
    let mut text = Vec::new();
    let order = io::stdin().read_to_end(&mut text).and_then(|_| Ok(serde_json::from_slice::<Order>(&text)?));
    let Ok(order) = order else { return 2 };
    let answer = order.carry_out().unwrap_or_else(|text| Answer::Failed { text, again: false });
    // A runner that is gone reads the ids in the attempts.
    let said = serde_json::to_vec(&answer).map(|bytes| io::stdout().write_all(&bytes));
    u8::from(!said.is_ok_and(|said| said.is_ok()))
}

impl Order {
    fn carry_out(self) -> Result<Answer, String> {
        let name = Act::Submit.name();
        let said = call(&self.words, &self.root, PATIENCE).map_err(|e| format!("{name}: {e}"))?;
        if let Some(text) = said.failure(name) {
            return Ok(Answer::Failed { text, again: said.status.code() == Some(TRY_AGAIN) });
        }
        let ids = ids(&said.out, self.folders.len())?;
        let mut submissions = Vec::with_capacity(ids.len());
        for ((number, folder), id) in self.folders.iter().zip(ids) {
            let index = (self.folders.len() > 1).then_some(*number);
            let submission = Submission { id: Some(id), index, ..self.submission.clone() };
            submission.write(folder).map_err(|e| e.to_string())?;
            submissions.push(submission);
        }
        let warnings = said.err.lines().map(str::trim).filter(|line| !line.is_empty());
        Ok(Answer::Submitted(submissions, warnings.map(str::to_string).collect()))
    }
}

/// The ids that `submit` printed: its last lines, as a site may greet first.
fn ids(text: &str, tasks: usize) -> Result<Vec<String>, String> {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let few = || {
        format!(
            "`submit` printed {} lines, and one id for each of {tasks} jobs was expected: `{}`",
            lines.len(),
            text.trim()
        )
    };
    let last = &lines[lines.len().checked_sub(tasks).ok_or_else(few)?..];
    match last.iter().find(|line| line.contains(char::is_whitespace)) {
        Some(line) => Err(format!("`submit` is to print ids alone, and printed `{line}`")),
        None => Ok(last.iter().map(|line| (*line).to_string()).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_the_last_lines() {
        assert_eq!(ids("Welcome to 7 nodes\n\n12.1\n12.2\n", 2), Ok(vec!["12.1".into(), "12.2".into()]));
        assert_eq!(ids("Job 12\n", 1), Err("`submit` is to print ids alone, and printed `Job 12`".into()));
        assert!(ids("12\n", 2).unwrap_err().contains("printed 1 lines, and one id for each of 2 jobs"));
    }
}
