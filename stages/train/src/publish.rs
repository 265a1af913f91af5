//! Putting the checkpoints, the log and the events into the outputs, beside what an earlier run has put there.

use crate::events::EVENTS;
use crate::log::LOG;
use crate::outputs::{CHECKPOINTS, EVENTS_FOLDER};
use crate::{Args, resume};
use anyhow::{Context as _, Result};
use models::checkpoint;
use stage::{Staged, sharding::link};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// The steps that the retention rule keeps when training is at `step`: the regular ones, and the last `--keep` of these.
pub fn kept(args: &Args, found: impl Iterator<Item = usize>, step: usize) -> BTreeSet<usize> {
    let regular: Vec<usize> = found.filter(|s| s % args.checkpoint_every == 0 || *s == step).collect();
    let first = if args.keep == 0 { 0 } else { regular.len().saturating_sub(args.keep) };
    regular[first..].iter().copied().collect()
}

/// Puts what the state folder holds into the outputs. What an earlier, perhaps longer run of the same training has left there
/// stays, but for checkpoints that `--keep` does not keep.
///
/// # Errors
/// When they cannot be written; each output is then the earlier or the new one.
pub fn publish(args: &Args, state: &Path) -> Result<()> {
    let before = resume::finished(args)?;
    let mut made = checkpoint::list(state)?;
    made.retain(|step, _| *step <= args.iterations);
    let longer = before.keys().next_back().is_some_and(|last| *last > args.iterations);
    if !made.is_empty() {
        let mut all = before.clone();
        all.extend(made.clone());
        if args.keep > 0 && !longer {
            let kept = kept(args, all.keys().copied(), args.iterations);
            all.retain(|step, _| kept.contains(step));
        }
        let staged = Staged::folder(&args.checkpoints, &CHECKPOINTS)?;
        for (step, path) in &all {
            link(path, &staged.path().join(checkpoint::file_name(*step)))?;
        }
        staged.commit()?;
    }
    // A longer log is more than this run has to tell, and one that nothing was added to stays as it is.
    let stays = |output: &Path| output.exists() && (made.is_empty() || longer);
    if !stays(&args.log) {
        let staged = Staged::file(&args.log)?;
        fs::copy(state.join(LOG), staged.path())
            .with_context(|| format!("writing {}", args.log.display()))?;
        staged.commit()?;
    }
    let Some(events) = args.events.as_ref().filter(|events| !stays(events)) else { return Ok(()) };
    let staged = Staged::folder(events, &EVENTS_FOLDER)?;
    fs::copy(state.join(EVENTS), staged.path().join(EVENTS))
        .with_context(|| format!("writing {}", events.display()))?;
    staged.commit()
}
