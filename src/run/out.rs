//! Making `out/` show the newest outputs.

use crate::error::Result;
use crate::session::{Session, StepOutputs};
use std::path::Path;
use store::IoContext;
use store::link;

/// Makes `out/` show the outputs of a step, under `out/VARIANT/` for variants. Returns whether something else stood
/// there.
pub fn publish(session: &Session, i: usize, known: &StepOutputs) -> Result<bool> {
    let step = &session.graph.steps[i];
    let mut changed = false;
    for variant in &step.variants {
        // Joining an empty name adds nothing.
        let folder = session.graph.root.join(&session.graph.out).join(variant).join(&step.stage);
        for output in &step.outputs {
            let Some(produced) = known.outputs.get(&output.name) else { continue };
            let path = folder.join(&output.file);
            if output.temp && !session.store.materialize(&produced.digest)? {
                // Its content was dropped; a link to nothing would only confuse.
                if std::fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_symlink()) {
                    link::remove(&path)?;
                }
                continue;
            }
            let place = session.store.place(&produced.digest);
            // There is none only where one of the two is relative.
            let target = |folder: &Path| pathdiff::diff_paths(&place, folder).unwrap_or(place.clone());
            if std::fs::read_link(&path).is_ok_and(|old| old == target(&folder)) {
                continue;
            }
            let lock = session.store.lock_of_out(variant, &step.stage);
            let _held = store::lock::wait(&lock, false, || {}, || false)?;
            std::fs::create_dir_all(&folder).at("making", &folder)?;
            // `out` may itself be a link to another disk; a relative link counts from where it really is.
            let real = folder.canonicalize().at("finding", &folder)?;
            let target = target(&real);
            if !std::fs::read_link(&path).is_ok_and(|old| old == target) {
                link::point(&path, &target)?;
                changed = true;
            }
        }
    }
    Ok(changed)
}
