//! Whether a GPU's passes are used. Before they are, each is compared there with its formula: a compiler, driver or device that
//! makes something else of them must not train.

use super::{Entered, enter, join, leave, modulate, plain, shim_fused_register};
use crate::distance::distance;
use crate::shim::panics::caught;
use crate::shim::{autocast, cuda, without_autocast};
use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use tch::{Device, Kind, Tensor};

/// Images and tokens of the comparison: an image ends inside of what is done together.
const SHAPE: [i64; 2] = [2, 39];
/// Relative distance (Frobenius) of values and gradients: f32 with sums in another order.
const F32: f64 = 1e-5;
/// Of those that are rounded to the 8 bits of bf16, or come from such.
const BF16: f64 = 2e-2;

/// Whether GPUs' passes are left aside.
static PLAIN: AtomicBool = AtomicBool::new(false);

/// Leaves GPUs' passes aside from now on: for benches, which time the formulas beside them.
pub fn leave_aside() {
    PLAIN.store(true, Ordering::Relaxed);
}

/// Whether the passes of the GPU of this number serve this width, or why not. Found out at the first call, which must not be
/// while a graph is recorded.
pub(crate) fn usable(index: usize, width: i64) -> Result<(), String> {
    if PLAIN.load(Ordering::Relaxed) {
        return Err("they were left aside".into());
    }
    static FOUND: Mutex<BTreeMap<(usize, i64), Result<(), String>>> = Mutex::new(BTreeMap::new());
    let mut found = FOUND.lock().unwrap_or_else(PoisonError::into_inner);
    found.entry((index, width)).or_insert_with(|| try_out(index, width).map_err(|e| format!("{e:#}"))).clone()
}

fn try_out(index: usize, width: i64) -> Result<()> {
    let passes = cuda::passes(index, width)?;
    // SAFETY: a table of the object's, which stays loaded.
    unsafe { shim_fused_register(passes) };
    caught(|| compare(Device::Cuda(index), width))
}

/// Every pass with its formula, in both kinds of products, whatever the present precision is.
fn compare(device: Device, width: i64) -> Result<()> {
    without_autocast(device, || {
        tch::with_grad(|| {
            for kind in [Kind::Float, Kind::BFloat16] {
                for pass in &PASSES {
                    pass.compare(device, width, kind)
                        .with_context(|| format!("{} with products in {kind:?}", pass.name))?;
                }
            }
            Ok(())
        })
    })
}

/// One of the functions of this module, its first argument `[B, N, D]`, the second what a product gives, the third `keep`, then
/// bias and four vectors for each image.
struct Pass {
    name: &'static str,
    /// Which of the arguments it has.
    inputs: &'static [usize],
    fused: fn(&[Tensor]) -> Vec<Tensor>,
    plain: fn(&[Tensor]) -> Vec<Tensor>,
}

const PASSES: [Pass; 6] = [
    Pass {
        name: "modulate",
        inputs: &[0, 4, 5],
        fused: |x| vec![modulate(&x[0], &x[4], &x[5])],
        plain: |x| vec![plain::modulate(&x[0], &x[4], &x[5])],
    },
    Pass {
        name: "enter",
        inputs: &[0, 1, 4, 5, 6],
        fused: |x| entered(enter(&x[0], Some(&x[1]), &x[6], &x[4], &x[5])),
        plain: |x| plain_entered(&x[0], &(&x[1] + &x[6]), &x[4], &x[5]),
    },
    Pass {
        name: "enter without tokens",
        inputs: &[0, 4, 5, 6],
        fused: |x| entered(enter(&x[0], None, &x[6], &x[4], &x[5])),
        plain: |x| plain_entered(&x[0], &x[6], &x[4], &x[5]),
    },
    Pass {
        name: "join",
        inputs: &[0, 1, 3, 4, 5, 7],
        fused: |x| join(&x[0], &x[1], &x[3], &x[7], &x[4], &x[5]).into(),
        plain: |x| {
            let r = &x[0] + &x[7] * (&x[1] + &x[3]);
            let h = plain::modulate(&r, &x[4], &x[5]);
            vec![r, h]
        },
    },
    Pass {
        name: "leave",
        inputs: &[0, 1, 2, 3, 7],
        fused: |x| vec![leave(&x[0], &x[1], &x[3], &x[7], Some(&x[2]))],
        plain: |x| vec![&x[0] + &x[7] * (&x[1] + &x[3]) + &x[2]],
    },
    Pass {
        name: "leave without keep",
        inputs: &[0, 1, 3, 7],
        fused: |x| vec![leave(&x[0], &x[1], &x[3], &x[7], None)],
        plain: |x| vec![&x[0] + &x[7] * (&x[1] + &x[3])],
    },
];

fn entered(Entered { r, keep, h }: Entered) -> Vec<Tensor> {
    vec![r, keep, h]
}

fn plain_entered(z: &Tensor, excess: &Tensor, shift: &Tensor, scale: &Tensor) -> Vec<Tensor> {
    let change = z * excess;
    let r = z + &change;
    let h = plain::modulate(&r, shift, scale);
    vec![r, -change, h]
}

impl Pass {
    fn compare(&self, device: Device, width: i64, kind: Kind) -> Result<()> {
        let inputs = inputs(device, width, kind);
        let single: Vec<Tensor> =
            inputs.iter().map(|x| x.detach().to_kind(Kind::Float).set_requires_grad(true)).collect();
        let got = self.with_gradients(autocast(device, kind, || Ok((self.fused)(&inputs)))?, &inputs);
        let want = self.with_gradients((self.plain)(&single), &single);
        for (i, (got, want)) in got.iter().zip(&want).enumerate() {
            let distance = distance(got, want);
            let most = if kind == Kind::Float { F32 } else { BF16 };
            // So that NaN fails.
            ensure!(distance <= most, "result {i} is {distance:.1e} from its formula");
        }
        Ok(())
    }

    /// The results and the gradients of a weighted sum of them.
    fn with_gradients(&self, results: Vec<Tensor>, inputs: &[Tensor]) -> Vec<Tensor> {
        let terms = results.iter().enumerate().map(|(i, result)| {
            (result.to_kind(Kind::Float) * wave(&result.size(), 20 + i as u32, result.device()))
                .sum(Kind::Float)
        });
        let wanted: Vec<&Tensor> = self.inputs.iter().map(|&i| &inputs[i]).collect();
        let gradients = Tensor::run_backward(&[terms.sum::<Tensor>()], &wanted, false, false);
        results.into_iter().chain(gradients).collect()
    }
}

/// What every pass is given some of.
fn inputs(device: Device, width: i64, kind: Kind) -> Vec<Tensor> {
    let [images, tokens] = SHAPE;
    let rows = [images, tokens, width];
    // The vectors of an image lie beside each other, as they come from one product.
    let vectors = wave(&[images, 1, 4 * width], 4, device).chunk(4, 2);
    [
        wave(&rows, 0, device),
        wave(&rows, 1, device).to_kind(kind),
        wave(&rows, 2, device),
        wave(&[width], 3, device),
    ]
    .into_iter()
    .chain(vectors)
    .map(|x| x.detach().set_requires_grad(true))
    .collect()
}

/// Numbers of size one without an order that a sum could show.
fn wave(shape: &[i64], number: u32, device: Device) -> Tensor {
    let places = Tensor::arange(shape.iter().product::<i64>(), (Kind::Double, device));
    let step = 1.7 + 0.37 * f64::from(number);
    ((places * step).sin() + 0.1).to_kind(Kind::Float).view(shape)
}
