//! The environment of a job, in a file that its owner alone can read: for batch systems that carry none to their nodes, or
//! show it to everybody.

use crate::engine::error::Result;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use store::IoContext;

/// How variables begin by which batch systems speak to their jobs.
const OF_SYSTEMS: [&str; 11] =
    ["JOB_", "KUBERNETES_", "LSB_", "LSF_", "NSLOTS", "PBS_", "PE", "RAY_", "SGE_", "SKYPILOT_", "_CONDOR_"];
/// What a node knows better than the machine that the job comes from.
const OF_NODES: [&str; 4] = ["CUDA_VISIBLE_DEVICES", "HOSTNAME", "NVIDIA_VISIBLE_DEVICES", "TMPDIR"];

fn path(folder: &Path) -> PathBuf {
    folder.join("environ")
}

/// Writes the environment of an attempt's job, each variable with a zero byte behind it. Whoever may write in the folder
/// can remove the file, and nobody else can read it.
pub fn write(folder: &Path, all: impl Iterator<Item = (OsString, OsString)>) -> Result<()> {
    let mut text = Vec::new();
    for (name, value) in all {
        text.extend([name.as_bytes(), b"=", value.as_bytes(), b"\0"].concat());
    }
    let path = path(folder);
    let file = File::options().create_new(true).write(true).mode(0o600).open(&path);
    Ok(file.and_then(|mut file| file.write_all(&text)).at("writing", &path)?)
}

/// The environment of a job on its node, where its attempt has a file: what is written there, and of the node's own what
/// every stage gets and what its batch system says.
pub fn read(folder: &Path) -> Result<Option<Vec<(OsString, OsString)>>> {
    let path = path(folder);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e).at("reading", &path)?,
    };
    let begins =
        |name: &OsStr, with: &[&str]| with.iter().any(|with| name.as_bytes().starts_with(with.as_bytes()));
    let mut all = study::environment::passed(&[]);
    all.extend(std::env::vars_os().filter(|(name, _)| begins(name, &OF_SYSTEMS)));
    let own = all.len();
    for line in text.split(|byte| *byte == 0).filter(|line| !line.is_empty()) {
        let Some(at) = line.iter().position(|byte| *byte == b'=') else { continue };
        let (name, value) =
            (OsString::from_vec(line[..at].into()), OsString::from_vec(line[at + 1..].into()));
        if !OF_NODES.iter().any(|node| name == *node) || all[..own].iter().all(|(known, _)| *known != name) {
            all.push((name, value));
        }
    }
    Ok(Some(all))
}

/// Takes it away, when the job is over.
pub fn clear(folder: &Path) {
    // At worst it goes with the attempt's folder.
    let _ = fs::remove_file(path(folder));
}
