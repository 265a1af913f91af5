//! What `evaluate` leaves behind, by which it knows an earlier output of its own.

use crate::Args;
use crate::features::file::is_features;
use crate::reference::NOTE;
use npz::Npz;
use serde_json::Value as Json;
use stage::Known;
use std::path::Path;

/// The metadata by which `--convert` marks its file.
pub const MADE_BY: [&str; 2] = ["made-by", "evaluate"];

/// `--scores`.
pub const SCORES: Known<Args> = Known::File(|_, path| Ok(is_scores(path)));
/// `--statistics`: other programs' have no note of ours.
pub const STATISTICS: Known<Args> =
    Known::File(|_, path| Ok(Npz::open(path).is_ok_and(|npz| npz.holds(NOTE))));
/// `--features`.
pub const FEATURES: Known<Args> = Known::File(|_, path| Ok(is_features(path)));
/// `--convert`.
pub const CONVERTED: Known<Args> = Known::File(|_, path| {
    let metadata = weights::metadata(path);
    Ok(metadata.is_ok_and(|metadata| metadata.get(MADE_BY[0]).is_some_and(|by| by == MADE_BY[1])))
});

/// Whether a file holds scores that say what was scored, against what, by which network.
fn is_scores(path: &Path) -> bool {
    let Ok(scores) = stage::read_json::<Json>(path) else { return false };
    let digest = |of: &str| scores[of]["sha256"].is_string();
    scores["fid"].is_number()
        && scores["sfid"].is_number()
        && digest("inception")
        && scores["reference"].is_object()
        && scores["samples"].is_object()
}
