//! Handing attempts to `sbatch`: one job, or an array where several instances of a stage come together.

use super::ask::{self, failure};
use super::job::{self, JobSpec};
use super::submission::Submission;
use super::waiting::Owner;
use crate::engine::attempt::{Attempt, environment};
use crate::engine::error::{Error, Result};
use crate::engine::steady::{self, Part};
use crate::session::{Session, Task};
use crate::text::shown;
use std::ffi::OsString;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use store::IoContext;
use study::graph::Step;

/// How long before the end of its time a job on several nodes is told, so that it can tell the ranks; less where it has
/// little time. Slurm itself would tell `srun` as well.
const NOTICE: Duration = Duration::from_secs(60);

/// Attempts of one step that are submitted together: one job, or one array of them.
pub struct Batch<'a> {
    pub session: &'a Session,
    pub step: usize,
    /// Shared with `sbatch`.
    pub owner: &'a Owner,
    /// Their folders, each with its index in the array.
    pub folders: Vec<(u32, &'a Path)>,
}

/// Why Slurm took none of a batch.
pub enum Refusal {
    /// There are too many now, or the controller cannot be reached.
    Later(String),
    Never(String),
}

/// What sbatch says when more, or this many, are not taken now.
const LATER: [&str; 10] = [
    "MaxSubmit",
    "Job violates accounting/QOS policy",
    "Invalid job array specification",
    "temporarily",
    "Too many",
    "too many",
    "Unable to contact",
    "Socket timed out",
    "Communication connection failure",
    "Zero Bytes were transmitted",
];

/// Writes down what the job of an attempt is to do, and who will wait for it. Nobody else takes it up while `owner` lives.
pub fn prepare(session: &Session, task: &Task, attempt: &Attempt, parts: &[Part], owner: &str) -> Result<()> {
    let step = &session.graph.steps[task.step];
    let program = session.programs[task.step].clone();
    let program = program.ok_or_else(|| Error::NoProgram(step.stage.clone()))?;
    if let Some(ranks) = attempt.ranks(step, &program.path) {
        ranks.write(&attempt.folder)?;
    }
    let spec = JobSpec {
        notice: limit(step).map(|time| time.saturating_sub(notice(step)).as_secs_f64()),
        processes: step.processes.map(|processes| (processes, step.resources.cpus.unwrap_or(1))),
        words: attempt.words.clone(),
        program: program.path,
        parts: steady::told(session, task, parts)?,
        root: session.graph.root.clone(),
        out: attempt.out.clone(),
        events: attempt.events.clone(),
        state: attempt.state.clone(),
        log: attempt.log.clone(),
        timeout: step.timeout.map(|t| t.as_secs_f64()),
    };
    spec.write(&attempt.folder)?;
    Submission { owner: owner.into(), ..Submission::default() }.write(&attempt.folder)
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

/// Submits one batch and notes its ids on disk. What sbatch warned of comes with them.
pub fn sbatch(batch: &Batch) -> Result<(Vec<Submission>, Vec<String>), Refusal> {
    let never = |e: Error| Refusal::Never(e.to_string());
    let (session, step) = (batch.session, &batch.session.graph.steps[batch.step]);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let token = blake3::hash(format!("{} {now}", batch.folders[0].1.display()).as_bytes()).to_hex();
    let name = format!("{}.{}.{}", session.graph.name, step.stage, &token[..12]);
    let array = batch.folders.len() > 1;
    let cluster = cluster(step);
    let submission = |index: u32, id: Option<String>| {
        let (name, index, cluster) = (name.clone(), array.then_some(index), cluster.clone());
        Submission { name, index, id, cluster, owner: batch.owner.run.clone() }
    };
    for (index, folder) in &batch.folders {
        submission(*index, None).write(folder).map_err(never)?;
    }
    let output = call(batch, step, &name).map_err(never)?;
    if let Some(text) = failure("sbatch", &output) {
        // Nobody is to look for a job of this name.
        for (_, folder) in &batch.folders {
            batch.owner.claim(folder).map_err(never)?;
        }
        return Err(match LATER.iter().any(|words| text.contains(words)) {
            true => Refusal::Later(text),
            false => Refusal::Never(text),
        });
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let (id, at) = answer(&text).ok_or_else(|| never(Error::NoJobId(text.trim().into())))?;
    let at = at.or(cluster.clone());
    let mut submissions = Vec::with_capacity(batch.folders.len());
    for (index, folder) in &batch.folders {
        let id = if array { format!("{id}_{index}") } else { id.clone() };
        let submission = submission(*index, Some(ask::whole(&id, at.as_deref())));
        submission.write(folder).map_err(never)?;
        submissions.push(submission);
    }
    let warnings = String::from_utf8_lossy(&output.stderr).into_owned();
    let warnings = warnings.lines().map(str::trim).filter(|line| !line.is_empty());
    Ok((submissions, warnings.map(str::to_string).collect()))
}

/// Calls sbatch.
fn call(batch: &Batch, step: &Step, name: &str) -> Result<Output> {
    let mut command = Command::new("sbatch");
    command
        .args(options(step, batch.session.graph.root.as_path(), name, &batch.folders))
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
    let lock = batch.owner.lock.0.try_clone().at("sharing", batch.folders[0].1)?;
    // SAFETY: the closure makes a system call on a file that it owns, and touches no other memory.
    unsafe {
        command.pre_exec(move || Ok(rustix::io::fcntl_setfd(&lock, rustix::io::FdFlags::empty())?));
    }
    let failed = |source| Error::Submit { stage: step.stage.clone(), source };
    let mut child = command.spawn().map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(script(&batch.folders)?.as_bytes()).map_err(failed)?;
    }
    child.wait_with_output().map_err(failed)
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
fn options(step: &Step, root: &Path, name: &str, batch: &[(u32, &Path)]) -> Vec<String> {
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
        [(_, folder)] => {
            let path = folder.join("slurm.out").display().to_string();
            words.push(format!("--output={}", path.replace('%', "%%")));
        }
        // Each task has a folder of its own, which sbatch cannot name; a task says all it has to say in its log.
        many => words.extend(["--output=/dev/null".into(), format!("--array={}", ranges(many))]),
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

/// Indices in ascending order as sbatch reads them: `0-99,105`.
fn ranges(batch: &[(u32, &Path)]) -> String {
    let mut indices: Vec<u32> = batch.iter().map(|(index, _)| *index).collect();
    indices.sort_unstable();
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for index in indices {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == index => *last = index,
            _ => ranges.push((index, index)),
        }
    }
    let shown =
        |(first, last): (u32, u32)| if first == last { first.to_string() } else { format!("{first}-{last}") };
    ranges.into_iter().map(shown).collect::<Vec<_>>().join(",")
}

/// The script of a batch: this program again, with the folder of its task.
fn script(batch: &[(u32, &Path)]) -> Result<String> {
    let runner = std::env::current_exe().at("finding", Path::new("the runner itself"))?;
    let word = |path: &Path| shown(&[path.display().to_string()]);
    let call = format!("exec {} {}", word(&runner), job::WORD);
    if let [(_, folder)] = batch {
        return Ok(format!("#!/bin/sh\n{call} {}\n", word(folder)));
    }
    let lines = batch.iter().map(|(index, folder)| format!("{index}) {call} {} ;;\n", word(folder)));
    Ok(format!("#!/bin/sh\ncase $SLURM_ARRAY_TASK_ID in\n{}esac\nexit 127\n", lines.collect::<String>()))
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

    #[test]
    fn indices_are_told_in_ranges() {
        let of = |indices: &[u32]| ranges(&indices.iter().map(|i| (*i, Path::new("/"))).collect::<Vec<_>>());
        assert_eq!(of(&[0, 1, 2, 3]), "0-3");
        assert_eq!(of(&[7, 3, 4, 9, 10]), "3-4,7,9-10");
    }
}
