//! Handing attempts to `sbatch`: one job, or an array where several instances of a stage come together.

use super::ask::{self, failure};
use super::job::{self, JobSpec};
use super::submission::Submission;
use crate::engine::attempt::environment;
use crate::engine::contract::Work;
use crate::engine::error::{Error, Result};
use crate::engine::steady;
use crate::text::shown;
use std::ffi::OsString;
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

/// How long before the end of its time a job on several nodes is told, so that it can tell the ranks; less where it has
/// little time. Slurm itself would tell `srun` as well.
const NOTICE: Duration = Duration::from_secs(60);

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
        let program = work.session.programs[work.task.step].clone();
        let program = program.ok_or_else(|| Error::NoProgram(step.stage.clone()))?;
        if let Some(ranks) = attempt.ranks(step, &program.path) {
            ranks.write(&attempt.folder)?;
        }
        let spec = JobSpec {
            notice: limit(step).map(|time| time.saturating_sub(notice(step)).as_secs_f64()),
            processes: step.processes.map(|processes| (processes, step.resources.cpus.unwrap_or(1))),
            words: attempt.words.clone(),
            program: program.path,
            parts: steady::told(work.session, work.task, work.parts)?,
            root: root.clone(),
            out: attempt.out.clone(),
            events: attempt.events.clone(),
            state: attempt.state.clone(),
            log: attempt.log.clone(),
            timeout: step.timeout.map(|t| t.as_secs_f64()),
        };
        spec.write(&attempt.folder)?;
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
        let id = done.clone().map(|(id, cluster)| task(&id, index, batch, cluster.as_deref()));
        (request.folder.clone(), id)
    };
    batch.iter().enumerate().map(answer).collect()
}

/// The id of one job of a batch.
fn task(id: &str, index: usize, batch: &[Request], cluster: Option<&str>) -> String {
    match batch {
        [_] => ask::whole(id, cluster),
        _ => ask::whole(&format!("{id}_{index}"), cluster),
    }
}

/// The cluster that a step's jobs go to, where the study or the caller names one.
fn cluster(step: &Step) -> Option<String> {
    let option = step.slurm.options.iter().rev().find_map(|o| o.strip_prefix("--clusters="));
    let caller = std::env::var("SBATCH_CLUSTERS").or_else(|_| std::env::var("SLURM_CLUSTERS")).ok();
    option.map(str::to_string).or(caller).filter(|name| !name.is_empty())
}

/// Variables by which the caller's site or habits speak to sbatch (`SBATCH_ACCOUNT`). Not those of what the runner itself
/// decides; of the rest, its options win.
fn habits() -> impl Iterator<Item = (OsString, OsString)> {
    let ours = ["SBATCH_ARRAY_INX", "SBATCH_ERROR", "SBATCH_INPUT", "SBATCH_WAIT"];
    std::env::vars_os().filter(move |(name, _)| {
        let name = name.to_string_lossy();
        (name.starts_with("SBATCH_") && !ours.contains(&&*name)) || name == "SLURM_CLUSTERS"
    })
}

/// The id and the cluster in what sbatch says: `12`, or `12;cluster`, the last such line, as a site may greet first.
fn answer(text: &str) -> Option<(String, Option<String>)> {
    text.lines().rev().find_map(|line| {
        let (id, cluster) =
            line.trim().split_once(';').map_or((line.trim(), None), |(id, at)| (id, Some(at)));
        let number = !id.is_empty() && id.chars().all(|c| c.is_ascii_digit());
        number.then(|| (id.to_string(), cluster.map(str::to_string)))
    })
}

/// Submits one batch and notes its ids on disk. The id and the cluster.
fn sbatch(work: &Work, batch: &[Request]) -> Result<(String, Option<String>)> {
    let step = work.step();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let token = blake3::hash(format!("{} {now}", work.task.key).as_bytes()).to_hex();
    let name = format!("{}.{}.{}", work.session.graph.name, step.stage, &token[..12]);
    let array = batch.len() > 1;
    let cluster = cluster(step);
    let submission = |index: usize, id| {
        let (name, index, cluster) = (name.clone(), array.then_some(index), cluster.clone());
        Submission { name, index, id, cluster }
    };
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
        .envs(habits())
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
    for line in String::from_utf8_lossy(&output.stderr).lines().filter(|line| !line.trim().is_empty()) {
        (work.say)(line.trim().to_string());
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let (id, at) = answer(&text).ok_or_else(|| Error::NoJobId(text.trim().into()))?;
    let at = at.or(cluster.clone());
    for (index, request) in batch.iter().enumerate() {
        submission(index, Some(task(&id, index, batch, at.as_deref()))).write(&request.folder)?;
    }
    Ok((id, at))
}

/// The longest time of a step's job, where the study says it. A stage that is stopped at its own time limit still needs
/// time to save.
fn limit(step: &Step) -> Option<Duration> {
    step.slurm.time.or(step.timeout.map(|t| t + Duration::from_secs(120)))
}

/// How long before the end of its time a job on several nodes is told.
fn notice(step: &Step) -> Duration {
    limit(step).map_or(NOTICE, |time| NOTICE.min(time / 4))
}

/// The options of `sbatch`; the study's own come last and win.
fn options(step: &Step, root: &Path, name: &str, batch: &[Request]) -> Vec<String> {
    let (resources, slurm) = (&step.resources, &step.slurm);
    let mut words: Vec<String> =
        ["--parsable", "--export=ALL", "--requeue", "--open-mode=append"].map(String::from).to_vec();
    let each = match step.processes {
        None => {
            words.extend(["--nodes=1".into(), "--ntasks=1".into()]);
            1
        }
        Some(processes) => {
            words.push(format!("--nodes={}", processes.nodes));
            words.push(format!("--ntasks-per-node={}", processes.per_node));
            if processes.nodes > 1 {
                words.push(format!("--signal=B:TERM@{}", notice(step).as_secs().max(1)));
            }
            processes.per_node
        }
    };
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
        words.push(format!("--mem={}M", resources.memory.0.div_ceil(1 << 20) * u64::from(each)));
    }
    if resources.gpus > 0 {
        words.push(format!("--gres=gpu:{}", resources.gpus * each));
    }
    if let Some(time) = limit(step) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_greeting_before_the_number_is_read_over() {
        let of = |id: &str, at: Option<&str>| Some((id.to_string(), at.map(str::to_string)));
        assert_eq!(answer("12\n"), of("12", None));
        assert_eq!(answer("-----\nWelcome to 7 nodes\n--> OK\n\n12;mpp2\n"), of("12", Some("mpp2")));
        assert_eq!(answer("Welcome\n"), None);
    }
}
