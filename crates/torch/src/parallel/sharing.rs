//! Processes that divide a stage's work among them by rank; the first joins what they made.

use super::{Launch, ProcessGroup, TIMEOUT};
use anyhow::{Context as _, Result};
use stage::{Context, bad_input, sharding};
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Longest wait for those that have more to do. One that dies is noticed at once, for its connections end.
const PATIENCE: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// This process among those that share the work; mostly it is alone.
pub struct Sharing {
    launch: Option<Launch>,
    /// None until [`Self::join`].
    group: Option<ProcessGroup>,
}

impl Sharing {
    /// As the launcher says. What the work cannot be divided by is to be refused now, before anybody waits for the others.
    ///
    /// # Errors
    /// Bad input when a variable of the launcher's is missing or wrong.
    pub fn of(context: &Context) -> Result<Self> {
        let launch = Launch::read(|name| context.launcher(name).map(String::from))?;
        Ok(Self { launch, group: None })
    }

    /// Waits for the others, if there are any.
    ///
    /// # Errors
    /// When they do not come.
    pub fn join(&mut self) -> Result<()> {
        let join = |launch| ProcessGroup::join_for(launch, TIMEOUT, PATIENCE);
        self.group = Some(self.launch.as_ref().map_or(Ok(ProcessGroup::default()), join)?);
        Ok(())
    }

    /// Waits until all have come here; `what` says what for.
    ///
    /// # Errors
    /// When another process is gone.
    pub fn wait(&self, what: &'static str) -> Result<()> {
        let group = self.group.as_ref().context("the processes have not met")?;
        group.any(false).context(what).map(drop)
    }

    /// The number of this process on its machine: the GPU it takes.
    pub fn local(&self) -> usize {
        self.launch.as_ref().map_or(0, |launch| launch.local)
    }

    /// Whether this process is the one that reports, and writes what all have made.
    pub fn leads(&self) -> bool {
        self.launch.as_ref().is_none_or(|launch| launch.rank == 0)
    }

    /// Whether there are others.
    pub fn several(&self) -> bool {
        self.launch.is_some()
    }

    /// Refuses work that makes fewer batches than there are processes; `what` is what makes them.
    ///
    /// # Errors
    /// Bad input when it does.
    pub fn divides(&self, batches: usize, what: impl FnOnce() -> String) -> Result<()> {
        let size = self.launch.as_ref().map_or(1, |launch| launch.size);
        if size == 1 || batches >= size {
            return Ok(());
        }
        let batches = if batches == 1 { "one batch".to_string() } else { format!("{batches} batches") };
        bad_input!(
            "{} make {batches}, which cannot be divided among {size} processes; give a smaller --batch-size, or start fewer",
            what()
        )
    }

    /// This process's part of some units of work, in order.
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
        self.wait("waiting for the parts of the other processes")?;
        if launch.rank == 0 {
            join(&parts, output)?;
            for folder in (0..launch.size).map(|rank| own(state, rank, launch.size)).chain([parts]) {
                fs::remove_dir_all(&folder).with_context(|| format!("removing {}", folder.display()))?;
            }
        }
        // The state folder stays until the first process is done with it.
        self.wait("waiting for the process that joins the parts")
    }
}

/// Where a process of that rank keeps its state.
fn own(state: &Path, rank: usize, size: usize) -> PathBuf {
    state.join(format!("rank-{rank}-of-{size}"))
}
