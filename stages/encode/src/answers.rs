//! What an autoencoder can take and gives, and the question whether it can, answered without pictures.

use crate::Args;
use anyhow::Result;
use latents::LatentSpace;
use stage::check::{Check, judge};
use stage::{CHECK, Question, bad_input};
use torch::device;
use vae::{Config, Files, Vae};
use weights::Weights;

/// What `encode` answers in place of encoding.
pub const QUESTIONS: [Question; 1] = [Question {
    name: CHECK,
    help: "Judge the parameters among the other flags, with --vae also against the autoencoder's sizes, and print those in force \
           as JSON; needs no pictures",
    answer: check,
}];

/// The parameters in force where these are given.
///
/// # Errors
/// Bad input when one does not fit the others, or the autoencoder.
fn check(words: &[String]) -> Result<String> {
    judge(words, |args: &Args, given| {
        stage::sharding::share(0, args.shard, args.shards)?;
        one_shift(args)?;
        if given("vae") {
            let files = Files::find("--vae", &args.vae)?;
            let sizes = Vae::sizes(&Weights::read(files.weights())?)?;
            side(args, &sizes)?;
            space(args, &sizes, &files)?;
        }
        Ok(Check { warnings: device::missing(args.device).into_iter().collect(), ..Check::default() })
    })
}

/// Positions of a latent on one side.
///
/// # Errors
/// Bad input when the network cannot take pictures of this size.
pub fn side(args: &Args, sizes: &Config) -> Result<usize> {
    let (size, factor) = (args.image_size, sizes.factor() as usize);
    if size % factor != 0 {
        bad_input!("--image-size {size}: this network halves to a {factor}th; use a multiple of {factor}")
    }
    Ok(size / factor)
}

/// How latents are moved and scaled for a network.
///
/// # Errors
/// Bad input when two flags say it, or nothing does.
pub fn space(args: &Args, sizes: &Config, files: &Files) -> Result<LatentSpace> {
    one_shift(args)?;
    match args.channel_statistics {
        true => Ok(LatentSpace::scaled(args.scale.unwrap_or(1.0), "")),
        false => files.space(sizes.latent, args.scale, args.shift),
    }
}

fn one_shift(args: &Args) -> Result<()> {
    if args.channel_statistics && args.shift.is_some() {
        bad_input!("--shift with --channel-statistics, whose means stand in for it; give one")
    }
    Ok(())
}
