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

use crate::Parameter;
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

/// The processes of one training; mostly one, that is alone.
#[derive(Default)]
pub struct ProcessGroup {
    /// None for a process alone.
    joined: Option<Joined>,
}

struct Joined {
    gloo: Rc<shim::Gloo>,
    rank: usize,
    size: usize,
}

impl ProcessGroup {
    /// Waits until all processes are there, if there are others.
    ///
    /// # Errors
    /// When they cannot be reached in 15 minutes.
    pub fn join(launch: Option<&Launch>) -> Result<Self> {
        launch.map_or(Ok(Self::default()), |launch| Self::join_for(launch, TIMEOUT, TIMEOUT))
    }

    fn join_for(launch: &Launch, timeout: Duration, patience: Duration) -> Result<Self> {
        let gloo = shim::Gloo::join(&shim::Meeting {
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
        Ok(Self { joined: Some(Joined { gloo: Rc::new(gloo), rank: launch.rank, size: launch.size }) })
    }

    /// The number of this process, from 0. Process 0 writes the outputs.
    pub fn rank(&self) -> usize {
        self.joined.as_ref().map_or(0, |joined| joined.rank)
    }

    /// Whether this process is the one that writes and reports.
    pub fn leads(&self) -> bool {
        self.rank() == 0
    }

    /// Processes in all.
    pub fn size(&self) -> usize {
        self.joined.as_ref().map_or(1, |joined| joined.size)
    }

    /// The rows of this process in a batch of `rows`, which must divide among the processes.
    ///
    /// # Errors
    /// Bad input when it does not.
    pub fn share(&self, rows: usize) -> Result<Range<usize>> {
        let (rank, size) = (self.rank(), self.size());
        if rows == 0 || !rows.is_multiple_of(size) {
            stage::bad_input!("a batch of {rows} does not divide among {size} processes")
        }
        let each = rows / size;
        Ok(rank * each..(rank + 1) * each)
    }

    /// Replaces a tensor, in place, by its sum over the processes.
    ///
    /// # Errors
    /// When another process is gone.
    pub fn sum(&self, tensor: &Tensor) -> Result<()> {
        self.joined
            .as_ref()
            .map_or(Ok(()), |joined| joined.gloo.sum(tensor))
            .context("adding up over the processes")
    }

    /// Replaces a tensor, in place, by its mean over the processes.
    ///
    /// # Errors
    /// When another process is gone.
    pub fn mean(&self, tensor: &Tensor) -> Result<()> {
        if self.joined.is_some() {
            self.sum(tensor)?;
            let _ = tensor.shallow_clone().f_div_scalar_(self.size() as f64)?;
        }
        Ok(())
    }

    /// Replaces a tensor, in place, by that of process 0.
    ///
    /// # Errors
    /// When another process is gone.
    pub fn broadcast(&self, tensor: &Tensor) -> Result<()> {
        let sent = self.joined.as_ref().map_or(Ok(()), |joined| joined.gloo.broadcast(tensor, 0));
        sent.context("sending process 0's tensor to all")
    }

    /// Every process's number, by rank.
    ///
    /// # Errors
    /// When another process is gone.
    pub fn gather(&self, number: i64) -> Result<Vec<i64>> {
        let mut numbers = vec![0; self.size()];
        numbers[self.rank()] = number;
        let numbers = Tensor::from_slice(&numbers);
        self.sum(&numbers)?;
        Ok(Vec::try_from(&numbers)?)
    }

    /// Whether any process says yes; all get the same answer. All come here before any goes on.
    ///
    /// # Errors
    /// When another process is gone.
    pub fn any(&self, yes: bool) -> Result<bool> {
        if self.joined.is_none() {
            return Ok(yes);
        }
        let votes = Tensor::from(i64::from(yes));
        self.sum(&votes)?;
        Ok(votes.int64_value(&[]) > 0)
    }

    /// Checks that all begin at the same step.
    ///
    /// # Errors
    /// When one has found another checkpoint.
    pub fn agree(&self, step: usize) -> Result<()> {
        let first = Tensor::from(step as i64);
        self.broadcast(&first)?;
        let first = first.int64_value(&[]);
        let differs = self.any(first != step as i64)?;
        ensure!(
            !differs,
            "the processes begin at different steps ({step} here, {first} in process 0); they must see one state folder"
        );
        Ok(())
    }

    /// What averages the gradients of these parameters, parts of the flat vector `gradient`, if there are other processes.
    ///
    /// # Errors
    /// When a trained parameter's gradient is no part of `gradient`.
    pub fn reducer(&self, parameters: &[Parameter], gradient: &Tensor) -> Result<Option<Reducer>> {
        let trained = parameters.iter().filter(|p| p.trained).map(|p| p.tensor.shallow_clone());
        let trained: Vec<Tensor> = trained.collect();
        self.joined.as_ref().map(|joined| Reducer::new(joined, &trained, gradient)).transpose()
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
    fn new(joined: &Joined, parameters: &[Tensor], gradient: &Tensor) -> Result<Self> {
        Self::with_bucket_bytes(joined, parameters, gradient, BUCKET_BYTES)
    }

    fn with_bucket_bytes(
        joined: &Joined,
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
        let reducer = shim::Reducer::new(&joined.gloo, parameters, &bucket_of, &buckets)?;
        Ok(Self { reducer, buckets: buckets.len() })
    }

    /// How many parts the gradient travels in.
    pub fn buckets(&self) -> usize {
        self.buckets
    }

    /// Before the backward pass whose gradients are to be averaged; with gradient accumulation only the last one.
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
