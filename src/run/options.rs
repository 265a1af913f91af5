//! How a run goes about it.

/// How a run goes about it.
#[derive(Clone, Debug, Default)]
pub struct RunOptions {
    /// Stages that run at the same time, at most.
    pub jobs: Option<usize>,
    /// Long stages run again without asking when only their program changed.
    pub yes: bool,
    /// After a failure, everything that does not need the failed stage still runs.
    pub keep_going: bool,
    /// GPUs are handed out from the highest number down, out of the way of a run beside.
    pub gpus_from_top: bool,
}
