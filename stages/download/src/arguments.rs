//! The command line of `download`.

use crate::outputs;
use pictures::{Labels, Selection};
use stage::{Known, sha256};
use std::path::PathBuf;

/// In place of a SHA-256: whatever the server sends, as long as it is whole.
pub(crate) const ANY: &str = "any";

/// `--images`.
const KNOWN_IMAGES: Known<Args> = Known::Folder(outputs::IMAGES);
/// `--weights`: a file of weights is known by its content alone; the Hub states that of its own when it is asked.
const KNOWN_WEIGHTS: Known<Args> = Known::File(|args, path| match &args.sha256 {
    Some(wanted) if wanted != ANY => Ok(sha256(path)?.eq_ignore_ascii_case(wanted)),
    _ => Ok(args.model.is_some()),
});

stage::arguments! {
    /// Fetch a dataset or weights, check every file, and lay pictures out the same way.
    ///
    /// Pictures come from a folder or from a dataset of the Hugging Face Hub and go to --images; a folder may hold Parquet files
    /// with a column of pictures, one folder of pictures per class, or pictures, PNG, JPEG, WebP, TIFF, BMP, GIF (the first frame)
    /// or PNM. Labels are a column, the folders, or what `metadata.csv`, `metadata.jsonl` or EDM's `dataset.json` beside the
    /// pictures says. Weights come from a model of the Hub or a URL and go to --weights. Every picture is decoded once; one that
    /// cannot be, or has more than 89,478,485 pixels, is named. HF_ENDPOINT, HF_HOME and HF_TOKEN are honoured.
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
        /// Which split of a dataset to take, where its files (`train-00000-of-00002.parquet`, `test.parquet`) or folders (`val/`)
        /// are of splits.
        param split: String = "train".to_string();
        /// Which configuration of a dataset to take, where its folders are of several (`32x32/train/0000.parquet`); `.` is the one
        /// without a folder.
        param config: Option<String>;
        /// The column of pictures, where it is neither called `image` nor the only one.
        param image_column: Option<String>;
        /// The column of labels, where it is not called `label` and several might be meant; text becomes classes in sorted order.
        param label_column: Option<String>;
        /// Whether to keep the labels; without them the data is one class.
        param labels: Labels = Labels::Keep;
        /// Share of the pictures that may turn out to be none; they are left out and listed in the manifest.
        param max_bad: f64 = 0.0, in 0.0..=1.0;
        /// Files fetched at once.
        tuning connections: usize = 4, in 1..=64;
        /// Folder of Parquet files with a manifest.
        output images: Option<PathBuf>, known KNOWN_IMAGES;
        /// The file of weights.
        output weights: Option<PathBuf>, known KNOWN_WEIGHTS;
    }
}

impl Args {
    /// What is asked of a dataset that errors call `source`.
    pub(crate) fn selection(&self, source: String) -> Selection {
        Selection {
            source,
            split: Some(self.split.clone()),
            config: self.config.clone(),
            image_column: self.image_column.clone(),
            label_column: self.label_column.clone(),
            labels: self.labels,
            insist: true,
            flags: true,
        }
    }
}
