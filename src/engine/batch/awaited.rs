//! A job that is waited for: what it wrote, what its system says of it, and what that comes to.

use super::known::{Known, Over, Seen, Verdict};
use super::papers::Ended;
use super::submission::Submission;
use super::system::System;
use super::waiting::Notice;
use crate::engine::attempt::Attempt;
use crate::engine::contract::End;
use crate::engine::error::{Error, Result};
use crate::session::Task;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a shared file system may take to show an exit code that a node wrote.
const LAG: Duration = Duration::from_secs(10);

/// See the module.
pub struct Job {
    pub task: Arc<Task>,
    pub attempt: Attempt,
    pub submission: Submission,
    /// The place of its system.
    pub system: usize,
    pub seen: Seen,
    /// Since when it is said to be over, and there is no exit code.
    silent: Option<Instant>,
    shown: String,
    /// How urgently it was asked to stop.
    pub told: u8,
    /// An earlier runner submitted it, and its system was not asked yet whether it is still there.
    pub left: bool,
    runs: bool,
}

/// What a look at a job came to.
pub enum Came {
    Nothing,
    Over(Result<End>),
    Lost,
    Again(String),
}

impl Job {
    /// One of which nothing is known yet.
    pub fn new(task: Arc<Task>, attempt: Attempt, submission: Submission, system: usize) -> Self {
        let (seen, shown) = (Seen::Unasked, String::new());
        Self {
            task,
            attempt,
            submission,
            system,
            seen,
            silent: None,
            shown,
            told: 0,
            left: false,
            runs: false,
        }
    }

    /// What it wrote, and what its system says of it. What is to be cancelled goes to `cancel`.
    pub fn verdict(
        &mut self,
        system: &dyn System,
        stopping: bool,
        trouble: Option<&str>,
        cancel: &mut Vec<String>,
        tell: &mut dyn FnMut(Notice),
    ) -> Came {
        let id = self.submission.id.clone().unwrap_or_default();
        if let Some(ended) = Ended::read(&self.attempt.folder, &self.submission.name) {
            match ended.end() {
                end if !ended.told => return Came::Over(Ok(end)),
                End::Success(seconds) => {
                    // Whoever wanted it to stop came too late; it is not to be started again.
                    cancel.push(id);
                    return Came::Over(Ok(End::Success(seconds)));
                }
                _ if stopping => return Came::Over(Ok(End::Stopped)),
                end => match &self.seen {
                    // Of one that an earlier runner told to stop, the state is there, and nothing else.
                    Seen::Known(known) if self.left && known.verdict != Verdict::Open => return Came::Lost,
                    Seen::Unknown if self.left => return Came::Lost,
                    // Who told it to stop, and whether it will be started again, is what the system knows.
                    Seen::Known(known) => match known.verdict {
                        Verdict::Open => {}
                        Verdict::Ended => return Came::Over(Ok(end)),
                        _ => return came(&id, known),
                    },
                    Seen::Unknown => return Came::Over(Ok(end)),
                    Seen::Unasked => {}
                },
            }
        }
        match &self.seen {
            Seen::Unasked => match trouble {
                Some(why) if self.left => Came::Over(Err(Error::JobLeft {
                    name: self.submission.name.clone(),
                    folder: self.attempt.folder.clone(),
                    why: why.into(),
                })),
                _ => Came::Nothing,
            },
            Seen::Known(known) if known.verdict == Verdict::Open => {
                (self.silent, self.left) = (None, false);
                let line = known.line(&id);
                if line != self.shown {
                    tell(Notice::Say(line.clone()));
                    self.shown = line;
                }
                if known.running != self.runs {
                    self.runs = known.running;
                    tell(Notice::Runs(self.runs));
                }
                Came::Nothing
            }
            _ if stopping => Came::Over(Ok(End::Stopped)),
            Seen::Known(known) if known.verdict == Verdict::Stuck => {
                let end = system.unseen(&id, &self.seen, &self.attempt).map_or_else(|| known.over(&id), Err);
                cancel.push(id);
                match end {
                    Ok(_) if self.left => Came::Lost,
                    Ok(_) => Came::Over(Ok(End::Stopped)),
                    Err(e) => Came::Over(Err(e)),
                }
            }
            _ if self.left => Came::Lost,
            seen => {
                if self.silent.get_or_insert_with(Instant::now).elapsed() <= LAG {
                    return Came::Nothing;
                }
                self.attempt.append_job_output();
                if let Some(e) = system.unseen(&id, seen, &self.attempt) {
                    return Came::Over(Err(e));
                }
                match seen {
                    Seen::Known(known) => came(&id, known),
                    _ => Came::Over(Err(Error::JobForgotten(id))),
                }
            }
        }
    }
}

fn came(id: &str, known: &Known) -> Came {
    match known.over(id) {
        Ok(Over::End(end)) => Came::Over(Ok(end)),
        Ok(Over::Again(why)) => Came::Again(why),
        Err(e) => Came::Over(Err(e)),
    }
}
