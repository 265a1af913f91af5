//! Fetches a dataset or a file of weights, checks every byte against its source and every picture by decoding it, and lays
//! pictures out the same way wherever they came from.

mod answers;
mod arguments;
mod cache;
mod disk;
mod http;
mod hub;
mod normalise;
mod outputs;
mod transfer;
mod web;

pub use answers::QUESTIONS;
pub use arguments::Args;

use anyhow::Result;
use normalise::lay_out;
use pictures::Dataset;
use stage::{Context, bad_input};
use std::path::Path;

/// What the manifest says of every local folder.
const FOLDER: &str = "folder";

/// The stage's work.
///
/// # Errors
/// Bad input when the arguments do not name one source and one output, the source is not what it should be, or more pictures
/// than allowed cannot be decoded; try again when a server is at fault.
pub fn download(args: &Args, context: &Context) -> Result<()> {
    if answers::sources(args) != 1 {
        bad_input!("{}", answers::ONE_SOURCE)
    }
    answers::fit(args)?;
    match (&args.images, &args.weights) {
        (Some(images), None) => match (&args.folder, &args.dataset) {
            (Some(source), _) => folder(source, images, args, context),
            (_, Some(dataset)) => hub::dataset(dataset, images, args, context),
            _ => bad_input!("--images comes from --folder or --dataset; --model and --url give --weights"),
        },
        (None, Some(weights)) => match (&args.model, &args.file, &args.url) {
            (Some(model), Some(file), _) => hub::file(model, file, weights, args, context),
            (_, _, Some(url)) => web::download(url, weights, args, context),
            _ => bad_input!("--weights comes from --model or --url; --folder and --dataset give --images"),
        },
        _ => bad_input!("give exactly one output: --images or --weights"),
    }
}

fn folder(source: &Path, images: &Path, args: &Args, context: &Context) -> Result<()> {
    let selection = args.selection(format!("--folder {}", source.display()));
    let dataset = Dataset::open(source, &selection, &|| context.check_stop())?;
    lay_out(images, FOLDER, None, &dataset, false, args, context)
}
