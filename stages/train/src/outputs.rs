//! What `train` leaves behind, by which it knows an earlier output of its own.

use crate::agreement::LOOKS;
use crate::events::{self, EVENTS};
use crate::log::{self, LOG};
use anyhow::Result;
use models::checkpoint;
use stage::Layout;
use std::path::{Path, PathBuf};

/// `--checkpoints`.
pub const CHECKPOINTS: Layout = Layout { files: &["step-#.safetensors"], check: first_other_file };
/// `--events`.
pub const EVENTS_FOLDER: Layout = Layout {
    files: &[EVENTS],
    check: |folder| Ok((!events::begins(&folder.join(EVENTS))?).then(|| EVENTS.into())),
};

/// What it can go on from.
pub const STATE: Layout =
    Layout { files: &["made-by", "step-#.safetensors", LOG, EVENTS, LOOKS], check: first_other_state };

/// The first file that says it is something else than a checkpoint of this program.
fn first_other_file(folder: &Path) -> Result<Option<PathBuf>> {
    for path in checkpoint::list(folder)?.into_values() {
        if !checkpoint::may_be_ours(&path)? {
            return Ok(path.file_name().map(PathBuf::from));
        }
    }
    Ok(None)
}

fn first_other_state(folder: &Path) -> Result<Option<PathBuf>> {
    let log = folder.join(LOG);
    if log.exists() && !log::is_log(&log)? {
        return Ok(Some(LOG.into()));
    }
    first_other_file(folder)
}
