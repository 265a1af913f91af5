//! A block's arithmetic between its matrix products, each step in one pass over its tokens, with gradients: in f32, what products
//! give and take in f32 or bf16.
//!
//! What the steps compute is said by the plain formulas beside their callers, which serve every other kind and device.

mod gpu;
pub mod plain;
mod product;

pub use gpu::leave_aside;
pub(crate) use gpu::usable;
pub use product::{Layout, multiplies_bf16, product};

use super::check;
use super::cuda::CPasses;
use std::ffi::c_char;
use tch::{Device, Kind, Tensor};
use torch_sys::C_tensor;

type Out = *mut *mut C_tensor;
type In = *const C_tensor;

/// The CPU's passes take rows of a multiple of this many numbers.
const WIDTH_UNIT: i64 = 16;

unsafe extern "C" {
    fn shim_fused_register(passes: *const CPasses);
    fn shim_fused_serves(tokens: In, yes: *mut bool) -> *mut c_char;
    fn shim_fused_attends(tokens: i64) -> bool;
    fn shim_fused_gelu(x: In, bias: In, y: Out) -> *mut c_char;
    fn shim_fused_modulate(x: In, shift: In, scale: In, h: Out) -> *mut c_char;
    fn shim_fused_enter(z: In, tokens: In, excess: In, shift: In, scale: In, out: Out) -> *mut c_char;
    fn shim_fused_join(r: In, y: In, bias: In, gate: In, shift: In, scale: In, out: Out) -> *mut c_char;
    fn shim_fused_leave(r: In, y: In, bias: In, gate: In, keep: In, out: Out) -> *mut c_char;
    fn shim_fused_mix(gates: In, x: In, y: Out) -> *mut c_char;
    fn shim_fused_attention(qkv: In, heads: i64, out: Out) -> *mut c_char;
}

/// Whether [`modulate`], [`enter`], [`join`] and [`leave`] serve tokens of this kind, place and width, in the present precision.
/// The first call for a GPU and a width must not be while a graph is recorded.
pub fn serves(tokens: &Tensor) -> bool {
    let width = tokens.size().last().copied().unwrap_or(0);
    if matches!(tokens.device(), Device::Cuda(index) if usable(index, width).is_err()) {
        return false;
    }
    let mut yes = false;
    // SAFETY: both pointers live through the call.
    unsafe { check(shim_fused_serves(tokens.as_ptr(), &raw mut yes)) }.is_ok() && yes
}

/// Whether the other functions serve a block's tokens too: those of the residual stream, or what a pass has made of them for a
/// product.
pub fn serves_throughout(tokens: &Tensor) -> bool {
    let width = tokens.size().last().copied().unwrap_or(0);
    let made = tokens.kind() == Kind::BFloat16 && width % WIDTH_UNIT == 0;
    tokens.device() == Device::Cpu && (made || serves(tokens))
}

/// Whether [`attention`] serves this many tokens, with the BLAS of this libtorch.
pub fn attends(tokens: i64) -> bool {
    // SAFETY: no pointer is passed.
    unsafe { shim_fused_attends(tokens) }
}

/// `gelu(x + bias)`, the tanh approximation, in the kind of `x`.
///
/// # Shapes
/// `x` `[B, N, D]`, `bias` `[D]`.
///
/// # Panics
/// When libtorch fails, as tch's own operations do; so for all functions here.
pub fn gelu(x: &Tensor, bias: &Tensor) -> Tensor {
    // SAFETY: the tensors live through the call.
    let [y] = results(|out| unsafe { shim_fused_gelu(x.as_ptr(), bias.as_ptr(), out) });
    y
}

/// `LN(x) · (1 + scale) + shift`, in the kind that products are computed in; so for what is modulated by the others.
///
/// # Shapes
/// `x` `[B, N, D]`, `shift` and `scale` `[B, 1, D]`.
pub fn modulate(x: &Tensor, shift: &Tensor, scale: &Tensor) -> Tensor {
    // SAFETY: the tensors live through the call.
    let [h] = results(|out| unsafe { shim_fused_modulate(x.as_ptr(), shift.as_ptr(), scale.as_ptr(), out) });
    h
}

/// What [`enter`] makes of a block's input.
pub struct Entered {
    /// `z + z · e`.
    pub r: Tensor,
    /// `−z · e`, which gives the input back when added.
    pub keep: Tensor,
    /// `r`, normalised and modulated.
    pub h: Tensor,
}

/// A block's masked input, `e` being `tokens + excess`.
///
/// # Shapes
/// `z` and `tokens` `[B, N, D]`, `excess` `[B, 1, D]`, or `[1, 1, D]` where no gradient is wanted, `shift` and `scale`
/// `[B, 1, D]`.
pub fn enter(
    z: &Tensor,
    tokens: Option<&Tensor>,
    excess: &Tensor,
    shift: &Tensor,
    scale: &Tensor,
) -> Entered {
    let tokens = tokens.map_or(std::ptr::null(), Tensor::as_ptr);
    // SAFETY: the tensors live through the call.
    let [r, keep, h] = results(|out| unsafe {
        shim_fused_enter(z.as_ptr(), tokens, excess.as_ptr(), shift.as_ptr(), scale.as_ptr(), out)
    });
    Entered { r, keep, h }
}

/// `r + gate · (y + bias)`, and that normalised and modulated.
///
/// # Shapes
/// `r` and `y` `[B, N, D]`, `bias` `[D]`, the others `[B, 1, D]`.
pub fn join(
    r: &Tensor,
    y: &Tensor,
    bias: &Tensor,
    gate: &Tensor,
    shift: &Tensor,
    scale: &Tensor,
) -> [Tensor; 2] {
    // SAFETY: the tensors live through the call.
    results(|out| unsafe {
        shim_fused_join(
            r.as_ptr(),
            y.as_ptr(),
            bias.as_ptr(),
            gate.as_ptr(),
            shift.as_ptr(),
            scale.as_ptr(),
            out,
        )
    })
}

/// `r + gate · (y + bias) + keep`.
///
/// # Shapes
/// As [`join`], `keep` `[B, N, D]`.
pub fn leave(r: &Tensor, y: &Tensor, bias: &Tensor, gate: &Tensor, keep: Option<&Tensor>) -> Tensor {
    let keep = keep.map_or(std::ptr::null(), Tensor::as_ptr);
    // SAFETY: the tensors live through the call.
    let [out] = results(|out| unsafe {
        shim_fused_leave(r.as_ptr(), y.as_ptr(), bias.as_ptr(), gate.as_ptr(), keep, out)
    });
    out
}

/// The product `gates · x` in the kind that products are computed in, for few columns of `gates` and very many of `x`; those at a
/// gate of 0 are not read.
///
/// # Shapes
/// `gates` `[B, E]`, `x` `[E, P]`, `P` a multiple of 16, to `[B, P]`.
pub fn mix(gates: &Tensor, x: &Tensor) -> Tensor {
    // SAFETY: the tensors live through the call.
    let [y] = results(|out| unsafe { shim_fused_mix(gates.as_ptr(), x.as_ptr(), out) });
    y
}

/// Softmax attention of every head, its factor `1 / √(D / heads)`.
///
/// # Shapes
/// `qkv` `[B, N, 3D]`, queries of all heads first, to `[B, N, D]`.
pub fn attention(qkv: &Tensor, heads: i64) -> Tensor {
    // SAFETY: the tensors live through the call.
    let [out] = results(|out| unsafe { shim_fused_attention(qkv.as_ptr(), heads, out) });
    out
}

/// The tensors that a call gives.
fn results<const N: usize>(call: impl FnOnce(Out) -> *mut c_char) -> [Tensor; N] {
    let mut out = [std::ptr::null_mut(); N];
    // SAFETY: the message is the shim's; after a call without one every pointer is a new tensor that is ours.
    unsafe {
        if let Err(e) = check(call(out.as_mut_ptr())) {
            panic!("{e}");
        }
        out.map(|pointer| Tensor::from_ptr(pointer))
    }
}

#[cfg(test)]
mod bf16;

#[cfg(test)]
mod tests {
    use super::bf16::HEADS;
    use super::*;
    use crate::random::normal;

    /// f32 rounding of sums over a few hundred numbers of size one, relative (Frobenius); measured at most 4e-7.
    const ROUNDING: f64 = 2e-6;

    pub fn given(name: &str, shape: &[i64]) -> Tensor {
        normal(3, name, 0, shape).set_requires_grad(true)
    }

    /// Values, and gradients of a weighted sum of them, against the plain formula in f64.
    fn holds(
        inputs: &[Tensor],
        fused: impl Fn(&[Tensor]) -> Vec<Tensor>,
        plain: impl Fn(&[Tensor]) -> Vec<Tensor>,
    ) {
        holds_to(ROUNDING, inputs, fused, plain);
    }

    pub fn holds_to(
        most: f64,
        inputs: &[Tensor],
        fused: impl Fn(&[Tensor]) -> Vec<Tensor>,
        plain: impl Fn(&[Tensor]) -> Vec<Tensor>,
    ) {
        let run = |inputs: &[Tensor], f: &dyn Fn(&[Tensor]) -> Vec<Tensor>| {
            let outputs = f(inputs);
            let loss = outputs.iter().enumerate().map(|(i, out)| {
                (out * normal(9, "weight", i as u64, &out.size()).to_kind(out.kind())).sum(out.kind())
            });
            let gradients = Tensor::run_backward(&[loss.sum::<Tensor>()], inputs, false, false);
            outputs.into_iter().chain(gradients).collect::<Vec<_>>()
        };
        let exact: Vec<Tensor> =
            inputs.iter().map(|x| x.detach().to_kind(Kind::Double).set_requires_grad(true)).collect();
        let (got, want) = (run(inputs, &fused), run(&exact, &plain));
        assert_eq!(got.len(), want.len());
        for (i, (got, want)) in got.iter().zip(&want).enumerate() {
            assert_eq!(got.size(), want.size(), "{i}");
            let distance = (got.to_kind(Kind::Double) - want).norm() / want.norm().clamp_min(1e-3);
            let distance = distance.double_value(&[]);
            assert!(distance < most, "result {i}: {distance:e}");
        }
    }

    pub fn normalised(x: &Tensor, shift: &Tensor, scale: &Tensor) -> Tensor {
        let normal = x.layer_norm([x.size()[2]], None::<&Tensor>, None::<&Tensor>, 1e-6, false);
        normal * (scale + 1.0) + shift
    }

    /// Images, tokens and width that end inside of a part, in one part, and in several.
    pub const SHAPES: [[i64; 3]; 3] = [[2, 70, 48], [3, 16, 16], [1, 200, 112]];

    #[test]
    fn gelu_is_its_formula() {
        for [b, n, d] in SHAPES {
            // Far out too, where it is 0 or the number itself.
            let x = (normal(1, "x", 0, &[b, n, d]) * 6.0).set_requires_grad(true);
            holds(
                &[x, given("bias", &[d])],
                |x| vec![gelu(&x[0], &x[1])],
                |x| vec![(&x[0] + &x[1]).gelu("tanh")],
            );
        }
    }

    #[test]
    fn no_number_stays_none() {
        let x = Tensor::from_slice(&[f32::NAN, f32::INFINITY, -1e30, 1e30]).repeat([4]).view([1, 1, 16]);
        let y = gelu(&x, &Tensor::zeros([16], (Kind::Float, tch::Device::Cpu)));
        let y: Vec<f32> = Vec::try_from(y.flatten(0, -1)).unwrap();
        assert!(y[0].is_nan() && y[1] == f32::INFINITY && y[2] == 0.0 && y[3] == 1e30, "{y:?}");
    }

    #[test]
    fn modulation_is_its_formula() {
        for [b, n, d] in SHAPES {
            let vectors = given("vectors", &[b, 1, 2 * d]);
            let parts = |v: &Tensor| v.chunk(2, 2);
            holds(
                &[given("x", &[b, n, d]), vectors],
                |x| vec![modulate(&x[0], &parts(&x[1])[0], &parts(&x[1])[1])],
                |x| vec![normalised(&x[0], &parts(&x[1])[0], &parts(&x[1])[1])],
            );
        }
    }

    #[test]
    fn entering_is_its_formula() {
        for [b, n, d] in SHAPES {
            let inputs = [
                given("z", &[b, n, d]),
                given("e", &[b, 1, d]),
                given("v", &[b, 1, 2 * d]),
                given("u", &[b, n, d]),
            ];
            let fused = |x: &[Tensor]| {
                let v = x[2].chunk(2, 2);
                let Entered { r, keep, h } = enter(&x[0], x.get(3), &x[1], &v[0], &v[1]);
                vec![r, keep, h]
            };
            let plain = |x: &[Tensor]| {
                let v = x[2].chunk(2, 2);
                let change = &x[0] * x.get(3).map_or(x[1].shallow_clone(), |u| u + &x[1]);
                let r = &x[0] + &change;
                vec![r.shallow_clone(), -change, normalised(&r, &v[0], &v[1])]
            };
            holds(&inputs, fused, plain);
            holds(&inputs[..3], fused, plain);
            // What is not used further has no gradient to give.
            holds(&inputs, |x| fused(x).split_off(2), |x| plain(x).split_off(2));
            let shared = Tensor::ones([1, 1, d], (Kind::Float, tch::Device::Cpu));
            let v = inputs[2].detach().chunk(2, 2);
            let one = enter(&inputs[0].detach(), None, &shared, &v[0], &v[1]);
            assert_eq!(one.r, inputs[0].detach() * 2.0);
        }
    }

    #[test]
    fn joining_and_leaving_are_their_formulas() {
        for [b, n, d] in SHAPES {
            let tokens = |name: &str| given(name, &[b, n, d]);
            let inputs =
                [tokens("r"), tokens("y"), given("bias", &[d]), given("v", &[b, 1, 3 * d]), tokens("keep")];
            holds(
                &inputs[..4],
                |x| {
                    let v = x[3].chunk(3, 2);
                    join(&x[0], &x[1], &x[2], &v[0], &v[1], &v[2]).into()
                },
                |x| {
                    let v = x[3].chunk(3, 2);
                    let s = &x[0] + &v[0] * (&x[1] + &x[2]);
                    vec![s.shallow_clone(), normalised(&s, &v[1], &v[2])]
                },
            );
            let fused = |x: &[Tensor]| vec![leave(&x[0], &x[1], &x[2], &x[3].chunk(3, 2)[0], x.get(4))];
            let plain = |x: &[Tensor]| {
                let s = &x[0] + &x[3].chunk(3, 2)[0] * (&x[1] + &x[2]);
                vec![x.get(4).map_or(s.shallow_clone(), |keep| &s + keep)]
            };
            holds(&inputs, fused, plain);
            holds(&inputs[..4], fused, plain);
        }
    }

    #[test]
    fn mixing_is_its_formula() {
        for shape in [[3, 16], [2, 48], [3, 3 << 14]] {
            let gates = Tensor::from_slice(&[0.5f32, 0.0, 0.25, 1.0, -2.0, 0.0, 0.0, 3.0]);
            let gates =
                gates.narrow(0, 0, 8 / shape[0] * shape[0]).view([-1, shape[0]]).set_requires_grad(true);
            let inputs = [gates, given("x", &shape)];
            holds(&inputs, |x| vec![mix(&x[0], &x[1])], |x| vec![x[0].matmul(&x[1])]);
        }
    }

    #[test]
    fn all_instruction_sets_hold() {
        const LESSER: &str = "ATEN_CPU_CAPABILITY";
        if std::env::var_os(LESSER).is_some() {
            return;
        }
        for capability in ["default", "avx2"] {
            let program = std::env::current_exe().unwrap();
            let all =
                std::process::Command::new(program).arg("formula").env(LESSER, capability).output().unwrap();
            let said = String::from_utf8_lossy(&all.stdout);
            assert!(all.status.success() && !said.contains(" 0 passed"), "{capability}: {said}");
        }
    }

    #[test]
    fn attention_is_its_formula() {
        for [b, n, heads, d] in HEADS {
            if !attends(n) {
                continue;
            }
            let width = heads * d;
            holds(
                &[given("qkv", &[b, n, 3 * width])],
                |x| vec![attention(&x[0], heads)],
                |x| vec![attended(&x[0], [b, n, heads, d])],
            );
        }
        assert!(!attends(15));
    }

    /// The formula of [`attention`] in f64.
    pub(super) fn attended(qkv: &Tensor, [b, n, heads, d]: [i64; 4]) -> Tensor {
        let qkv = qkv.view([b, n, 3, heads, d]).permute([2, 0, 3, 1, 4]);
        let scores = qkv.get(0).matmul(&qkv.get(1).transpose(2, 3)) / (d as f64).sqrt();
        let mixed = scores.softmax(-1, Kind::Double).matmul(&qkv.get(2));
        mixed.transpose(1, 2).reshape([b, n, heads * d])
    }
}
