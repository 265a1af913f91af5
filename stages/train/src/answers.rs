//! Questions that are answered without training: how large a network is, what was found to compute on.

use crate::Args;
use crate::config;
use anyhow::Result;
use models::summary::Summary;
use stage::{Arguments, BadInputExt, Question, Values, bad_input};

/// What `train` answers in place of training.
pub const QUESTIONS: [Question; 2] = [
    Question {
        name: "summary",
        help: "Print the parameters, stored and activated, and the GMACs of the network that the other flags name, with --side \
               (of the latents, 32) and --classes (1000); needs no latents",
        answer: summary,
    },
    Question {
        name: "doctor",
        help: "Print what there is to compute on, and why a GPU is not used",
        answer: |_| Ok(torch::device::doctor()),
    },
];

/// Takes the flags that decide a network, and `--side` and `--classes`.
///
/// # Errors
/// Bad input when a flag is unknown or does not fit.
fn summary(arguments: &[String]) -> Result<String> {
    let (mut side, mut classes) = (32, 1000);
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
    Ok(format!("{}, latents of {side}x{side}, classes {classes}\n{}\n", args.model, Summary::new(&config)))
}
