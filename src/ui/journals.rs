//! The runs that are under way, of whatever process: read from their journals, and from what their tasks write.

use crate::cache::events::{RunEvent, TaskEnd};
use crate::cache::runs::{StageReport, Status};
use crate::name_map::NameMap;
use crate::run::journal::{Line, is_left};
use crate::ui::growing::Begun;
use crate::ui::log;
use crate::ui::state::{Is, State};
use crate::ui::task::{Task, lines};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};
use store::{Area, Store};

/// How often a runner is looked for whose journal has no end.
const LOOK: Duration = Duration::from_secs(2);
/// So many lines of a log are shown with a state.
const LINES: usize = 8;

/// A run that is under way.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Live {
    pub run: String,
    pub name: Option<String>,
    pub started: u64,
    pub host: Option<String>,
}

/// What one look brought.
#[derive(Default)]
pub struct Changes {
    /// Steps that may stand otherwise.
    pub steps: BTreeSet<String>,
    /// A run began or ended.
    pub runs: bool,
    /// Something was made.
    pub made: bool,
    /// Steps with tasks that began.
    pub begun: Vec<(String, Begun)>,
    /// Steps whose curves may be longer.
    pub curves: BTreeSet<String>,
    /// Logs that grew, with their sizes.
    pub logs: Vec<(String, u64)>,
}

/// All of them.
#[derive(Default)]
pub struct Journals {
    followed: BTreeMap<String, Followed>,
    /// Runs that are over, or another study's.
    over: HashSet<String>,
    /// Of the folder of logs, when it was last listed.
    listed: Option<SystemTime>,
    /// Runs whose runner went away without an end.
    pub lost: BTreeMap<String, Live>,
}

struct Followed {
    journal: PathBuf,
    at: u64,
    live: Option<Live>,
    steps: HashMap<String, Step>,
    tasks: BTreeMap<String, Task>,
    ended: bool,
    looked: Instant,
}

#[derive(Default)]
struct Step {
    started: Option<u64>,
    reason: String,
    gpus: Vec<String>,
    done: usize,
    failed: usize,
    ended: Option<StageReport>,
}

impl Journals {
    /// Looks at everything that may have changed.
    pub fn look(&mut self, store: &Store) -> Changes {
        let mut changes = Changes::default();
        self.list(store);
        for (run, followed) in &mut self.followed {
            let before = (followed.ended, followed.live.is_some());
            followed.read(store, run, &mut changes);
            changes.runs |= before != (followed.ended, followed.live.is_some());
        }
        let over = |followed: &Followed| followed.ended;
        let ended: Vec<String> =
            self.followed.iter().filter(|(_, f)| over(f)).map(|(run, _)| run.clone()).collect();
        for run in ended {
            let Some(followed) = self.followed.remove(&run) else { continue };
            changes.steps.extend(followed.steps.into_keys());
            if let Some(live) = followed.live.filter(|_| !store.run(&run).is_file()) {
                self.lost.insert(run.clone(), live);
            }
            self.over.insert(run);
        }
        self.lost.retain(|run, _| !store.run(run).is_file());
        changes
    }

    /// Those of the study, the oldest first.
    pub fn live(&self) -> Vec<Live> {
        self.followed.values().filter_map(|followed| followed.live.clone()).collect()
    }

    /// A step as the runs that are under way have it, where they do.
    pub fn overlay(&self, id: &str, all: usize, mapped: bool, base: &State) -> Option<State> {
        let newest = self.followed.iter().rev().find(|(_, followed)| followed.steps.contains_key(id));
        newest.map(|(run, followed)| followed.state(run, id, all, mapped, base))
    }

    /// Finds new journals.
    fn list(&mut self, store: &Store) {
        let changed = std::fs::metadata(store.logs("")).and_then(|meta| meta.modified()).ok();
        // A folder that was just made gets its journal a moment later.
        let fresh = changed.is_none_or(|at| at.elapsed().is_ok_and(|age| age < LOOK));
        if self.listed == changed && !fresh {
            return;
        }
        self.listed = changed;
        for folder in store.list(Area::Logs) {
            let Some(run) = folder.file_name().and_then(|name| name.to_str()).map(str::to_string) else {
                continue;
            };
            if self.followed.contains_key(&run) || self.over.contains(&run) {
                continue;
            }
            let journal = store.journal(&run);
            if store.run(&run).is_file() {
                self.over.insert(run);
            } else if journal.is_file() {
                self.followed.insert(run, Followed::new(journal));
            }
        }
    }
}

impl Followed {
    fn new(journal: PathBuf) -> Self {
        let (steps, tasks) = (HashMap::new(), BTreeMap::new());
        Self { journal, at: 0, live: None, steps, tasks, ended: false, looked: Instant::now() }
    }

    fn read(&mut self, store: &Store, run: &str, changes: &mut Changes) {
        let text = lines(&self.journal, &mut self.at);
        for line in text.lines() {
            // A line of another shape is for a newer page.
            let Ok(Line { time, event }) = serde_json::from_str::<Line<RunEvent>>(line) else { continue };
            self.take(store, run, time as u64, event, changes);
        }
        for (name, task) in &mut self.tasks {
            let grown = task.look(name, run);
            if !grown.is_empty() {
                changes.steps.insert(task.step.clone());
            }
            changes.logs.extend(grown);
            if task.grew(store) {
                changes.curves.insert(task.step.clone());
            }
        }
        if text.is_empty() && self.looked.elapsed() > LOOK {
            self.looked = Instant::now();
            self.ended |= is_left(&self.journal);
        }
    }

    fn take(&mut self, store: &Store, run: &str, time: u64, event: RunEvent, changes: &mut Changes) {
        match event {
            RunEvent::RunStarted { study, started, name, .. } => match study == store.study {
                true => self.live = Some(Live { run: run.into(), name, started, host: None }),
                false => self.ended = true,
            },
            RunEvent::TaskStarted { task, stage, key, reasons, gpus, log, .. } => {
                let step = self.steps.entry(stage.clone()).or_default();
                step.started.get_or_insert(time);
                (step.reason, step.ended) = (reasons.join(", "), None);
                step.gpus
                    .extend(gpus.iter().filter(|gpu| !step.gpus.contains(gpu)).cloned().collect::<Vec<_>>());
                changes.steps.insert(stage.clone());
                // Its name, in our own folder: where that lies is another path on another machine.
                let log = store.logs(run).join(log.file_name().unwrap_or_default());
                changes.begun.push((stage.clone(), Begun { run: run.into(), key, log: log.clone() }));
                self.tasks.insert(task, Task::new(stage, key, log));
            }
            RunEvent::TaskQueued { task } => self.queue(&task, true, changes),
            RunEvent::TaskRuns { task } => self.queue(&task, false, changes),
            RunEvent::TaskRetried { task, attempt, attempts, after } => {
                let Some(stage) = self.tasks.get(&task).map(|task| task.step.clone()) else { return };
                let step = self.steps.entry(stage.clone()).or_default();
                step.reason = format!("attempt {attempt} of {attempts}, after {after}");
                changes.steps.insert(stage);
            }
            RunEvent::AttemptEnded { report } => {
                if let Some(live) = &mut self.live {
                    live.host.get_or_insert(report.host);
                }
            }
            RunEvent::TaskEnded { task, end } => {
                let Some(task) = self.tasks.remove(&task) else { return };
                let step = self.steps.entry(task.step.clone()).or_default();
                match end {
                    TaskEnd::Failed(_) => step.failed += 1,
                    TaskEnd::Made { .. } | TaskEnd::Elsewhere => step.done += 1,
                    TaskEnd::Anew { .. } => {}
                }
                changes.made = true;
                changes.steps.insert(task.step);
            }
            RunEvent::StageEnded { row } => {
                let looked = matches!(row.status, Status::Cached | Status::Replaced);
                changes.made |= !looked;
                changes.steps.insert(row.stage.clone());
                self.tasks.retain(|_, task| task.step != row.stage);
                let step = self.steps.entry(row.stage.clone()).or_default();
                step.ended = Some(StageReport { outputs: NameMap::new(), ..row });
            }
            RunEvent::RunEnded { .. } => self.ended = true,
            _ => {}
        }
    }

    fn queue(&mut self, task: &str, queued: bool, changes: &mut Changes) {
        if let Some(task) = self.tasks.get_mut(task) {
            task.queued = queued;
            changes.steps.insert(task.step.clone());
        }
    }

    fn state(&self, run: &str, id: &str, all: usize, mapped: bool, base: &State) -> State {
        let step = &self.steps[id];
        let run = Some(run.to_string());
        if let Some(row) = &step.ended {
            let failure = row.failures.iter().find_map(|failed| failed.how.log.clone());
            let own = |log: PathBuf| self.journal.with_file_name(log.file_name().unwrap_or_default());
            return State {
                is: ended(&row.status),
                reason: row.reason.clone(),
                run,
                seconds: row.seconds.or(base.seconds),
                last: failure.map(|log| log::last(&own(log), LINES)),
                tasks: base.tasks,
                devices: base.devices.clone(),
                ..State::default()
            };
        }
        let running: Vec<&Task> = self.tasks.values().filter(|task| task.step == id).collect();
        let all = all.max(step.done + step.failed + running.len());
        let progress = running.iter().find_map(|task| task.progress.clone());
        let said = running.iter().find_map(|task| task.device.clone());
        let silent = progress.is_none();
        let last = running.first().filter(|_| silent).map(|task| log::last(&task.log, LINES));
        State {
            is: match running.iter().all(|task| task.queued) {
                true if !running.is_empty() => Is::Queued,
                _ => Is::Running,
            },
            reason: step.reason.clone(),
            run,
            seconds: base.seconds,
            started: step.started,
            devices: match step.gpus.is_empty() {
                true => said.into_iter().collect(),
                false => step.gpus.clone(),
            },
            tasks: mapped.then_some([all, step.done, running.len(), step.failed]),
            progress,
            last: last.filter(|lines| !lines.is_empty()),
        }
    }
}

fn ended(status: &Status) -> Is {
    match status {
        Status::Cached => Is::Cached,
        Status::Restored => Is::Restored,
        Status::Fetched => Is::Fetched,
        Status::Ran => Is::Ran,
        Status::Replaced => Is::Replaced,
        Status::Failed => Is::Failed,
        Status::Skipped => Is::Skipped,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::journal;

    fn started(task: &str, log: PathBuf) -> RunEvent {
        let (task, stage) = (task.to_string(), task.to_string());
        let (key, processes, gpus) = (None, None, vec!["0".to_string()]);
        RunEvent::TaskStarted { task, stage, key, reasons: vec!["new".into()], gpus, processes, log }
    }

    #[test]
    fn a_run_of_another_process_is_followed_from_its_start_to_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), "s").unwrap();
        let mut write = journal::keep(store.journal("r"));
        let asked = crate::cache::runs::Asked::default();
        let (name, note) = (Some("try".to_string()), None);
        let (run, study, stages) = ("r".to_string(), "s".to_string(), vec!["a".to_string()]);
        write(&RunEvent::RunStarted { run, study, started: 5, stages, name, note, asked });
        let log = store.log("r", "a");
        write(&started("a", log.clone()));
        let mut journals = Journals::default();
        let changes = journals.look(&store);
        assert!(changes.runs && changes.steps.contains("a"));
        assert_eq!(journals.live()[0].name.as_deref(), Some("try"));
        std::fs::write(
            log.with_extension("events"),
            "{\"event\":\"progress\",\"done\":3,\"total\":9,\"unit\":\"x\"}\n",
        )
        .unwrap();
        let changes = journals.look(&store);
        assert_eq!(changes.logs, [("log/r/a.events".to_string(), 51)]);
        let state = |journals: &Journals| journals.overlay("a", 1, false, &State::default());
        let running = state(&journals).unwrap();
        assert_eq!(
            (running.is, running.reason.as_str(), running.devices[0].as_str()),
            (Is::Running, "new", "0")
        );
        assert_eq!(running.progress.map(|p| (p.done, p.total)), Some((3, 9)));
        let row = StageReport { stage: "a".into(), status: Status::Ran, ..StageReport::default() };
        write(&RunEvent::StageEnded { row });
        assert!(journals.look(&store).made);
        assert_eq!(state(&journals).unwrap().is, Is::Ran);
        write(&RunEvent::RunEnded { finished: 7, facts: None, error: None });
        let changes = journals.look(&store);
        assert!(changes.runs && changes.steps.contains("a") && journals.live().is_empty());
        assert_eq!(state(&journals), None);
    }

    #[test]
    fn a_run_of_another_study_is_none_of_ours() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), "s").unwrap();
        let mut write = journal::keep(store.journal("r"));
        let asked = crate::cache::runs::Asked::default();
        let (run, study, stages) = ("r".to_string(), "t".to_string(), vec!["a".to_string()]);
        write(&RunEvent::RunStarted { run, study, started: 5, stages, name: None, note: None, asked });
        write(&started("a", store.log("r", "a")));
        let mut journals = Journals::default();
        journals.look(&store);
        assert!(journals.live().is_empty() && journals.overlay("a", 1, false, &State::default()).is_none());
    }
}
