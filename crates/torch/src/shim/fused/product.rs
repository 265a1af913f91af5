//! Products of tokens and weights in bf16, where the processor multiplies it by itself.

use super::{In, Out, check, results};
use std::ffi::c_char;
use tch::Tensor;

unsafe extern "C" {
    fn shim_fused_multiplies_bf16() -> bool;
    fn shim_fused_multiplies(x: In, weight: In, inputs_first: bool, yes: *mut bool) -> *mut c_char;
    fn shim_fused_product(x: In, weight: In, bias: In, inputs_first: bool, y: Out) -> *mut c_char;
}

/// Whether the processor multiplies bf16 by itself, so that [`super::attention`] in bf16 does, and [`product`] serves where it has no
/// tiles (AMX), by which libtorch's own products are faster.
pub fn multiplies_bf16() -> bool {
    // SAFETY: no pointer is passed.
    unsafe { shim_fused_multiplies_bf16() }
}

/// Which way weights lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// `[outputs, inputs]`, as libtorch's affine layers have them.
    OutputsFirst,
    /// `[inputs, outputs]`.
    InputsFirst,
}

/// The product of tokens and weights in bf16 on a CPU that multiplies it by itself, `None` elsewhere, in any other precision, and of
/// shapes that do not fit or are odd. The
/// weights are rounded once, their gradients are sums in f32.
///
/// # Shapes
/// `x` `[…, inputs]`, `weight` a matrix as `layout` says, or `[B, …]` for each image of `x` `[B, N, inputs]`; `bias` `[outputs]`; to
/// `[…, outputs]`.
pub fn product(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, layout: Layout) -> Option<Tensor> {
    let (mut yes, inputs_first) = (false, layout == Layout::InputsFirst);
    // SAFETY: the pointers live through the call.
    unsafe { check(shim_fused_multiplies(x.as_ptr(), weight.as_ptr(), inputs_first, &raw mut yes)) }.ok()?;
    let bias = bias.map_or(std::ptr::null(), Tensor::as_ptr);
    yes.then(|| {
        // SAFETY: the tensors live through the call.
        let [y] = results(|out| unsafe {
            shim_fused_product(x.as_ptr(), weight.as_ptr(), bias, inputs_first, out)
        });
        y
    })
}

#[cfg(test)]
mod tests {
    use super::super::bf16::HEADS;
    use super::super::tests::{given, holds_to};
    use super::super::{attends, attention};
    use super::*;
    use crate::random::normal;
    use crate::shim::autocast;
    use tch::{Device, Kind};

    unsafe extern "C" {
        fn shim_fused_multiplies_weights() -> bool;
    }

    /// What is rounded to bf16 once or twice, relative (Frobenius); measured at most 4e-3.
    const ROUNDING: f64 = 6e-3;

    /// oneDNN's own variable, which forbids it what the processor has.
    const MOST: &str = "ONEDNN_MAX_CPU_ISA";

    /// Images, tokens, inputs and outputs: in one block and in several, and that end inside of one, of a panel and of a vector.
    const SHAPES: [[i64; 4]; 5] =
        [[2, 70, 48, 112], [1, 16, 6, 2], [3, 34, 10, 22], [1, 130, 600, 40], [2, 256, 384, 300]];

    /// Whether a test that needs the instruction can do its work; says so where it cannot.
    fn can(test: &str) -> bool {
        if !multiplies_weights() {
            println!(
                "{test}: skipped, for here nothing multiplies bf16 by itself, or libtorch does so faster"
            );
        }
        multiplies_weights()
    }

    fn multiplies_weights() -> bool {
        // SAFETY: no pointer is passed.
        unsafe { shim_fused_multiplies_weights() }
    }

    fn in_bf16<T>(work: impl FnOnce() -> T) -> T {
        autocast(Device::Cpu, Kind::BFloat16, || Ok(work())).unwrap()
    }

    #[test]
    fn the_processor_decides_which_products() {
        let flags = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let flag = |name: &str| flags.split_whitespace().any(|flag| flag == name);
        let has = flag("avx512_bf16");
        let set = |name: &str| std::env::var_os(name).is_some();
        assert_eq!(multiplies_bf16(), has && !set("ATEN_CPU_CAPABILITY") && !set(MOST));
        let (x, weight) = (Tensor::ones([1, 2, 4], (Kind::Float, Device::Cpu)), given("w", &[6, 4]));
        let served = |x: &Tensor, weight: &Tensor| {
            in_bf16(|| product(x, weight, None, Layout::OutputsFirst).is_some())
        };
        assert_eq!(multiplies_weights(), multiplies_bf16() && !flag("amx_bf16"));
        assert_eq!(served(&x, &weight), multiplies_weights());
        for (shape, why) in [
            (&[6, 2][..], "another width is libtorch's to refuse"),
            (&[3, 6, 4], "weights of three images for one"),
            (&[0, 6, 4], "no image at all"),
        ] {
            assert!(!served(&x, &given("w", shape)), "{why}");
        }
        assert!(!served(&x, &weight.to_kind(Kind::Double)), "of another kind");
        assert!(!served(&x.narrow(1, 0, 1), &weight), "one row has no pair for the weights' gradient");
        assert!(product(&x, &weight, None, Layout::OutputsFirst).is_none(), "f32 is libtorch's");
    }

    #[test]
    fn products_are_their_formula() {
        if !can("products_are_their_formula") {
            return;
        }
        for [b, n, k, m] in SHAPES {
            for (layout, weight) in [
                (Layout::OutputsFirst, vec![m, k]),
                (Layout::InputsFirst, vec![k, m]),
                (Layout::OutputsFirst, vec![b, m, k]),
                (Layout::InputsFirst, vec![b, k, m]),
            ] {
                let inputs = [given("x", &[b, n, k]), given("w", &weight), given("bias", &[m])];
                let plain = |x: &[Tensor]| {
                    let weight = match layout {
                        Layout::OutputsFirst => x[1].transpose(-2, -1),
                        Layout::InputsFirst => x[1].shallow_clone(),
                    };
                    let y = x[0].matmul(&weight);
                    vec![x.get(2).map_or(y.shallow_clone(), |bias| &y + bias)]
                };
                let fused = |x: &[Tensor]| {
                    let y = in_bf16(|| product(&x[0], &x[1], x.get(2), layout)).unwrap();
                    assert_eq!(y.kind(), Kind::BFloat16);
                    vec![y]
                };
                holds_to(ROUNDING, &inputs, fused, plain);
                holds_to(ROUNDING, &inputs[..2], fused, plain);
                let stored = |x: &[Tensor]| {
                    let [x, weight] = [0, 1].map(|i| x[i].to_kind(Kind::BFloat16));
                    vec![in_bf16(|| product(&x, &weight, None, layout)).unwrap()]
                };
                holds_to(ROUNDING, &inputs[..2], stored, plain);
            }
        }
    }

    /// Gradients of weights in f32 are not rounded to bf16: with operands that bf16 holds they are f32's.
    #[test]
    fn a_gradient_of_weights_is_a_sum_in_f32() {
        if !can("a_gradient_of_weights_is_a_sum_in_f32") {
            return;
        }
        let exact = |name: &str, shape: &[i64]| normal(1, name, 0, shape).to_kind(Kind::BFloat16);
        let (x, dy) = (exact("x", &[2, 300, 96]), exact("dy", &[2, 300, 64]));
        let weight = given("w", &[64, 96]);
        let y = in_bf16(|| product(&x, &weight, None, Layout::OutputsFirst)).unwrap();
        let [got] = &Tensor::run_backward(&[(y * &dy).sum(Kind::Float)], &[&weight], false, false)[..] else {
            panic!("one gradient")
        };
        let [x, dy] = [x, dy].map(|t| t.to_kind(Kind::Double).view([600, -1]));
        let want = dy.transpose(0, 1).matmul(&x);
        let distance = ((got.to_kind(Kind::Double) - &want).norm() / want.norm()).double_value(&[]);
        assert!(got.kind() == Kind::Float && distance < 2e-6, "{distance:e}");
    }

    #[test]
    fn threads_change_no_bit() {
        if !can("threads_change_no_bit") {
            return;
        }
        let run = |threads: i32| {
            tch::set_num_threads(threads);
            let mut all = Vec::new();
            let mut with_gradients = |y: Tensor, inputs: &[&Tensor]| {
                let weight = normal(7, "weight", 0, &y.size());
                all.extend(Tensor::run_backward(&[(&y * weight).sum(Kind::Float)], inputs, false, false));
                all.push(y.detach());
            };
            for [b, n, k, m] in SHAPES {
                let (x, w) = (given("x", &[b, n, k]), given("w", &[m, k]));
                let y = in_bf16(|| product(&x, &w, None, Layout::OutputsFirst)).unwrap();
                with_gradients(y, &[&x, &w]);
            }
            for [b, n, heads, d] in HEADS.into_iter().filter(|shape| attends(shape[1])) {
                let qkv = given("qkv", &[b, n, 3 * heads * d]);
                with_gradients(attention(&qkv.to_kind(Kind::BFloat16), heads), &[&qkv]);
            }
            all
        };
        let before = tch::get_num_threads();
        let [one, two, three] = [1, 2, 3].map(run);
        tch::set_num_threads(before);
        assert!(one == two && one == three);
    }

    /// The way of processors without the instruction, where this one has it.
    #[test]
    fn without_the_instruction_all_hold() {
        if !can("without_the_instruction_all_hold") {
            return;
        }
        let program = std::env::current_exe().unwrap();
        let all = std::process::Command::new(program)
            .args(["shim::fused", "--skip", "all_instruction_sets_hold"])
            .env(MOST, "AVX512_CORE")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&all.stdout);
        assert!(all.status.success() && !said.contains(" 0 passed"), "{said}");
    }
}
