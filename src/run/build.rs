//! Making the programs that `run:` names, once per state of their sources.

use crate::cache::events::{RunEvent, TaskEnd};
use crate::cache::failure::{Failure, TaskFailure};
use crate::cache::places::Places;
use crate::cache::results;
use crate::cache::runs::AttemptReport;
use crate::engine::stop::Stop;
use crate::engine::{self, supervise};
use crate::error::{Error, Result};
use crate::run::stream::Stream;
use crate::run::tail::Tail;
use crate::session::Session;
use crate::session::stale::{Built, Sources, names, sources, stale};
use crate::text::shown_briefly;
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use store::walk::{self, Links};
use store::{IoContext, lock, record};
use study::graph::BuildStep;

/// How the build is called among the tasks of a run.
const BUILD: &str = "build";

/// Makes the programs if they are stale.
pub fn build(session: &Session, run: &str, stream: &mut Stream, stop: &Stop) -> Result<()> {
    let Some(build) = &session.graph.build else { return Ok(()) };
    if stale(session)?.is_none() {
        return Ok(());
    }
    let wait = || stream.say(BUILD, "waiting for another runner that builds");
    let held = lock::wait(&session.store.lock_of_build(), false, wait, || stop.asked())?;
    let Some(held) = held else { return Err(Error::Interrupted) };
    let Some(reasons) = stale(session)? else { return Ok(()) };
    let now = sources(session, build)?;
    let words: Vec<String> =
        build.command.iter().map(|word| word.literal().unwrap_or_default().to_string()).collect();
    let log = session.store.log(run, BUILD);
    if let Some(parent) = log.parent() {
        std::fs::create_dir_all(parent).at("making", parent)?;
    }
    let (task, stage) = (BUILD.to_string(), BUILD.to_string());
    let (key, gpus) = (None, Vec::new());
    stream.emit(RunEvent::TaskStarted { task, stage, key, reasons, gpus, processes: None, log: log.clone() });
    stream.say(BUILD, shown_briefly(&words));
    let (since, started) = (results::now(), Instant::now());
    let output = File::create(&log).at("making", &log)?;
    let runner = store::process::program().at("finding", Path::new("the runner itself"))?;
    let mut command = Command::new(runner);
    // A program given with a `/` is one of the study's; the supervisor starts in the root as well.
    command
        .arg(supervise::WORD)
        .arg(std::process::id().to_string())
        .args(&words)
        .current_dir(&session.graph.root)
        .stdin(Stdio::from(held.0.try_clone().at("sharing", &log)?))
        .stdout(output.try_clone().at("opening", &log)?)
        .stderr(output)
        .process_group(0);
    for (name, _) in std::env::vars_os().filter(|(name, _)| of_cargo(&name.to_string_lossy())) {
        command.env_remove(name);
    }
    let failed = |source| engine::Error::Start { what: words[0].clone(), source };
    let (mut child, pid) = stop.begin(|| command.spawn().map_err(failed))?;
    let mut tail = Tail::new(log.with_extension("events"), log.clone(), Places::default());
    let status = loop {
        if let Some(status) = child.try_wait().at("waiting for", &log)? {
            break status;
        }
        tail.read(BUILD).into_iter().for_each(|event| stream.emit(event));
        stream.screen().tick();
        std::thread::sleep(Duration::from_millis(100));
    };
    stop.remove(pid);
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    stream.emit(RunEvent::AttemptEnded { report: attempt(session, code, since, started) });
    let mut ended = |end| stream.emit(RunEvent::TaskEnded { task: BUILD.into(), end });
    if !status.success() {
        let failed = |failure, log| TaskEnd::Failed(TaskFailure { log, ..TaskFailure::from(failure) });
        if stop.asked() {
            ended(failed(Failure::Stopped, None));
            return Err(Error::Interrupted);
        }
        let killed = Failure::Signal { signal: 9 };
        ended(failed(code.map_or(killed, |code| Failure::Exit { code }), Some(log)));
        return Err(Error::Failed(vec![BUILD.into()]));
    }
    keep(session, build, now)?;
    ended(TaskEnd::Made { seconds: started.elapsed().as_secs_f64(), earlier: None });
    Ok(())
}

/// What is recorded of the one attempt that a build has.
fn attempt(session: &Session, code: Option<u8>, started: u64, since: Instant) -> AttemptReport {
    AttemptReport {
        task: BUILD.into(),
        attempt: 1,
        started,
        seconds: since.elapsed().as_secs_f64(),
        exit: code.filter(|code| *code < 129),
        failure: match code {
            Some(0) => None,
            Some(code @ 129..) => Some(Failure::Signal { signal: code - 128 }),
            Some(code) => Some(Failure::Exit { code }),
            None => Some(Failure::Signal { signal: 9 }),
        },
        peak_memory: None,
        gpus: Vec::new(),
        engine: "local".into(),
        host: session.facts().machine.host.clone(),
    }
}

/// Remembers which programs were built from which sources.
fn keep(session: &Session, build: &BuildStep, from: Sources) -> Result<()> {
    // Other studies that share the store may name other programs of the same build.
    let before = record::read::<Built>(&session.store.built());
    let others = before.map(|b| b.programs.into_keys().collect::<Vec<_>>()).unwrap_or_default();
    let mut programs = BTreeMap::new();
    for name in names(session).into_iter().chain(others) {
        let path = session.graph.root.join(&build.programs).join(&name);
        // One that the build does not make is told of, with its line, when the study is checked.
        if let Ok(hashed) = walk::hash(&path, &session.store.stats, Links::Keep) {
            programs.insert(name, hashed.digest);
        }
    }
    record::write(&session.store.built(), &Built { from, programs }, true)?;
    Ok(())
}

/// Whether `cargo run` sets a variable for the program that it runs: what it is, not what the user wants. A cargo that is
/// started in turn would take other values for a change and build crates anew that look at them. What configures
/// cargo (`CARGO_HOME`, `CARGO_TARGET_DIR`, `CARGO_BUILD_…`, `RUSTFLAGS`) is the user's and stays.
pub(super) fn of_cargo(name: &str) -> bool {
    let names = [
        "CARGO",
        "CARGO_CRATE_NAME",
        "CARGO_MANIFEST_DIR",
        "CARGO_MANIFEST_LINKS",
        "CARGO_MANIFEST_PATH",
        "CARGO_PRIMARY_PACKAGE",
        "CARGO_RUSTC_CURRENT_DIR",
        "CARGO_TARGET_TMPDIR",
        "OUT_DIR",
    ];
    let prefixes = ["CARGO_PKG_", "CARGO_BIN_", "CARGO_CFG_", "CARGO_FEATURE_"];
    names.contains(&name) || prefixes.iter().any(|prefix| name.starts_with(prefix))
}
