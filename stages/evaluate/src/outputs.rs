//! What `evaluate` leaves behind, by which it knows an earlier output of its own.

use npz::Npz;
use serde_json::Value as Json;
use stage::Layout;
use std::path::Path;

/// What it can go on from: the features of batches, and for the process that joins them the pictures that stand for all.
pub const STATE: Layout =
    Layout::of(&["made-by", "samples/#.safetensors", "reference/#.safetensors", "reference/#.rgb"]);
/// Member of our own statistics' files that says how they were made.
pub const STATISTICS_NOTE: &str = "provenance.json";
/// The metadata by which `--convert` marks its file.
pub const MADE_BY: [&str; 2] = ["made-by", "evaluate"];

/// Whether a file is of statistics; other programs' have no note of ours.
pub fn is_statistics(path: &Path) -> bool {
    Npz::open(path).is_ok_and(|npz| npz.holds(STATISTICS_NOTE))
}

/// Whether a file is of weights that `--convert` wrote.
pub fn is_converted(path: &Path) -> bool {
    let metadata = weights::metadata(path);
    metadata.is_ok_and(|metadata| metadata.get(MADE_BY[0]).is_some_and(|by| by == MADE_BY[1]))
}

/// Whether a file holds scores that say what was scored, against what, by which network.
pub fn is_scores(path: &Path) -> bool {
    let Ok(scores) = stage::read_json::<Json>(path) else { return false };
    let digest = |of: &str| scores[of]["sha256"].is_string();
    scores["fid"].is_number()
        && scores.get("sfid").is_some_and(|sfid| sfid.is_number() || sfid.is_null())
        && digest("inception")
        && scores["reference"].is_object()
        && scores["samples"].is_object()
}
