//! One action from its lock to its result.

use crate::cache::results::{self, Outcome};
use crate::engine::attempt::Attempt;
use crate::engine::contract::{End, Engine, Note, Work};
use crate::engine::steady::{self, Part};
use crate::engine::stop::Stop;
use crate::engine::{self, slurm};
use crate::error::Error;
use crate::session::{Place, Session, Unit};
use crate::text::shown;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use store::IoContext;
use store::Produced;
use store::link;

/// How the text of a failure with exit code 75 begins.
pub const TRY_AGAIN: &str = "asks to be run again later";
/// Why an action gave no result.
#[derive(Debug)]
pub struct Failure {
    /// In words, as the end of "stage: …".
    pub text: String,
    /// Where its output is.
    pub log: Option<PathBuf>,
    /// The user stopped it.
    pub stopped: bool,
    /// What is no longer what its key says, so that it was not started; another key is to be looked for.
    pub stale: Vec<String>,
}

impl<E> From<E> for Failure
where
    Error: From<E>,
{
    fn from(e: E) -> Self {
        let e = Error::from(e);
        Self { text: format!("failed: {e}"), log: None, stopped: false, stale: Vec::new() }
    }
}

/// One action to be done.
pub struct Job<'a> {
    pub session: &'a Session,
    pub unit: Unit,
    pub log: PathBuf,
    pub run: String,
    /// GPUs that are ours.
    pub gpus: Vec<String>,
    pub feed: Sender<Note>,
    pub stop: Arc<Stop>,
}

impl Job<'_> {
    /// Waits for the action's lock, takes the result if somebody else made it meanwhile, else makes it.
    pub fn work(self) -> Result<Outcome, Failure> {
        let store = &self.session.store;
        let before = results::outcomes(store, &self.unit.key).len();
        let say = |text: &str| {
            // Nobody listens any more when the runner is on its way out.
            let _ = self.feed.send(Note::Say(text.into()));
        };
        let lock = store.lock(
            &self.unit.key,
            || say("waiting for another runner that does the same"),
            || self.stop.asked(),
        )?;
        let Some(lock) = lock else { return Err(self.stopped()) };
        let forced = self.session.forced.contains(&self.unit.step)
            && results::outcomes(store, &self.unit.key).len() == before;
        if !forced && let Some(outcome) = results::lookup(store, &self.unit.key)? {
            return Ok(outcome);
        }
        let step = &self.session.graph.steps[self.unit.step];
        let parts = steady::parts(self.session, &self.unit)?;
        let mut tries = 0;
        loop {
            if self.stop.asked() {
                return Err(self.stopped());
            }
            // A job that a killed runner left on a cluster goes on, wherever the stage would run now.
            let (engine, attempt) = match slurm::left(self.session, &self.unit)? {
                Some(attempt) => {
                    attempt.show_as(&self.log)?;
                    say("goes on with the job of an earlier run");
                    (&*slurm::SLURM as &dyn Engine, attempt)
                }
                None => (engine::of(step), Attempt::prepare(self.session, &self.unit, self.log.clone())?),
            };
            let _ = self.feed.send(Note::Follow(attempt.events.clone(), attempt.log.clone()));
            say(&shown(&attempt.words));
            let end = engine.execute(&Work {
                session: self.session,
                unit: &self.unit,
                attempt: &attempt,
                parts: &parts,
                lock: &lock,
                gpus: &self.gpus,
                stop: &self.stop,
                feed: &self.feed,
            })?;
            let mut text = match &end {
                End::Success(seconds) => {
                    return self
                        .commit(&attempt, &parts, *seconds)
                        .inspect_err(|_| slurm::forget(&attempt.folder));
                }
                End::Disturbed(names) => {
                    slurm::forget(&attempt.folder);
                    return Err(self.disturbed(names));
                }
                End::Stale(names) => {
                    link::remove(&attempt.folder)?;
                    return Err(Failure { stale: names.clone(), ..self.failure("changed".into()) });
                }
                End::Stopped => {
                    link::remove(&attempt.folder)?;
                    return Err(self.stopped());
                }
                End::Exit(75) => format!("{TRY_AGAIN} (exit code 75)"),
                End::Exit(127) => "could not be started".into(),
                End::Exit(code) => format!("failed with exit code {code}"),
                End::Signal(signal) => format!("killed by signal {signal}"),
                End::Timeout => match step.timeout {
                    Some(limit) => format!("stopped after its time limit of {} s", limit.as_secs()),
                    None => "stopped at the time limit of its job".into(),
                },
            };
            if store.full() {
                text += &format!("; the disk of {} is full", store.path.display());
            }
            link::remove(&attempt.folder)?;
            let again = matches!(end, End::Exit(75) | End::Signal(_) | End::Timeout);
            if !again || tries >= step.retries {
                return Err(self.failure(text));
            }
            tries += 1;
            say(&format!("{text}; try {} of {}", tries + 1, step.retries + 1));
        }
    }

    fn stopped(&self) -> Failure {
        Failure { stopped: true, ..self.failure("stopped".into()) }
    }

    fn failure(&self, text: String) -> Failure {
        Failure { text, log: Some(self.log.clone()), stopped: false, stale: Vec::new() }
    }

    /// What was written while the stage ran may be what it read, and its key says something else.
    fn disturbed(&self, names: &[String]) -> Failure {
        let names = match names {
            [first, rest @ ..] if rest.len() > 4 => format!("{first} and {} more", rest.len()),
            names => names.join(", "),
        };
        self.failure(format!("failed: {names} changed while it ran; its outputs are not kept"))
    }

    /// Takes in the outputs, then writes the result, which alone makes them exist.
    fn commit(&self, attempt: &Attempt, parts: &[Part], seconds: f64) -> Result<Outcome, Failure> {
        let (session, step) = (self.session, &self.session.graph.steps[self.unit.step]);
        let failure = |text: String| self.failure(text);
        let store = &session.store;
        for output in &step.outputs {
            if std::fs::symlink_metadata(attempt.out.join(&output.file)).is_err() {
                return Err(failure(format!(
                    "failed: it exited with 0 but did not write its output `{}`",
                    output.name
                )));
            }
        }
        for entry in std::fs::read_dir(&attempt.out).at("reading", &attempt.out)?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if !step.outputs.iter().any(|o| o.file == name) {
                let _ = self
                    .feed
                    .send(Note::Say(format!("wrote `{name}`, which is not one of its outputs; not kept")));
            }
        }
        self.check_inputs().map_err(failure)?;
        let changed = steady::changed(parts, &store.stats);
        if !changed.is_empty() {
            return Err(self.disturbed(&changed));
        }
        let mut taken = Vec::new();
        let mut outputs = BTreeMap::new();
        for output in &step.outputs {
            let hashed = store.ingest(&attempt.out.join(&output.file))?;
            let produced = Produced { digest: hashed.digest, bytes: hashed.bytes, files: hashed.files };
            outputs.insert(output.name.clone(), produced);
            taken.push(hashed);
        }
        store.sync(&taken)?;
        let outcome = Outcome {
            action: self.unit.action.clone(),
            outputs,
            finished: results::now(),
            seconds,
            run: self.run.clone(),
            accepted: None,
        };
        results::record(store, &self.unit.key, &outcome)?;
        // From here on the result exists; what is left over can go.
        link::remove(&attempt.folder)?;
        link::remove(&attempt.state)?;
        Ok(outcome)
    }

    /// An input that is not what it was at the start would make the key a lie.
    fn check_inputs(&self) -> Result<(), String> {
        let session = self.session;
        let wrong = |name: &str| {
            Err(format!("failed: its input `{name}` changed while it ran; its outputs are not kept"))
        };
        // What lies at a path of the study is one of the parts.
        for input in self.unit.inputs.iter().filter(|input| matches!(input.place, Place::Store)) {
            let path = session.store.place(&input.digest);
            let now = store::walk::hash(&path, &session.store.stats, store::walk::Links::Keep);
            if !now.is_ok_and(|now| now.digest == input.digest) {
                return wrong(&input.name);
            }
        }
        Ok(())
    }
}
