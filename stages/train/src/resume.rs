//! Where a training begins: at nothing, or at the newest checkpoint of the same training.

use crate::log::Earlier;
use crate::{Args, TrainingConfig};
use anyhow::Result;
use models::checkpoint;
use stage::bad_input;
use std::path::{Path, PathBuf};

/// Where to begin.
pub enum Start {
    /// At nothing.
    Fresh,
    /// At a checkpoint.
    From {
        /// The checkpoint.
        checkpoint: PathBuf,
        /// The log of what came before it, where it is not the one in the state folder.
        log: Option<Earlier>,
    },
}

impl Start {
    /// The newest checkpoint, at most at `--iterations`, among what this work has left in its state folder, what stands in its
    /// outputs, and `--resume`.
    ///
    /// # Errors
    /// Bad input when that checkpoint is unreadable or of another training.
    pub fn find(args: &Args, config: &TrainingConfig, state: &Path) -> Result<Self> {
        let mut best: Option<(usize, PathBuf, bool)> = None;
        let finished = args.checkpoints.is_dir().then(|| (args.checkpoints.clone(), true));
        let places = [Some((state.to_path_buf(), false)), finished];
        for (folder, is_finished) in places.into_iter().flatten() {
            for (step, path) in checkpoint::list(&folder)?.range(..=args.iterations) {
                if best.as_ref().is_none_or(|(found, ..)| step > found) {
                    best = Some((*step, path.clone(), is_finished));
                }
            }
        }
        if let Some(given) = &args.resume {
            let path = resumed(given, args.iterations)?;
            let step = config.continued(&path)?.about.step;
            if step > args.iterations {
                bad_input!(
                    "--resume {}: it is at step {step}, past --iterations {}",
                    path.display(),
                    args.iterations
                )
            }
            if best.as_ref().is_none_or(|(found, ..)| step > *found) {
                best = Some((step, path, false));
            }
        }
        let Some((_, checkpoint, is_finished)) = best else { return Ok(Self::Fresh) };
        if let Some(difference) = config.difference(&config.continued(&checkpoint)?.about)? {
            bad_input!(
                "{}: a checkpoint of another training: {difference}; remove it, or name other outputs",
                checkpoint.display()
            )
        }
        let log = is_finished.then(|| Earlier { log: args.log.clone(), events: args.events.clone() });
        Ok(Self::From { checkpoint, log })
    }
}

fn resumed(given: &Path, iterations: usize) -> Result<PathBuf> {
    if !given.is_dir() {
        return Ok(given.into());
    }
    match checkpoint::list(given)?.range(..=iterations).next_back() {
        Some((_, path)) => Ok(path.clone()),
        None => {
            bad_input!("--resume {}: no checkpoint up to step {iterations} in this folder", given.display())
        }
    }
}
