//! Files of `torch.save` in both formats, written by `pickle/make.py`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod recipe;

use models::pickle;
use std::path::PathBuf;
use tch::{Kind, Tensor};

fn file(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/pickle")).join(name)
}

#[test]
fn both_formats_hold_the_same_tensors() {
    for name in ["new.pth", "old.pth"] {
        let bytes = std::fs::read(file(name)).unwrap();
        assert!(pickle::is_pickle(&bytes), "{name}");
        let weights = pickle::read(&file(name)).unwrap();
        let names: Vec<&str> = weights.names().collect();
        assert_eq!(names, ["layer.bias", "layer.turned", "layer.weight", "steps"], "{name}");
        let get = |name: &str| recipe::get(&weights, name);
        let wanted = Tensor::arange(6, (Kind::Float, tch::Device::Cpu)).reshape([2, 3]);
        assert_eq!(get("layer.weight"), wanted);
        assert_eq!(get("layer.turned"), wanted.tr());
        assert_eq!(get("layer.bias").kind(), Kind::Half);
        assert_eq!(get("layer.bias").to_kind(Kind::Float), Tensor::from_slice(&[1.5f32, -2.0]));
        assert_eq!((get("steps").size(), get("steps").int64_value(&[])), (vec![], 7));
    }
}

#[test]
fn nothing_is_run() {
    let error = pickle::read(&file("evil.pth")).err().unwrap();
    let text = format!("{error:#}");
    assert_eq!(stage::exit_code(&error), 2);
    assert!(text.contains("evil.pth") && text.contains("system") && text.contains("not run"), "{text}");
}

#[test]
fn cut_files_are_refused_wherever_they_are_cut() {
    for name in ["new.pth", "old.pth"] {
        let whole = std::fs::read(file(name)).unwrap();
        for length in 0..whole.len() {
            assert!(pickle::parse(&whole[..length]).is_err(), "{name} cut at {length}");
        }
    }
}

#[test]
fn mutated_files_do_not_panic() {
    for name in ["new.pth", "old.pth"] {
        let whole = std::fs::read(file(name)).unwrap();
        let stream = recipe::Stream::new(1, name);
        for round in 0..20_000 {
            let mut bytes = whole.clone();
            for k in 0..1 + round % 4 {
                let at = stream.raw(round * 8 + k) as usize % bytes.len();
                bytes[at] = stream.u8(round * 8 + k + 4);
            }
            let _ = pickle::parse(&bytes);
        }
    }
}
