//! The processes that train one network together; mostly one, that is alone.

use anyhow::{Result, ensure};
use models::Network;
use std::ops::Range;
use tch::{Device, Tensor};
use torch::Parameter;
use torch::flat::Flat;
use torch::parallel::{Group, Launch, Reducer};

/// This process and the others.
#[derive(Default)]
pub struct Team {
    group: Option<Group>,
}

impl Team {
    /// Waits for the others, if there are any.
    ///
    /// # Errors
    /// When they cannot be reached.
    pub fn join(launch: Option<&Launch>) -> Result<Self> {
        Ok(Self { group: launch.map(Group::join).transpose()? })
    }

    /// Lets gradients travel from GPU to GPU where they can; gives why they do not, for people.
    ///
    /// # Errors
    /// When another process is gone.
    pub fn use_gpus(&self, device: Device) -> Result<Option<String>> {
        self.group.as_ref().map_or(Ok(None), |group| group.use_gpus(device))
    }

    /// Processes in all.
    pub fn size(&self) -> usize {
        self.group.as_ref().map_or(1, Group::size)
    }

    /// The number of this process.
    pub fn rank(&self) -> usize {
        self.group.as_ref().map_or(0, Group::rank)
    }

    /// Whether this process is the one that writes and reports.
    pub fn leads(&self) -> bool {
        self.rank() == 0
    }

    /// The rows of a batch that are this process's.
    ///
    /// # Errors
    /// Bad input when the batch does not divide.
    pub fn rows(&self, batch: usize) -> Result<Range<usize>> {
        self.group.as_ref().map_or(Ok(0..batch), |group| group.share(batch))
    }

    /// Replaces a tensor by its mean over the processes.
    ///
    /// # Errors
    /// When another process is gone.
    pub fn mean(&self, tensor: &Tensor) -> Result<()> {
        self.group.as_ref().map_or(Ok(()), |group| group.mean(tensor))
    }

    /// Whether any process says yes. All come here before any goes on.
    ///
    /// # Errors
    /// When another process is gone.
    pub fn any(&self, yes: bool) -> Result<bool> {
        self.group.as_ref().map_or(Ok(yes), |group| group.any(yes))
    }

    /// Checks that all begin at the same step.
    ///
    /// # Errors
    /// When one has found another checkpoint.
    pub fn agree(&self, step: usize) -> Result<()> {
        let Some(group) = &self.group else { return Ok(()) };
        let first = Tensor::from(step as i64);
        group.broadcast(&first)?;
        let first = first.int64_value(&[]);
        let differs = self.any(first != step as i64)?;
        ensure!(
            !differs,
            "the processes begin at different steps ({step} here, {first} in process 0); they must see one state folder"
        );
        Ok(())
    }

    /// What averages the gradients of this network.
    ///
    /// # Errors
    /// When `flat` is not the network's.
    pub fn reducer(&self, network: &Network, flat: &Flat) -> Result<Option<Reducer>> {
        let Some(group) = &self.group else { return Ok(None) };
        let trained = network.parameters().iter().filter(|p| p.trained);
        let tensors: Vec<Tensor> = trained.map(|p: &Parameter| p.tensor.shallow_clone()).collect();
        Reducer::new(group, &tensors, &flat.gradient).map(Some)
    }
}
