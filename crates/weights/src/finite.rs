//! Whether numbers are numbers.

use anyhow::Result;
use tch::{Kind, Tensor};

/// Numbers looked at together; looking takes twice their memory.
const AT_ONCE: i64 = 1 << 22;

/// Whether all numbers of a tensor are numbers: neither NaN nor infinite.
///
/// # Errors
/// When libtorch fails.
pub fn finite(tensor: &Tensor) -> Result<bool> {
    if !matches!(tensor.kind(), Kind::Float | Kind::Double | Kind::Half | Kind::BFloat16) {
        return Ok(true);
    }
    for some in tensor.f_flatten(0, -1)?.f_split(AT_ONCE, 0)? {
        if some.f_isfinite()?.f_all()?.f_int64_value(&[])? != 1 {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_number_that_is_none_is_found_wherever_it_stands() -> Result<()> {
        let kinds = [Kind::Float, Kind::Double, Kind::Half, Kind::BFloat16];
        for (kind, odd) in kinds.into_iter().zip([f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::NAN]) {
            let numbers = Tensor::f_zeros([2, AT_ONCE], (kind, tch::Device::Cpu))?;
            assert!(finite(&numbers)?);
            let _ = numbers.f_get(1)?.f_get(AT_ONCE - 1)?.f_fill_(odd)?;
            assert!(!finite(&numbers)? && !finite(&numbers.f_transpose(0, 1)?)?, "{kind:?}");
        }
        assert!(finite(&Tensor::from_slice(&[1i64]))? && finite(&Tensor::from_slice::<f32>(&[]))?);
        Ok(())
    }
}
