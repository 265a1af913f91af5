//! Copies between the host and a GPU that neither waits for.

use crate::shim::{self, Event};
use anyhow::Result;
use tch::{Device, Tensor};

/// The tensor in memory from which a GPU copies by itself; on the CPU the tensor as it is.
///
/// # Errors
/// When the memory is not to be had.
pub fn pin(tensor: Tensor, device: Device) -> Result<Tensor> {
    if device.is_cuda() { shim::pin(&tensor) } else { Ok(tensor) }
}

/// The tensor on a device. From pinned memory the host does not wait for the copy.
pub fn upload(tensor: &Tensor, device: Device) -> Result<Tensor> {
    Ok(if tensor.device() == device {
        tensor.shallow_clone()
    } else {
        tensor.f_internal_to_copy((tensor.kind(), device), true)?
    })
}

/// A tensor on its way to the host, while the device goes on with what it is given next.
pub struct Readback {
    copy: Tensor,
    arrived: Option<Event>,
}

impl Readback {
    /// Starts the copy, behind the work that makes the tensor.
    pub fn begin(tensor: &Tensor) -> Result<Self> {
        let (tensor, device) = (tensor.detach(), tensor.device());
        if !device.is_cuda() {
            return Ok(Self { copy: tensor, arrived: None });
        }
        let copy = tensor.f_internal_to_copy((tensor.kind(), Device::Cpu), true)?;
        Ok(Self { copy, arrived: Some(Event::record(device)?) })
    }

    /// The tensor on the host, once it is there.
    ///
    /// # Errors
    /// When work on the device has failed.
    pub fn wait(self) -> Result<Tensor> {
        if let Some(event) = &self.arrived {
            event.wait()?;
        }
        Ok(self.copy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_arrives() {
        let device = crate::device::open(crate::device::DeviceChoice::Auto, 0).unwrap();
        let values = [1.5f32, -2.0, 3.25];
        let there = upload(&pin(Tensor::from_slice(&values), device).unwrap(), device).unwrap();
        assert_eq!(there.device(), device);
        let back = Readback::begin(&(there * 2.0)).unwrap().wait().unwrap();
        assert_eq!(Vec::<f32>::try_from(back).unwrap(), values.map(|v| v * 2.0));
    }
}
