//! Questions that are answered without training: how large a network is, what was found to compute on.

use crate::Args;
use crate::arguments::Weight;
use crate::config;
use crate::objective::Objective;
use anyhow::Result;
use models::Config;
use models::config::Architecture;
use models::diffusion::PredictionType;
use models::memory::{Memory, Training};
use models::summary::Summary;
use stage::check::{Check, flags, judge, processes, values};
use stage::{Arguments, BadInputExt, CHECK, Question, bad_input};
use torch::Precision;
use torch::device;

/// What `train` answers in place of training.
pub const QUESTIONS: [Question; 3] = [
    Question {
        name: CHECK,
        help: "Judge the parameters among the other flags, for as many processes as WORLD_SIZE says, and print those in force as JSON: what others decide with its value, what \
               others switch off not at all; needs no latents",
        answer: check,
    },
    Question {
        name: "summary",
        help: "Print the parameters, stored and activated, and the GMACs of the network that the other flags name, and the memory \
               that its training takes, with --side (of the latents, 32), --classes (1000) and --processes (1), which share the \
               batch; needs no latents",
        answer: summary,
    },
    Question {
        name: "doctor",
        help: "Print what there is to compute on, and why a GPU is not used",
        answer: |_| Ok(device::doctor()),
    },
];

/// What is printed of a network whatever its latents.
const SIDE: i64 = 32;
const CLASSES: i64 = 1000;

/// Takes the flags that decide a network and its training, and `--side`, `--classes` and `--processes`.
///
/// # Errors
/// Bad input when a flag is unknown or does not fit.
fn summary(words: &[String]) -> Result<String> {
    let (mut side, mut classes, mut processes) = (SIDE, CLASSES, 1usize);
    let mut given = Vec::new();
    for (name, value) in flags(words)? {
        match name {
            "side" => side = value.parse().bad_input(|| format!("--side {value}"))?,
            "classes" => classes = value.parse().bad_input(|| format!("--classes {value}"))?,
            "processes" => processes = value.parse().bad_input(|| format!("--processes {value}"))?,
            _ => given.push((name, value)),
        }
    }
    let args = Args::from_values(&values::<Args>(&given)?)?;
    let config = config::network(&args, 4, side, classes)?;
    Ok(format!(
        "{}, latents of {side}x{side}, classes {classes}\n{}\n{}\n",
        args.model,
        Summary::new(&config),
        memory(&args, &config, processes)?
    ))
}

/// What a process takes for its share of the batch.
fn memory(args: &Args, config: &Config, processes: usize) -> Result<String> {
    let parts = processes.saturating_mul(args.accumulate);
    if parts == 0 || !args.batch_size.is_multiple_of(parts) {
        bad_input!(
            "--batch-size {} does not divide among --processes {processes} with --accumulate {}",
            args.batch_size,
            args.accumulate
        )
    }
    let training = Training {
        images: (args.batch_size / parts) as i64,
        averages: args.ema_decay.len() as i64,
        product: if args.precision == Precision::F32 { 4 } else { 2 },
    };
    let Training { images, .. } = training;
    Ok(format!(
        "memory      of a process, of {processes}, in a step: {images} images at once, products in {}, libtorch itself aside\n{}",
        args.precision,
        Memory::new(config, &training)
    ))
}

/// The parameters in force where these are given.
///
/// # Errors
/// Bad input when one is unknown, or does not fit the others.
fn check(words: &[String]) -> Result<String> {
    judge(words, |args: &Args, _| {
        let network = config::network(args, 4, SIDE, CLASSES)?;
        let objective = Objective::new(args, &network)?;
        config::fit(args, &objective)?;
        config::divides(args, &objective, processes()?)?;
        let mut decided = vec![("gating", objective.gating.to_string())];
        if network.routed() {
            decided.push(("experts", network.experts.to_string()));
            decided.push(("top-k", network.top_k.to_string()));
            decided.push(("integration", network.integration.to_string()));
        }
        let p2 = matches!(objective.weighting, Weight::P2 | Weight::P2AsPublished);
        let off = [
            ("z-weight", !network.routed()),
            ("relations", network.architecture == Architecture::Dit),
            ("prior-weight", !objective.matches()),
            ("balance-weight", !objective.balances()),
            ("snr-gamma", objective.weighting != Weight::MinSnr),
            ("p2-gamma", !p2),
            ("p2-k", !p2),
            ("clusters", objective.weighting != Weight::Uncertainty),
            ("schedule", args.prediction == PredictionType::Velocity),
        ];
        let off = off.iter().filter(|(_, off)| *off).map(|(name, _)| *name).collect();
        let warnings = device::missing(args.device).into_iter().collect();
        Ok(Check { decided, off, warnings })
    })
}
