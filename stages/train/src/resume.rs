//! Where a training begins: at nothing, or at the newest checkpoint of the same training.

use crate::{Args, TrainingConfig};
use anyhow::Result;
use models::{checkpoint, interchange};
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

/// A checkpoint that was passed over, and what is wrong with it.
pub struct Damaged {
    /// The file.
    pub path: PathBuf,
    /// The fault.
    pub fault: String,
}

impl Start {
    /// The newest whole checkpoint, at most at `--iterations`, among what this work has left in its state folder, what stands in
    /// its outputs, and `--resume`; and the damaged ones that are newer.
    ///
    /// # Errors
    /// Bad input when a checkpoint in the outputs or the newest one is of another config, or all are damaged; when this work was
    /// interrupted past `--iterations`.
    pub fn find(args: &Args, config: &TrainingConfig, state: &Path) -> Result<(Self, Vec<Damaged>)> {
        let (begun, finished) = (checkpoint::list(state)?, finished(args)?);
        // What is replaced in the end, or stands beside what is made.
        for path in finished.values() {
            match checkpoint::about(path) {
                Err(_) if checkpoint::damage(path)?.is_some() => {}
                about => same_recipe(path, config.difference(&about?)?)?,
            }
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
        // Where both have a step, the outputs may lack what was to come after it.
        let mut found: Vec<(usize, bool, PathBuf)> =
            begun.into_iter().map(|(step, path)| (step, true, path)).collect();
        found.extend(finished.into_iter().map(|(step, path)| (step, false, path)));
        found.retain(|(step, ..)| *step <= args.iterations);
        found.sort();
        let mut damaged = Vec::new();
        let best = newest_whole(
            found.into_iter().rev().map(|(step, begun, path)| ((step, begun), path)),
            &mut damaged,
        )?;
        let there = best.as_ref().map(|((step, _), _)| *step);
        if let Some(path) = further(args, config, there, &mut damaged)? {
            return Ok((Self::From { path, given: true }, damaged));
        }
        let start = match (best, damaged.first()) {
            (None, Some(Damaged { path, fault })) => bad_input!(
                "{}: {fault}; there is no checkpoint before it to go on from, remove it to begin anew",
                path.display()
            ),
            (None, None) => Self::Fresh,
            (Some(((step, false), _)), _) if step == args.iterations => Self::Done(step),
            (Some((_, path)), _) => {
                same_recipe(&path, config.difference(&checkpoint::about(&path)?)?)?;
                Self::From { path, given: false }
            }
        };
        Ok((start, damaged))
    }
}

/// The checkpoint of `--resume`, where it is further than the step that is there.
fn further(
    args: &Args,
    config: &TrainingConfig,
    there: Option<usize>,
    damaged: &mut Vec<Damaged>,
) -> Result<Option<PathBuf>> {
    let Some(given) = &args.resume else { return Ok(None) };
    let path = resumed(given, args.iterations, damaged)?;
    let about = config.continued(&path)?.about;
    let (shown, step) = (path.display(), about.step);
    if step > args.iterations {
        bad_input!("--resume {shown}: it is at step {step}, past --iterations {}", args.iterations)
    }
    if there.is_some_and(|there| step <= there) {
        return Ok(None);
    }
    match config.difference(&about)? {
        None => Ok(Some(path)),
        Some(difference) => bad_input!(
            "--resume {shown}: a checkpoint of another training: {difference}; give it the same parameters, or begin a new \
             training with its weights by --initialize"
        ),
    }
}

/// The first of these that is whole; those before it are damaged.
fn newest_whole<T>(
    found: impl Iterator<Item = (T, PathBuf)>,
    damaged: &mut Vec<Damaged>,
) -> Result<Option<(T, PathBuf)>> {
    for (what, path) in found {
        match checkpoint::damage(&path)? {
            None => return Ok(Some((what, path))),
            Some(fault) => damaged.push(Damaged { path, fault }),
        }
    }
    Ok(None)
}

/// The checkpoints in the outputs, by step.
pub fn finished(args: &Args) -> Result<BTreeMap<usize, PathBuf>> {
    if args.checkpoints.is_dir() { checkpoint::list(&args.checkpoints) } else { Ok(BTreeMap::new()) }
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

/// The file that `--resume` means: in a folder the newest whole one up to `iterations`.
fn resumed(given: &Path, iterations: usize, damaged: &mut Vec<Damaged>) -> Result<PathBuf> {
    if !given.is_dir() {
        let fault = if interchange::is_pickle(given) { None } else { checkpoint::damage(given)? };
        return match fault {
            None => Ok(given.into()),
            Some(fault) => bad_input!("--resume {}: {fault}; give the checkpoint before it", given.display()),
        };
    }
    let found = checkpoint::list(given)?;
    let upto = found.range(..=iterations).rev().map(|(step, path)| (*step, path.clone()));
    let before = damaged.len();
    match (newest_whole(upto, damaged)?, damaged.get(before)) {
        (Some((_, path)), _) => Ok(path),
        (None, Some(Damaged { path, fault })) => {
            bad_input!(
                "--resume {}: {fault}; there is no checkpoint before it in this folder",
                path.display()
            )
        }
        (None, None) => {
            bad_input!("--resume {}: no checkpoint up to step {iterations} in this folder", given.display())
        }
    }
}
