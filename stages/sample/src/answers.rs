//! The question whether the arguments fit each other, and the checkpoint where that is there, answered without sampling.

use crate::Args;
use crate::arguments::Method;
use crate::autoencoder::{latent_space, same_channels};
use crate::experts::Experts;
use crate::plan::{self, Plan};
use anyhow::Result;
use models::diffusion::{NoiseSchedule, PredictionType};
use stage::check::{Check, judge};
use stage::{CHECK, Question};
use torch::device;
use vae::{Files, Vae};
use weights::Weights;

/// What `sample` answers in place of sampling.
pub const QUESTIONS: [Question; 1] = [Question {
    name: CHECK,
    help: "Judge the parameters among the other flags, with --checkpoints also against the network, with --vae against the \
           autoencoder, and print those in force as JSON; reads no weights",
    answer: check,
}];

/// The parameters in force where these are given.
///
/// # Errors
/// Bad input when one does not fit the others, or what is given of the inputs.
fn check(words: &[String]) -> Result<String> {
    judge(words, |args: &Args, given| {
        stage::sharding::share(0, args.shard, args.shards)?;
        let mut warnings: Vec<String> = device::missing(args.device).into_iter().collect();
        if !given("checkpoints") {
            some_network(args)?;
            let meant = args.labels.meant();
            warnings.extend(meant.map(|word| {
                format!("--labels {}: taken for a class; did you mean {word}?", args.labels.text())
            }));
            return Ok(Check { warnings, ..Check::default() });
        }
        let about = Experts::described(args)?;
        Plan::new(args, about.prediction, about.schedule)?;
        plan::can_guide(args, &about.network)?;
        args.labels.order(about.network.classes, &about.class_names)?;
        if let Some(path) = args.vae.as_deref().filter(|_| given("vae")) {
            let files = Files::find("--vae", path)?;
            same_channels(&files, &Vae::sizes(&Weights::read(files.weights())?)?, &about)?;
            latent_space(args, &about, &files)?;
        }
        Ok(Check { warnings, ..Check::default() })
    })
}

/// Whether there is a network that can be sampled so: one that predicts noise, or a velocity.
fn some_network(args: &Args) -> Result<()> {
    let schedule = args.schedule.unwrap_or(NoiseSchedule::Linear);
    let straight = matches!(args.sampler, Some(Method::Euler | Method::Heun));
    let [first, other] = match straight {
        true => [PredictionType::Velocity, PredictionType::Noise],
        false => [PredictionType::Noise, PredictionType::Velocity],
    };
    Plan::new(args, first, schedule).or_else(|e| Plan::new(args, other, schedule).map_err(|_| e)).map(drop)
}
