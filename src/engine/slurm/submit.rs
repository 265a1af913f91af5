//! Handing attempts to `sbatch`: one job, or an array where several instances of a stage come together.

use super::ask::failure;
use super::job::{self, Task};
use super::submission::Submission;
use crate::engine::attempt::environment;
use crate::engine::contract::Work;
use crate::engine::error::{Error, Result};
use crate::engine::steady;
use crate::text::shown;
use std::fs::File;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use store::IoContext;
use study::graph::Step;

/// Attempts of one step that come within this time of each other are submitted together.
pub const GATHER: Duration = Duration::from_millis(100);

/// Slurm's own default for the size of an array, which every cluster allows.
const LARGEST: usize = 1000;

/// An attempt that is ready to be submitted.
pub struct Request {
    folder: PathBuf,
    /// Shared with `sbatch`: whoever comes after a killed runner knows that nothing is being submitted any more.
    lock: File,
}

impl Request {
    /// Writes down what the job is to do.
    pub fn new(work: &Work) -> Result<Self> {
        let (attempt, step) = (work.attempt, work.step());
        let root = &work.session.graph.root;
        let program = work.session.programs[work.unit.step].clone();
        let program = program.ok_or_else(|| Error::NoProgram(step.stage.clone()))?;
        let task = Task {
            words: attempt.words.clone(),
            program: program.path,
            parts: steady::told(work.session, work.unit, work.parts)?,
            root: root.clone(),
            out: attempt.out.clone(),
            events: attempt.events.clone(),
            state: attempt.state.clone(),
            log: attempt.log.clone(),
            timeout: step.timeout.map(|t| t.as_secs_f64()),
        };
        task.write(&attempt.folder)?;
        let lock = work.lock.0.try_clone().at("sharing", &attempt.folder)?;
        Ok(Self { folder: attempt.folder.clone(), lock })
    }
}

/// Submits attempts, in arrays of what a cluster takes at once. Each folder gets its answer.
pub fn submit(work: &Work, all: &[Request]) -> Vec<(PathBuf, Result<String, String>)> {
    all.chunks(LARGEST).flat_map(|batch| submit_batch(work, batch)).collect()
}

fn submit_batch(work: &Work, batch: &[Request]) -> Vec<(PathBuf, Result<String, String>)> {
    let done = sbatch(work, batch).map_err(|e| e.to_string());
    let answer = |(index, request): (usize, &Request)| {
        let id = done.clone().map(|id| if batch.len() > 1 { format!("{id}_{index}") } else { id });
        (request.folder.clone(), id)
    };
    batch.iter().enumerate().map(answer).collect()
}

/// Submits one batch and notes its ids on disk.
fn sbatch(work: &Work, batch: &[Request]) -> Result<String> {
    let step = work.step();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let token = blake3::hash(format!("{} {now}", work.unit.key).as_bytes()).to_hex();
    let name = format!("{}.{}.{}", work.session.graph.name, step.stage, &token[..12]);
    let array = batch.len() > 1;
    let submission = |index: usize, id| Submission { name: name.clone(), index: array.then_some(index), id };
    for (index, request) in batch.iter().enumerate() {
        submission(index, None).write(&request.folder)?;
    }
    let mut command = Command::new("sbatch");
    command
        .args(options(step, work.session.graph.root.as_path(), &name, batch))
        .env_clear()
        .envs(environment(step, &[]).into_iter().filter(|(name, _)| {
            let name = name.to_string_lossy();
            // Where the runner itself is a job, its job's variables are not the stage's.
            name == "SLURM_CONF" || !(name.starts_with("SLURM_") || name == "CUDA_VISIBLE_DEVICES")
        }))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let locks: Vec<File> =
        batch.iter().map(|r| r.lock.try_clone().at("sharing", &r.folder)).collect::<store::Result<_>>()?;
    // SAFETY: the closure makes system calls on files that it owns, and touches no other memory.
    unsafe {
        command.pre_exec(move || {
            for lock in &locks {
                rustix::io::fcntl_setfd(lock, rustix::io::FdFlags::empty())?;
            }
            Ok(())
        });
    }
    let failed = |source| Error::Submit { stage: step.stage.clone(), source };
    let mut child = command.spawn().map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(script(batch)?.as_bytes()).map_err(failed)?;
    }
    let output = child.wait_with_output().map_err(failed)?;
    if let Some(text) = failure("sbatch", &output) {
        return Err(Error::Slurm(text));
    }
    // `12`, or `12;cluster`.
    let text = String::from_utf8_lossy(&output.stdout);
    let id = text.trim().split(';').next().unwrap_or_default().to_string();
    if id.is_empty() || !id.chars().all(|c| c.is_ascii_digit()) {
        return Err(Error::NoJobId(text.trim().into()));
    }
    for (index, request) in batch.iter().enumerate() {
        let task = if array { format!("{id}_{index}") } else { id.clone() };
        submission(index, Some(task)).write(&request.folder)?;
    }
    Ok(id)
}

/// The options of `sbatch`; the study's own come last and win.
fn options(step: &Step, root: &Path, name: &str, batch: &[Request]) -> Vec<String> {
    let (resources, slurm) = (&step.resources, &step.slurm);
    let mut words: Vec<String> =
        ["--parsable", "--export=ALL", "--nodes=1", "--ntasks=1", "--requeue", "--open-mode=append"]
            .map(String::from)
            .to_vec();
    words.push(format!("--job-name={name}"));
    words.push(format!("--chdir={}", root.display()));
    match batch {
        // `%` begins a place to fill in.
        [one] => {
            let path = one.folder.join("slurm.out").display().to_string();
            words.push(format!("--output={}", path.replace('%', "%%")));
        }
        // Each task has a folder of its own, which sbatch cannot name; a task says all it has to say in its log.
        many => words.extend(["--output=/dev/null".into(), format!("--array=0-{}", many.len() - 1)]),
    }
    if let Some(cpus) = resources.cpus {
        words.push(format!("--cpus-per-task={cpus}"));
    }
    if resources.memory.0 > 0 {
        words.push(format!("--mem={}M", resources.memory.0.div_ceil(1 << 20)));
    }
    if resources.gpus > 0 {
        words.push(format!("--gres=gpu:{}", resources.gpus));
    }
    // A stage that is stopped at its own time limit still needs time to save.
    let time = slurm.time.or(step.timeout.map(|t| t + Duration::from_secs(120)));
    if let Some(time) = time {
        let s = time.as_secs().max(1);
        words.push(format!("--time={}:{:02}:{:02}", s / 3600, s % 3600 / 60, s % 60));
    }
    words.extend(slurm.partition.iter().map(|p| format!("--partition={p}")));
    words.extend(slurm.account.iter().map(|a| format!("--account={a}")));
    words.extend(slurm.options.iter().cloned());
    words
}

/// The script of a batch: this program again, with the folder of its task.
fn script(batch: &[Request]) -> Result<String> {
    let runner = std::env::current_exe().at("finding", Path::new("the runner itself"))?;
    let folders: Vec<String> = batch.iter().map(|r| r.folder.display().to_string()).collect();
    let runner = shown(&[runner.display().to_string()]);
    let word = job::WORD;
    Ok(format!(
        "#!/bin/sh\nset -- {}\nshift \"${{SLURM_ARRAY_TASK_ID:-0}}\"\nexec {runner} {word} \"$1\"\n",
        shown(&folders)
    ))
}
