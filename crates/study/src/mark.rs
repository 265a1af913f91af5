//! Where something in a study was written.

use std::fmt;
use std::sync::Arc;

/// Where something stands: `pipeline.yaml:14`, or `--set` when it came from the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// File as the user named it, or the option it came from.
    pub file: Arc<str>,
    /// Line, from 1; 0 when it is not from a file.
    pub line: u32,
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.file),
            line => write!(f, "{}:{line}", self.file),
        }
    }
}
