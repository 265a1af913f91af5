//! Operations over all parameters at once.

use super::{check, pointers};
use anyhow::{Result, ensure};
use std::ffi::c_char;
use tch::Tensor;
use torch_sys::C_tensor;

unsafe extern "C" {
    fn shim_adamw(
        parameters: *const *const C_tensor,
        gradients: *const *const C_tensor,
        first: *const *const C_tensor,
        second: *const *const C_tensor,
        count: usize,
        step: *const C_tensor,
        learning_rate: f64,
        beta1: f64,
        beta2: f64,
        epsilon: f64,
        weight_decay: f64,
    ) -> *mut c_char;
    fn shim_lerp(
        targets: *const *const C_tensor,
        sources: *const *const C_tensor,
        count: usize,
        weight: f64,
    ) -> *mut c_char;
    fn shim_norm(list: *const *const C_tensor, count: usize, norm: *mut *mut C_tensor) -> *mut c_char;
    fn shim_clip(
        list: *const *const C_tensor,
        count: usize,
        most: f64,
        norm: *mut *mut C_tensor,
    ) -> *mut c_char;
}

/// Settings of AdamW, with decoupled weight decay (Loshchilov and Hutter, Algorithm 2).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamW {
    /// Learning rate.
    pub learning_rate: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Weight decay, multiplied by the learning rate.
    pub weight_decay: f64,
}

impl Default for AdamW {
    /// PyTorch's defaults, but no weight decay: the reference's settings.
    fn default() -> Self {
        Self { learning_rate: 1e-4, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.0 }
    }
}

impl AdamW {
    /// One step, in place. The four lists run in parallel; one flat buffer each is the fastest form.
    ///
    /// `first` and `second` are the moments, zero at the start. `step` is an f32 tensor of one number on the parameters'
    /// device, the number of this step counted from 1.
    ///
    /// # Errors
    /// When the lists differ in length or shape.
    pub fn step(
        &self,
        parameters: &[Tensor],
        gradients: &[Tensor],
        first: &[Tensor],
        second: &[Tensor],
        step: &Tensor,
    ) -> Result<()> {
        let n = parameters.len();
        let lengths = [gradients.len(), first.len(), second.len()];
        ensure!(lengths == [n; 3], "{n} parameters with {lengths:?} gradients, first and second moments");
        for (p, others) in parameters.iter().zip(gradients.iter().zip(first.iter().zip(second))) {
            let (g, (m, v)) = others;
            let same = [g, m, v].iter().all(|t| t.size() == p.size());
            ensure!(
                same,
                "a parameter of shape {:?} with {:?}, {:?}, {:?}",
                p.size(),
                g.size(),
                m.size(),
                v.size()
            );
        }
        let [p, g, m, v] = [parameters, gradients, first, second].map(pointers);
        // SAFETY: four arrays of `n` pointers to live tensors, and one more live tensor.
        unsafe {
            check(shim_adamw(
                p.as_ptr(),
                g.as_ptr(),
                m.as_ptr(),
                v.as_ptr(),
                n,
                step.as_ptr(),
                self.learning_rate,
                self.beta1,
                self.beta2,
                self.epsilon,
                self.weight_decay,
            ))
        }
    }
}

/// Moves each target towards its source, in place: `target += weight (source - target)`. The moving average of decay `d`
/// is `lerp(average, parameters, 1 - d)`.
///
/// # Errors
/// When the lists differ in length or shape.
pub fn lerp(targets: &[Tensor], sources: &[Tensor], weight: f64) -> Result<()> {
    ensure!(targets.len() == sources.len(), "{} targets and {} sources", targets.len(), sources.len());
    let (t, s) = (pointers(targets), pointers(sources));
    // SAFETY: two arrays of that many pointers to live tensors.
    unsafe { check(shim_lerp(t.as_ptr(), s.as_ptr(), t.len(), weight)) }
}

/// The 2-norm of all tensors taken as one vector, a tensor of one number on their device.
///
/// # Errors
/// When there is no tensor.
pub fn norm(list: &[Tensor]) -> Result<Tensor> {
    let p = pointers(list);
    let mut norm = std::ptr::null_mut();
    // SAFETY: an array of that many pointers to live tensors; on success `norm` is a new tensor that is ours.
    unsafe {
        check(shim_norm(p.as_ptr(), p.len(), &raw mut norm))?;
        Ok(Tensor::from_ptr(norm))
    }
}

/// Scales gradients, in place, so that their common 2-norm is at most `most`; gives the norm from before. Nothing is
/// read back from the device. As PyTorch's `clip_grad_norm_`, 1e-6 is added to the norm before it divides.
///
/// # Errors
/// When there is no tensor.
pub fn clip(gradients: &[Tensor], most: f64) -> Result<Tensor> {
    let p = pointers(gradients);
    let mut norm = std::ptr::null_mut();
    // SAFETY: as in `norm`.
    unsafe {
        check(shim_clip(p.as_ptr(), p.len(), most, &raw mut norm))?;
        Ok(Tensor::from_ptr(norm))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::normal;
    use tch::Kind;

    fn parameters() -> Vec<Tensor> {
        let shapes: [&[i64]; 3] = [&[7, 5], &[33], &[2, 3, 4]];
        let tensor = |(i, s): (usize, &&[i64])| normal(1, "parameter", i as u64, s).set_requires_grad(true);
        shapes.iter().enumerate().map(tensor).collect()
    }

    fn gradients(step: u64) -> Vec<Tensor> {
        let gradient = |(i, p): (usize, &Tensor)| normal(step, "gradient", i as u64, &p.size());
        parameters().iter().enumerate().map(gradient).collect()
    }

    fn worst(a: &Tensor, b: &Tensor) -> f64 {
        (a.detach().to_kind(Kind::Double) - b.detach().to_kind(Kind::Double)).abs().max().double_value(&[])
    }

    /// f32 rounding of a few operations on numbers of size one.
    const ROUNDING: f64 = 2e-6;

    #[test]
    fn adamw_is_its_formula() {
        let settings = AdamW { learning_rate: 0.03, weight_decay: 0.1, ..AdamW::default() };
        let fused = parameters();
        let zeros = |p: &Tensor| p.zeros_like().detach();
        let (m, v): (Vec<_>, Vec<_>) = fused.iter().map(|p| (zeros(p), zeros(p))).unzip();
        let mut plain: Vec<_> = fused.iter().map(|p| p.detach().to_kind(Kind::Double)).collect();
        let mut moments: Vec<_> = plain.iter().map(|p| (p.zeros_like(), p.zeros_like())).collect();
        for step in 1..=5 {
            let gradients = gradients(step);
            settings.step(&fused, &gradients, &m, &v, &Tensor::from(step as f32)).unwrap();
            for ((p, g), (m, v)) in plain.iter_mut().zip(&gradients).zip(&mut moments) {
                let g = g.to_kind(Kind::Double);
                *m = &*m * 0.9 + &g * 0.1;
                *v = &*v * 0.999 + g.square() * 0.001;
                let (bias1, bias2) = (1.0 - 0.9f64.powi(step as i32), 1.0 - 0.999f64.powi(step as i32));
                let change = (&*m / bias1) / ((&*v / bias2).sqrt() + 1e-8);
                *p = &*p * (1.0 - 0.03 * 0.1) - change * 0.03;
            }
        }
        for (a, b) in fused.iter().zip(&plain) {
            assert!(worst(a, b) < ROUNDING, "{}", worst(a, b));
        }
        assert!(m.iter().zip(&moments).all(|(a, (b, _))| worst(a, b) < ROUNDING));
        assert!(v.iter().zip(&moments).all(|(a, (_, b))| worst(a, b) < ROUNDING));
    }

    #[test]
    fn lists_that_do_not_fit_are_refused() {
        let (p, g) = (parameters(), gradients(1));
        let m: Vec<_> = g.iter().map(Tensor::zeros_like).collect();
        let step = Tensor::from(1f32);
        assert!(AdamW::default().step(&p, &g, &m[..1], &m, &step).is_err());
        assert!(AdamW::default().step(&p[..1], &g[1..2], &m[..1], &m[..1], &step).is_err());
    }

    #[test]
    fn lerp_is_its_formula() {
        let sources = parameters();
        let targets: Vec<_> = sources.iter().map(|s| s.detach() + 1.0).collect();
        let wanted: Vec<_> = sources.iter().map(|s| s.detach() * 0.1 + (s.detach() + 1.0) * 0.9).collect();
        lerp(&targets, &sources, 0.1).unwrap();
        assert!(targets.iter().zip(&wanted).all(|(a, b)| worst(a, b) < ROUNDING));
        let e = lerp(&targets[..1], &sources[1..2], 0.1).unwrap_err().to_string();
        assert!(!e.contains('\n'), "{e}");
    }

    #[test]
    fn clipping_is_its_formula() {
        assert!(norm(&[]).is_err());
        let (clipped, before) = (gradients(3), gradients(3));
        let squares: f64 = before.iter().map(|g| g.square().sum(Kind::Double).double_value(&[])).sum();
        let wanted = squares.sqrt();
        let near = |t: Tensor| (t.double_value(&[]) - wanted).abs() < 1e-5 * wanted;
        assert!(near(norm(&clipped).unwrap()) && near(clip(&clipped, 2.0 * wanted).unwrap()));
        assert!(clipped.iter().zip(&before).all(|(a, b)| worst(a, b) == 0.0));
        assert!(near(clip(&clipped, 0.5).unwrap()));
        assert!(clipped.iter().zip(&before).all(|(a, b)| worst(a, &(b * (0.5 / wanted))) < ROUNDING));
    }
}
