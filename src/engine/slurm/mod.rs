//! Stages as jobs of a Slurm cluster, on a file system that its nodes share with the runner.
//!
//! A job's files lie in its attempt folder: what is to be run, the job's id as soon as it has one, and in the end the
//! exit code that the node itself wrote down, which is believed before anything Slurm says. A runner that is killed
//! leaves its jobs alone; the next one finds them there and goes on waiting.

mod ask;
pub mod desk;
pub mod job;
mod queue;
mod step;
mod submission;
mod submit;
pub mod waiting;

use crate::engine::attempt::Attempt;
use crate::engine::contract::End;
use crate::engine::error::{Error, Result};
use crate::engine::ranks;
use crate::session::{Session, Task};
use ask::{Seen, Verdict};
use job::{Ended, JobSpec};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use store::{IoContext, Store, link, lock};
use submission::Submission;

pub use submit::prepare;

/// The signal by which Slurm says that a job could not begin.
const CANNOT_BEGIN: u32 = 53;

/// What waiting for a job came to.
enum Over {
    End(End),
    /// The cluster took the node away; nothing is wrong with the stage.
    Again(String),
}

/// What the end of a job means that wrote no exit code of its own choice.
fn over(id: &str, known: &ask::Known, verdict: Verdict) -> Result<Over> {
    Ok(match verdict {
        Verdict::Timeout => Over::End(End::Timeout),
        Verdict::Again => Over::Again(format!("job {id} ended as {}", known.state)),
        Verdict::Memory => Over::End(End::Signal(9)),
        Verdict::Ended if known.code & 127 != 0 => Over::End(End::Signal((known.code & 127) as u8)),
        Verdict::Ended if known.code >> 8 != 0 => Over::End(End::Exit((known.code >> 8) as u8)),
        Verdict::Cancelled => {
            return Err(Error::JobCancelled(id.into()));
        }
        Verdict::Ended | Verdict::Open => {
            return Err(Error::NoExitCode { id: id.into(), state: known.state.clone() });
        }
    })
}

/// What a job that wrote nothing could not begin without, where its end tells.
fn unseen(id: &str, seen: &Seen, attempt: &Attempt) -> Option<Error> {
    let Seen::Known(known) = seen else { return None };
    let path = match (known.code & 127, known.code >> 8) {
        // Slurm's own way to say that it could not enter a folder, or open the file of its output.
        (CANNOT_BEGIN, _) => attempt.folder.clone(),
        // The shell's: there is no such program.
        (0, 126 | 127) => std::env::current_exe().ok()?,
        _ => return None,
    };
    (known.verdict() == Verdict::Ended).then(|| Error::Unseen { id: id.into(), path })
}

/// What an earlier runner may have left with Slurm.
pub enum Left {
    Nothing,
    /// Its job is still to be expected, has ended of itself, or Slurm does not know it any more.
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
    if let Some(lock) = held(&session.store, &submission)? {
        return Ok(Left::Busy(lock));
    }
    let Some(spec) = JobSpec::read(&folder) else { return Ok(Left::Nothing) };
    if submission.name.is_empty() {
        // It was never submitted.
        return Ok(Left::Nothing);
    }
    let outputs = &session.graph.steps[task.step].outputs;
    let out = Store::newest_outputs(&folder);
    let missing = || outputs.iter().any(|o| fs::symlink_metadata(out.join(&o.file)).is_err());
    if Ended::read(&folder).is_some_and(|ended| ended.code == 0) && missing() {
        // The runner was killed while it took the outputs in.
        return Ok(Left::Nothing);
    }
    claim()?;
    submission.owner = owner.into();
    submission.write(&folder)?;
    Ok(Left::Job(Box::new(Attempt {
        out,
        events: spec.events,
        state: spec.state,
        log: spec.log,
        words: spec.words,
        folder,
    })))
}

/// The lock of the run that waits for a job, where it is held.
fn held(store: &Store, submission: &Submission) -> Result<Option<PathBuf>> {
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
}

/// Those of some attempt folders that may belong to a job that is not over: asked about in one call.
pub fn held_by_jobs(folders: &[PathBuf]) -> BTreeSet<PathBuf> {
    let submitted = folders.iter().filter_map(|folder| Some((folder, Submission::read(folder)?)));
    let (mut ids, mut names) = (BTreeMap::new(), BTreeMap::new());
    for (folder, submission) in submitted.filter(|(_, submission)| !submission.name.is_empty()) {
        let Submission { name, index, id, cluster, .. } = submission;
        match id {
            Some(id) => drop(ids.insert(id, folder)),
            None => {
                let all: &mut BTreeMap<_, _> = names.entry(cluster).or_default();
                all.insert((name, index), folder);
            }
        }
    }
    let mut busy = BTreeSet::new();
    for (cluster, all) in names {
        let asked: BTreeSet<String> = all.keys().map(|(name, _)| name.clone()).collect();
        match ask::named(&asked, cluster.as_deref()) {
            Ok(found) => {
                let known = found.into_iter().filter_map(|(key, id)| Some((id, *all.get(&key)?)));
                ids.extend(known);
            }
            Err(_) => busy.extend(all.into_values().cloned()),
        }
    }
    let asked: Vec<String> = ids.keys().cloned().collect();
    let states = if asked.is_empty() { Ok(BTreeMap::new()) } else { ask::states(&asked) };
    let open = |id: &String| match &states {
        Ok(known) => known.get(id).is_some_and(|k| k.verdict() == Verdict::Open),
        Err(_) => true,
    };
    busy.extend(ids.into_iter().filter(|(id, _)| open(id)).map(|(_, folder)| folder.clone()));
    busy
}

impl Attempt {
    /// The place where Slurm puts what the job says before the stage has its log.
    fn slurm_output(&self) -> PathBuf {
        self.folder.join("slurm.out")
    }

    /// A job that could not even begin says why in a place of its own.
    fn append_slurm_output(&self) {
        let Ok(text) = fs::read(self.slurm_output()) else { return };
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
