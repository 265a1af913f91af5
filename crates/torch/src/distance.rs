//! How far a tensor is from the one that it should be.

use tch::{Kind, Tensor};

/// How far `found` is from `wanted`, as a part of its norm; NaN where one is no number.
pub fn distance(found: &Tensor, wanted: &Tensor) -> f64 {
    let (found, wanted) = (found.to_kind(Kind::Float), wanted.to_kind(Kind::Float));
    let (gap, norm) = ((found - &wanted).norm().double_value(&[]), wanted.norm().double_value(&[]));
    if gap == 0.0 { 0.0 } else { gap / norm }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_number_does_not_agree() {
        let (a, b) = (Tensor::from_slice(&[3f32, 4.0]), Tensor::from_slice(&[3f32, 4.5]));
        assert_eq!((distance(&a, &a), distance(&b, &a)), (0.0, 0.1));
        let bad = Tensor::from_slice(&[f32::NAN, 1.0]);
        for (x, y) in [(&a, &bad), (&bad, &a), (&bad, &bad)] {
            assert!(distance(x, y).is_nan());
        }
    }
}
