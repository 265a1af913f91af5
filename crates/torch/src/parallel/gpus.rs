//! Gradients that travel from GPU to GPU by NCCL.

use super::{Joined, ProcessGroup};
use crate::shim::cuda::{Identity, Ring};
use anyhow::{Context, Result};
use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use tch::{Device, Tensor};

impl ProcessGroup {
    /// Lets sums of this device's tensors travel by NCCL, if every process has a GPU to itself; all come here. Gives why they
    /// do not, if it is a GPU and they do not.
    ///
    /// # Errors
    /// When another process is gone, or NCCL fails.
    pub fn use_gpus(&self, device: Device) -> Result<Option<String>> {
        let Some(Joined { gloo, rank, size }) = &self.joined else { return Ok(None) };
        // A process without a GPU comes too: none may wait for an answer that never comes.
        let place = match device {
            Device::Cuda(index) => Ring::place(index).map_err(|e| format!("{e:#}")),
            _ => Err("process without a GPU".to_string()),
        };
        // 0 for none.
        let places = self.gather(place.as_ref().map_or(0, |place| number(place)))?;
        let distinct: HashSet<&i64> = places.iter().collect();
        let obstacle = match &place {
            Err(reason) => Some(reason.clone()),
            Ok(_) if places.contains(&0) => Some("another process has no GPU that NCCL can use".into()),
            Ok(_) if distinct.len() < places.len() => Some("two processes are on one GPU".into()),
            Ok(_) => None,
        };
        let (Device::Cuda(index), None) = (device, &obstacle) else {
            return Ok(obstacle.filter(|_| device.is_cuda()));
        };
        let mut identity = Identity::default();
        if *rank == 0 {
            identity = Identity::new()?;
        }
        let shared = Tensor::from_slice(&identity.0);
        self.broadcast(&shared)?;
        shared.copy_data(&mut identity.0, shared.numel());
        let ring = Ring::join(&identity, *rank, *size, index);
        // None begins to train while another has failed.
        let failed = self.any(ring.is_err())?;
        let ring = ring.context("joining the other GPUs by NCCL")?;
        anyhow::ensure!(!failed, "another process could not join by NCCL");
        gloo.carry(&ring.0);
        Ok(None)
    }
}

/// A number for a GPU of a machine, not 0, the same in every process.
fn number(place: &str) -> i64 {
    let mut hasher = DefaultHasher::new();
    // Of this start of this machine.
    std::fs::read("/proc/sys/kernel/random/boot_id").unwrap_or_default().hash(&mut hasher);
    place.hash(&mut hasher);
    // Small enough that sums with zeros stay what they are in any kind.
    (hasher.finish() >> 2) as i64 | 1
}
