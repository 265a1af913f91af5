//! Where a training begins: at nothing, or at the newest checkpoint of the same training.

use crate::{Args, TrainingConfig};
use anyhow::Result;
use models::checkpoint;
use stage::bad_input;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Where to begin.
pub enum Start {
    /// At nothing.
    Fresh,
    /// At a checkpoint.
    From {
        /// The checkpoint.
        path: PathBuf,
        /// Whether it is that of `--resume`, whose log is elsewhere.
        given: bool,
    },
    /// At the end: the outputs hold this step already.
    Done(usize),
}

impl Start {
    /// The newest checkpoint, at most at `--iterations`, among what this work has left in its state folder, what stands in its
    /// outputs, and `--resume`.
    ///
    /// # Errors
    /// Bad input when a checkpoint in the outputs or the newest one is of another config, or it is unreadable; when this work was
    /// interrupted past `--iterations`.
    pub fn find(args: &Args, config: &TrainingConfig, state: &Path) -> Result<Self> {
        let (begun, finished) = (checkpoint::list(state)?, finished(args)?);
        // What is replaced in the end, or stands beside what is made.
        for path in finished.values() {
            same_training(path, config)?;
        }
        if let Some((step, path)) = begun.iter().next_back().filter(|(step, _)| **step > args.iterations)
            && !finished.contains_key(step)
        {
            bad_input!(
                "--iterations {}: this training was interrupted at step {step}; give at least that, or remove {}",
                args.iterations,
                path.parent().unwrap_or(path).display()
            )
        }
        let newest = |found: &BTreeMap<usize, PathBuf>| {
            found.range(..=args.iterations).next_back().map(|(step, path)| (*step, path.clone()))
        };
        let (begun, finished) = (newest(&begun), newest(&finished));
        // Where both have it, the outputs may lack what was to come after it.
        let best = if begun.as_ref().map(|b| b.0) >= finished.as_ref().map(|f| f.0) {
            begun
        } else {
            finished.clone()
        };
        if let Some(given) = &args.resume {
            let path = resumed(given, args.iterations)?;
            let about = config.continued(&path)?.about;
            if about.step > args.iterations {
                bad_input!(
                    "--resume {}: it is at step {}, past --iterations {}",
                    path.display(),
                    about.step,
                    args.iterations
                )
            }
            if best.as_ref().is_none_or(|(found, ..)| about.step > *found) {
                same_recipe(&path, config.difference(&about)?)?;
                return Ok(Self::From { path, given: true });
            }
        }
        let Some((step, path)) = best else { return Ok(Self::Fresh) };
        if step == args.iterations && finished.is_some_and(|(_, there)| there == path) {
            return Ok(Self::Done(step));
        }
        same_training(&path, config)?;
        Ok(Self::From { path, given: false })
    }
}

/// The checkpoints in the outputs, by step.
pub fn finished(args: &Args) -> Result<BTreeMap<usize, PathBuf>> {
    if args.checkpoints.is_dir() { checkpoint::list(&args.checkpoints) } else { Ok(BTreeMap::new()) }
}

/// Checks that a checkpoint of ours is of this training.
fn same_training(path: &Path, config: &TrainingConfig) -> Result<()> {
    same_recipe(path, config.difference(&checkpoint::about(path)?)?)
}

fn same_recipe(path: &Path, difference: Option<String>) -> Result<()> {
    match difference {
        None => Ok(()),
        Some(difference) => bad_input!(
            "{}: a checkpoint of another training: {difference}; remove it, or name other outputs",
            path.display()
        ),
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
