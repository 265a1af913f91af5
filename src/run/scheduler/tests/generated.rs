//! Random graphs, stores and orders of events, the same ones every time.

use super::*;
use std::collections::{BTreeMap, BTreeSet, HashSet};

const WORLDS: u64 = 4000;

/// SplitMix64.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    /// Whether it happens that happens `percent` times in a hundred.
    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

/// A driver whose answers are drawn, and which checks every effect.
struct World {
    dice: Dice,
    scheduler: Scheduler,
    plans: Vec<StepPlan>,
    settings: Settings,
    /// Of each step, what its tasks do.
    keys: Vec<Vec<u8>>,
    /// Steps that `--with` stands in for.
    replaced: Vec<bool>,
    /// Steps that tell of all that is above them.
    lineage: Vec<bool>,
    /// Results that are here whole, and those whose contents were dropped.
    whole: HashSet<u8>,
    listed: HashSet<u8>,
    /// Steps whose outputs are known.
    known: Vec<bool>,
    ended: Vec<Vec<StepEnd>>,
    remade: Vec<usize>,
    /// Of each task, its step and what it does.
    tasks: Vec<(usize, u8)>,
    /// Attempts so far, and whether it came to an end.
    attempts: BTreeMap<usize, u32>,
    over: HashSet<usize>,
    running: BTreeMap<usize, Vec<usize>>,
    /// Effects that are not answered yet.
    open: Vec<Effect>,
    /// Something went wrong: a failure, a refusal, a stop.
    trouble: bool,
    stopped: bool,
    /// Nothing new may begin.
    halted: bool,
    finished: bool,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let steps = 1 + dice.below(12);
        let mut plans: Vec<StepPlan> = Vec::new();
        let replaced: Vec<bool> = (0..steps).map(|_| dice.chance(5)).collect();
        for (i, replaced) in replaced.iter().enumerate() {
            let needs: Vec<usize> = (0..i).filter(|_| !replaced && dice.chance(30)).collect();
            let mut plan = plan(&needs);
            plan.wanted = dice.chance(95) && needs.iter().all(|need| plans[*need].wanted);
            plan.request = Request {
                cpus: dice.below(6) as u32,
                memory: dice.below(150) as u64,
                gpus: if dice.chance(20) { 1 + dice.below(3) } else { 0 },
            };
            plan.forced = dice.chance(15);
            plan.retries = dice.below(3) as u32;
            plans.push(plan);
        }
        let mut settings = settings();
        settings.capacity.jobs = 1 + dice.below(5);
        settings.capacity.gpus_from_top = dice.chance(50);
        settings.keep_going = dice.chance(60);
        settings.cache = dice.chance(50);
        settings.transfers = 1 + dice.below(4);
        let keys: Vec<Vec<u8>> =
            (0..steps).map(|_| (0..dice.below(4)).map(|_| dice.below(30) as u8).collect()).collect();
        let (mut whole, mut listed) = (HashSet::new(), HashSet::new());
        for key in 0..30 {
            match dice.below(3) {
                0 => drop(whole.insert(key)),
                1 => drop(listed.insert(key)),
                _ => {}
            }
        }
        Self {
            scheduler: Scheduler::new(plans.clone(), settings),
            settings,
            keys,
            replaced,
            lineage: (0..steps).map(|_| dice.chance(20)).collect(),
            whole,
            listed,
            known: vec![false; steps],
            ended: vec![Vec::new(); steps],
            remade: vec![0; steps],
            tasks: Vec::new(),
            attempts: BTreeMap::new(),
            over: HashSet::new(),
            running: BTreeMap::new(),
            open: Vec::new(),
            trouble: false,
            stopped: false,
            halted: false,
            finished: false,
            plans,
            dice,
        }
    }

    fn go(&mut self) {
        self.tell(Event::Begin);
        while !self.open.is_empty() {
            if self.dice.chance(1) {
                (self.stopped, self.trouble, self.halted) = (true, true, true);
                self.tell(Event::Stop);
                continue;
            }
            let at = self.dice.below(self.open.len());
            let effect = self.open.swap_remove(at);
            let event = self.answer(effect);
            self.tell(event);
        }
        self.check_the_end();
    }

    fn tell(&mut self, event: Event) {
        for effect in self.scheduler.on(event) {
            assert!(!self.finished, "{effect:?} after the end");
            self.check(effect);
        }
    }

    /// Looks at an effect, and keeps it when it is to be answered.
    fn check(&mut self, effect: Effect) {
        let new = matches!(
            effect,
            Effect::Look { .. }
                | Effect::Fetch { .. }
                | Effect::Ask { .. }
                | Effect::Start { attempt: 1, .. }
                | Effect::Remake { .. }
        );
        assert!(!(new && self.halted), "{effect:?} after the run was given up");
        match effect {
            Effect::Look { step, .. } => {
                let plan = &self.plans[step.0];
                assert!(plan.wanted && plan.needs.iter().all(|need| self.known[need.0]));
                self.open.push(effect);
            }
            Effect::Start { task, ref gpus, attempt, .. } => {
                let (step, key) = self.tasks[task.0];
                let plan = &self.plans[step];
                let there = |need: &StepId| self.is_whole(need.0);
                assert!(plan.needs.iter().all(there), "{task:?} starts before its inputs are there");
                let attempts = self.attempts.entry(task.0).or_default();
                *attempts += 1;
                assert!(*attempts == attempt && attempt <= plan.retries + 1);
                let again = self.running.insert(task.0, gpus.clone());
                assert!(again.is_none() && !self.over.contains(&task.0));
                self.check_slots(key);
                self.open.push(effect);
            }
            Effect::Share { task, from } => {
                assert_eq!(self.tasks[task.0].1, self.tasks[from.0].1);
                self.end(task);
            }
            Effect::Failed { task, .. } => {
                self.trouble = true;
                self.halted |= !self.settings.keep_going;
                self.end(task);
            }
            Effect::Anew { task, .. } => self.end(task),
            Effect::Remake { step } => {
                self.remade[step.0] += 1;
                self.known[step.0] = false;
                assert_eq!(self.remade[step.0], 1, "a step is made again once");
            }
            Effect::Ended { step, end } => {
                self.ended[step.0].push(end);
                self.known[step.0] = end.is_good();
                if end == StepEnd::Skipped(Why::Before) {
                    let bad = |need: &StepId| self.ended[need.0].last().is_some_and(|end| !end.is_good());
                    assert!(self.plans[step.0].needs.iter().any(bad));
                }
            }
            Effect::Finish => self.finished = true,
            Effect::Fetch { task } => {
                assert!(!self.plans[self.tasks[task.0].0].forced && self.settings.cache);
                self.open.push(effect);
            }
            Effect::Ask { .. } | Effect::Send { .. } | Effect::Gather { .. } => self.open.push(effect),
        }
        let moving =
            self.open.iter().filter(|effect| matches!(effect, Effect::Fetch { .. } | Effect::Send { .. }));
        assert!(moving.count() <= self.settings.transfers);
    }

    fn is_whole(&self, step: usize) -> bool {
        self.replaced[step] || self.keys[step].iter().all(|key| self.whole.contains(key))
    }

    fn check_slots(&self, key: u8) {
        let whole = self.settings.capacity;
        let requests = || self.running.keys().map(|task| self.plans[self.tasks[*task].0].request);
        assert!(self.running.len() <= whole.jobs);
        assert!(requests().map(|r| r.cpus.min(whole.cpus)).sum::<u32>() <= whole.cpus);
        assert!(requests().map(|r| r.memory.min(whole.memory)).sum::<u64>() <= whole.memory);
        let gpus: Vec<usize> = self.running.values().flatten().copied().collect();
        assert!(gpus.iter().all(|gpu| *gpu < whole.gpus));
        assert_eq!(gpus.iter().collect::<HashSet<_>>().len(), gpus.len(), "a GPU is given to one");
        assert_eq!(requests().map(|r| r.gpus).sum::<usize>(), gpus.len());
        let same = self.running.keys().filter(|task| self.tasks[**task].1 == key);
        assert_eq!(same.count(), 1, "one of equal actions runs");
    }

    fn end(&mut self, task: TaskId) {
        assert!(self.over.insert(task.0), "{task:?} ends twice");
    }

    fn answer(&mut self, effect: Effect) -> Event {
        match effect {
            Effect::Look { step, whole } => Event::Looked { step, found: self.look(step.0, whole) },
            Effect::Gather { step } => Event::Gathered { step, restored: self.dice.chance(10) },
            Effect::Fetch { task } => {
                let hit = self.dice.chance(30);
                if hit {
                    self.whole.insert(self.tasks[task.0].1);
                    self.end(task);
                }
                Event::Fetched { task, hit }
            }
            Effect::Send { task } => Event::Sent { task },
            Effect::Ask { task } => {
                let refusal = Failure::Refused { seconds: 1000.0, stage: "s".into() };
                Event::Answered { task, refusal: self.dice.chance(30).then_some(refusal) }
            }
            Effect::Start { task, .. } => {
                self.running.remove(&task.0);
                let end = match self.dice.below(100) {
                    0..70 => Attempted::Made,
                    70..75 => {
                        let keys = 1 + self.dice.below(3);
                        let step = self.tasks[task.0].0;
                        self.keys[step] = (0..keys).map(|_| self.dice.below(30) as u8).collect();
                        Attempted::Stale(Vec::new())
                    }
                    75..80 => Attempted::Elsewhere,
                    80..85 => Attempted::Failed(EXIT),
                    85..90 if self.stopped => Attempted::Failed(Failure::Stopped),
                    _ => Attempted::Failed(Failure::TryAgain),
                };
                if matches!(end, Attempted::Made | Attempted::Elsewhere) {
                    self.whole.insert(self.tasks[task.0].1);
                    self.end(task);
                }
                Event::Ended { task, end }
            }
            other => unreachable!("{other:?} is not answered"),
        }
    }

    fn look(&mut self, step: usize, whole: bool) -> Found {
        if self.replaced[step] {
            return Found::Replaced;
        }
        let needs = self.plans[step].needs.clone();
        let mut above = needs.clone();
        while let Some(need) = above.pop() {
            if !self.known[need.0] && (self.lineage[step] || needs.contains(&need)) {
                return Found::NotYet;
            }
            above.extend(&self.plans[need.0].needs);
        }
        let mut dropped = BTreeSet::new();
        let mut tasks = Vec::new();
        for key in self.keys[step].clone() {
            let there = self.whole.contains(&key) || (!whole && self.listed.contains(&key));
            let here = there && !self.plans[step].forced;
            if !here {
                dropped.extend(needs.iter().filter(|need| !self.is_whole(need.0)).copied());
            }
            tasks.push(Sought { key: key_of(key), here, ask: self.dice.chance(10) });
            self.tasks.push((step, key));
        }
        Found::Tasks { tasks, dropped: dropped.into_iter().collect() }
    }

    fn check_the_end(&self) {
        assert!(self.finished && self.running.is_empty());
        let scheduler = &self.scheduler;
        assert!(scheduler.slots.all_free());
        assert!(scheduler.claims.is_empty() && scheduler.transfers.is_empty() && scheduler.moving == 0);
        assert!(scheduler.tasks.iter().all(|task| matches!(task.phase, super::super::Phase::Ended)));
        for (i, plan) in self.plans.iter().enumerate() {
            let ends = &self.ended[i];
            assert_eq!(ends.len(), if plan.wanted { 1 + self.remade[i] } else { 0 }, "step {i}: {ends:?}");
            let Some(end) = ends.last() else { continue };
            assert!(self.trouble || end.is_good(), "step {i} came to {end:?} for no reason");
            let lost = |need: &StepId| self.ended[need.0].last().is_some_and(|end| !end.is_good());
            if self.settings.keep_going && !self.stopped && !self.lineage[i] {
                let for_a_reason = *end == StepEnd::Failed || plan.needs.iter().any(lost);
                assert!(end.is_good() || for_a_reason, "step {i} came to {end:?}");
            }
            if *end == StepEnd::Skipped(Why::Stopped) {
                assert!(self.stopped);
            }
        }
    }
}

#[test]
fn everything_ends_once_and_nothing_starts_too_early() {
    for seed in 0..WORLDS {
        let run = std::panic::catch_unwind(|| World::new(seed).go());
        assert!(run.is_ok(), "world {seed}");
    }
}
