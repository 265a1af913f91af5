//! Automatic mixed precision.

use super::{check, device_type};
use anyhow::{Result, bail};
use std::ffi::{c_char, c_int};
use tch::{Device, Kind};

unsafe extern "C" {
    fn shim_autocast_begin(
        device: c_int,
        kind: c_int,
        was_on: *mut bool,
        was_kind: *mut c_int,
    ) -> *mut c_char;
    fn shim_autocast_end(device: c_int, was_on: bool, was_kind: c_int) -> *mut c_char;
    fn shim_autocast_pause(device: c_int, was_on: *mut bool) -> *mut c_char;
    fn shim_autocast_resume(device: c_int, was_on: bool) -> *mut c_char;
}

/// Runs `work` with products and attention computed in `kind` (`BFloat16`, or `Half` on a GPU) and what needs accuracy
/// left in f32, as libtorch's autocast sorts them. With `Kind::Float` it only runs it.
///
/// Weights stay f32; each is cast once per outermost call. Run the backward pass outside: it follows the kinds of the
/// forward pass by itself.
///
/// # Errors
/// Those of `work`, or when libtorch refuses.
pub fn autocast<T>(device: Device, kind: Kind, work: impl FnOnce() -> Result<T>) -> Result<T> {
    // The numbers that c10 has for them.
    let kind = match kind {
        Kind::Float => return work(),
        Kind::BFloat16 => 15,
        Kind::Half => 5,
        other => bail!("no mixed precision with {other:?}"),
    };
    let _guard = Autocast::begin(device_type(device), kind)?;
    work()
}

/// Runs `work` outside of any [`autocast`], for what must be computed in the kind that it is in.
///
/// # Errors
/// Those of `work`, or when libtorch refuses.
pub fn without_autocast<T>(device: Device, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let _guard = Pause::begin(device_type(device))?;
    work()
}

struct Autocast {
    device: c_int,
    was_on: bool,
    was_kind: c_int,
}

impl Autocast {
    fn begin(device: c_int, kind: c_int) -> Result<Self> {
        let mut guard = Self { device, was_on: false, was_kind: 0 };
        // SAFETY: both pointers are to fields that live through the call.
        let begun = unsafe {
            check(shim_autocast_begin(device, kind, &raw mut guard.was_on, &raw mut guard.was_kind))
        };
        match begun {
            Ok(()) => Ok(guard),
            Err(e) => {
                // Nothing began, so nothing is to end.
                std::mem::forget(guard);
                Err(e)
            }
        }
    }
}

impl Drop for Autocast {
    fn drop(&mut self) {
        // SAFETY: no pointer is passed. It fails only for a device that `begin` would have refused.
        let _ = unsafe { check(shim_autocast_end(self.device, self.was_on, self.was_kind)) };
    }
}

struct Pause {
    device: c_int,
    was_on: bool,
}

impl Pause {
    fn begin(device: c_int) -> Result<Self> {
        let mut was_on = false;
        // SAFETY: the pointer is to a local that lives through the call.
        unsafe { check(shim_autocast_pause(device, &raw mut was_on)) }?;
        Ok(Self { device, was_on })
    }
}

impl Drop for Pause {
    fn drop(&mut self) {
        // SAFETY: no pointer is passed. It fails only for a device that `begin` would have refused.
        let _ = unsafe { check(shim_autocast_resume(self.device, self.was_on)) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::normal;
    use tch::Tensor;

    /// Relative Frobenius distance of a bf16 product of 64 terms: 8 bits of mantissa, 2^-9 for each factor.
    const BF16: f64 = 1e-2;

    fn distance(a: &Tensor, b: &Tensor) -> f64 {
        let (a, b) = (a.to_kind(Kind::Double), b.to_kind(Kind::Double));
        ((&a - &b).norm() / b.norm()).double_value(&[])
    }

    #[test]
    fn products_are_bf16_and_norms_are_not() {
        let (x, w) = (normal(1, "x", 0, &[32, 64]), normal(1, "w", 0, &[64, 64]).set_requires_grad(true));
        let product = || Ok(x.f_matmul(&w)?);
        let exact = product().unwrap();
        let half = autocast(Device::Cpu, Kind::BFloat16, || {
            let inner = without_autocast(Device::Cpu, product)?;
            assert_eq!(inner.kind(), Kind::Float);
            assert_eq!(inner, exact);
            product()
        })
        .unwrap();
        assert_eq!((half.kind(), product().unwrap().kind()), (Kind::BFloat16, Kind::Float));
        assert!(distance(&half, &exact) < BF16);

        let gradient = |y: &Tensor| {
            Tensor::run_backward(&[y.to_kind(Kind::Float).square().sum(Kind::Float)], &[&w], false, false)
        };
        let (g, h) = (gradient(&exact).remove(0), gradient(&half).remove(0));
        assert_eq!(h.kind(), Kind::Float);
        assert!(distance(&h, &g) < BF16, "{}", distance(&h, &g));
    }

    #[test]
    fn a_changed_weight_is_cast_again() {
        let (x, w) = (normal(1, "x", 0, &[4, 8]), normal(1, "w", 0, &[8, 8]).set_requires_grad(true));
        let run = || {
            autocast(Device::Cpu, Kind::BFloat16, || Ok(x.f_matmul(&w)?))
                .unwrap()
                .detach()
                .to_kind(Kind::Float)
        };
        let before = run();
        tch::no_grad(|| w.shallow_clone().g_mul_scalar_(2.0)).defined();
        assert!(distance(&run(), &(before * 2.0)) < 1e-6);
    }

    #[test]
    fn an_error_inside_ends_it_too() {
        let (x, w) = (normal(1, "x", 0, &[4, 8]), normal(1, "w", 0, &[8, 8]));
        assert!(autocast::<()>(Device::Cpu, Kind::BFloat16, || anyhow::bail!("no")).is_err());
        assert_eq!(x.matmul(&w).kind(), Kind::Float);
    }
}
