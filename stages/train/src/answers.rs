//! Questions that are answered without training: how large a network is, what was found to compute on.

use crate::Args;
use crate::config;
use anyhow::Result;
use models::Config;
use models::memory::{Memory, Training};
use models::summary::Summary;
use stage::{Arguments, BadInputExt, Question, Values, bad_input};
use torch::Precision;

/// What `train` answers in place of training.
pub const QUESTIONS: [Question; 2] = [
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
        answer: |_| Ok(torch::device::doctor()),
    },
];

/// Takes the flags that decide a network and its training, and `--side`, `--classes` and `--processes`.
///
/// # Errors
/// Bad input when a flag is unknown or does not fit.
fn summary(arguments: &[String]) -> Result<String> {
    let (mut side, mut classes, mut processes) = (32, 1000, 1usize);
    let mut given = Vec::new();
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        let Some(flag) = word.strip_prefix("--") else { bad_input!("`{word}` is no flag") };
        let (name, value) = match flag.split_once('=') {
            Some((name, value)) => (name, value),
            None => match words.next() {
                Some(value) => (flag, value.as_str()),
                None => bad_input!("--{flag} has no value"),
            },
        };
        match name {
            "side" => side = value.parse().bad_input(|| format!("--side {value}"))?,
            "classes" => classes = value.parse().bad_input(|| format!("--classes {value}"))?,
            "processes" => processes = value.parse().bad_input(|| format!("--processes {value}"))?,
            _ => given.push((name, value)),
        }
    }
    let spec = Args::spec();
    // What a network does not depend on only has to be there.
    for name in ["latents", "checkpoints", "log"] {
        if !given.iter().any(|(n, _)| *n == name) {
            given.push((name, "unused"));
        }
    }
    let args = Args::from_values(&Values::new(&spec, given)?)?;
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
