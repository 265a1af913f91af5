//! Carries out what the scheduler decides: on threads, in the store, on the screen; and tells it what came of it.

use crate::cache::events::{Direction, RunEvent, TaskEnd};
use crate::cache::failure::{Failure, TaskFailure};
use crate::cache::remote::{self, Remote};
use crate::cache::results::{self, ActionResult};
use crate::cache::runs::FailedTask;
use crate::engine::{self, stop::Stop};
use crate::error::{Error, Result};
use crate::run::far::{Errand, Far, broken};
use crate::run::job::Begun;
use crate::run::machine::{Machine, request};
use crate::run::options::RunOptions;
use crate::run::scheduler::{
    Attempted, Effect, Event, Found, Scheduler, Settings, StepEnd, StepId, StepPlan, TaskId,
};
use crate::run::stream::Stream;
use crate::run::tail::Tail;
use crate::run::threads::{Broken, Message, StopOnPanic, Teller, Threads};
use crate::run::transfer::{self, TransferProgress};
use crate::session::reasons::reasons;
use crate::session::{Session, StepOutputs, Task};
use crate::text::duration;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often signals, and what running stages report, are looked at.
const TICK: Duration = Duration::from_millis(100);

/// A run under way.
pub struct Driver<'a> {
    pub(super) session: &'a Session,
    pub(super) options: &'a RunOptions,
    pub(super) run: &'a str,
    pub(super) stop: &'a Stop,
    pub(super) stream: &'a mut Stream,
    scheduler: Scheduler,
    /// As `CUDA_VISIBLE_DEVICES` names them.
    gpus: Vec<String>,
    /// The outputs of steps that are done.
    pub(super) known: Vec<Option<StepOutputs>>,
    pub(super) steps: Vec<StepState>,
    pub(super) tasks: Vec<TaskState>,
    /// What is to be done when its turn comes: what is there is looked at first, in the order of the graph; then tasks
    /// are started; last, a person is asked.
    looks: BTreeMap<StepId, bool>,
    begins: VecDeque<Effect>,
    asks: VecDeque<TaskId>,
    pub(super) running: BTreeMap<TaskId, Tail>,
    /// The running task whose turn it is to be looked at.
    pub(super) turn: TaskId,
    /// Why the run cannot go on.
    error: Option<Error>,
    stopped: bool,
    finished: bool,
}

/// What the driver keeps of a step.
#[derive(Default)]
pub(super) struct StepState {
    /// Its tasks as they were looked up last.
    pub(super) tasks: Range<usize>,
    /// What it runs or reads changed after the run began.
    pub(super) anew: bool,
    /// Tasks of it have got results in this run.
    pub(super) begun: bool,
    /// Of the task that was started last.
    pub(super) reason: String,
    pub(super) failures: Vec<FailedTask>,
    pub(super) end: Option<StepEnd>,
}

/// What the driver keeps of a task.
pub(super) struct TaskState {
    pub(super) task: Arc<Task>,
    pub(super) outcome: Option<ActionResult>,
    /// The newest result of its key when it was looked up.
    pub(super) seen: Option<u64>,
    /// How long it took last time, where a person is to be asked.
    pub(super) costly: Option<f64>,
    /// What belongs to its failure: the place of a full disk, the rank, and the log.
    pub(super) full: Option<PathBuf>,
    pub(super) rank: Option<u32>,
    pub(super) log: Option<PathBuf>,
}

impl TaskState {
    /// A failure with what belongs to it.
    fn how(&mut self, failure: Failure) -> TaskFailure {
        TaskFailure { failure, full: self.full.take(), rank: self.rank.take(), log: self.log.take() }
    }
}

impl<'a> Driver<'a> {
    /// The state before anything was looked at.
    pub fn new(
        session: &'a Session,
        options: &'a RunOptions,
        run: &'a str,
        stop: &'a Stop,
        stream: &'a mut Stream,
    ) -> Result<Self> {
        let machine = Machine::whole(options.jobs, options.gpus_from_top);
        let steps = &session.graph.steps;
        for (step, _) in steps.iter().zip(&session.wanted).filter(|(_, wanted)| **wanted) {
            // What was made already, here or elsewhere, needs no room; that is seen when its key is known.
            let made = || session.remote.is_some() || results::last(&session.store, &step.id).is_some();
            machine.check(step).or_else(|e| if made() { Ok(()) } else { Err(e) })?;
        }
        let plan = |(i, step): (usize, &study::graph::Step)| StepPlan {
            wanted: session.wanted[i],
            needs: match session.replaced.contains_key(&i) {
                true => Vec::new(),
                false => step.needs().map(StepId).collect(),
            },
            request: request(step),
            forced: session.forced.contains(&i),
            retries: step.retries,
        };
        let settings = Settings {
            capacity: machine.capacity,
            keep_going: options.keep_going,
            cache: session.remote.is_some(),
            transfers: remote::MOST,
        };
        Ok(Self {
            session,
            options,
            run,
            stop,
            stream,
            scheduler: Scheduler::new(steps.iter().enumerate().map(plan).collect(), settings),
            gpus: machine.gpus,
            known: vec![None; steps.len()],
            steps: steps.iter().map(|_| StepState::default()).collect(),
            tasks: Vec::new(),
            looks: BTreeMap::new(),
            begins: VecDeque::new(),
            asks: VecDeque::new(),
            running: BTreeMap::new(),
            turn: TaskId(0),
            error: None,
            stopped: false,
            finished: false,
        })
    }

    /// Runs everything to its end.
    pub fn finish(mut self) -> Result<()> {
        std::thread::scope(|scope| {
            let threads = Threads::new(scope);
            let far = Far::new(&threads.hands, self.session, self.run, self.stop);
            self.go(&threads, &far);
            far.close();
        });
        match self.error.take() {
            Some(e) => Err(e),
            None => self.show_again(),
        }
    }

    fn go<'s, 'e>(&mut self, threads: &Threads<'s, 'e>, far: &Arc<Far<'s, 'e>>)
    where
        'a: 's,
    {
        let _stops = StopOnPanic(self.stop);
        let mut tick = Instant::now() + TICK;
        self.tell(Event::Begin);
        while !self.finished {
            if self.stop.asked() && !self.stopped {
                self.stopped = true;
                self.tell(Event::Stop);
            }
            if Instant::now() >= tick {
                tick = Instant::now() + TICK;
                self.tick();
            }
            if let Some(message) = threads.heard() {
                self.hear(message);
            } else if let Some((step, whole)) = self.looks.pop_first() {
                self.answer_look(step, whole);
            } else if let Some(effect) = self.begins.pop_front() {
                self.begin(effect, threads, far);
            } else if let Some(task) = self.asks.pop_front() {
                let refusal = if self.scheduler.is_halted() { None } else { self.confirm(task) };
                self.tell(Event::Answered { task, refusal });
            } else if !self.finished
                && let Some(message) = threads.wait(tick)
            {
                self.hear(message);
            }
        }
    }

    fn answer_look(&mut self, step: StepId, whole: bool) {
        // When nothing new begins any more, nobody needs to know.
        let halted = self.scheduler.is_halted();
        let found = if halted { Ok(Found::NotYet) } else { self.look(step, whole) };
        let found = found.unwrap_or_else(|e| {
            self.fail(e);
            Found::NotYet
        });
        self.tell(Event::Looked { step, found });
    }

    /// The run cannot go on.
    pub(super) fn fail(&mut self, e: Error) {
        self.error.get_or_insert(e);
        if !self.stop.asked() {
            self.stop.ask();
        }
        if !std::mem::replace(&mut self.stopped, true) {
            self.tell(Event::Stop);
        }
    }

    /// Tells the scheduler what happened, and does at once what takes no time.
    pub(super) fn tell(&mut self, event: Event) {
        for effect in self.scheduler.on(event) {
            match effect {
                Effect::Look { step, whole } => drop(self.looks.insert(step, whole)),
                Effect::Start { .. } | Effect::Fetch { .. } | Effect::Send { .. } => {
                    self.begins.push_back(effect);
                }
                Effect::Ask { task } => self.asks.push_back(task),
                Effect::Share { task, from } => {
                    let shared = self.tasks[from.0].outcome.clone();
                    shared.into_iter().for_each(|outcome| self.made(task, outcome));
                }
                Effect::Anew { task, parts } => {
                    let i = self.tasks[task.0].task.step;
                    self.steps[i].anew = true;
                    let task = self.label(task);
                    self.stream.emit(RunEvent::TaskEnded { task, end: TaskEnd::Anew { parts } });
                }
                Effect::Failed { task, failure } => {
                    let (how, i) = (self.tasks[task.0].how(failure), self.tasks[task.0].task.step);
                    self.failed(i, self.label(task), how);
                }
                Effect::Gather { step } => {
                    let restored = self.gather(step).unwrap_or_else(|e| {
                        self.fail(e);
                        false
                    });
                    self.tell(Event::Gathered { step, restored });
                }
                Effect::Remake { step } => self.remake(step),
                Effect::Ended { step, end } => self.end(step, end),
                Effect::Finish => self.finished = true,
            }
        }
    }

    pub(super) fn label(&self, task: TaskId) -> String {
        self.tasks[task.0].task.label.clone()
    }

    /// Says and notes that a task has failed.
    pub(super) fn failed(&mut self, i: usize, task: String, how: TaskFailure) {
        self.steps[i].failures.push(FailedTask { task: task.clone(), how: how.clone() });
        self.stream.emit(RunEvent::TaskEnded { task, end: TaskEnd::Failed(how) });
    }

    /// What was known of a step is not any more.
    fn remake(&mut self, step: StepId) {
        self.known[step.0] = None;
        let state = &mut self.steps[step.0];
        state.reason.clear();
        if state.end.take() == Some(StepEnd::Cached) {
            let id = &self.session.graph.steps[step.0].id;
            self.stream.say(id, "its dropped outputs are needed again");
        }
    }

    /// Begins what takes its time on a thread of its own.
    fn begin<'s, 'e>(&mut self, effect: Effect, threads: &Threads<'s, 'e>, far: &Arc<Far<'s, 'e>>)
    where
        'a: 's,
    {
        let stopped = self.stop.asked();
        match effect {
            Effect::Start { task, .. } if stopped => {
                self.tell(Event::Ended { task, end: Attempted::Failed(Failure::Stopped) });
            }
            Effect::Start { task, gpus, attempt, after } => {
                let gpus = gpus.iter().filter_map(|gpu| self.gpus.get(*gpu).cloned()).collect();
                self.start(task, gpus, attempt, after, threads, far);
            }
            Effect::Fetch { task } if stopped || !self.has_cache(Remote::answers) => {
                self.tell(Event::Fetched { task, hit: false });
            }
            Effect::Send { task } if stopped || !self.has_cache(Remote::takes) => {
                self.tell(Event::Sent { task });
            }
            Effect::Fetch { task } => self.transfer(task, Direction::Fetch, threads),
            Effect::Send { task } => self.transfer(task, Direction::Send, threads),
            _ => {}
        }
    }

    fn has_cache(&self, which: impl Fn(&Remote) -> bool) -> bool {
        self.session.remote.as_ref().is_some_and(which)
    }

    fn start<'s, 'e>(
        &mut self,
        id: TaskId,
        gpus: Vec<String>,
        attempt: u32,
        after: Option<Failure>,
        threads: &Threads<'s, 'e>,
        far: &Arc<Far<'s, 'e>>,
    ) where
        'a: 's,
    {
        let (session, run) = (self.session, self.run);
        let (task, seen) = (Arc::clone(&self.tasks[id.0].task), self.tasks[id.0].seen);
        let log = session.store.log(run, &task.label);
        let label = task.label.clone();
        if let Some(failure) = after {
            let after = self.tasks[id.0].how(failure);
            let attempts = session.graph.steps[task.step].retries + 1;
            self.stream.emit(RunEvent::TaskRetried { task: label, attempt, attempts, after });
        } else {
            let reasons = reasons(session, &task);
            self.steps[task.step].reason = reasons.join(", ");
            let (stage, key) = (session.graph.steps[task.step].id.clone(), Some(task.key));
            let (gpus, log) = (gpus.clone(), log.clone());
            let processes = session.graph.steps[task.step].processes;
            self.stream.emit(RunEvent::TaskStarted {
                task: label,
                stage,
                key,
                reasons,
                gpus,
                processes,
                log,
            });
        }
        let of_cluster = engine::is_far(&session.graph.steps[task.step]);
        if of_cluster {
            self.stream.emit(RunEvent::TaskQueued { task: task.label.clone() });
        }
        let begun = Begun { at: results::now(), clock: Instant::now() };
        let errand = Errand { id, task, attempt, log, gpus, seen, begun, follow: None };
        let far = Arc::clone(far);
        let work = move |teller: &Teller| far.attempt(errand, teller);
        let broken = move |e: Broken| broken(id, &e);
        let spawned = match of_cluster {
            true => threads.hands.queue(work, broken),
            false => threads.hands.spawn(work, broken),
        };
        if let Err(e) = spawned {
            let failure = Failure::Error { text: format!("starting a thread: {e}") };
            self.hear(Message::Ended(id, Err(failure.into())));
        }
    }

    fn transfer<'s>(&mut self, id: TaskId, direction: Direction, threads: &Threads<'s, '_>)
    where
        'a: 's,
    {
        let (session, stop, state) = (self.session, self.stop, &self.tasks[id.0]);
        let (task, outcome) = (Arc::clone(&state.task), state.outcome.clone());
        let label = task.label.clone();
        let moving = move |teller: &Teller| {
            let tell = |event| teller.tell(Message::Tells(id, Some(direction), event));
            let progress = TransferProgress::new(&tell, stop);
            let moved = match (direction, outcome) {
                (Direction::Send, Some(outcome)) => transfer::send(session, &task, &outcome, &progress),
                _ => transfer::fetch(session, &task, &progress),
            };
            teller.tell(Message::Moved(id, direction, moved));
        };
        let broken = move |e: Broken| {
            Message::Moved(id, direction, Err(engine::Error::Broken { label, why: e.to_string() }.into()))
        };
        let spawned = threads.hands.spawn(moving, broken);
        if let Err(source) = spawned {
            let e = engine::Error::Start { what: "a thread".into(), source }.into();
            self.hear(Message::Moved(id, direction, Err(e)));
        }
    }

    /// Asks whether a costly task is to run again. Where nobody can be asked, it is not run.
    fn confirm(&mut self, id: TaskId) -> Option<Failure> {
        let (task, seconds) = (Arc::clone(&self.tasks[id.0].task), self.tasks[id.0].costly?);
        let (label, took) = (&task.label, duration(seconds));
        let question = format!("{label} took {took}, and only its program changed. Run it again? [y/N] ");
        if self.stream.screen().ask(&question) {
            return None;
        }
        Some(Failure::Refused { seconds, stage: self.session.graph.steps[task.step].stage.clone() })
    }
}
