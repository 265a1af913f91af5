//! What is asked of a dataset.

use crate::labels::Labels;
use anyhow::Result;
use stage::{bad_input, exit_code};

/// What is asked of a dataset.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// What errors call the dataset.
    pub source: String,
    /// The split; without it the only one there is.
    pub split: Option<String>,
    /// The configuration; without it the only one there is.
    pub config: Option<String>,
    /// The column of pictures, where it is not clear.
    pub image_column: Option<String>,
    /// The column of labels, where it is not clear.
    pub label_column: Option<String>,
    /// Whether labels are wanted.
    pub labels: Labels,
    /// Whether labels that are not clear are refused, not passed over.
    pub insist: bool,
    /// Whether there are `--split`, `--config`, `--image-column` and `--label-column` to choose with.
    pub flags: bool,
}

impl Selection {
    /// How to choose among several.
    pub(crate) fn choose(&self, flag: &str) -> String {
        match self.flags {
            true => format!("choose one with --{flag}"),
            false => "name the file or folder of one of them".into(),
        }
    }

    /// Labels that are not clear: refused where they are insisted on, else a doubt.
    pub(crate) fn doubt(&self, error: anyhow::Error, doubts: &mut Vec<String>) -> Result<()> {
        match (exit_code(&error), self.insist) {
            (2, true) => bad_input!("{error:#}; --labels drop does without labels"),
            (2, false) => doubts.push(format!("{error:#}")),
            _ => return Err(error),
        }
        Ok(())
    }
}
