//! What every batch system needs of an attempt: what its node is to do, written down, and the program that does it.

use super::environ;
use super::job;
use super::papers::JobSpec;
use super::submission::Submission;
use super::system::{Batch, limit, notice};
use crate::engine::attempt::{self, Attempt};
use crate::engine::error::{Error, Result};
use crate::engine::private::{self, Words};
use crate::engine::steady::{self, Part};
use crate::session::{Session, Task};
use crate::text::shown;
use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};
use store::IoContext;
use study::file::EngineName;
use study::graph::Step;

/// Writes down what the job of an attempt is to do, and who will wait for it. Nobody else takes it up while `owner` lives.
pub fn prepare(session: &Session, task: &Task, attempt: &Attempt, parts: &[Part], owner: &str) -> Result<()> {
    let step = &session.graph.steps[task.step];
    let program = session.programs[task.step].clone();
    let program = program.ok_or_else(|| Error::NoProgram(step.stage.clone()))?;
    if let Some(ranks) = attempt.ranks(step, &program.path) {
        ranks.write(&attempt.folder)?;
    }
    let (words, private) = Words::of(&attempt.words);
    let told = limit(step).map(|time| time.saturating_sub(notice(step)).as_secs_f64());
    let mut spec = JobSpec {
        notice: told,
        processes: step.processes.map(|processes| (processes, step.resources.cpus.unwrap_or(1))),
        words,
        program: program.path,
        parts: steady::told(session, task, parts)?,
        root: session.graph.root.clone(),
        out: attempt.out.clone(),
        events: attempt.events.clone(),
        state: attempt.state.clone(),
        log: attempt.log.clone(),
        brings_environment: step.engine == EngineName::Cluster,
        timeout: step.timeout.map(|t| t.as_secs_f64()),
    };
    if spec.brings_environment {
        // Not every system tells a job in time; so the job itself looks at the clock.
        spec.timeout = spec.timeout.into_iter().chain(told).reduce(f64::min);
        let words = private.value().map(|words| (private::VARIABLE.into(), words.into()));
        environ::write(&attempt.folder, environment(step).chain(words))?;
    }
    spec.write(&attempt.folder)?;
    Submission { owner: owner.into(), ..Submission::default() }.write(&attempt.folder)
}

/// The environment that a stage takes to its node.
pub fn environment(step: &Step) -> impl Iterator<Item = (OsString, OsString)> {
    attempt::environment(step, &[]).into_iter().filter(|(name, _)| {
        let name = name.to_string_lossy();
        // Where the runner itself is a job, its job's variables are not the stage's.
        name == "SLURM_CONF" || !(name.starts_with("SLURM_") || name == "CUDA_VISIBLE_DEVICES")
    })
}

/// The file for what a job says before its stage has its log.
pub fn output(folder: &Path) -> PathBuf {
    folder.join("job.out")
}

/// A job's name, which no other submission has; it begins with a letter.
pub fn name(batch: &Batch) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let text = format!("{} {now} {}", batch.folders[0].1.display(), batch.owner.run);
    let token = blake3::hash(text.as_bytes()).to_hex();
    let name = format!("{}.{}.{}", batch.session.graph.name, batch.step().stage, &token[..12]);
    if name.starts_with(|c: char| c.is_ascii_alphabetic()) { name } else { format!("p.{name}") }
}

/// The script of a batch called `name`: this program again, with the folder of its task. The number of a task is its first
/// word, or the value of the variable `index`.
pub fn script(batch: &[(u32, &Path)], name: &str, index: Option<&str>) -> Result<String> {
    let runner = store::process::program_by_name().at("finding", Path::new("the runner itself"))?;
    let word = |path: &Path| shown(&[path.display().to_string()]);
    let call = format!("exec {} {}", word(&runner), job::WORD);
    if let [(_, folder)] = batch {
        return Ok(format!("#!/bin/sh\n{call} {} {name}\n", word(folder)));
    }
    let index = index.map_or("${1-}".into(), |index| format!("${{1:-${{{index}-}}}}"));
    let lines = batch.iter().map(|(index, folder)| format!("{index}) {call} {} {name} ;;\n", word(folder)));
    Ok(format!("#!/bin/sh\ncase {index} in\n{}esac\nexit 127\n", lines.collect::<String>()))
}

/// Writes that script where the nodes find it.
pub fn write_script(path: &Path, text: &str) -> Result<()> {
    let file = File::options().create(true).truncate(true).write(true).mode(0o755).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes())).at("writing", path)?;
    Ok(())
}
