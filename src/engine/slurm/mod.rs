//! Stages as jobs of a Slurm cluster, on a file system that its nodes share with the runner.
//!
//! A job's files lie in its attempt folder: what is to be run, the job's id as soon as it has one, and in the end the
//! exit code that the node itself wrote down, which is believed before anything Slurm says. A runner that is killed
//! leaves its jobs alone; the next one finds them there and goes on waiting.

mod ask;
pub mod job;
mod step;
mod submission;
mod submit;

use crate::engine::attempt::Attempt;
use crate::engine::contract::{End, Engine, Work};
use crate::engine::error::{Error, Result};
use crate::engine::{ranks, steady};
use crate::session::{Session, Task};
use ask::{Seen, Verdict};
use job::{Ended, JobSpec};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use store::IoContext;
use store::Store;
use store::link;
use submission::Submission;

/// How often a waiting stage looks for its exit code and for the wish to stop.
const TICK: Duration = Duration::from_millis(200);
/// How long a shared file system may take to show an exit code that a node wrote.
const LAG: Duration = Duration::from_secs(10);

/// The engine; one for the process, so that all jobs are asked about in one call.
pub static SLURM: LazyLock<Slurm> = LazyLock::new(Slurm::default);

/// See [`SLURM`].
#[derive(Default)]
pub struct Slurm {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Attempts that wait to be submitted together, by step.
    waiting: BTreeMap<usize, Vec<submit::Request>>,
    /// What became of a submission, by attempt folder.
    answers: BTreeMap<PathBuf, Result<String, String>>,
    /// Jobs that somebody waits for.
    jobs: BTreeMap<String, Watched>,
    asked: Option<Instant>,
    /// What the last call said when it failed.
    trouble: Option<String>,
}

#[derive(Clone, Default)]
struct Watched {
    seen: Seen,
    /// How urgently it was asked to stop.
    told: u8,
}

impl Engine for Slurm {
    fn execute(&self, work: &Work) -> Result<End> {
        let folder = &work.attempt.folder;
        let say = work.say;
        loop {
            let id = match Submission::read(folder).and_then(|s| s.id) {
                Some(id) => id,
                None => {
                    let stale = steady::changed(work.parts, &work.session.store.stats);
                    if !stale.is_empty() {
                        return Ok(End::Stale(stale));
                    }
                    let id = self.submit(work)?;
                    say(format!("submitted as job {id}"));
                    id
                }
            };
            let over = self.wait(work, &id, say);
            self.lock().jobs.remove(&id);
            match over? {
                Over::End(end) => {
                    // Opening the folder makes a network file system look again what is in it.
                    let _ = fs::read_dir(&work.attempt.out);
                    return Ok(end);
                }
                Over::Again(why) => {
                    say(format!("{why}; submitting again, to go on from its state"));
                    link::remove(&Submission::path(folder))?;
                    link::remove(&Ended::path(folder))?;
                }
            }
        }
    }
}

/// What waiting for a job came to.
enum Over {
    End(End),
    /// The cluster took the node away; nothing is wrong with the stage.
    Again(String),
}

impl Slurm {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Submits an attempt, together with the others of its step that come at the same time: they are one array.
    fn submit(&self, work: &Work) -> Result<String> {
        let (folder, step) = (&work.attempt.folder, work.task.step);
        let request = submit::Request::new(work)?;
        let mut state = self.lock();
        let first = !state.waiting.contains_key(&step);
        state.waiting.entry(step).or_default().push(request);
        if first {
            let mut before = 0;
            while state.waiting[&step].len() > before {
                before = state.waiting[&step].len();
                drop(state);
                std::thread::sleep(submit::GATHER);
                state = self.lock();
            }
            let batch = state.waiting.remove(&step).unwrap_or_default();
            drop(state);
            let answers = submit::submit(work, &batch);
            state = self.lock();
            state.answers.extend(answers);
            self.changed.notify_all();
        }
        loop {
            if let Some(answer) = state.answers.remove(folder) {
                return answer.map_err(Error::Slurm);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits for the end of a job.
    fn wait(&self, work: &Work, id: &str, say: &dyn Fn(String)) -> Result<Over> {
        let interval = work.step().slurm.interval;
        let (mut silent, mut shown, mut trouble) = (None::<Instant>, String::new(), None);
        loop {
            let (seen, wrong) = self.look(id, work.stop.level(), interval);
            if wrong != trouble {
                say(wrong.clone().map_or("squeue answers again".into(), |text| format!("{text}; asking on")));
                trouble = wrong;
            }
            if let Some(ended) = Ended::read(&work.attempt.folder) {
                match ended.end() {
                    end if !ended.told => return Ok(Over::End(end)),
                    End::Success(seconds) => {
                        // Whoever wanted it to stop came too late; it is not to be started again.
                        ask::cancel(&[id.to_string()], 2);
                        return Ok(Over::End(End::Success(seconds)));
                    }
                    _ if work.stop.asked() => return Ok(Over::End(End::Stopped)),
                    end => match &seen {
                        // Who told it to stop, and whether it will be started again, is what Slurm knows.
                        Seen::Known(known) => match known.verdict() {
                            Verdict::Open => {}
                            Verdict::Ended => return Ok(Over::End(end)),
                            verdict => return over(id, known, verdict),
                        },
                        Seen::Unknown => return Ok(Over::End(end)),
                        Seen::Unasked => {}
                    },
                }
            }
            match &seen {
                Seen::Unasked => {}
                Seen::Known(known) if known.verdict() == Verdict::Open => {
                    silent = None;
                    let line = known.line(id);
                    if line != shown {
                        say(line.clone());
                        shown = line;
                    }
                }
                Seen::Known(_) | Seen::Unknown if work.stop.asked() => return Ok(Over::End(End::Stopped)),
                seen => {
                    let since = *silent.get_or_insert_with(Instant::now);
                    if since.elapsed() > LAG {
                        work.attempt.append_slurm_output();
                        return match seen {
                            Seen::Known(known) => over(id, known, known.verdict()),
                            _ => Err(Error::JobForgotten(id.into())),
                        };
                    }
                }
            }
            std::thread::sleep(TICK);
        }
    }

    /// What is known of a job. Whoever comes when it is time asks about all of them, and hands the wish to stop on.
    fn look(&self, id: &str, level: u8, interval: Duration) -> (Seen, Option<String>) {
        let mut state = self.lock();
        state.jobs.entry(id.into()).or_default();
        let untold: Vec<String> =
            state.jobs.iter().filter(|(_, job)| job.told < level).map(|(id, _)| id.clone()).collect();
        if !untold.is_empty() {
            ask::cancel(&untold, level);
            state.jobs.values_mut().for_each(|job| job.told = level);
            state.asked = None;
        }
        let unasked = matches!(state.jobs[id].seen, Seen::Unasked);
        let pause = if unasked { interval.min(Duration::from_secs(1)) } else { interval };
        if state.asked.is_none_or(|at| at.elapsed() >= pause) {
            let ids: Vec<String> = state.jobs.keys().cloned().collect();
            match ask::states(&ids) {
                Ok(mut known) => {
                    state.trouble = None;
                    for (id, job) in &mut state.jobs {
                        job.seen = known.remove(id).map_or(Seen::Unknown, Seen::Known);
                    }
                }
                Err(text) => state.trouble = Some(text),
            }
            state.asked = Some(Instant::now());
        }
        (state.jobs[id].seen.clone(), state.trouble.clone())
    }
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

/// The attempt that an earlier runner left with Slurm, if its job is still to be expected or has ended of itself.
pub fn left(session: &Session, task: &Task) -> Result<Option<Attempt>> {
    let folder = session.store.attempt(&task.key);
    let Some(mut submission) = Submission::read(&folder) else { return Ok(None) };
    let Some(spec) = JobSpec::read(&folder) else { return Ok(None) };
    let name = submission.name.clone();
    let cannot = |why: String| Error::JobLeft { name: name.clone(), folder: folder.clone(), why };
    if submission.id.is_none() {
        // The runner was killed while it submitted.
        submission.id =
            ask::named(&submission.name, submission.index, submission.cluster.as_deref()).map_err(cannot)?;
        let Some(_) = submission.id else { return Ok(None) };
        submission.write(&folder)?;
    }
    let Some(id) = submission.id.clone() else { return Ok(None) };
    let ended = Ended::read(&folder);
    let outputs = &session.graph.steps[task.step].outputs;
    let out = Store::newest_outputs(&folder);
    if ended.as_ref().is_some_and(|ended| ended.code == 0)
        && outputs.iter().any(|o| fs::symlink_metadata(out.join(&o.file)).is_err())
    {
        // The runner was killed while it took the outputs in.
        return Ok(None);
    }
    if !ended.is_some_and(|ended| !ended.told || ended.code == 0) {
        let states = ask::states(std::slice::from_ref(&id)).map_err(cannot)?;
        if states.get(&id).is_none_or(|known| known.verdict() != Verdict::Open) {
            return Ok(None);
        }
    }
    Ok(Some(Attempt {
        out,
        events: spec.events,
        state: spec.state,
        log: spec.log,
        words: spec.words,
        folder,
    }))
}

/// Makes an attempt one that nobody goes on with: its outputs were refused.
pub fn forget(folder: &Path) {
    // At worst the next run refuses them again.
    let _ = link::remove(&Submission::path(folder));
}

/// Whether an attempt folder may belong to a job that is not over.
pub fn holds(folder: &Path) -> bool {
    let Some(submission) = Submission::read(folder) else { return false };
    let id = match submission.id {
        Some(id) => Ok(Some(id)),
        None => ask::named(&submission.name, submission.index, submission.cluster.as_deref()),
    };
    match id {
        Ok(None) => false,
        Ok(Some(id)) => ask::states(std::slice::from_ref(&id))
            .map_or(true, |known| known.get(&id).is_some_and(|k| k.verdict() == Verdict::Open)),
        Err(_) => true,
    }
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
