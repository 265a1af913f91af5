//! The memory of a tensor, as bytes.

use anyhow::Result;
use tch::{Device, Kind, Tensor};

/// Bytes that are copied, or hashed, at once.
pub const CHUNK: usize = 4 << 20;

/// The bytes of a tensor, row-major, a piece at a time, from where they lie.
///
/// # Errors
/// When libtorch fails, or what `give` returns.
pub fn each_chunk(tensor: &Tensor, give: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
    // The same memory where it lies in a row already.
    let flat = tensor.detach().f_contiguous()?.f_view([-1])?;
    let size = flat.kind().elt_size_in_bytes();
    let (count, step) = (flat.numel(), CHUNK / size);
    for start in (0..count).step_by(step) {
        let part = flat.f_narrow(0, start as i64, step.min(count - start) as i64)?;
        let part = part.f_to_device(Device::Cpu)?.f_contiguous()?;
        // SAFETY: numbers in a row on the CPU, which `part` keeps alive; nobody writes to them meanwhile.
        let bytes = unsafe { std::slice::from_raw_parts(part.data_ptr().cast::<u8>(), part.numel() * size) };
        give(bytes)?;
    }
    Ok(())
}

/// A new tensor on the CPU whose bytes, row-major, `fill` writes.
///
/// # Errors
/// When libtorch fails, or what `fill` returns.
pub fn filled(kind: Kind, shape: &[i64], fill: impl FnOnce(&mut [u8]) -> Result<()>) -> Result<Tensor> {
    let tensor = Tensor::f_zeros(shape, (kind, Device::Cpu))?;
    let bytes = tensor.numel() * kind.elt_size_in_bytes();
    if bytes == 0 {
        // Its memory is nowhere.
        fill(&mut [])?;
        return Ok(tensor);
    }
    // SAFETY: a fresh tensor of so many bytes in a row, on the CPU, that nobody else knows of yet.
    fill(unsafe { std::slice::from_raw_parts_mut(tensor.data_ptr().cast::<u8>(), bytes) })?;
    Ok(tensor)
}
