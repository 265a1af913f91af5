//! Slurm, by its own programs and without its accounting.

mod ask;
pub mod step;
mod submit;

use super::known::{Known, Seen, Verdict};
use super::system::{Batch, Named, Refusal, Submitted, System};
use crate::engine::attempt::Attempt;
use crate::engine::error::Error;
use std::collections::{BTreeMap, BTreeSet};

pub use submit::options;

/// The signal by which Slurm says that a job could not begin.
const CANNOT_BEGIN: u32 = 53;

/// See the module.
pub struct Slurm;

impl System for Slurm {
    fn asker(&self) -> String {
        "squeue".into()
    }

    fn largest_array(&self) -> u32 {
        ask::largest_array()
    }

    fn any_numbers(&self) -> bool {
        true
    }

    fn submit(&self, batch: &Batch) -> Result<Submitted, Refusal> {
        submit::sbatch(batch)
    }

    fn states(&self, ids: &[String]) -> Result<BTreeMap<String, Known>, String> {
        ask::states(ids)
    }

    fn find(
        &self,
        names: &BTreeSet<String>,
        cluster: Option<&str>,
    ) -> Result<BTreeMap<Named, String>, String> {
        ask::named(names, cluster)
    }

    fn tell(&self, ids: &[String], level: u8) {
        ask::cancel(ids, level);
    }

    fn unseen(&self, id: &str, seen: &Seen, attempt: &Attempt) -> Option<Error> {
        let Seen::Known(known) = seen else { return None };
        let path = match (known.code & 127, known.code >> 8) {
            // Slurm's own way to say that it could not enter a folder, or open the file of its output.
            (CANNOT_BEGIN, _) => attempt.folder.clone(),
            // The shell's: there is no such program.
            (0, 126 | 127) => store::process::program_by_name().ok()?,
            _ => return None,
        };
        (known.verdict == Verdict::Ended).then(|| Error::Unseen { id: id.into(), path })
    }
}
