//! Work recorded as CUDA graphs: when it is, and whether a repetition does what the work does.

use crate::shim::Side;
use anyhow::Result;
use stage::bad_input;
use tch::Device;

pub use crate::distance::distance;

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
pub const AGREEMENT: f64 = 1e-2;

impl CudaGraphs {
    /// The stream to record on, if work on this device is to be recorded; `obstacle` is why it cannot be.
    ///
    /// # Errors
    /// Bad input when graphs are asked for and are not to be had.
    pub fn side(self, device: Device, obstacle: Option<&str>) -> Result<Option<Side>> {
        let wanted = match self {
            Self::Off => return Ok(None),
            Self::On => true,
            Self::Auto => false,
        };
        let obstacle = if device.is_cuda() { obstacle } else { Some("the device is no GPU") };
        let side = match obstacle {
            Some(reason) => Err(reason.to_string()),
            None => Side::new(device).map_err(|e| format!("{e:#}")),
        };
        match side {
            Ok(side) => Ok(Some(side)),
            Err(reason) if wanted => bad_input!("--cuda-graphs on: {reason}; use auto or off"),
            Err(_) => Ok(None),
        }
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
