//! Taking in what an attempt made: the outputs first, then the result, which alone makes them exist.

use crate::cache::failure::{Change, Failure, PartKind};
use crate::cache::results::{self, ActionResult};
use crate::engine::attempt::Attempt;
use crate::engine::steady::{self, Part};
use crate::run::job::{Job, Unmade};
use crate::session::Place;
use std::collections::BTreeMap;
use store::walk::{self, Links};
use store::{IoContext, Produced, link};

/// Takes in the outputs of an attempt that ended well after so many seconds, if all is as it should be.
pub fn commit(job: &Job, attempt: &Attempt, parts: &[Part], seconds: f64) -> Result<ActionResult, Unmade> {
    let (store, step) = (&job.session.store, &job.session.graph.steps[job.task.step]);
    for output in &step.outputs {
        if std::fs::symlink_metadata(attempt.out.join(&output.file)).is_err() {
            return Err(Failure::NoOutput { name: output.name.clone() }.into());
        }
    }
    for entry in std::fs::read_dir(&attempt.out).at("reading", &attempt.out)?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !step.outputs.iter().any(|o| o.file == name) {
            job.say(format!("wrote `{name}`, which is not one of its outputs; not kept"));
        }
    }
    let mut changed = changed_inputs(job);
    changed.extend(steady::changed(parts, &store.stats));
    if !changed.is_empty() {
        return Err(Failure::Changed { parts: changed }.into());
    }
    let mut taken = Vec::new();
    let mut outputs = BTreeMap::new();
    for output in &step.outputs {
        let hashed = store.ingest(&attempt.out.join(&output.file))?;
        let produced = Produced { digest: hashed.digest, bytes: hashed.bytes, files: hashed.files };
        outputs.insert(output.name.clone(), produced);
        taken.push(hashed);
    }
    store.sync(&taken)?;
    let outcome = ActionResult {
        action: job.task.action.clone(),
        outputs,
        finished: results::now(),
        seconds,
        run: job.run.into(),
        accepted: None,
    };
    results::record(store, &job.task.key, &outcome)?;
    // From here on the result exists; what is left over can go.
    link::remove(&attempt.folder)?;
    link::remove(&attempt.state)?;
    Ok(outcome)
}

/// The inputs in the store that are not what they were at the start, which would make the key a lie. Those that are paths
/// of the study are parts of the attempt.
fn changed_inputs(job: &Job) -> Vec<Change> {
    let (store, mut changed) = (&job.session.store, Vec::new());
    for input in job.task.inputs.iter().filter(|input| matches!(input.place, Place::Store)) {
        let now = walk::hash(&store.place(&input.digest), &store.stats, Links::Keep);
        if !now.is_ok_and(|now| now.digest == input.digest) {
            let (kind, name) = (PartKind::Input, input.name.clone());
            changed.push(Change { kind, name, file: None, put_back: false });
        }
    }
    changed
}
