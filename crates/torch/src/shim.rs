//! What libtorch can do and tch does not offer: a small C++ layer, called here with errors instead of exceptions.

pub(crate) mod cuda;
mod event;
pub mod fused;
mod optimiser;
pub(crate) mod panics;
pub(crate) mod parallel;
mod precision;
mod side_by_side;

pub use cuda::{Graph, SideStream};
pub use event::Event;
pub use optimiser::{AdamW, clip, lerp, norm};
pub use precision::{autocast, without_autocast};
pub use side_by_side::side_by_side;

use anyhow::{Result, anyhow};
use std::ffi::{CStr, c_char, c_int};
use tch::{Device, Tensor};
use torch_sys::C_tensor;

unsafe extern "C" {
    fn shim_free_text(text: *mut c_char);
    fn shim_build_settings(settings: *mut *mut c_char) -> *mut c_char;
    fn shim_cpu_capability(capability: *mut *mut c_char) -> *mut c_char;
    fn shim_set_interop_threads(threads: c_int) -> *mut c_char;
    fn shim_pin(tensor: *const C_tensor, result: *mut *mut C_tensor) -> *mut c_char;
    fn shim_gpu_peak_memory(index: c_int, bytes: *mut i64) -> *mut c_char;
    fn shim_gpu_reset_peak_memory(index: c_int) -> *mut c_char;
    fn shim_set_tf32(on: bool) -> *mut c_char;
}

/// How this libtorch was built, with its version and libraries, as libtorch says it.
pub fn build_settings() -> Result<String> {
    let mut text = std::ptr::null_mut();
    // SAFETY: `text` is written before it is read, and owned by us afterwards.
    unsafe { check(shim_build_settings(&raw mut text)).map(|()| take_text(text)) }
}

/// The instruction set that libtorch's kernels use on this processor: `AVX2`, `AVX512`, …
pub fn cpu_capability() -> Result<String> {
    let mut text = std::ptr::null_mut();
    // SAFETY: as above.
    unsafe { check(shim_cpu_capability(&raw mut text)).map(|()| take_text(text)) }
}

/// Threads for operations that run side by side. Once per process, before the first of them.
///
/// # Errors
/// On a second call.
pub fn set_interop_threads(threads: i32) -> Result<()> {
    // SAFETY: no pointer is passed.
    unsafe { check(shim_set_interop_threads(threads)) }
}

/// The tensor of the host's in memory from which a GPU copies by itself. libtorch warns at every call of tch's own way,
/// which names the device.
///
/// # Errors
/// When there is no GPU, or the memory is not to be had.
pub fn pin(tensor: &Tensor) -> Result<Tensor> {
    let mut result = std::ptr::null_mut();
    // SAFETY: a living tensor; `result` is written where the call succeeds, and ours afterwards.
    unsafe {
        check(shim_pin(tensor.as_ptr(), &raw mut result))?;
        Ok(Tensor::from_ptr(result))
    }
}

/// Whether f32 products on a GPU may be rounded to the 10-bit mantissa of TF32.
pub fn set_tf32(on: bool) -> Result<()> {
    // SAFETY: no pointer is passed.
    unsafe { check(shim_set_tf32(on)) }
}

/// Makes [`gpu_peak_memory`] begin anew.
///
/// # Errors
/// When CUDA is not loaded or has no such GPU.
pub fn reset_gpu_peak_memory(index: usize) -> Result<()> {
    // SAFETY: no pointer is passed.
    unsafe { check(shim_gpu_reset_peak_memory(c_int::try_from(index)?)) }
}

/// The most memory that tensors have taken on a GPU since the start or the last reset, in bytes.
///
/// # Errors
/// When CUDA is not loaded or has no such GPU.
pub fn gpu_peak_memory(index: usize) -> Result<i64> {
    let mut bytes = 0;
    // SAFETY: a local that lives through the call.
    unsafe { check(shim_gpu_peak_memory(c_int::try_from(index)?, &raw mut bytes)) }?;
    Ok(bytes)
}

/// An error from the message of a guarded call, which it frees.
///
/// # Safety
/// `message` is null or a text made by the shim and not yet freed.
unsafe fn check(message: *mut c_char) -> Result<()> {
    if message.is_null() {
        return Ok(());
    }
    // SAFETY: not null, so it is ours by the contract above.
    let text = unsafe { take_text(message) };
    Err(anyhow!("{}", text.trim()))
}

/// The text, which it frees.
///
/// # Safety
/// `text` is null or made by the shim and not yet freed.
unsafe fn take_text(text: *mut c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: a C string by contract; freed once, after the copy.
    unsafe {
        let copy = CStr::from_ptr(text).to_string_lossy().into_owned();
        shim_free_text(text);
        copy
    }
}

fn pointers(tensors: &[Tensor]) -> Vec<*const C_tensor> {
    tensors.iter().map(Tensor::as_ptr).collect()
}

/// The number that c10 has for a type of device.
fn device_type(device: Device) -> c_int {
    match device {
        Device::Cpu => 0,
        Device::Cuda(_) => 1,
        Device::Mps => 13,
        Device::Vulkan => 10,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libtorch_tells_of_itself() {
        assert!(build_settings().unwrap().contains("PyTorch built with"));
        assert!(!cpu_capability().unwrap().is_empty());
    }

    #[test]
    fn an_exception_becomes_an_error() {
        let e = set_interop_threads(-1).unwrap_err().to_string();
        assert!(e.contains("positive") && !e.contains('\n'), "{e}");
    }
}
