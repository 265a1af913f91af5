//! Trains Switch-DiT and the systems it is compared with on latents.

mod agreement;
mod answers;
mod arguments;
mod config;
mod events;
mod graphed_pass;
mod line;
mod log;
mod log_variances;
mod objective;
mod outputs;
mod pass;
mod prefetcher;
mod publish;
mod resume;
mod side_by_side;
mod step_batch;
mod trainer;

pub use answers::QUESTIONS;
pub use arguments::{Args, GateTraining, Loss, Weight};
pub use config::TrainingConfig;
pub use objective::Objective;
pub use prefetcher::Prefetcher;
pub use step_batch::StepBatch;
pub use trainer::Trainer;

use anyhow::{Context as _, Result};
use log::{Earlier, Log};
use models::checkpoint;
use resume::{Damaged, Start};
use shards::{Latents, Loader};
use stage::{Context, Stopped};
use std::fs;
use std::path::Path;
use torch::device::{self, DeviceChoice};
use torch::graphs::CudaGraphs;
use torch::parallel::{Launch, ProcessGroup};

/// Trains up to `--iterations`, from the newest checkpoint that this work has left, else from nothing.
///
/// Started by `torchrun` or `srun` as one of several processes, each takes its share of every batch, and the first writes.
///
/// # Errors
/// Bad input when an argument, the latents or a checkpoint do not fit; [`Stopped`] after a checkpoint when asked to stop.
pub fn train(args: &Args, context: &Context) -> Result<()> {
    let launch = Launch::read(|name| context.launcher(name).map(String::from))?;
    let processes = launch.as_ref().map_or(1, |launch| launch.size);
    let latents = Latents::open(&args.latents)?;
    let config = TrainingConfig::new(args, &latents)?;
    config::divides(args, &config.objective, processes)?;
    let device = device::open_local(args.device, launch.as_ref().map_or(0, |l| l.local), args.threads)?;
    if let Some(reason) = device::unused_gpu().filter(|_| args.device == DeviceChoice::Auto) {
        context.message(&format!("computing on the CPU: {reason}"));
    }
    device::report(device, context);
    let latents = latents.reside(args.residence, processes)?;
    // Days of training should not end at a damaged row group that a minute of reading finds now.
    latents.verify()?;
    let state = context.state()?.to_path_buf();
    let (start, damaged) = Start::find(args, &config, &state)?;
    // Nobody writes before all have looked at what is there.
    let group = ProcessGroup::join(launch.as_ref())?;
    if group.leads() {
        set_aside(context, &state, &damaged)?;
    }
    if let Some(reason) = group.use_gpus(device)? {
        context.message(&format!("gradients travel through host memory, without NCCL: {reason}"));
    }
    if let Some(reason) = device::unfused(device, config.network.width) {
        context.message(&format!("going on without fused passes: {reason}"));
    }
    let rows = group.share(args.batch_size)?;
    let loader = Loader::for_rank(&latents, rows.len(), args.seed, group.rank(), group.size())?;
    let prefetcher = Prefetcher::new(&config, loader, rows, device);
    let (mut trainer, log) = match start {
        Start::Fresh => {
            let trainer = match &args.initialize {
                None => Trainer::fresh(config, device, &group)?,
                Some(path) => {
                    let initial = config.initial(path)?;
                    Trainer::initialized(config, initial, device, &group)?
                }
            };
            (trainer, group.leads().then(|| Log::create(&state)))
        }
        Start::From { path, given } => {
            let checkpoint = config.continued(&path)?;
            let step = checkpoint.about.step;
            let log = group.leads().then(|| {
                context.message(&format!("going on from step {step}"));
                // The log of a checkpoint that was given is elsewhere.
                go_on(args, context, &state, step, !given)
            });
            (Trainer::resume(config, checkpoint, device, &group)?, log)
        }
        Start::Done(step) => {
            if group.leads() {
                context.message(&format!("{} has step {step} already", args.checkpoints.display()));
                go_on(args, context, &state, step, true)?;
                publish::publish(args, &state)?;
            }
            // The state folder stays until the first process is done with it.
            group.any(false)?;
            return Ok(());
        }
    };
    let several = (group.size() > 1).then_some("the step is shared by several processes");
    let parts = (args.accumulate > 1).then_some("--accumulate divides the batch");
    trainer.record(args.cuda_graphs.side(device, several.or(parts))?, args.cuda_graphs == CudaGraphs::On);
    group.agree(trainer.step())?;
    let mut log = log.transpose()?;
    if log.is_some() {
        // What the first look is compared with: the weights as they are, if that was a look, else the look before them.
        match looks(args, trainer.step()) {
            true => drop(trainer.look()?),
            false => trainer.remember(agreement::look_before(&state, trainer.step())),
        }
    }
    run(args, context, &state, &group, &mut trainer, prefetcher, log.as_mut())?;
    if group.leads() {
        // One that was given at the last step is not among those of this training yet.
        let last = checkpoint::file_name(trainer.step());
        if !state.join(&last).exists() && !args.checkpoints.join(&last).exists() {
            trainer.save(&state.join(last))?;
        }
        publish::publish(args, &state)?;
    }
    // The state folder stays until the first process is done with it.
    group.any(false)?;
    Ok(())
}

/// Names the checkpoints that are damaged, and removes those that will be made again.
fn set_aside(context: &Context, state: &Path, damaged: &[Damaged]) -> Result<()> {
    for Damaged { path, fault } in damaged {
        context.message(&format!("{}: {fault}; going on from the checkpoint before it", path.display()));
        if path.parent() == Some(state) {
            fs::remove_file(path).with_context(|| format!("removing {}", path.display()))?;
        }
    }
    Ok(())
}

/// The log up to a step, from the state folder or the outputs; says where lines are missing that ought to be there.
fn go_on(args: &Args, context: &Context, state: &Path, step: usize, whole: bool) -> Result<Log> {
    let earlier = Earlier { log: args.log.clone(), events: args.events.clone() };
    let (log, fault) = Log::resume(state, Some(&earlier), step, args.log_every)?;
    if let Some(fault) = fault.filter(|_| whole) {
        context.message(&fault);
    }
    Ok(log)
}

fn run(
    args: &Args,
    context: &Context,
    state: &Path,
    group: &ProcessGroup,
    trainer: &mut Trainer,
    mut prefetcher: Prefetcher,
    mut log: Option<&mut Log>,
) -> Result<()> {
    let last_good = || match newest(state) {
        Some(path) => format!("training from the last good checkpoint, {}", path.display()),
        None => "training from the start, no checkpoint yet".to_string(),
    };
    while trainer.step() < args.iterations {
        trainer.advance(prefetcher.batch(trainer.step())?, group).with_context(last_good)?;
        if let Some(notice) = trainer.take_notice() {
            context.message(&notice);
        }
        let step = trainer.step();
        let stopping = group.any(context.stopping())?;
        let last = step == args.iterations;
        let logs = step.is_multiple_of(args.log_every) || last;
        let saves = step.is_multiple_of(args.checkpoint_every) || last || stopping;
        if logs || saves {
            trainer.settle(group).with_context(last_good)?;
        }
        // Only the first process has a log.
        if let Some(log) = log.as_deref_mut() {
            if logs {
                let mut line = trainer.take_means();
                if looks(args, step) {
                    line.means.extend(trainer.look()?);
                }
                context.metrics(step, serde_json::to_value(&line)?);
                log.write(&line)?;
            }
            if saves {
                log.sync()?;
                agreement::keep_look(state, step, trainer.looked())?;
                trainer.save(&state.join(checkpoint::file_name(step)))?;
                retain(args, state, step)?;
            }
            context.progress(step, args.iterations, "steps");
        }
        if stopping && !last {
            return Err(Stopped.into());
        }
    }
    Ok(())
}

/// Whether the gating maps are looked at after so many steps; they are at the start.
fn looks(args: &Args, step: usize) -> bool {
    step.is_multiple_of(args.log_every) && step.is_multiple_of(args.gating_every)
}

fn newest(state: &Path) -> Option<std::path::PathBuf> {
    checkpoint::list(state).ok()?.into_values().next_back()
}

/// Removes what the retention rule does not keep: a checkpoint between the regular steps once a later one is there, and
/// all but the last `--keep` regular ones.
fn retain(args: &Args, state: &Path, step: usize) -> Result<()> {
    let found = checkpoint::list(state)?;
    let kept = publish::kept(args, found.keys().copied(), step);
    for (step, path) in found {
        if !kept.contains(&step) {
            fs::remove_file(&path).with_context(|| format!("removing {}", path.display()))?;
        }
    }
    Ok(())
}
