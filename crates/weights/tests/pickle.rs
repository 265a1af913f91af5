//! Files of `torch.save` in both formats, written by `pickle/make.py`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../../extractors/tests/recipe/mod.rs"]
mod recipe;

use std::path::PathBuf;
use tch::{Kind, Tensor};
use weights::Weights;
use weights::pickle::{self, Setting};

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

const PROTOCOLS: [&str; 5] =
    ["protocol-2.pt", "protocol-3.pt", "protocol-4.pt", "protocol-5.pt", "protocol-4-old.pt"];

/// Written by `pickle/protocols.py`.
#[test]
fn every_protocol_is_read_with_arrays_of_numpy() {
    for name in PROTOCOLS {
        let mut weights = Weights::read(&file(name)).unwrap();
        let wanted = Tensor::arange(6, (Kind::Float, tch::Device::Cpu)).reshape([2, 3]);
        for (tensor, kind) in [("tensor", Kind::Float), ("rows", Kind::Float), ("columns", Kind::Double)] {
            let found = weights.take(tensor, &[2, 3]).unwrap();
            assert_eq!(found.kind(), kind, "{name} {tensor}");
            assert_eq!(found.to_kind(Kind::Float), wanted, "{name} {tensor}");
        }
        let half = weights.take("half", &[2]).unwrap();
        assert_eq!((half.kind(), half.double_value(&[1])), (Kind::Half, -2.0), "{name}");
        assert_eq!(weights.take("count", &[]).unwrap().int64_value(&[]), 7, "{name}");
        weights.finish().unwrap();
    }
}

#[test]
fn settings_are_read_however_they_are_wrapped() {
    for name in PROTOCOLS {
        let found = pickle::outline(&file(name), &["config", "args", "absent"]).unwrap();
        let state: Vec<&str> = found.shapes["state_dict"].keys().map(String::as_str).collect();
        assert_eq!(state, ["columns", "count", "half", "rows", "tensor"], "{name}");
        let settings: std::collections::BTreeMap<_, _> = found.settings.into_iter().collect();
        let text = |text: &str| Setting::Text(text.into());
        for (path, wanted) in [
            ("config.general.schedule_name", text("linear")),
            ("config.general.image_size", Setting::Number(256.0)),
            ("config.models.name", text("DiT-S/2")),
            ("args.num_classes", Setting::Number(10.0)),
            ("args.lr", Setting::Number(1e-4)),
        ] {
            assert_eq!(settings.get(path), Some(&wanted), "{name}: {settings:?}");
        }
    }
}

#[test]
fn mutated_files_of_every_protocol_do_not_panic() {
    for name in PROTOCOLS {
        let whole = std::fs::read(file(name)).unwrap();
        let stream = recipe::Stream::new(2, name);
        let folder = tempfile::tempdir().unwrap();
        for round in 0..2_000 {
            let mut bytes = whole.clone();
            for k in 0..1 + round % 4 {
                // Where the pickle is.
                let at = stream.raw(round * 8 + k) as usize % bytes.len().min(3_000);
                bytes[at] = stream.u8(round * 8 + k + 4);
            }
            let _ = pickle::parse(&bytes);
            if round % 20 == 0 {
                let path = folder.path().join("x.pt");
                std::fs::write(&path, &bytes).unwrap();
                let _ = pickle::outline(&path, &["config", "args"]);
            }
        }
    }
}
