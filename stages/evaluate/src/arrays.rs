//! Arrays of a `.npz` as tensors, and tensors as arrays.

use anyhow::{Context, Result};
use npz::{Npz, Writer};
use tch::{Device, Kind, Tensor};

/// The array called `name` as f64.
///
/// # Errors
/// As [`Npz::numbers`].
pub fn tensor(npz: &mut Npz, name: &str) -> Result<Tensor> {
    let numbers = npz.numbers(name)?;
    let shape: Vec<i64> = numbers.shape.iter().map(|&n| n as i64).collect();
    Ok(Tensor::f_from_slice(&numbers.values)?.f_reshape(&shape)?)
}

/// The mean and covariance called `mu…` and `sigma…`.
///
/// # Errors
/// Bad input when they are missing or do not fit.
pub fn statistics(npz: &mut Npz, suffix: &str) -> Result<metrics::Statistics> {
    let name = npz.path().display().to_string();
    let (mean, covariance) = (tensor(npz, &format!("mu{suffix}"))?, tensor(npz, &format!("sigma{suffix}"))?);
    metrics::Statistics::new(&format!("{name}: mu{suffix}, sigma{suffix}"), &mean, &covariance)
        .with_context(|| format!("reading {name}"))
}

/// Writes a whole array of f32 or f64.
///
/// # Errors
/// When it cannot be written.
pub fn write(writer: &mut Writer, name: &str, tensor: &Tensor) -> Result<()> {
    let double = tensor.kind() == Kind::Double;
    let (descr, kind) = if double { ("<f8", Kind::Double) } else { ("<f4", Kind::Float) };
    let shape: Vec<usize> = tensor.size().iter().map(|&n| n as usize).collect();
    let tensor = tensor.f_to_device(Device::Cpu)?.f_to_kind(kind)?.f_contiguous()?;
    let mut bytes = vec![0; tensor.numel() * kind.elt_size_in_bytes()];
    tensor.f_copy_data_u8(&mut bytes, tensor.numel())?;
    writer.start(name, descr, &shape)?;
    writer.values(&bytes)
}
