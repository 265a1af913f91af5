//! Following what a running stage publishes.

use crate::cache::runs::{Report, StageReport, Status};
use crate::engine::stop::Stop;
use crate::error::{Error, Result};
use crate::run::stream::Stream;
use crate::run::{Label, RunOptions, begin, end, run_name, verdict};
use crate::screen::Screen;
use crate::session::survey::survey;
use crate::session::{Session, Task};
use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use store::IoContext;
use store::lock::{self, Lock};
use store::{Key, Store, link};
use study::graph::{self, Output, Source};

/// How often a stage's folder is looked at.
const LOOK: Duration = Duration::from_millis(300);

/// An output that is followed: its step and its place among the step's outputs.
pub type Place = (usize, usize);

/// What is to be watched.
pub struct Watched<'a> {
    /// The stages that run on what is published.
    pub stages: &'a [String],
    /// The outputs that they read of stages that may still run.
    pub places: Vec<Place>,
    /// Only what is there now.
    pub once: bool,
    /// Stages that run at the same time, at most.
    pub jobs: Option<usize>,
}

/// Runs stages on what is published, until the stages that publish are done.
pub fn watch(session: &mut Session, watched: &Watched, screen: &Screen, stop: &Arc<Stop>) -> Result<()> {
    let mut followers: BTreeMap<Place, (Key, Follower)> = BTreeMap::new();
    let mut tried: HashSet<(Place, String)> = HashSet::new();
    let mut waits = false;
    let mut failed = Vec::new();
    while !stop.asked() {
        let found = survey(session, |task| session.lookup(task))?;
        let open: Vec<Place> =
            watched.places.iter().copied().filter(|(step, _)| found[*step].known.is_none()).collect();
        if open.is_empty() {
            followers.clear();
            let report = round(session, watched.jobs, stop)?;
            verdict(&report, stop)?;
            screen.say(&ended(watched.stages, &report));
            return Ok(());
        }
        for place in &open {
            let Some([(task, _)]) = found[place.0].tasks.as_deref() else {
                if !std::mem::replace(&mut waits, true) {
                    screen.say(&format!("waiting until {} can start", session.graph.steps[place.0].id));
                }
                continue;
            };
            if followers.get(place).is_none_or(|(key, _)| *key != task.key) {
                let output = &session.graph.steps[place.0].outputs[place.1];
                let Some(stream) = &output.stream else { continue };
                let name = format!("{}.{}", task.label, output.name);
                let follower = Follower::start(session, task, output, stream)?
                    .ok_or_else(|| Error::Watched(name.clone()))?;
                screen.say(&format!("watching {name}"));
                followers.insert(*place, (task.key, follower));
            }
        }
        let fresh = |(place, (_, follower)): (&Place, &(Key, Follower))| {
            follower.entries().into_iter().any(|name| !tried.contains(&(*place, name)))
        };
        if followers.len() == open.len() && followers.iter().any(fresh) {
            let kept = session.wanted.clone();
            let mut names = BTreeMap::new();
            for (place, (_, follower)) in &followers {
                let entries = follower.entries();
                let folder = follower.snapshot(&session.store, &entries)?;
                let produced = session.store.import_copy(&folder)?;
                let output = session.graph.steps[place.0].outputs[place.1].name.clone();
                session.replaced.entry(place.0).or_default().insert(output, produced);
                tried.extend(entries.iter().map(|name| (*place, name.clone())));
                names.insert(*place, entries);
            }
            session.want(watched.stages)?;
            let report = round(session, watched.jobs, stop)?;
            failed.extend(report.stages.into_iter().filter(|r| r.status == Status::Failed).map(|r| r.stage));
            for (place, entries) in names {
                followers[&place].1.forget(&entries)?;
                session.replaced.remove(&place.0);
            }
            session.wanted = kept;
        } else if watched.once {
            break;
        }
        std::thread::sleep(LOOK);
    }
    failed.sort();
    failed.dedup();
    match failed.as_slice() {
        _ if stop.asked() => Err(Error::Interrupted),
        [] => Ok(()),
        _ => Err(Error::Failed(failed)),
    }
}

/// What became of the watched stages in the end.
fn ended(stages: &[String], report: &Report) -> String {
    let rows = report.stages.iter().filter(|row| stages.is_empty() || stages.contains(&row.stage));
    let (ran, there): (Vec<_>, Vec<_>) = rows.partition(|row| row.status == Status::Ran);
    let names = |rows: Vec<&StageReport>| {
        rows.into_iter().map(|row| row.stage.as_str()).collect::<Vec<_>>().join(", ")
    };
    let mut parts = Vec::new();
    for (what, rows) in [("ran", ran), ("was done already", there)] {
        if !rows.is_empty() {
            parts.push(format!("{} {what}", names(rows)));
        }
    }
    format!("what is watched is complete: {}", parts.join("; "))
}

/// The streamed outputs that the wanted stages read.
pub fn streams(session: &Session, stages: &[String]) -> Result<Vec<Place>> {
    let steps = &session.graph.steps;
    let mut places = Vec::new();
    for (reader, _) in steps.iter().zip(&session.wanted).filter(|(_, wanted)| **wanted) {
        for input in &reader.inputs {
            if let Source::Output(step, output) = input.source
                && steps[step].outputs[output].stream.is_some()
                && !session.replaced.contains_key(&step)
            {
                places.push((step, output));
            }
        }
    }
    places.sort_unstable();
    places.dedup();
    if let Some((step, _)) = places.iter().find(|(step, _)| steps[*step].mapped()) {
        let text = format!("stage {} runs in several pieces; its outputs cannot be watched", steps[*step].id);
        return Err(Error::study(&steps[*step].mark, text));
    }
    if places.is_empty() {
        return Err(Error::NothingToWatch(stages.to_vec()));
    }
    Ok(places)
}

/// One run over what is there.
fn round(session: &Session, jobs: Option<usize>, stop: &Arc<Stop>) -> Result<Report> {
    let options = RunOptions { jobs, yes: true, keep_going: true, gpus_from_top: true };
    let (run, mut stream) = (run_name(), Stream::new(Screen::new(false)));
    begin(session, &run, &Label::default(), &mut stream);
    let result = super::run(session, &options, &run, stop, &mut stream);
    let report = end(session, stream, result, false)?;
    session.store.stats.save();
    Ok(report)
}

/// Gives everything that a stage publishes a second name, so that it stays when the stage takes it away again.
pub struct Follower {
    source: Followed,
    folder: PathBuf,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    _lock: Lock,
}

/// Where entries appear.
#[derive(Clone)]
enum Followed {
    /// In an output of the attempt of this folder that runs now.
    Output {
        attempt: PathBuf,
        file: String,
    },
    State(PathBuf),
}

impl Followed {
    fn folder(&self) -> PathBuf {
        match self {
            Self::Output { attempt, file } => Store::newest_outputs(attempt).join(file),
            Self::State(folder) => folder.clone(),
        }
    }
}

impl Follower {
    /// Follows an output of an action, whether it runs already or not. `None` when somebody else does.
    pub fn start(
        session: &Session,
        task: &Task,
        output: &Output,
        stream: &graph::Stream,
    ) -> Result<Option<Self>> {
        let (store, key) = (&session.store, &task.key);
        let Some(lock) = lock::attempt(&store.lock_of_watch(key, &output.name), false)? else {
            return Ok(None);
        };
        let source = match stream {
            graph::Stream::Output => {
                Followed::Output { attempt: store.attempt(key), file: output.file.clone() }
            }
            graph::Stream::State(..) => Followed::State(store.state(key)),
        };
        let folder = store.watched(key, &output.name);
        store.fresh(&folder.join("seen"))?;
        let _ = keep(&source.folder(), &folder.join("seen"), stream);
        let stop = Arc::new(AtomicBool::new(false));
        let (from, to, stream, stopped) =
            (source.clone(), folder.join("seen"), stream.clone(), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                // What is just being renamed or taken away is there, or not, the next time.
                let _ = keep(&from.folder(), &to, &stream);
                std::thread::sleep(LOOK);
            }
        });
        Ok(Some(Self { source, folder, stop, thread: Some(thread), _lock: lock }))
    }

    /// The names of all entries so far.
    pub fn entries(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder.join("seen")).map(|d| d.flatten().collect::<Vec<_>>());
        let names =
            entries.unwrap_or_default().into_iter().map(|e| e.file_name().to_string_lossy().into_owned());
        let mut names: Vec<String> = names.filter(|n| !n.starts_with('.')).collect();
        names.sort();
        names
    }

    /// A folder of these entries that stays as it is.
    pub fn snapshot(&self, store: &Store, names: &[String]) -> Result<PathBuf> {
        let round = self.folder.join("round");
        store.fresh(&round)?;
        for name in names {
            second(&self.folder.join("seen").join(name), &round.join(name)).at("linking", &round)?;
        }
        Ok(round)
    }

    /// Forgets those of these entries that the stage itself has taken away.
    pub fn forget(&self, names: &[String]) -> Result<()> {
        let source = self.source.folder();
        for name in names.iter().filter(|name| !source.join(name).exists()) {
            link::remove(&self.folder.join("seen").join(name))?;
        }
        Ok(link::remove(&self.folder.join("round"))?)
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        // What cannot be removed now is removed by the next watch, or by gc.
        let _ = link::remove(&self.folder);
    }
}

/// Gives new entries their second names.
fn keep(from: &Path, to: &Path, stream: &graph::Stream) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let name = entry?.file_name();
        let text = name.to_string_lossy();
        if !stream.takes(&text) || to.join(&name).exists() {
            continue;
        }
        let partial = to.join(format!(".{text}"));
        link::remove(&partial).map_err(io::Error::other)?;
        second(&from.join(&name), &partial)?;
        fs::rename(&partial, to.join(&name))?;
    }
    Ok(())
}

/// A second name for a file, or for every file of a folder.
fn second(from: &Path, to: &Path) -> io::Result<()> {
    if !fs::symlink_metadata(from)?.is_dir() {
        return fs::hard_link(from, to).or_else(|_| fs::copy(from, to).map(drop));
    }
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let name = entry?.file_name();
        second(&from.join(&name), &to.join(&name))?;
    }
    Ok(())
}
