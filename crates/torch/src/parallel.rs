//! Data parallel: several processes, one network, each with its share of every batch.
//!
//! Every process draws the whole batch's random numbers and takes its rows, so a step computes the same sum in another
//! order: the result is that of one process with the same batch, up to the rounding of that sum.
//!
//! The transport is Gloo, which libtorch carries inside (c10d): nothing else is to be installed, and the same calls serve
//! tensors of the CPU and, through host memory, of a GPU. Where every process has a GPU to itself, gradients travel between
//! them by NCCL instead.

mod gpus;
mod launch;
mod sharing;

pub use launch::Launch;
pub use sharing::Sharing;

use crate::shim::parallel as shim;
use anyhow::{Context, Result, ensure};
use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;
use tch::{Kind, Tensor};

/// Longest wait for another process, at the start and in each operation of a training.
const TIMEOUT: Duration = Duration::from_secs(15 * 60);

/// Bytes of gradients that travel together. PyTorch's default for the same purpose: large enough for the transport, small
/// enough that the first leaves early in the backward pass.
const BUCKET_BYTES: usize = 25 << 20;

/// The processes of one training, joined.
pub struct Group {
    joined: Rc<shim::Group>,
    rank: usize,
    size: usize,
}

impl Group {
    /// Waits until all processes are there.
    ///
    /// # Errors
    /// When they cannot be reached in 15 minutes.
    pub fn join(launch: &Launch) -> Result<Self> {
        Self::join_for(launch, TIMEOUT, TIMEOUT)
    }

    fn join_for(launch: &Launch, timeout: Duration, patience: Duration) -> Result<Self> {
        let joined = shim::Group::join(&shim::Meeting {
            host: &launch.host,
            port: launch.port,
            host_store: launch.hosts_store,
            interface: &launch.interface,
            rank: launch.rank,
            size: launch.size,
            timeout,
            patience,
        })
        .with_context(|| {
            format!("joining process {} of {} at {}:{}", launch.rank, launch.size, launch.host, launch.port)
        })?;
        Ok(Self { joined: Rc::new(joined), rank: launch.rank, size: launch.size })
    }

    /// The number of this process, from 0. Process 0 writes the outputs.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// Processes in all.
    pub fn size(&self) -> usize {
        self.size
    }

    /// The rows of this process in a batch of `rows`, which must divide among the processes.
    ///
    /// # Errors
    /// Bad input when it does not.
    pub fn share(&self, rows: usize) -> Result<Range<usize>> {
        if rows == 0 || !rows.is_multiple_of(self.size) {
            stage::bad_input!("a batch of {rows} does not divide among {} processes", self.size)
        }
        let each = rows / self.size;
        Ok(self.rank * each..(self.rank + 1) * each)
    }

    /// Replaces a tensor, in place, by its sum over the processes.
    ///
    /// # Errors
    /// When another process is gone.
    pub fn sum(&self, tensor: &Tensor) -> Result<()> {
        self.joined.sum(tensor).context("adding up over the processes")
    }

    /// Replaces a tensor, in place, by its mean over the processes.
    ///
    /// # Errors
    /// When another process is gone.
    pub fn mean(&self, tensor: &Tensor) -> Result<()> {
        self.sum(tensor)?;
        let _ = tensor.shallow_clone().f_div_scalar_(self.size as f64)?;
        Ok(())
    }

    /// Replaces a tensor, in place, by that of process 0.
    ///
    /// # Errors
    /// When another process is gone.
    pub fn broadcast(&self, tensor: &Tensor) -> Result<()> {
        self.joined.broadcast(tensor, 0).context("sending process 0's tensor to all")
    }

    /// Every process's number, by rank.
    ///
    /// # Errors
    /// When another process is gone.
    pub fn gather(&self, number: i64) -> Result<Vec<i64>> {
        let mut numbers = vec![0; self.size];
        numbers[self.rank] = number;
        let numbers = Tensor::from_slice(&numbers);
        self.sum(&numbers)?;
        Ok(Vec::try_from(&numbers)?)
    }

    /// Whether any process says yes; all get the same answer.
    ///
    /// # Errors
    /// When another process is gone.
    pub fn any(&self, yes: bool) -> Result<bool> {
        let votes = Tensor::from(i64::from(yes));
        self.sum(&votes)?;
        Ok(votes.int64_value(&[]) > 0)
    }
}

/// Averages gradients over the processes while the backward pass runs.
///
/// ```text
/// reducer.begin()?;  loss.backward();  reducer.finish()?;
/// ```
pub struct Reducer {
    reducer: shim::Reducer,
    buckets: usize,
}

impl Reducer {
    /// For parameters whose `.grad`s are, in this order, consecutive parts of the flat vector `gradient`.
    ///
    /// Buckets are cut from its end, because the last parameters' gradients are done first.
    ///
    /// # Errors
    /// When a parameter has no gradient yet, or one that is no part of `gradient`.
    pub fn new(group: &Group, parameters: &[Tensor], gradient: &Tensor) -> Result<Self> {
        Self::with_bucket_bytes(group, parameters, gradient, BUCKET_BYTES)
    }

    fn with_bucket_bytes(
        group: &Group,
        parameters: &[Tensor],
        gradient: &Tensor,
        bytes: usize,
    ) -> Result<Self> {
        ensure!(gradient.dim() == 1 && gradient.kind() == Kind::Float, "gradients in one flat f32 vector");
        let starts =
            parameters.iter().map(|p| offset(&p.grad(), gradient)).collect::<Result<Vec<usize>>>()?;
        ensure!(starts.is_sorted(), "parameters out of the order of their gradients");
        let limit = (bytes / Kind::Float.elt_size_in_bytes()).max(1);
        let (mut buckets, mut bucket_of) = (Vec::new(), vec![0; parameters.len()]);
        let mut end = gradient.numel();
        for (i, &start) in starts.iter().enumerate().rev() {
            bucket_of[i] = buckets.len();
            if end - start >= limit || i == 0 {
                let start = if i == 0 { 0 } else { start };
                buckets.push(gradient.f_narrow(0, start as i64, (end - start) as i64)?);
                end = start;
            }
        }
        let reducer = shim::Reducer::new(&group.joined, parameters, &bucket_of, &buckets)?;
        Ok(Self { reducer, buckets: buckets.len() })
    }

    /// How many parts the gradient travels in.
    pub fn buckets(&self) -> usize {
        self.buckets
    }

    /// Before the backward pass whose gradients are to be averaged; with gradient accumulation only the last one.
    ///
    /// # Errors
    /// When libtorch fails.
    pub fn begin(&self) -> Result<()> {
        self.reducer.begin()
    }

    /// After it: waits for the means. Gives how many buckets had left before the backward pass ended.
    ///
    /// # Errors
    /// When another process is gone.
    pub fn finish(&self) -> Result<usize> {
        self.reducer.finish().context("averaging the gradients over the processes")
    }
}

/// Where in `flat` the memory of `part` begins, in numbers.
fn offset(part: &Tensor, flat: &Tensor) -> Result<usize> {
    ensure!(part.defined(), "a parameter without a gradient");
    let (from, begin) = (part.data_ptr() as usize, flat.data_ptr() as usize);
    let bytes = from.wrapping_sub(begin);
    let size = flat.kind().elt_size_in_bytes();
    let inside = from >= begin && bytes / size + part.numel() <= flat.numel();
    ensure!(inside && part.is_contiguous(), "a gradient that is no part of the flat vector");
    Ok(bytes / size)
}

#[cfg(test)]
mod tests;
