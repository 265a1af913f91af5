//! Making the programs that `run:` names, once per state of their sources.

use crate::engine::stop::Stop;
use crate::engine::{self, supervise};
use crate::error::{Error, Result};
use crate::screen::{Screen, show_log};
use crate::session::Session;
use crate::session::stale::{Built, names, sources, stale};
use crate::text::{duration, last_line, shown};
use rustix::process::Pid;
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use store::walk::{self, Links};
use store::{IoContext, lock, record};

/// Makes the programs if they are stale.
pub fn build(session: &Session, run: &str, screen: &mut Screen, stop: &Stop) -> Result<()> {
    let Some(build) = &session.graph.build else { return Ok(()) };
    if stale(session)?.is_none() {
        return Ok(());
    }
    let wait = || screen.say("build: waiting for another runner that builds");
    let held = lock::wait(&session.store.lock_of_build(), false, wait, || stop.asked())?;
    let Some(held) = held else { return Err(Error::Interrupted) };
    let Some(reasons) = stale(session)? else { return Ok(()) };
    screen.start("build", &reasons.join(", "));
    let now = sources(session, build)?;
    let words: Vec<String> =
        build.command.iter().map(|word| word.literal().unwrap_or_default().to_string()).collect();
    let log = session.store.log(run, "build");
    if let Some(parent) = log.parent() {
        std::fs::create_dir_all(parent).at("making", parent)?;
    }
    screen.message("build", &shown(&words), true);
    let started = Instant::now();
    let output = File::create(&log).at("making", &log)?;
    let runner = std::env::current_exe().at("finding", Path::new("the runner itself"))?;
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
    let mut child =
        command.spawn().map_err(|source| engine::Error::Start { what: words[0].clone(), source })?;
    let pid = Pid::from_child(&child);
    stop.add(pid);
    let status = loop {
        if let Some(status) = child.try_wait().at("waiting for", &log)? {
            break status;
        }
        if let Some(line) = last_line(&log) {
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
        show_log(screen, &log);
        return Err(Error::Failed(vec!["build".into()]));
    }
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
    record::write(&session.store.built(), &Built { from: now, programs }, true)?;
    screen.finish("build", &format!("done in {}", duration(started.elapsed().as_secs_f64())));
    Ok(())
}
