//! Taking in what an attempt made: the outputs first, then the result, which alone makes them exist.

use crate::cache::failure::{Change, Failure, PartKind};
use crate::cache::metrics::parse;
use crate::cache::results::{self, ActionResult, Ran};
use crate::engine::attempt::Attempt;
use crate::engine::steady::{self, Part};
use crate::engine::usage::Usage;
use crate::name_map::NameMap;
use crate::run::job::{Job, Unmade};
use crate::run::spent;
use crate::session::Place;
use crate::text::size;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use store::walk::{self, Links};
use store::{IoContext, Produced, link, name};
use study::hidden;

/// Takes in the outputs of an attempt that ended well after so many seconds, if all is as it should be.
pub fn commit(
    job: &Job,
    attempt: &Attempt,
    parts: &[Part],
    seconds: f64,
    usage: &Usage,
) -> Result<ActionResult, Unmade> {
    let (store, step) = (&job.session.store, &job.session.graph.steps[job.task.step]);
    for output in &step.outputs {
        if std::fs::symlink_metadata(attempt.out.join(&output.file)).is_err() {
            let wrote =
                written(attempt)?.into_iter().map(|(name, bytes)| format!("`{name}` ({})", size(bytes)));
            let wrote = wrote.collect();
            return Err(Failure::NoOutput { name: output.name.clone(), wrote, place: None }.into());
        }
    }
    for (name, _) in written(attempt)? {
        if !step.outputs.iter().any(|o| o.file == name) {
            job.say(format!("wrote `{name}`, which is not one of its outputs; not kept"));
        }
    }
    let mut changed = changed_inputs(job);
    changed.extend(steady::differences(parts, store));
    if !changed.is_empty() {
        return Err(Failure::Changed { parts: changed }.into());
    }
    // All are looked at before the first is moved: what is refused stays together.
    let places: Vec<PathBuf> = step.outputs.iter().map(|output| attempt.out.join(&output.file)).collect();
    let taken = places.iter().map(|place| store.examine(place)).collect::<store::Result<Vec<_>>>()?;
    let mut outputs = NameMap::new();
    for ((output, place), hashed) in step.outputs.iter().zip(&places).zip(&taken) {
        store.keep(place, hashed)?;
        let produced = Produced { digest: hashed.digest, bytes: hashed.bytes, files: hashed.files };
        outputs.insert(output.name.clone(), produced);
    }
    store.sync(&taken)?;
    let earlier = spent::earlier(store, &job.task.key);
    let outcome = ActionResult {
        action: Arc::clone(&job.task.action),
        outputs,
        finished: results::now(),
        seconds: seconds + earlier.as_ref().map_or(0.0, |earlier| earlier.seconds),
        earlier,
        run: job.run.into(),
        processes: step.processes,
        accepted: None,
        ran: Some(ran(job, usage, &attempt.events).shared()),
    };
    results::record(store, &job.task.key, &outcome)?;
    // From here on the result exists; what is left over can go.
    for left in [&attempt.folder, &attempt.state, &store.spent(&job.task.key)] {
        if let Err(e) = link::remove(left) {
            job.say(format!("something stays behind: {e}"));
        }
    }
    Ok(outcome)
}

/// Where a result was made, and with what.
fn ran(job: &Job, usage: &Usage, events: &Path) -> Ran {
    let (facts, step) = (job.session.facts(), &job.session.graph.steps[job.task.step]);
    let mut machine = usage.machine.clone().unwrap_or_else(|| facts.machine.clone());
    // Of the machine's GPUs those that it had, where they are called by their numbers.
    let given: Vec<String> =
        job.gpus.iter().filter_map(|gpu| machine.gpus.get(gpu.parse::<usize>().ok()?).cloned()).collect();
    if step.resources.gpus == 0 {
        machine.gpus.clear();
    } else if given.len() == job.gpus.len() && !given.is_empty() {
        machine.gpus = given;
    }
    Ran {
        machine,
        engine: step.engine.name().into(),
        threads: step.resources.cpus.map(u64::from),
        peak_memory: Some(usage.peak_memory).filter(|bytes| *bytes > 0),
        commit: facts.commit.clone(),
        runner: env!("CARGO_PKG_VERSION").into(),
        reported: reported(events),
    }
}

/// So much of the beginning of a stage's events is searched for what it says of itself.
const BEGINNING: u64 = 1 << 20;
/// So many things a program says of itself at most, each in so many characters.
const SAID: usize = 16;
const LONG: usize = 200;
/// What the runner says itself stands beside it in a lineage.
const OURS: [&str; 15] = [
    "changed",
    "commit",
    "cpus",
    "driver",
    "engine",
    "finished",
    "gpus",
    "host",
    "kernel",
    "memory",
    "peak_memory",
    "processor",
    "runner",
    "seconds",
    "threads",
];

/// What the program said that it runs with, which it does before it works.
fn reported(events: &Path) -> BTreeMap<String, String> {
    let mut bytes = Vec::new();
    let read = File::open(events).and_then(|file| file.take(BEGINNING).read_to_end(&mut bytes));
    let text = if read.is_ok() { String::from_utf8_lossy(&bytes) } else { Cow::default() };
    let facts = text.lines().filter_map(|line| match parse(line.as_bytes()) {
        Ok(stage::Event::Facts { values }) => Some(values),
        _ => None,
    });
    let plain = |name: &str| {
        !OURS.contains(&name)
            && name.len() <= 40
            && name.starts_with(|c: char| c.is_ascii_lowercase())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c))
    };
    let kept = facts.flatten().filter(|(name, _)| plain(name));
    let short = |value: String| hidden(&value).chars().take(LONG).collect::<String>();
    kept.map(|(name, value)| (name, short(value))).take(SAID).collect()
}

/// What an attempt wrote where its outputs belong: names, and sizes in bytes.
pub fn written(attempt: &Attempt) -> Result<Vec<(String, u64)>, store::Error> {
    let mut written = Vec::new();
    for entry in std::fs::read_dir(&attempt.out).at("reading", &attempt.out)?.flatten() {
        written.push((name::text(&entry.file_name()), bytes(&entry.path())));
    }
    written.sort();
    Ok(written)
}

/// The size of a file, or of all files in a folder.
fn bytes(path: &Path) -> u64 {
    match std::fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => {
            std::fs::read_dir(path).into_iter().flatten().flatten().map(|entry| bytes(&entry.path())).sum()
        }
        Ok(meta) if meta.is_file() => meta.len(),
        _ => 0,
    }
}

/// The inputs in the store that are not what they were at the start, which would make the key a lie. Those that are paths
/// of the study are parts of the attempt.
fn changed_inputs(job: &Job) -> Vec<Change> {
    let (store, mut changed) = (&job.session.store, Vec::new());
    for input in job.task.inputs.iter().filter(|input| matches!(input.place, Place::Store)) {
        let now = walk::hash(&store.place(&input.digest), &store.stats, Links::Keep);
        let now = now.ok();
        if now.as_ref().is_none_or(|now| now.digest != input.digest) {
            let files = match (store.listed(&input.digest), now.and_then(|now| now.manifest)) {
                (Some(before), Some(now)) => before.differences(&now),
                _ => Vec::new(),
            };
            changed.push(Change::of(PartKind::Input, &input.name, &files));
        }
    }
    changed
}
