//! What keeps the page up to date: looks at what changed, and tells the browsers of that alone.

use crate::error::Result;
use crate::ui::journals::Journals;
use crate::ui::known::Known;
use crate::ui::log;
use crate::ui::past::Past;
use crate::ui::site::Site;
use crate::ui::state::{Is, State};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant, SystemTime};

/// How often files are looked at.
const TICK: Duration = Duration::from_millis(250);
/// The study as a whole is looked up again at most once in so many times as long as that takes.
const SHARE: u32 = 10;
/// And not more often than this.
const REST: Duration = Duration::from_secs(1);
/// What nothing tells of (a program that was built, an archive that was imported) is looked for so often, and so many times
/// more seldom than a look takes.
const SELDOM: Duration = Duration::from_secs(20);
/// So many lines of the log of a failure are shown.
const LINES: usize = 8;

/// What a run calls the making of the programs.
const BUILD: &str = "build";

/// The time and size of files that say what the study is.
type Signature = Vec<(PathBuf, Option<SystemTime>, u64)>;

/// See the module.
pub struct Watcher {
    site: Arc<Site>,
    journals: Journals,
    /// A look at the whole study that is under way.
    looking: Option<Receiver<Result<Known>>>,
    /// A look is due: something was made.
    due: bool,
    /// A run is about steps that no variant has: those of the study as it stands.
    base: bool,
    began: Instant,
    took: Duration,
    files: Signature,
    runs: Option<SystemTime>,
    last: Option<SystemTime>,
}

impl Watcher {
    /// One that has yet to look.
    pub fn new(site: Arc<Site>) -> Self {
        let (began, took) = (Instant::now(), Duration::ZERO);
        let mut watcher = Self {
            site,
            journals: Journals::default(),
            looking: None,
            due: true,
            base: false,
            began,
            took,
            files: Vec::new(),
            runs: None,
            last: None,
        };
        watcher.files = watcher.signature();
        watcher
    }

    /// Looks and tells until it is asked to stop.
    pub fn watch(mut self, stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) {
            self.tick();
            std::thread::sleep(TICK);
        }
    }

    /// Looks once at all of it, and waits for that.
    pub fn whole(mut self) -> Result<()> {
        self.tick_past();
        let known = Known::look(&self.site.choice, false, &self.site.now().known)?;
        self.arrive(known);
        Ok(())
    }

    fn tick(&mut self) {
        let known = self.site.now().known;
        let changes = self.journals.look(&known.session.store);
        let mut changed: BTreeSet<usize> = changes.steps.iter().filter_map(|id| known.of_id(id)).collect();
        self.due |= changes.made || changes.runs;
        let stranger = |id: &String| id != BUILD && known.of_id(id).is_none();
        if !self.base && known.looked() && changes.steps.iter().any(stranger) {
            (self.base, self.due) = (true, true);
        }
        if !changes.begun.is_empty() {
            self.site.change(|now| {
                let mut begun = (*now.begun).clone();
                begun.extend(changes.begun.iter().cloned());
                now.begun = Arc::new(begun);
            });
        }
        let curves: Vec<usize> = changes.curves.iter().filter_map(|id| known.of_id(id)).collect();
        if !curves.is_empty() {
            self.site.tell("curves", &curves);
        }
        for (name, size) in &changes.logs {
            self.site.tell("log", &json!({ "name": name, "size": size }));
        }
        if changes.runs {
            let (live, lost) = (self.journals.live(), self.journals.lost.values().cloned().collect());
            self.site.change(|now| (now.live, now.lost) = (live.clone(), lost));
            self.site.tell("live", &live);
            self.site.tell("runs", &json!({}));
        }
        let store = &known.session.store;
        let time = |path: PathBuf| std::fs::metadata(path).and_then(|meta| meta.modified()).ok();
        let last = time(store.own_last());
        self.due |= std::mem::replace(&mut self.last, last) != last;
        if self.tick_past() {
            self.site.tell("runs", &json!({}));
            changed.extend(0..known.states.len());
        }
        let files = self.signature();
        if files != self.files {
            self.files = files;
            // Whatever it takes: a person waits for it.
            (self.due, self.took) = (true, Duration::ZERO);
        }
        self.look();
        self.tell_states(changed);
    }

    /// Reads new records of runs; whether there were any.
    fn tick_past(&mut self) -> bool {
        let now = self.site.now();
        let store = &now.known.session.store;
        let runs = std::fs::metadata(store.runs()).and_then(|meta| meta.modified()).ok();
        if self.runs == runs {
            return false;
        }
        self.runs = runs;
        let Some(past) = Past::look(&now.past, store) else { return false };
        self.site.change(|now| now.past = Arc::new(past));
        true
    }

    /// Begins a look at the whole study where one is due, and takes what came of the last.
    fn look(&mut self) {
        if let Some(result) = self.looking.as_ref().and_then(|looking| looking.try_recv().ok()) {
            (self.looking, self.took) = (None, self.began.elapsed());
            match result {
                Ok(known) => self.arrive(known),
                Err(e) => self.fault(Some(e.to_string())),
            }
        }
        let since = self.began.elapsed();
        let due = self.due && since >= (self.took * SHARE).max(if self.took.is_zero() { TICK } else { REST });
        let seldom = since >= SELDOM.max(self.took * 4 * SHARE);
        if self.looking.is_some() || !(due || seldom || !self.site.now().known.looked()) {
            return;
        }
        (self.due, self.began) = (false, Instant::now());
        let (sender, receiver) = channel();
        let (choice, base) = (self.site.choice.clone(), self.base || self.failed_as_it_stands());
        // Nobody may wait any more.
        let earlier = self.site.now().known;
        let look = move || drop(sender.send(Known::look(&choice, base, &earlier)));
        self.looking = std::thread::Builder::new().spawn(look).ok().map(|_| receiver);
    }

    /// Whether a step failed last that no variant has.
    fn failed_as_it_stands(&self) -> bool {
        let now = self.site.now();
        now.past.failed.keys().any(|id| id != BUILD && !id.contains('@') && now.known.of_id(id).is_none())
    }

    /// The study was looked up.
    fn arrive(&mut self, known: Known) {
        let before = self.site.now();
        let ids = |known: &Known| -> Vec<String> {
            known.session.graph.steps.iter().map(|step| step.id.clone()).collect()
        };
        let other = !before.known.looked() || ids(&before.known) != ids(&known);
        let known = Arc::new(known);
        let states: Vec<State> =
            (0..known.states.len()).map(|i| self.state(&known, &before.past, i)).collect();
        // Also what a run that goes on has made already: it says no more of that.
        let differ = |new: &[State], old: &[State]| {
            new.iter().zip(old).any(|(new, old)| new.is != old.is || new.run != old.run)
        };
        // And the entries of a step that are done by now.
        let more =
            |new: &[State], old: &[State]| new.iter().zip(old).any(|(new, old)| new.tasks != old.tasks);
        let (new, old) = (&known.states, &before.known.states);
        let made = differ(&states, &before.states) || !other && (differ(new, old) || more(new, old));
        self.fault(None);
        if other {
            let version = self.site.change(|now| (now.known, now.states) = (known, Arc::new(states)));
            self.site.tell("study", &json!({ "version": version }));
            self.site.tell("table", &json!({}));
            return;
        }
        self.site.change(|now| now.known = known);
        self.tell(states);
        if made {
            self.site.tell("table", &json!({}));
        }
    }

    /// Why the study file cannot be read now, if so.
    fn fault(&mut self, error: Option<String>) {
        if self.site.now().error != error {
            // Not `error`: a browser calls a lost connection so.
            self.site.tell("problem", &json!({ "error": error }));
            self.site.change(|now| now.error = error);
        }
    }

    /// Where some steps stand now.
    fn tell_states(&self, changed: BTreeSet<usize>) {
        if changed.is_empty() {
            return;
        }
        let now = self.site.now();
        let mut states = (*now.states).clone();
        for i in changed {
            if i < states.len() && i < now.known.states.len() {
                states[i] = self.state(&now.known, &now.past, i);
            }
        }
        self.tell(states);
    }

    /// Tells of the states that are others.
    fn tell(&self, states: Vec<State>) {
        let before = self.site.now().states;
        let others = states.iter().enumerate().filter(|(i, state)| before.get(*i) != Some(*state));
        let others: Vec<Value> = others.map(|(i, state)| json!([i, state])).collect();
        if others.is_empty() {
            return;
        }
        let version = self.site.change(|now| now.states = Arc::new(states));
        self.site.tell("states", &json!({ "version": version, "states": others }));
    }

    /// Where a step stands, with what runs and what ran last.
    fn state(&self, known: &Known, past: &Past, i: usize) -> State {
        let step = &known.session.graph.steps[i];
        let base = &known.states[i];
        let all = known.tasks(i).len();
        if let Some(state) = self.journals.overlay(&step.id, all, step.mapped(), base) {
            return state;
        }
        let Some((run, failed)) = past.failure(&step.id) else { return base.clone() };
        if !matches!(base.is, Is::ToRun | Is::Waiting) {
            return base.clone();
        }
        let log = failed.log.as_ref().and_then(|log| log.file_name());
        let last = log.map(|log| log::last(&known.session.store.logs(run).join(log), LINES));
        State {
            is: Is::Failed,
            reason: failed.reason.clone(),
            run: Some(run.into()),
            last: last.filter(|lines| !lines.is_empty()),
            ..base.clone()
        }
    }

    /// The study's file and its neighbours, which it may extend.
    fn signature(&self) -> Signature {
        let file = &self.site.choice.file;
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
        let entries = std::fs::read_dir(folder.unwrap_or(".".as_ref())).into_iter().flatten().flatten();
        let study =
            |path: &PathBuf| path.extension().is_some_and(|ending| ending == "yaml" || ending == "yml");
        let paths = entries.map(|entry| entry.path()).filter(study).chain([file.clone()]);
        let of = |path: PathBuf| {
            let meta = std::fs::metadata(&path).ok();
            let (time, size) =
                (meta.as_ref().and_then(|meta| meta.modified().ok()), meta.map_or(0, |m| m.len()));
            (path, time, size)
        };
        let mut signature: Signature = paths.map(of).collect();
        signature.sort();
        signature
    }
}
