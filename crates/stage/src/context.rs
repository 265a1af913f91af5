//! What a stage's work is given beside its arguments: progress, a folder to resume from, and the wish to stop.

use crate::state::State;
use crate::{Layout, Role, Spec, Stopped, Values, exit_code};
use anyhow::{Context as _, Result};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// One line of the file that `PIPELINE_EVENTS` names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum Event {
    /// How far the work is.
    Progress {
        /// Units done.
        done: u64,
        /// Units in all; 0 when unknown.
        total: u64,
        /// What is counted: `images`, `steps`, `bytes`.
        unit: String,
    },
    /// Numbers measured at a step.
    Metrics {
        /// The step they belong to.
        step: u64,
        /// Name to value.
        values: Map<String, Json>,
    },
    /// What it runs with, as `device` and `libtorch`: it goes into the record of the result.
    Facts {
        /// Name to value.
        values: BTreeMap<String, String>,
    },
    /// A sentence for people.
    Message {
        /// The sentence.
        text: String,
    },
}

/// The handle a stage reports through; it never prints, exits or reads the environment itself.
pub struct Context {
    /// The variables of [`LAUNCHER`] that are set.
    launcher: BTreeMap<&'static str, String>,
    /// The state folder; none for a program that cannot go on.
    state: Option<State>,
    stop: Arc<AtomicBool>,
    sink: Mutex<Sink>,
}

enum Sink {
    Silent,
    Events { file: File, last: Option<Instant> },
    Screen { bar: ProgressBar, plain: Option<Instant> },
}

/// Signals within this time of the first are the same wish: a cluster tells every process of a job, and so does the one
/// that started it.
const SAME_WISH: Duration = Duration::from_millis(250);

/// What `torchrun` and `srun` tell a process about the others of its work; with `PIPELINE_EVENTS` and `PIPELINE_STATE` all that
/// a stage's work knows of its environment.
const LAUNCHER: [&str; 12] = [
    "RANK",
    "WORLD_SIZE",
    "LOCAL_RANK",
    "MASTER_ADDR",
    "MASTER_PORT",
    "TORCHELASTIC_USE_AGENT_STORE",
    "GLOO_SOCKET_IFNAME",
    "SLURM_PROCID",
    "SLURM_STEP_NUM_TASKS",
    "SLURM_LOCALID",
    "SLURM_STEP_NODELIST",
    "SLURM_JOB_ID",
];

const EVENT_INTERVAL: Duration = Duration::from_millis(200);
const PLAIN_INTERVAL: Duration = Duration::from_secs(10);

impl Context {
    /// The file for progress, where somebody listens.
    pub(crate) fn events() -> Option<PathBuf> {
        std::env::var_os("PIPELINE_EVENTS").map(PathBuf::from)
    }

    /// The state folder: `PIPELINE_STATE`, or beside the first output.
    pub(crate) fn state_of(spec: &Spec, values: &Values, layout: Layout) -> State {
        let output = spec.of(Role::Output).find_map(|arg| values.text(&arg.name));
        let (path, owned) = match (std::env::var_os("PIPELINE_STATE"), output) {
            (Some(path), _) => (path.into(), false),
            (None, Some(output)) => (PathBuf::from(format!("{}.state", output.trim_end_matches('/'))), true),
            (None, None) => {
                (std::env::temp_dir().join(format!("{}.{}", spec.name, std::process::id())), true)
            }
        };
        State::new(path, &spec.name, layout, owned)
    }

    /// Reports to `events` or draws a bar; listens for SIGTERM and SIGINT (a second one kills).
    pub(crate) fn new(events: Option<&Path>, state: Option<State>) -> Result<Self> {
        let sink = match events {
            Some(path) => {
                let file = OpenOptions::new().create(true).append(true).open(path);
                Sink::Events {
                    file: file.with_context(|| format!("opening {}", path.display()))?,
                    last: None,
                }
            }
            None if std::io::stderr().is_terminal() => Sink::Screen {
                bar: ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()),
                plain: None,
            },
            None => Sink::Screen { bar: ProgressBar::hidden(), plain: Some(Instant::now()) },
        };
        let stop = Arc::new(AtomicBool::new(false));
        listen(&stop)?;
        let set = |name: &'static str| Some((name, std::env::var(name).ok().filter(|v| !v.is_empty())?));
        let launcher = LAUNCHER.into_iter().filter_map(set).collect();
        Ok(Self { launcher, state, stop, sink: Mutex::new(sink) })
    }

    /// A context that reports to nobody, for tests and benches; state goes to `state`.
    pub fn silent(state: &Path) -> Self {
        Self {
            launcher: BTreeMap::new(),
            state: Some(State::new(state.into(), "silent", Layout::of(&[]), false)),
            stop: Arc::new(AtomicBool::new(false)),
            sink: Mutex::new(Sink::Silent),
        }
    }

    /// A variable of the launcher that started this process as one of several: `RANK`, `WORLD_SIZE`, `SLURM_PROCID`, …
    pub fn launcher(&self, name: &str) -> Option<&str> {
        self.launcher.get(name).map(String::as_str)
    }

    /// The folder for what a later run of the same work can go on from; made on first use.
    ///
    /// Under the runner it belongs to this action alone. By hand it is `OUTPUT.state`, removed after success.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn state(&self) -> Result<&Path> {
        let state = self.state.as_ref().context("this program declares no state")?;
        state.make()?;
        Ok(state.path())
    }

    /// Whether somebody asked to stop; long work asks between two units and saves what can be resumed.
    pub fn stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Fails with [`Stopped`] when somebody asked to stop.
    ///
    /// # Errors
    /// [`Stopped`], exit code 75.
    pub fn check_stop(&self) -> Result<()> {
        if self.stopping() { Err(Stopped.into()) } else { Ok(()) }
    }

    /// Asks the work to stop, as SIGTERM does.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Reports that `done` of `total` units are done. Cheap enough to call for every unit.
    pub fn progress(&self, done: usize, total: usize, unit: &str) {
        let (done, total) = (done as u64, total as u64);
        match &mut *self.lock() {
            Sink::Silent => {}
            Sink::Events { file, last } => {
                if done != total && last.is_some_and(|t| t.elapsed() < EVENT_INTERVAL) {
                    return;
                }
                *last = Some(Instant::now());
                emit(file, &Event::Progress { done, total, unit: unit.into() });
            }
            Sink::Screen { bar, plain } => {
                if bar.length() != Some(total) || bar.message() != unit {
                    bar.set_length(total);
                    bar.set_message(unit.to_string());
                    bar.set_style(style());
                    bar.reset_eta();
                }
                bar.set_position(done);
                if let Some(last) = plain
                    && (done == total || last.elapsed() >= PLAIN_INTERVAL)
                {
                    *last = Instant::now();
                    eprintln!("{done}/{total} {unit}");
                }
            }
        }
    }

    /// Reports numbers measured at a step, `context.metrics(100, json!({"mse": 0.1}))`.
    pub fn metrics(&self, step: usize, values: Json) {
        let Json::Object(values) = values else { return };
        match &mut *self.lock() {
            Sink::Silent => {}
            Sink::Events { file, .. } => emit(file, &Event::Metrics { step: step as u64, values }),
            Sink::Screen { bar, .. } => {
                let words: Vec<_> = values.iter().map(|(k, v)| format!("{k} {v}")).collect();
                say(bar, &format!("step {step}: {}", words.join(", ")));
            }
        }
    }

    /// Says what this runs with, which the record of its result then has: `context.facts(&[("device", "cuda:0")])`.
    pub fn facts(&self, values: &[(&str, &str)]) {
        let values = values.iter().map(|(name, value)| ((*name).to_string(), (*value).to_string())).collect();
        if let Sink::Events { file, .. } = &mut *self.lock() {
            emit(file, &Event::Facts { values });
        }
    }

    /// Says a sentence to people.
    pub fn message(&self, text: &str) {
        match &mut *self.lock() {
            Sink::Silent => {}
            Sink::Events { file, .. } => emit(file, &Event::Message { text: text.into() }),
            Sink::Screen { bar, .. } => say(bar, text),
        }
    }

    pub(crate) fn finish(&self, result: &Result<()>) {
        if let Sink::Screen { bar, .. } = &*self.lock() {
            bar.finish_and_clear();
        }
        let Some(state) = &self.state else { return };
        if let Err(e) = result {
            if exit_code(e) == 2 {
                state.unmake();
            }
            return;
        }
        // Left-over state is only disk space; the result is complete.
        if let Ok(Some(foreign)) = state.remove() {
            let folder = state.path().display();
            self.message(&format!("{folder} stays: it holds {}, which is not state", foreign.display()));
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Sink> {
        self.sink.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The first SIGTERM or SIGINT is the wish to stop, a later one ends the process.
fn listen(stop: &Arc<AtomicBool>) -> Result<()> {
    let (start, first) = (Instant::now(), Arc::new(AtomicU64::new(u64::MAX)));
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        let (stop, first) = (Arc::clone(stop), Arc::clone(&first));
        let heard = move || {
            let now = start.elapsed().as_millis() as u64;
            let earlier = first.fetch_min(now, Ordering::SeqCst);
            stop.store(true, Ordering::SeqCst);
            if earlier != u64::MAX && now.saturating_sub(earlier) > SAME_WISH.as_millis() as u64 {
                // What cannot fail for these two signals.
                let _ = signal_hook::low_level::emulate_default_handler(signal);
            }
        };
        // SAFETY: a clock, two atomics and `emulate_default_handler` may all be used inside a signal handler.
        unsafe { signal_hook::low_level::register(signal, heard) }?;
    }
    Ok(())
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template("{wide_bar} {human_pos}/{human_len} {msg} {per_sec} {eta} left")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
}

fn say(bar: &ProgressBar, text: &str) {
    if bar.is_hidden() {
        eprintln!("{text}");
    } else {
        bar.println(text);
    }
}

fn emit(file: &mut File, event: &Event) {
    // Progress is for watching; a full disk will stop the work itself soon enough.
    if let Ok(mut line) = serde_json::to_vec(event) {
        line.push(b'\n');
        let _ = file.write_all(&line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_json_lines() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events");
        let context = Context {
            sink: Mutex::new(Sink::Events { file: File::create(&path).unwrap(), last: None }),
            ..Context::silent(dir.path())
        };
        context.progress(1, 2, "images");
        context.metrics(7, serde_json::json!({"mse": 0.5}));
        context.message("hello");
        let text = std::fs::read_to_string(path).unwrap();
        let events: Vec<Event> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        assert_eq!(events.len(), 3);
        assert_eq!(events[0], Event::Progress { done: 1, total: 2, unit: "images".into() });
    }

    #[test]
    fn a_stop_is_seen() {
        let context = Context::silent(Path::new("unused"));
        assert!(context.check_stop().is_ok());
        context.stop();
        assert_eq!(crate::exit_code(&context.check_stop().unwrap_err()), 75);
    }
}
