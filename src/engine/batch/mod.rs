//! Stages as jobs of a batch system, on a file system that its nodes share with the runner.
//!
//! A job's files lie in its attempt folder: what is to be run, the job's id as soon as it has one, and in the end the
//! exit code that the node itself wrote down, which is believed before anything the system says. A runner that is killed
//! leaves its jobs alone; the next one finds them there and goes on waiting.

mod awaited;
mod cluster;
pub mod desk;
mod environ;
pub mod job;
mod known;
mod nodes;
mod pace;
mod papers;
mod prepare;
mod queue;
mod running;
mod shown;
mod slurm;
mod submission;
mod system;
mod systems;
pub mod waiting;

use crate::engine::attempt::Attempt;
use crate::engine::error::Result;
use crate::engine::ranks;
use crate::session::{Session, Task};
use known::Verdict;
use papers::{Ended, JobSpec};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use store::{IoContext, Store, link, lock};
use submission::Submission;
use systems::Systems;

pub use cluster::submit::{WORD as SUBMIT, main as submit};
pub use papers::{began, ran};
pub use prepare::prepare;
pub use shown::shown;

/// What an earlier runner may have left with a batch system.
pub enum Left {
    Nothing,
    /// Its job is still to be expected, has ended of itself, or the system does not know it any more.
    Job(Box<Attempt>),
    /// Another runner waits for it, as long as this lock is held.
    Busy(PathBuf),
}

/// What an earlier runner left of a task; needs its lock. From now on the run `owner` waits for it, whose lock `claim` takes.
pub fn left(session: &Session, task: &Task, owner: &str, claim: impl FnOnce() -> Result<()>) -> Result<Left> {
    let folder = session.store.attempt(&task.key);
    let Some(mut submission) = Submission::read(&folder).filter(|s| s.owner != owner) else {
        return Ok(Left::Nothing);
    };
    if let Some(lock) = owned(&session.store, &submission)? {
        return Ok(Left::Busy(lock));
    }
    let Some(spec) = JobSpec::read(&folder) else { return Ok(Left::Nothing) };
    if submission.name.is_empty() {
        // It was never submitted.
        return Ok(Left::Nothing);
    }
    let outputs = &session.graph.steps[task.step].outputs;
    // As it was submitted: which folder is the newest is a matter of clocks, and two machines have two.
    let missing = || outputs.iter().any(|o| fs::symlink_metadata(spec.out.join(&o.file)).is_err());
    if Ended::read(&folder, &submission.name).is_some_and(|ended| ended.code == 0) && missing() {
        // The runner was killed while it took the outputs in.
        return Ok(Left::Nothing);
    }
    claim()?;
    submission.owner = owner.into();
    submission.write(&folder)?;
    Ok(Left::Job(Box::new(Attempt {
        out: spec.out,
        events: spec.events,
        state: spec.state,
        log: spec.log,
        words: spec.words.shown,
        folder,
    })))
}

/// The lock of the run that waits for a job, where it is held.
fn owned(store: &Store, submission: &Submission) -> Result<Option<PathBuf>> {
    if submission.owner.is_empty() {
        return Ok(None);
    }
    let path = store.lock_of_jobs(&submission.owner);
    Ok(if lock::attempt(&path, false)?.is_none() { Some(path) } else { None })
}

/// Makes an attempt one that nobody goes on with: its outputs were refused.
pub fn forget(folder: &Path) {
    // At worst the next run refuses them again.
    let _ = link::remove(&Submission::path(folder));
    environ::clear(folder);
}

/// Those of some attempt folders that may belong to a job that is not over: asked about in one call for each system.
pub fn held_by_jobs(folders: &[PathBuf]) -> BTreeSet<PathBuf> {
    let mut systems = Systems::default();
    let mut of: BTreeMap<usize, Vec<(&PathBuf, Submission)>> = BTreeMap::new();
    for folder in folders {
        let Some(submission) = Submission::read(folder).filter(|s| !s.name.is_empty()) else { continue };
        of.entry(systems.place(&submission.of)).or_default().push((folder, submission));
    }
    of.into_iter().flat_map(|(place, jobs)| held(&systems, place, jobs)).cloned().collect()
}

/// The folders of those jobs of one system that may not be over.
fn held<'a>(systems: &Systems, place: usize, jobs: Vec<(&'a PathBuf, Submission)>) -> Vec<&'a PathBuf> {
    let system = systems.at(place);
    let (mut ids, mut names, mut busy) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
    for (folder, Submission { name, index, id, cluster, .. }) in jobs {
        match id {
            Some(id) => drop(ids.insert(id, folder)),
            None => {
                let all: &mut BTreeMap<_, _> = names.entry(cluster).or_default();
                all.insert((name, index), folder);
            }
        }
    }
    for (cluster, all) in names {
        let asked: BTreeSet<String> = all.keys().map(|(name, _)| name.clone()).collect();
        match system.find(&asked, cluster.as_deref()) {
            Ok(found) => {
                let known = found.into_iter().filter_map(|(key, id)| Some((id, *all.get(&key)?)));
                ids.extend(known);
            }
            Err(_) => busy.extend(all.into_values()),
        }
    }
    let asked: Vec<String> = ids.keys().cloned().collect();
    let states = if asked.is_empty() { Ok(BTreeMap::new()) } else { system.states(&asked) };
    let open = |id: &String| match &states {
        Ok(known) => known.get(id).is_some_and(|k| k.verdict == Verdict::Open),
        Err(_) => true,
    };
    busy.extend(ids.into_iter().filter(|(id, _)| open(id)).map(|(_, folder)| folder));
    busy
}

impl Attempt {
    /// A job that could not even begin says why in a place of its own.
    fn append_job_output(&self) {
        let Ok(text) = fs::read(prepare::output(&self.folder)) else { return };
        let log = fs::File::options().create(true).append(true).open(&self.log);
        // What cannot be added to the log is only a hint less.
        let _ = log.and_then(|mut log| std::io::Write::write_all(&mut log, &text));
    }

    /// Shows the log of an earlier run under the name of this one.
    pub fn show_as(&self, log: &Path) -> Result<()> {
        if let Some(parent) = log.parent() {
            fs::create_dir_all(parent).at("making", parent)?;
        }
        let there = |rank: &u32| ranks::of_rank(&self.log, *rank).is_file();
        for rank in std::iter::once(0).chain((1..).take_while(there)) {
            link::point(&ranks::of_rank(log, rank), &ranks::of_rank(&self.log, rank))?;
        }
        Ok(())
    }
}
