//! Work recorded as CUDA graphs: when it is, and whether a repetition does what the work does.

use crate::distance::distance;
use crate::shim::SideStream;
use anyhow::{Result, ensure};
use stage::bad_input;
use tch::{Device, Tensor};

stage::choice! {
    /// Whether the work of a step is recorded once as a CUDA graph and then repeated, instead of being given to the GPU anew.
    pub enum CudaGraphs {
        /// On a GPU, where the step can be recorded and its repetition agrees with it.
        Auto = "auto",
        /// As auto, but it is an error when that is not to be had.
        On = "on",
        /// Never.
        Off = "off",
    }
}

/// Steps that are done as usual first: libraries set themselves up in them, which cannot be recorded.
pub const WARM_UP: usize = 3;

/// Largest relative distance between what a repetition gives and what the step gives: of sums in another order, in bf16.
const AGREEMENT: f64 = 1e-2;

impl CudaGraphs {
    /// The stream to record on, if work on this device is to be recorded; `obstacle` is why it cannot be.
    ///
    /// # Errors
    /// Bad input when graphs are asked for and are not to be had.
    pub fn side(self, device: Device, obstacle: Option<&str>) -> Result<Option<SideStream>> {
        let wanted = match self {
            Self::Off => return Ok(None),
            Self::On => true,
            Self::Auto => false,
        };
        let obstacle = if device.is_cuda() { obstacle } else { Some("the device is no GPU") };
        let side = match obstacle {
            Some(reason) => Err(reason.to_string()),
            None => SideStream::new(device).map_err(|e| format!("{e:#}")),
        };
        match side {
            Ok(side) => Ok(Some(side)),
            Err(reason) if wanted => bad_input!("--cuda-graphs on: {reason}; use auto or off"),
            Err(_) => Ok(None),
        }
    }
}

/// A step over tensors that stay in their places.
pub trait Repeatable {
    /// What it gives.
    type Output;
    /// The step as CUDA graphs.
    type Recorded;

    /// Gives the step's work to the device.
    fn compute(&mut self) -> Result<Self::Output>;

    /// Records the same work; nothing of it is done.
    ///
    /// # Errors
    /// When something in it cannot be recorded.
    fn record(&mut self) -> Result<Self::Recorded>;

    /// Repeats the work that was recorded.
    fn replay(&mut self, recorded: &mut Self::Recorded) -> Result<Self::Output>;

    /// Tensors that the step both reads and replaces.
    fn replaced(&self) -> Vec<Tensor>;

    /// The tensors by which a repetition is held to the step, each with a word for it.
    fn results(&self, output: &Self::Output) -> Vec<(&'static str, Tensor)>;
}

/// Steps that are computed first, then recorded once and repeated.
pub struct Recorder<R> {
    /// Where they are recorded; without it they are only computed.
    side: Option<SideStream>,
    done: usize,
    recorded: Option<R>,
    fault: Option<anyhow::Error>,
}

impl<R> Recorder<R> {
    /// On this stream.
    pub fn new(side: Option<SideStream>) -> Self {
        Self { side, done: 0, recorded: None, fault: None }
    }

    /// The next step. Where it turns out that steps cannot be repeated, its results are good nevertheless, and all later ones
    /// are computed.
    ///
    /// # Errors
    /// Those of the step.
    pub fn run<S: Repeatable<Recorded = R>>(&mut self, step: &mut S) -> Result<S::Output> {
        let Self { side, done, recorded, fault } = self;
        let Some(stream) = side else { return step.compute() };
        let output = stream.run(|| {
            if let Some(recorded) = recorded {
                return step.replay(recorded);
            }
            *done += 1;
            if *done <= WARM_UP {
                return step.compute();
            }
            let before = copies(&step.replaced());
            let output = step.compute()?;
            let results = step.results(&output);
            let usual: Vec<Tensor> = results.iter().map(|(_, tensor)| tensor.copy()).collect();
            put_back(&step.replaced(), &before);
            match record(step, &usual) {
                Ok(repeatable) => *recorded = Some(repeatable),
                Err(e) => *fault = Some(e),
            }
            put_back(results.iter().map(|(_, tensor)| tensor), &usual);
            Ok(output)
        })?;
        if fault.is_some() {
            *side = None;
        }
        Ok(output)
    }

    /// Why steps cannot be repeated, told once.
    pub fn take_fault(&mut self) -> Option<anyhow::Error> {
        self.fault.take()
    }
}

/// The step as graphs, once it has been seen to give what it has given before.
fn record<S: Repeatable>(step: &mut S, usual: &[Tensor]) -> Result<S::Recorded> {
    let mut recorded = step.record()?;
    let output = step.replay(&mut recorded)?;
    for ((what, repeated), usual) in step.results(&output).iter().zip(usual) {
        let distance = distance(repeated, usual);
        ensure!(
            distance < AGREEMENT,
            "a repeated step's {what} are {distance:.1e} of themselves from the step's"
        );
    }
    Ok(recorded)
}

fn copies(tensors: &[Tensor]) -> Vec<Tensor> {
    tensors.iter().map(Tensor::copy).collect()
}

fn put_back<'a>(tensors: impl IntoIterator<Item = &'a Tensor>, values: &[Tensor]) {
    for (tensor, value) in tensors.into_iter().zip(values) {
        tensor.shallow_clone().copy_(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cpu_has_no_graphs() {
        for choice in [CudaGraphs::Auto, CudaGraphs::Off] {
            assert!(choice.side(Device::Cpu, None).unwrap().is_none());
        }
        let e = CudaGraphs::On.side(Device::Cpu, None).err().unwrap();
        assert_eq!(stage::exit_code(&e), 2);
        assert_eq!(e.to_string(), "--cuda-graphs on: the device is no GPU; use auto or off");
        let e = CudaGraphs::On.side(Device::Cuda(0), Some("one reason")).err().unwrap();
        assert!(e.to_string().contains("one reason"), "{e}");
    }
}
