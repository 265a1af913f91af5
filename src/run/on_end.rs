//! What a study wants to be called at the end of a run, as to send a mail.

use crate::cache::runs::Report;
use crate::run::build::of_cargo;
use crate::session::Session;
use crate::stderr;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// So long it may take; nobody waits for a mail server for ever.
const LIMIT: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(10);

/// Calls the study's command with the record of a run on its standard input. What goes wrong there is told, and changes
/// nothing of the run.
pub fn call(session: &Session, report: &Report) {
    let Some([program, arguments @ ..]) = session.graph.on_end.as_deref() else { return };
    match tell(session, report, program, arguments) {
        Ok(None) => {}
        Ok(Some(why)) => stderr::line(format_args!("warning: on-end: {program} {why}")),
        Err(e) => stderr::line(format_args!("warning: on-end: calling {program}: {e}")),
    }
}

fn tell(
    session: &Session,
    report: &Report,
    program: &str,
    arguments: &[String],
) -> io::Result<Option<String>> {
    let record = serde_json::to_vec(report)?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .current_dir(&session.graph.root)
        .stdin(Stdio::piped())
        // Standard output is the run's own.
        .stdout(Stdio::from(io::stderr()))
        // The Ctrl-C that ended the run is not meant for it.
        .process_group(0);
    for (name, _) in std::env::vars_os().filter(|(name, _)| of_cargo(&name.to_string_lossy())) {
        command.env_remove(name);
    }
    let mut child = command.spawn()?;
    let input = child.stdin.take();
    std::thread::spawn(move || {
        // One that reads nothing, or not all, is content with that.
        input.map(|mut input| input.write_all(&record))
    });
    let started = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if started.elapsed() > LIMIT {
            child.kill()?;
            child.wait()?;
            return Ok(Some(format!("took longer than {} s", LIMIT.as_secs())));
        }
        std::thread::sleep(PAUSE);
    };
    Ok((!status.success()).then(|| format!("ended with {status}")))
}
