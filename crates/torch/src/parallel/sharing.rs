//! Processes that divide a stage's work among them by rank; the first joins what they made.

use super::{Launch, ProcessGroup, TIMEOUT};
use anyhow::{Context as _, Result};
use stage::{Context, sharding};
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Longest wait for those that have more to do. One that dies is noticed at once, for its connections end.
const PATIENCE: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// This process among those that share the work; mostly it is alone.
pub struct Sharing {
    launch: Option<Launch>,
    group: ProcessGroup,
}

impl Sharing {
    /// As the launcher says; waits for the others, if there are any.
    ///
    /// # Errors
    /// Bad input when a variable of the launcher's is missing or wrong; when the others do not come.
    pub fn join(context: &Context) -> Result<Self> {
        let launch = Launch::read(|name| context.launcher(name).map(String::from))?;
        let group = match &launch {
            Some(launch) => ProcessGroup::join_for(launch, TIMEOUT, PATIENCE)?,
            None => ProcessGroup::default(),
        };
        Ok(Self { launch, group })
    }

    /// The number of this process on its machine: the GPU it takes.
    pub fn local(&self) -> usize {
        self.launch.as_ref().map_or(0, |launch| launch.local)
    }

    /// Whether this process is the one that reports, and writes what all have made.
    pub fn leads(&self) -> bool {
        self.group.leads()
    }

    /// Whether there are others.
    pub fn several(&self) -> bool {
        self.launch.is_some()
    }

    /// This process's part of some units of work.
    pub fn share(&self, units: Range<usize>) -> Result<Range<usize>> {
        let Some(launch) = &self.launch else { return Ok(units) };
        let own = sharding::share(units.len(), launch.rank, launch.size)?;
        Ok(units.start + own.start..units.start + own.end)
    }

    /// Where this process keeps what it can go on from.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn state(&self, context: &Context) -> Result<PathBuf> {
        let state = context.state()?;
        let Some(launch) = &self.launch else { return Ok(state.into()) };
        let own = own(state, launch.rank, launch.size);
        fs::create_dir_all(&own).with_context(|| format!("making {}", own.display()))?;
        Ok(own)
    }

    /// Makes the output: `make` writes this process's part to the path it is given, and where there are several, `join` makes
    /// the output from the folder of all parts once all are there, and the processes' state goes.
    ///
    /// # Errors
    /// Those of `make` and `join`; when another process is gone.
    pub fn output(
        &self,
        context: &Context,
        output: &Path,
        make: impl FnOnce(&Path) -> Result<()>,
        join: impl FnOnce(&Path, &Path) -> Result<()>,
    ) -> Result<()> {
        let Some(launch) = &self.launch else { return make(output) };
        let state = context.state()?;
        let parts = state.join(format!("parts-of-{}", launch.size));
        fs::create_dir_all(&parts).with_context(|| format!("making {}", parts.display()))?;
        make(&parts.join(format!("{:05}", launch.rank)))?;
        self.group.any(false).context("waiting for the parts of the other processes")?;
        if launch.rank == 0 {
            join(&parts, output)?;
            for folder in (0..launch.size).map(|rank| own(state, rank, launch.size)).chain([parts]) {
                fs::remove_dir_all(&folder).with_context(|| format!("removing {}", folder.display()))?;
            }
        }
        // The state folder stays until the first process is done with it.
        self.group.any(false).context("waiting for the process that joins the parts")?;
        Ok(())
    }
}

/// Where a process of that rank keeps its state.
fn own(state: &Path, rank: usize, size: usize) -> PathBuf {
    state.join(format!("rank-{rank}-of-{size}"))
}
