//! The line by which a person runs a stage without the runner.

use crate::engine::attempt::command_line;
use crate::session::{Input, Place, Session, Task};
use crate::text::shown;
use std::path::Path;
use study::hidden;

/// Where it writes, from the study's root.
const OUT: &str = "by-hand";

/// The line, to be typed in the study's root. Its outputs go to a folder of their own.
pub fn line(session: &Session, task: &Task) -> Option<String> {
    let short = |path: &Path| path.strip_prefix(&session.graph.root).unwrap_or(path).display().to_string();
    let seen = |input: &Input| {
        Ok(match &input.place {
            Place::Study(path, _) => path.display().to_string(),
            Place::Store => short(&session.store.place(&input.digest)),
        })
    };
    let words = command_line(session, task, Path::new(OUT), seen).ok()?;
    Some(hidden(&shown(&words)).into_owned())
}
