//! Handing attempts to `sbatch`: one job, or an array where several instances of a stage come together.

use super::ask::{self, failure};
use crate::engine::batch::prepare;
use crate::engine::batch::submission::{Of, Submission};
use crate::engine::batch::system::{Batch, Refusal, Submitted, clock, limit, notice};
use crate::engine::error::{Error, Result};
use crate::engine::private;
use std::ffi::OsString;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use store::IoContext;
use study::graph::Step;

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
pub fn sbatch(batch: &Batch) -> Result<Submitted, Refusal> {
    let never = |e: Error| Refusal::Never(e.to_string());
    let step = batch.step();
    let name = prepare::name(batch);
    let array = batch.folders.len() > 1;
    let cluster = cluster(step);
    let submission = |index: u32, id: Option<String>| {
        let (name, index, cluster) = (name.clone(), array.then_some(index), cluster.clone());
        Submission { name, index, id, cluster, owner: batch.owner.run.clone(), of: Of::Slurm }
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
        .envs(prepare::environment(step))
        .envs(habits())
        .envs(batch.private.value().map(|words| (private::VARIABLE, words)))
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
        let script = prepare::script(&batch.folders, name, Some("SLURM_ARRAY_TASK_ID"))?;
        stdin.write_all(script.as_bytes()).map_err(failed)?;
    }
    child.wait_with_output().map_err(failed)
}

/// The options of `sbatch`; the study's own come last and win.
pub fn options(step: &Step, root: &Path, name: &str, batch: &[(u32, &Path)]) -> Vec<String> {
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
            let path = prepare::output(folder).display().to_string();
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
        words.push(format!("--time={}", clock(time)));
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
