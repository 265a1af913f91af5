//! Fetches a dataset or a file of weights, checks every byte against its source and every picture by decoding it, and lays
//! pictures out the same way wherever they came from.

mod disk;
mod hub;
mod normalise;
mod outputs;
mod source;
mod url;

use anyhow::Result;
use normalise::{Normaliser, Parquet};
use source::{Labels, Source};
use stage::{Context, Staged, bad_input};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often one file is tried in a run; a cut connection goes on where it stopped.
const ATTEMPTS: u32 = 6;

/// In place of a SHA-256: whatever the server sends, as long as it is whole.
const ANY: &str = "any";

/// What the manifest says of every local folder.
const FOLDER: &str = "folder";

stage::arguments! {
    /// Fetch a dataset or weights, check every file, and lay pictures out the same way.
    ///
    /// Pictures come from a folder or from a dataset of the Hugging Face Hub and go to --images; a folder may hold Parquet files
    /// with a column `image`, one folder of pictures per class, or pictures. Weights come from a model of the Hub or a URL and
    /// go to --weights. Every picture is decoded once; one that cannot be is named. HF_ENDPOINT, HF_HOME and HF_TOKEN are
    /// honoured.
    pub struct Args: "download", state outputs::STATE {
        /// The folder to read.
        input folder: Option<PathBuf>;
        /// Dataset of the Hub, such as ILSVRC/imagenet-1k.
        param dataset: Option<String>;
        /// Model of the Hub, such as stabilityai/sd-vae-ft-ema; --file names the file to take.
        param model: Option<String>;
        /// The file to take from --model.
        param file: Option<String>;
        /// Branch, tag, commit or ref of the Hub, such as refs/convert/parquet; the manifest keeps the commit it stood for.
        param revision: String = "main".to_string();
        /// A file of weights, or of a reference, on the web; --sha256 is then needed.
        param url: Option<String>;
        /// What the SHA-256 of the file of weights has to be; `any` takes it as it comes, once it is whole.
        param sha256: Option<String>;
        /// Which part of a dataset in Parquet to take, where its file names (`train-00000-of-00002.parquet`) or folders name parts.
        param split: String = "train".to_string();
        /// Whether to keep the labels; without them the data is one class.
        param labels: Labels = Labels::Keep;
        /// Share of the pictures that may turn out to be none; they are left out and listed in the manifest.
        param max_bad: f64 = 0.0, in 0.0..=1.0;
        /// Files fetched at once.
        tuning connections: usize = 4, in 1..=64;
        /// Folder of Parquet files with a manifest.
        output images: Option<PathBuf>, known outputs::KNOWN_IMAGES;
        /// The file of weights.
        output weights: Option<PathBuf>, known outputs::KNOWN_WEIGHTS;
    }
}

/// The stage's work.
///
/// # Errors
/// Bad input when the arguments do not name one source and one output, the source is not what it should be, or more pictures
/// than allowed cannot be decoded; try again when a server is at fault.
pub fn download(args: &Args, context: &Context) -> Result<()> {
    let sources = [args.folder.is_some(), args.dataset.is_some(), args.model.is_some(), args.url.is_some()];
    if sources.iter().filter(|given| **given).count() != 1 {
        bad_input!("give exactly one source: --folder, --dataset, --model or --url")
    }
    if args.model.is_some() != args.file.is_some() {
        bad_input!("--model and --file go together")
    }
    match (&args.images, &args.weights) {
        (Some(images), None) => match (&args.folder, &args.dataset) {
            (Some(source), _) => folder(source, images, args, context),
            (_, Some(dataset)) => hub::dataset(dataset, images, args, context),
            _ => bad_input!("--images comes from --folder or --dataset; --model and --url give --weights"),
        },
        (None, Some(weights)) => match (&args.model, &args.file, &args.url) {
            (Some(model), Some(file), _) => hub::file(model, file, weights, args, context),
            (_, _, Some(url)) => url::download(url, weights, args, context),
            _ => bad_input!("--weights comes from --model or --url; --folder and --dataset give --images"),
        },
        _ => bad_input!("give exactly one output: --images or --weights"),
    }
}

fn folder(source: &Path, images: &Path, args: &Args, context: &Context) -> Result<()> {
    let found = Source::find(source, &args.split)?;
    lay_out(images, FOLDER, None, args, context, |normaliser| match found {
        Source::Parquet(files) => {
            let parquet = |file: PathBuf| Parquet {
                path: source.join(&file),
                name: file.display().to_string(),
                frozen: false,
            };
            normaliser.parquet(&files.into_iter().map(parquet).collect::<Vec<_>>())
        }
        Source::Tree { classes, files } => normaliser.files(source, Some(classes.len()), &files),
        Source::Flat(files) => normaliser.files(source, None, &files),
    })
}

/// Lets a server recover, longer after every failure.
fn pause(attempt: u32) {
    std::thread::sleep(Duration::from_millis(100 << attempt));
}

/// Fills the output folder and puts it in its place.
fn lay_out(
    images: &Path,
    source: &str,
    revision: Option<String>,
    args: &Args,
    context: &Context,
    fill: impl FnOnce(&mut Normaliser) -> Result<()>,
) -> Result<()> {
    let staged = Staged::folder(images, &outputs::IMAGES)?;
    std::fs::create_dir(staged.path().join("data"))?;
    let mut normaliser = Normaliser::new(staged.path(), args.labels, args.max_bad, context);
    fill(&mut normaliser)?;
    normaliser.finish(source, revision)?;
    staged.commit()
}
