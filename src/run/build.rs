//! Making the programs that `run:` names, once per state of their sources.

use crate::error::{Error, Result};
use crate::run::attempt::shown;
use crate::run::screen::{Screen, duration};
use crate::run::stop::Stop;
use crate::run::supervise;
use crate::session::Session;
use rustix::process::Pid;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use store::IoContext;
use store::digest::Digest;
use store::walk::{self, Links};
use store::{lock, record};
use study::graph::{BuildStep, Call, Step};

/// Everything that a build depends on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Sources {
    command: Vec<String>,
    sources: BTreeMap<String, Digest>,
}

/// A build that succeeded: its sources, and the programs as it left them.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Built {
    from: Sources,
    programs: BTreeMap<String, Digest>,
}

/// Why the programs have to be made, in words; `None` when they are up to date or the study makes none.
pub fn stale(session: &Session) -> Result<Option<Vec<String>>> {
    let Some(build) = &session.graph.build else { return Ok(None) };
    let names = names(session);
    if names.is_empty() {
        return Ok(None);
    }
    let now = sources(session, build)?;
    let Some(built) = record::read::<Built>(&session.store.at("builds/last")) else {
        return Ok(Some(vec!["it never ran".into()]));
    };
    let mut reasons = Vec::new();
    if built.from.command != now.command {
        reasons.push("the command changed".into());
    }
    for (name, digest) in &now.sources {
        if built.from.sources.get(name) != Some(digest) {
            reasons.push(format!("source `{name}` changed"));
        }
    }
    if built.from.sources.len() > now.sources.len() {
        reasons.push("a source was taken away".into());
    }
    for name in &names {
        let path = session.graph.root.join(&build.programs).join(name);
        let there = walk::hash(&path, &session.store.stats, Links::Keep).ok().map(|h| h.digest);
        if there.is_none() {
            reasons.push(format!("program `{name}` is missing"));
        } else if built.programs.get(name) != there.as_ref() && reasons.is_empty() {
            reasons.push(format!("program `{name}` is not the one that was built"));
        }
    }
    Ok((!reasons.is_empty()).then_some(reasons))
}

/// Makes the programs if they are stale.
pub fn build(session: &Session, run: &str, screen: &mut Screen, stop: &Stop) -> Result<()> {
    let Some(build) = &session.graph.build else { return Ok(()) };
    if stale(session)?.is_none() {
        return Ok(());
    }
    let wait = || screen.say("build: waiting for another runner that builds");
    let held = lock::wait(&session.store.at("locks/build"), false, wait, || stop.asked())?;
    let Some(held) = held else { return Err(Error::Interrupted) };
    let Some(reasons) = stale(session)? else { return Ok(()) };
    screen.start("build", &reasons.join(", "));
    let now = sources(session, build)?;
    let words: Vec<String> =
        build.command.iter().map(|word| word.literal().unwrap_or_default().to_string()).collect();
    let log = session.store.at("logs").join(run).join("build.log");
    if let Some(parent) = log.parent() {
        std::fs::create_dir_all(parent).at("making", parent)?;
    }
    screen.message("build", &shown(&words), true);
    let started = Instant::now();
    let output = File::create(&log).at("making", &log)?;
    let runner = std::env::current_exe()
        .map_err(|e| Error::Io { what: "finding the runner itself".into(), source: e })?;
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
    let what = || format!("starting {}", words[0]);
    let mut child = command.spawn().map_err(|e| Error::Io { what: what(), source: e })?;
    let pid = Pid::from_child(&child);
    stop.add(pid);
    let status = loop {
        if let Some(status) = child.try_wait().at("waiting for", &log)? {
            break status;
        }
        if let Some(line) = crate::run::events::last_line(&log) {
            screen.message("build", &line, false);
        }
        std::thread::sleep(Duration::from_millis(100));
    };
    stop.remove(pid);
    if !status.success() {
        if stop.asked() {
            screen.finish("build", "stopped");
            return Err(Error::Interrupted);
        }
        screen.finish("build", &format!("failed with exit code {}", status.code().unwrap_or(-1)));
        crate::run::show_log(screen, &log);
        return Err(Error::Failed(vec!["build".into()]));
    }
    // Other studies that share the store may name other programs of the same build.
    let before = record::read::<Built>(&session.store.at("builds/last"));
    let others = before.map(|b| b.programs.into_keys().collect::<Vec<_>>()).unwrap_or_default();
    let mut programs = BTreeMap::new();
    for name in names(session).into_iter().chain(others) {
        let path = session.graph.root.join(&build.programs).join(&name);
        // One that the build does not make is told of, with its line, when the study is checked.
        if let Ok(hashed) = walk::hash(&path, &session.store.stats, Links::Keep) {
            programs.insert(name, hashed.digest);
        }
    }
    record::write(&session.store.at("builds/last"), &Built { from: now, programs }, true)?;
    screen.finish("build", &format!("done in {}", duration(started.elapsed().as_secs_f64())));
    Ok(())
}

/// Whether the build makes the program of a step.
pub fn makes(session: &Session, step: &Step) -> bool {
    session.graph.build.is_some() && matches!(&step.call, Call::Run(name) if !name.contains('/'))
}

/// The programs that the study expects from its build.
fn names(session: &Session) -> Vec<String> {
    let mut names: Vec<String> = session
        .graph
        .steps
        .iter()
        .filter(|step| makes(session, step))
        .filter_map(|step| match &step.call {
            Call::Run(name) => Some(name.value.clone()),
            Call::Command(..) => None,
        })
        .collect();
    names.sort();
    names.dedup();
    names
}

fn sources(session: &Session, build: &BuildStep) -> Result<Sources> {
    let mut sources = BTreeMap::new();
    for source in &build.sources {
        let path = std::path::Path::new(source.as_str());
        sources.insert(source.value.clone(), session.hash_path(path, &source.mark)?.digest);
    }
    Ok(Sources { command: build.command.iter().map(ToString::to_string).collect(), sources })
}
