//! Questions that are answered without training: how large a network is, what was found to compute on.

use crate::Args;
use crate::recipe;
use anyhow::Result;
use models::summary::Summary;
use stage::{Arguments, BadInputExt, Values, bad_input};

/// The answer to `--summary` or `--doctor`, if either was asked; the other arguments follow or precede it.
///
/// `--summary` takes the flags that decide a network, and `--side` (of the latents, 32) and `--classes` (1000).
///
/// # Errors
/// Bad input when a flag is unknown or does not fit.
pub fn answer(arguments: &[String]) -> Option<Result<String>> {
    if arguments.iter().any(|a| a == "--doctor") {
        return Some(Ok(models::device::doctor()));
    }
    arguments.iter().any(|a| a == "--summary").then(|| summary(arguments))
}

fn summary(arguments: &[String]) -> Result<String> {
    let (mut side, mut classes) = (32, 1000);
    let mut given = Vec::new();
    let mut words = arguments.iter().filter(|a| *a != "--summary");
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
    let config = recipe::network(&args, 4, side, classes)?;
    Ok(format!("{}, latents of {side}x{side}, classes {classes}\n{}\n", args.model, Summary::new(&config)))
}
