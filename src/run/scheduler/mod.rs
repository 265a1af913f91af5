//! Decides what a run does next, and does none of it: what happened comes in as an [`Event`], what is to be done goes
//! out as [`Effect`]s, each of which is answered by an event.
//!
//! There is no thread, process, file, clock or screen in here. An event costs what it touches (its task, its step, the
//! steps that read from it, the lines of the ready queue), never a look over everything.

mod ready;
mod slots;
mod steps;
mod tasks;
#[cfg(test)]
mod tests;

use crate::cache::failure::{Change, Failure};
use ready::Ready;
use slots::Slots;
pub use slots::{Capacity, Held, Request};
use std::collections::{HashMap, VecDeque};
use store::Key;

/// A step that changes more often than this before it can start has failed.
const PATIENCE: u32 = 5;

/// A step of the study, by its place in the graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StepId(pub usize);

/// One action of a step. Tasks are numbered in the order in which they are looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId(pub usize);

/// What the scheduler knows of a step beforehand.
#[derive(Clone, Debug, Default)]
pub struct StepPlan {
    /// Whether the run is about it.
    pub wanted: bool,
    /// The steps that it reads from, all of them wanted, as often as it does. A step that `--with` replaces needs none.
    pub needs: Vec<StepId>,
    pub request: Request,
    /// It runs although it is cached.
    pub forced: bool,
    /// How often a task is started again after a failure that may pass.
    pub retries: u32,
}

/// How the run goes about it.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    pub capacity: Capacity,
    /// After a failure, everything that does not need the failed step still runs.
    pub keep_going: bool,
    /// There is a shared cache, which is asked before a task runs and filled after it has.
    pub cache: bool,
    /// Results on their way to or from it at the same time.
    pub transfers: usize,
}

/// Something that happened.
#[derive(Debug)]
pub enum Event {
    /// The run begins.
    Begin,
    /// Answers [`Effect::Look`].
    Looked { step: StepId, found: Found },
    /// Answers [`Effect::Fetch`]: whether the shared cache had the result, which is in the store now.
    Fetched { task: TaskId, hit: bool },
    /// Answers [`Effect::Ask`]: why the task is not to run, or nothing when it is.
    Answered { task: TaskId, refusal: Option<Failure> },
    /// Answers [`Effect::Start`].
    Ended { task: TaskId, end: Attempted },
    /// Answers [`Effect::Send`], whatever became of it.
    Sent { task: TaskId },
    /// Answers [`Effect::Gather`]: whether `out/` showed something else before.
    Gathered { step: StepId, restored: bool },
    /// Somebody wants the run to stop.
    Stop,
}

/// What the store has of a step.
#[derive(Debug)]
pub enum Found {
    /// `--with` stands in for it.
    Replaced,
    /// Its actions are not known, because a step further up is being made again.
    NotYet,
    /// It cannot be looked up any more, though it could be when the run began.
    Failed,
    /// Its tasks, and the steps whose dropped outputs those of them read that are not here.
    Tasks { tasks: Vec<Sought>, dropped: Vec<StepId> },
}

/// A task that was looked up.
#[derive(Clone, Copy, Debug)]
pub struct Sought {
    pub key: Key,
    /// The store has its result.
    pub here: bool,
    /// A person is asked before it runs.
    pub ask: bool,
}

/// How an attempt at a task ended.
#[derive(Clone, Debug)]
pub enum Attempted {
    /// It made the result.
    Made,
    /// Another runner made the result meanwhile.
    Elsewhere,
    /// It was not started: these are no longer what the action says.
    Stale(Vec<Change>),
    Failed(Failure),
}

/// Something to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Look up what the store has of a step; `whole` asks for the contents of outputs that may be dropped, too.
    Look { step: StepId, whole: bool },
    /// Bring a task's result from the shared cache.
    Fetch { task: TaskId },
    /// Ask a person whether a task is to run.
    Ask { task: TaskId },
    /// Make an attempt at a task, with these GPUs. After the first, `after` says why another one is made.
    Start { task: TaskId, gpus: Vec<usize>, attempt: u32, after: Option<Failure> },
    /// Send a task's result to the shared cache.
    Send { task: TaskId },
    /// A task has the result of another one, which is the same action. Answered by nothing, as all from here on but
    /// [`Effect::Gather`].
    Share { task: TaskId, from: TaskId },
    /// A task is given up because these changed before it could start; its step is looked at anew.
    Anew { task: TaskId, parts: Vec<Change> },
    /// A task has failed for good.
    Failed { task: TaskId, failure: Failure },
    /// Make the outputs of a step from those of its tasks, and show them in `out/`.
    Gather { step: StepId },
    /// A step is taken up again: another one needs what was dropped of it. What was known of it is not any more.
    Remake { step: StepId },
    /// A step has ended.
    Ended { step: StepId, end: StepEnd },
    /// Nothing is left to be done.
    Finish,
}

/// What became of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepEnd {
    Replaced,
    Cached,
    /// It was cached, and `out/` shows it again.
    Restored,
    Fetched,
    /// So many of its tasks ran, of all.
    Ran {
        ran: usize,
        all: usize,
    },
    Failed,
    Skipped(Why),
}

impl StepEnd {
    /// Whether there are outputs that others can read.
    pub fn is_good(self) -> bool {
        !matches!(self, Self::Failed | Self::Skipped(_))
    }
}

/// Why a step or a task was skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// A step that it needs failed.
    Before,
    /// Another step failed, and the run does not go on.
    Another,
    Stopped,
}

/// The state of a run.
#[derive(Debug)]
pub struct Scheduler {
    settings: Settings,
    steps: Vec<Step>,
    tasks: Vec<Entry>,
    /// Of every action that is being sought or made: whose task does it, and who waits for the same.
    claims: HashMap<Key, Claim>,
    /// Tasks that go ahead in the place of one that came to nothing.
    promoted: Vec<TaskId>,
    ready: Ready,
    slots: Slots,
    /// Tasks whose turn with the shared cache is to come.
    transfers: VecDeque<TaskId>,
    moving: usize,
    /// Steps that wait for one further up which is being made again.
    late: Vec<StepId>,
    /// Nothing new begins any more.
    halted: Option<Why>,
    /// Effects that are not answered yet.
    open: usize,
    finished: bool,
    effects: Vec<Effect>,
}

#[derive(Debug)]
struct Step {
    plan: StepPlan,
    readers: Vec<StepId>,
    phase: StepPhase,
    /// How many of the steps that it needs have no outputs yet, and how many never will.
    missing: usize,
    lost: usize,
    /// It is made again for the sake of outputs that were dropped.
    remade: bool,
    /// What it runs or reads changed, so that it is looked at again when none of its tasks is under way; and how often
    /// that happened.
    anew: bool,
    renewed: u32,
    /// Its tasks: the first, how many, and how many of them have not ended.
    first: TaskId,
    all: usize,
    open: usize,
    ran: usize,
    fetched: usize,
    failed: usize,
    skipped: usize,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum StepPhase {
    Waiting,
    /// When it is `stale`, something it reads from was taken up again since it was asked about.
    Looking {
        stale: bool,
    },
    /// Its tasks are under way.
    Open,
    Gathering,
    Ended(StepEnd),
    /// The run is not about it.
    Unwanted,
}

#[derive(Debug)]
struct Entry {
    step: StepId,
    key: Key,
    ask: bool,
    phase: Phase,
}

/// How far a task is.
#[derive(Debug)]
enum Phase {
    /// Another task does the same; its result will serve both.
    Behind,
    ToFetch,
    Fetching,
    Asking,
    Queued,
    Running {
        held: Held,
        attempt: u32,
    },
    /// It has its result; the shared cache does not yet.
    ToSend,
    Sending,
    /// It has a result, or never will.
    Ended,
}

/// How a task came to its end.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Here,
    Fetched,
    Made,
    Elsewhere,
    Failed,
    Skipped,
    /// Its step is looked at anew.
    Dropped,
}

#[derive(Debug)]
struct Claim {
    owner: TaskId,
    behind: VecDeque<TaskId>,
}

impl Scheduler {
    /// The state before anything was looked at.
    pub fn new(plans: Vec<StepPlan>, settings: Settings) -> Self {
        let mut readers = vec![Vec::new(); plans.len()];
        let mut steps: Vec<Step> = plans.into_iter().map(Step::new).collect();
        for (index, step) in steps.iter().enumerate().filter(|(_, step)| step.plan.wanted) {
            step.plan.needs.iter().for_each(|need| readers[need.0].push(StepId(index)));
        }
        for (step, readers) in steps.iter_mut().zip(readers) {
            step.readers = readers;
        }
        Self {
            settings,
            steps,
            tasks: Vec::new(),
            claims: HashMap::new(),
            promoted: Vec::new(),
            ready: Ready::default(),
            slots: Slots::new(settings.capacity),
            transfers: VecDeque::new(),
            moving: 0,
            late: Vec::new(),
            halted: None,
            open: 0,
            finished: false,
            effects: Vec::new(),
        }
    }

    /// Takes in what happened and says what is to be done, in the order in which it is to be begun.
    #[must_use]
    pub fn on(&mut self, event: Event) -> Vec<Effect> {
        match event {
            Event::Begin => self.begin(),
            Event::Looked { step, found } => self.looked(step, found),
            Event::Fetched { task, hit } => self.fetched(task, hit),
            Event::Answered { task, refusal } => self.answered(task, refusal),
            Event::Ended { task, end } => self.attempted(task, end),
            Event::Sent { task } => self.sent(task),
            Event::Gathered { step, restored } => self.gathered(step, restored),
            Event::Stop => self.halt(Why::Stopped),
        }
        while let Some(task) = self.promoted.pop() {
            // It may have been given up since.
            if matches!(self.task(task).phase, Phase::Behind) {
                self.go(task);
            }
        }
        self.start_ready();
        self.start_transfers();
        if self.open == 0 && !self.finished {
            self.finished = true;
            self.skip_rest();
            self.effects.push(Effect::Finish);
        }
        std::mem::take(&mut self.effects)
    }

    /// Whether nothing new begins any more.
    pub fn is_halted(&self) -> bool {
        self.halted.is_some()
    }

    fn begin(&mut self) {
        for index in 0..self.steps.len() {
            if self.steps[index].phase == StepPhase::Waiting && self.steps[index].missing == 0 {
                self.look(StepId(index));
            }
        }
    }

    /// An effect that will be answered.
    fn ask_for(&mut self, effect: Effect) {
        self.open += 1;
        self.effects.push(effect);
    }

    fn step(&mut self, id: StepId) -> &mut Step {
        &mut self.steps[id.0]
    }

    fn task(&mut self, id: TaskId) -> &mut Entry {
        &mut self.tasks[id.0]
    }
}

impl Step {
    fn new(plan: StepPlan) -> Self {
        let phase = if plan.wanted { StepPhase::Waiting } else { StepPhase::Unwanted };
        Self {
            missing: plan.needs.len(),
            plan,
            readers: Vec::new(),
            phase,
            lost: 0,
            remade: false,
            anew: false,
            renewed: 0,
            first: TaskId(0),
            all: 0,
            open: 0,
            ran: 0,
            fetched: 0,
            failed: 0,
            skipped: 0,
        }
    }
}
