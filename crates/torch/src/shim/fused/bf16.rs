//! The passes on the CPU where products give and take bf16.

use super::tests::{SHAPES, attended, given, holds_to, normalised};
use super::{attends, attention, enter, gelu, join, leave, mix, modulate};
use crate::shim::autocast;
use tch::{Device, Kind, Tensor};

/// bf16 has 8 bits: what is rounded once or twice, relative (Frobenius).
const ROUNDING: f64 = 1e-2;

/// Images, tokens, heads and their width, also such as are no multiple of a vector's, or odd; scores in one part and in several.
pub const HEADS: [[i64; 4]; 8] = [
    [2, 16, 2, 8],
    [3, 16, 4, 16],
    [1, 48, 3, 32],
    [1, 256, 2, 64],
    [1, 256, 2, 72],
    [2, 208, 3, 20],
    [1, 1024, 1, 24],
    [1, 32, 2, 5],
];

fn holds(
    inputs: &[Tensor],
    fused: impl Fn(&[Tensor]) -> Vec<Tensor>,
    plain: impl Fn(&[Tensor]) -> Vec<Tensor>,
) {
    holds_to(ROUNDING, inputs, |x| autocast(Device::Cpu, Kind::BFloat16, || Ok(fused(x))).unwrap(), plain);
}

#[test]
fn each_pass_is_its_formula() {
    for [b, n, d] in SHAPES {
        let tokens = |name: &str| given(name, &[b, n, d]);
        let parts = |v: &Tensor| v.chunk(3, 2);
        let vectors = given("vectors", &[b, 1, 3 * d]);
        let copy = Tensor::shallow_clone;
        holds(
            &[tokens("x"), given("bias", &[d])],
            |x| {
                let y = gelu(&x[0].to_kind(Kind::BFloat16), &x[1]);
                assert_eq!(y.kind(), Kind::BFloat16);
                vec![y]
            },
            |x| vec![(&x[0] + &x[1]).gelu("tanh")],
        );
        holds(
            &[tokens("x"), copy(&vectors)],
            |x| {
                let h = modulate(&x[0], &parts(&x[1])[0], &parts(&x[1])[1]);
                assert_eq!(h.kind(), Kind::BFloat16);
                vec![h]
            },
            |x| vec![normalised(&x[0], &parts(&x[1])[0], &parts(&x[1])[1])],
        );
        holds(
            &[tokens("z"), tokens("u"), given("e", &[b, 1, d]), copy(&vectors)],
            |x| {
                let entered = enter(&x[0], Some(&x[1]), &x[2], &parts(&x[3])[0], &parts(&x[3])[1]);
                assert_eq!([entered.r.kind(), entered.h.kind()], [Kind::Float, Kind::BFloat16]);
                vec![entered.r, entered.keep, entered.h]
            },
            |x| {
                let change = &x[0] * (&x[1] + &x[2]);
                let r = &x[0] + &change;
                let h = normalised(&r, &parts(&x[3])[0], &parts(&x[3])[1]);
                vec![r, -change, h]
            },
        );
        let inputs = [tokens("r"), tokens("y"), given("bias", &[d]), copy(&vectors), tokens("keep")];
        holds(
            &inputs[..4],
            |x| {
                let v = parts(&x[3]);
                join(&x[0], &x[1], &x[2], &v[0], &v[1], &v[2]).into()
            },
            |x| {
                let v = parts(&x[3]);
                let s = &x[0] + &v[0] * (&x[1] + &x[2]);
                vec![s.shallow_clone(), normalised(&s, &v[1], &v[2])]
            },
        );
        holds(
            &inputs,
            |x| vec![leave(&x[0], &x[1], &x[2], &parts(&x[3])[0], x.get(4))],
            |x| vec![&x[0] + &parts(&x[3])[0] * (&x[1] + &x[2]) + &x[4]],
        );
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
            |x| vec![attention(&x[0].to_kind(Kind::BFloat16), heads)],
            |x| vec![attended(&x[0], [b, n, heads, d])],
        );
    }
}

#[test]
fn mixing_is_its_formula() {
    for stored in [Kind::Float, Kind::BFloat16] {
        let gates =
            Tensor::from_slice(&[0.5f32, 0.0, 0.25, 1.0, -2.0, 0.0]).view([-1, 3]).set_requires_grad(true);
        let mixed = |x: &[Tensor]| {
            let y = mix(&x[0], &x[1].to_kind(stored));
            assert_eq!(y.kind(), Kind::BFloat16);
            vec![y]
        };
        holds(&[gates, given("x", &[3, 3 << 14])], mixed, |x| vec![x[0].matmul(&x[1])]);
    }
}

#[test]
fn no_number_stays_none() {
    let x = Tensor::from_slice(&[f32::NAN, f32::INFINITY, -1e30, 1e30]).repeat([4]).view([1, 1, 16]);
    let y = gelu(&x.to_kind(Kind::BFloat16), &Tensor::zeros([16], (Kind::Float, Device::Cpu)));
    let y: Vec<f32> = Vec::try_from(y.to_kind(Kind::Float).flatten(0, -1)).unwrap();
    assert!(
        y[0].is_nan() && y[1] == f32::INFINITY && y[2] == 0.0 && (y[3] / 1e30 - 1.0).abs() < 0.01,
        "{y:?}"
    );
}
