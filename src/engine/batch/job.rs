//! The part of a job on its node: it runs the stage, and writes the exit code.

use super::environ;
use super::nodes::{self, Here, Part};
use super::papers::{Ended, JobSpec, begun_path, has_begun};
use super::running;
use super::submission::Submission;
use crate::engine::error::{Error, Result};
use crate::engine::ranks;
use crate::engine::supervise::NOT_STARTED;
use signal_hook::iterator::Signals;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use store::{IoContext, link, record};

/// The hidden first argument that makes the runner the process of a job.
pub const WORD: &str = "__job";
/// The last word of a job that is in its own environment.
const AT_HOME: &str = "at-home";
/// What a job ends with that is told to stop before its stage began: 128 and SIGTERM.
const TOLD: u8 = 143;
/// How long the workers of a job may take until one has begun on each of its nodes.
const GATHERING: Duration = Duration::from_secs(600);

/// Begins anew in the environment that an attempt brings, where it brings one; what went wrong.
fn move_in(folder: &Path, job: &str) -> Option<Error> {
    let all = match environ::read(folder) {
        Ok(all) => all?,
        Err(e) => return Some(e),
    };
    let what = |source| Error::Start { what: "the job in its own environment".into(), source };
    let mut command = match store::process::program() {
        Ok(runner) => Command::new(runner),
        Err(e) => return Some(what(e)),
    };
    Some(what(
        command
            .args([WORD.as_ref(), folder.as_os_str(), job.as_ref(), AT_HOME.as_ref()])
            .env_clear()
            .envs(all)
            .exec(),
    ))
}

/// Does the job whose attempt folder and name are the arguments. Returns the stage's exit code.
pub fn main(arguments: &[OsString]) -> u8 {
    let (folder, job, at_home) = match arguments {
        [folder, job] => (Path::new(folder), job, false),
        [folder, job, word] if word == AT_HOME => (Path::new(folder), job, true),
        _ => return 2,
    };
    let Some(job) = job.to_str().filter(|job| is_meant(folder, job)) else {
        crate::stderr::line(format_args!("{}", Error::NoWork(folder.into())));
        return NOT_STARTED;
    };
    if let Some(e) = (!at_home).then(|| move_in(folder, job)).flatten() {
        crate::stderr::line(format_args!("error: {e}"));
        return NOT_STARTED;
    }
    // Where the environment is gone, the job is over already.
    let spec = JobSpec::read(folder).filter(|spec| at_home || !spec.brings_environment);
    let done = spec.ok_or_else(|| Error::NoWork(folder.into())).and_then(|spec| {
        let mut signals = running::hear(&spec)?;
        if spec.workers() == 1 {
            return first(&spec, folder, job, None, &mut signals);
        }
        // A worker that waited finds the job over where the first of them ended it.
        let over = || !is_meant(folder, job) || Ended::read(folder, job).is_some_and(|ended| !ended.told);
        match nodes::arrive(folder, over, || running::is_told(&mut signals))? {
            Part::First(here, lead) => {
                let code = first(&spec, folder, job, Some(here), &mut signals);
                drop(lead);
                code
            }
            Part::Other(node) => {
                let log = open_log(&spec)?;
                running::ranks_of(&spec, folder, &log, &node, &mut signals)
            }
            Part::None => Ok(NOT_STARTED),
        }
    });
    done.unwrap_or_else(|e| {
        crate::stderr::line(format_args!("error: {e}"));
        NOT_STARTED
    })
}

/// Whether a job of this name is that of the attempt: another runner may have given it up, and submitted it again.
fn is_meant(folder: &Path, job: &str) -> bool {
    Submission::read(folder).is_some_and(|submission| submission.name == job)
}

fn open_log(spec: &JobSpec) -> Result<File> {
    Ok(File::options().create(true).append(true).open(&spec.log).at("opening", &spec.log)?)
}

/// Does all that is to be done once for a job, and what belongs on this node. Returns the stage's exit code.
fn first(spec: &JobSpec, folder: &Path, job: &str, here: Option<Here>, signals: &mut Signals) -> Result<u8> {
    // The job may have been started before and taken off its node; it begins anew, with the stage's state.
    link::remove(&Ended::path(folder))?;
    link::remove(&ranks::failed_path(folder))?;
    link::remove(&spec.out)?;
    fs::create_dir_all(&spec.out).at("making", &spec.out)?;
    let log = open_log(spec)?;
    let again = has_begun(folder);
    fs::write(begun_path(folder), "").at("writing", &begun_path(folder))?;
    let patience = spec.timeout.map_or(GATHERING, |limit| GATHERING.min(Duration::from_secs_f64(limit)));
    let node = here.map(|here| here.gather(spec.workers(), patience, || running::is_told(signals)));
    let ended = match node.transpose() {
        Ok(Some(None)) => Ok(Ended { code: TOLD, told: true, ..Ended::default() }),
        Ok(node) => running::stage(spec, folder, &log, again, node.flatten().as_ref(), signals),
        Err(e) => Err(e),
    };
    let ended = ended.unwrap_or_else(|e| {
        // The log is where a person looks.
        let _ = writeln!(&log, "error: {e}");
        Ended { code: NOT_STARTED, ..Ended::default() }
    });
    if is_meant(folder, job) {
        record::write(&Ended::path(folder), &Ended { job: job.into(), ..ended.clone() }, true)?;
    }
    if !ended.told {
        environ::clear(folder);
    }
    Ok(ended.code)
}
