//! `pipeline lock`.

use super::output::{print, print_json};
use crate::cli::Global;
use crate::error::{Error, Result};
use crate::session::Session;
use crate::session::lockfile::{self, LockFile};
use crate::session::plan::{self, State};
use crate::text::counted;
use store::record;

/// Writes the digests of all outputs of a study that is done.
pub fn lock(global: &Global) -> Result<()> {
    let mut session = Session::open(&global.options(&[]))?;
    let planned = plan::plan(&mut session)?;
    if let Some(open) = planned.iter().find(|p| !matches!(p.state, State::Cached)) {
        return Err(Error::NotDone(open.stage.clone()));
    }
    let stages = planned.into_iter().map(|p| {
        let outputs = p.outputs.iter().map(|(name, o)| (name.clone(), o.digest)).collect();
        (p.stage, outputs)
    });
    let file = LockFile::new(stages.collect());
    let path = lockfile::path(&global.file);
    record::write_bytes(&path, &file.text(&path)?, false)?;
    if global.json {
        return print_json(&file);
    }
    print(&format!("{}: {}\n", path.display(), counted(file.stages.len(), "stage")))
}
