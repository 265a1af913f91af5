//! Files of `torch.save` in both formats, written by `pickle/make.py`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../../extractors/tests/recipe/mod.rs"]
mod recipe;

use std::path::PathBuf;
use tch::{Kind, Tensor};
use weights::{Weights, pickle};

fn file(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/pickle")).join(name)
}

#[test]
fn both_formats_hold_the_same_tensors() {
    for name in ["new.pth", "old.pth"] {
        let bytes = std::fs::read(file(name)).unwrap();
        assert!(pickle::is_pickle(&bytes), "{name}");
        // `Weights::read` tells formats by their first bytes.
        let weights = Weights::read(&file(name)).unwrap();
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

/// A dictionary of `count` tensors that all look at the same storage of `numbers` f32, in the older format.
fn shared(count: u32, numbers: u32) -> Vec<u8> {
    let old = std::fs::read(file("old.pth")).unwrap();
    // Magic number, version and system as torch writes them: three pickles, each ending in a dot after its start.
    let dictionary = old.windows(2).enumerate().filter(|(_, w)| w == b"\x80\x02").nth(3).unwrap().0;
    let mut bytes = old[..dictionary].to_vec();
    bytes.extend(b"\x80\x02}(");
    for i in 0..count {
        bytes.extend(b"X\x04\0\0\0");
        bytes.extend(format!("{i:04}").as_bytes());
        bytes.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\0aX\x03\0\0\0cpuJ");
        bytes.extend(numbers.to_le_bytes());
        bytes.extend(b"tQK\0J");
        bytes.extend(numbers.to_le_bytes());
        bytes.extend(b"\x85K\x01\x85tR");
    }
    bytes.extend(b"u.\x80\x02](X\x01\0\0\0ae.");
    bytes.extend(u64::from(numbers).to_le_bytes());
    bytes.resize(bytes.len() + 4 * numbers as usize, 0);
    bytes
}

#[test]
fn small_files_do_not_become_large_in_memory() {
    assert_eq!(pickle::parse(&shared(2, 10_000)).unwrap().len(), 2);
    let error = format!("{:#}", pickle::parse(&shared(1000, 100_000)).unwrap_err());
    assert!(error.contains("4 times the bytes of the file"), "{error}");
}
