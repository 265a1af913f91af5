//! Points in a device's stream of work that the host can wait for.

use super::{check, device_type};
use anyhow::{Result, bail};
use std::ffi::{c_char, c_int};
use tch::Device;

/// A `c10::Event`.
#[repr(C)]
struct CEvent {
    _opaque: [u8; 0],
}

unsafe extern "C" {
    fn shim_event_record(kind: c_int, index: c_int, event: *mut *mut CEvent) -> *mut c_char;
    fn shim_event_wait(event: *const CEvent) -> *mut c_char;
    fn shim_event_free(event: *mut CEvent);
}

/// The end of the work that a GPU had been given when this was made.
pub struct Event(*mut CEvent);

impl Event {
    /// After all work that the device's current stream has been given.
    ///
    /// # Errors
    /// When the device is the CPU, whose work is done when a call returns, or when libtorch fails.
    pub fn record(device: Device) -> Result<Self> {
        let Device::Cuda(index) = device else { bail!("{device:?} has no events") };
        let mut event = std::ptr::null_mut();
        // SAFETY: `event` is written where the call succeeds, and owned by us afterwards.
        unsafe { check(shim_event_record(device_type(device), c_int::try_from(index)?, &raw mut event)) }?;
        Ok(Self(event))
    }

    /// Returns when that work is done. Work given later goes on.
    ///
    /// # Errors
    /// When some work on the device has failed.
    pub fn wait(&self) -> Result<()> {
        // SAFETY: the pointer is of a living event.
        unsafe { check(shim_event_wait(self.0)) }
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: made by `shim_event_record`, and freed once.
        unsafe { shim_event_free(self.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_gpus_have_events() {
        assert!(Event::record(Device::Cpu).is_err());
        if !crate::device::doctor().contains("cuda:0") {
            let e = Event::record(Device::Cuda(0)).err().unwrap().to_string();
            assert!(!e.contains('\n'), "{e}");
        }
    }
}
