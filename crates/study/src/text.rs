//! The text of a file that a user wrote.

use crate::error::{Error, Result};
use crate::mark::Mark;
use std::fs;
use std::path::Path;
use std::sync::Arc;

/// Reads it; `shown` is how the user named it.
///
/// # Errors
/// When it cannot be read, or is no UTF-8: that is a mistake with its line.
pub fn read(path: &Path, shown: &Path) -> Result<String> {
    let bytes = fs::read(path).map_err(|source| Error::Io { verb: "reading", path: shown.into(), source })?;
    stage::text(bytes).map_err(|e| {
        let mark = Mark { file: Arc::from(shown.display().to_string()), line: e.line };
        Error::mistake(&mark, e.what)
    })
}
