//! What an archive says and holds.

use crate::cache::results::ActionResult;
use crate::cache::runs::Report;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Version of the layout that the folder tells of.
pub const VERSION: u32 = 1;
/// What an archive says of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct About {
    /// Version of the layout.
    pub version: u32,
    pub study: String,
    /// The run, where one was exported.
    pub run: Option<String>,
}

/// What goes into an archive.
pub struct Contents {
    pub about: About,
    /// Results by stage, or by entry of a mapped stage.
    pub results: BTreeMap<String, ActionResult>,
    /// The text of a lock file.
    pub lock: Vec<u8>,
    pub report: Option<Report>,
}

/// Sums of an archive.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Sums {
    pub results: usize,
    pub files: usize,
    pub bytes: u64,
}
