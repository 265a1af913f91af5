//! Checkpoints of `torch.save`, made by `pickle/reference.py`: read, written, and refused by the name of what is wrong.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use models::config::Architecture;
use models::diffusion::Curve;
use models::interchange::{self, Hints};
use models::pickle::{self, Section};
use models::{Config, Network, random};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use tch::{Device, Kind, Tensor};

const HINTS: Hints = Hints { schedule: Some(Curve::Linear), heads: Some(2) };

fn file(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/pickle")).join(name)
}

fn bytes(tensor: &Tensor) -> Vec<u8> {
    let tensor = tensor.contiguous();
    let mut bytes = vec![0u8; tensor.numel() * tensor.kind().elt_size_in_bytes()];
    tensor.copy_data_u8(&mut bytes, tensor.numel());
    bytes
}

/// Tensor `k` of the sorted names, as the script fills it.
fn wanted(k: i64, like: &Tensor) -> Tensor {
    let places = Tensor::arange(like.numel() as i64, (Kind::Int64, Device::Cpu));
    ((places * 7 + 13 * k).remainder(64) - 32)
        .to_kind(Kind::Float)
        .divide_scalar(32.0)
        .view(like.size().as_slice())
}

/// Every parameter holds what the script wrote.
fn check(network: &Network, first: i64) {
    let mut parameters: Vec<_> = network.parameters().iter().collect();
    parameters.sort_by(|a, b| a.name.cmp(&b.name));
    assert!(parameters.len() > 20);
    for (k, parameter) in parameters.iter().enumerate() {
        let want = wanted(k as i64 + first, &parameter.tensor);
        assert_eq!(bytes(&parameter.tensor.detach()), bytes(&want), "{}", parameter.name);
    }
}

#[test]
fn the_reference_s_file_is_read() {
    let mut checkpoint = interchange::read(&file("reference.pt"), &HINTS).unwrap();
    let about = checkpoint.about.clone();
    let preset = Config::preset("switch-dit-tiny/2", 4, 3).unwrap();
    assert_eq!(about.network, Config { width: 8, blocks: 1, heads: 2, experts: 3, top_k: 2, ..preset });
    assert_eq!((about.schedule, about.ema_decays), (Curve::Linear, vec![0.9999]));
    check(&checkpoint.network(None, Device::Cpu).unwrap(), 0);
    check(&checkpoint.network(Some(0.9999), Device::Cpu).unwrap(), 100);
    checkpoint.weights.finish().unwrap();
}

#[test]
fn a_bare_state_dict_is_read() {
    let mut checkpoint = interchange::read(&file("bare.pt"), &HINTS).unwrap();
    assert_eq!(checkpoint.about.network.architecture, Architecture::Dit);
    assert!(checkpoint.about.ema_decays.is_empty());
    check(&checkpoint.network(None, Device::Cpu).unwrap(), 0);
}

#[test]
fn it_is_written_back_bit_for_bit() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, theirs) = (folder.path().join("ours.safetensors"), folder.path().join("theirs.pt"));
    interchange::write_native(&ours, &mut interchange::read(&file("reference.pt"), &HINTS).unwrap(), None)
        .unwrap();
    interchange::write(&theirs, &mut interchange::read(&ours, &Hints::default()).unwrap(), None).unwrap();
    let (want, _) = pickle::sections(&file("reference.pt"), &["model", "ema"], "").unwrap();
    let (got, _) = pickle::sections(&theirs, &["model", "ema"], "").unwrap();
    assert!(want.names().eq(got.names()));
    for name in want.names() {
        let (want, got) = (want.get(name).unwrap(), got.get(name).unwrap());
        assert_eq!((want.kind(), bytes(want)), (got.kind(), bytes(got)), "{name}");
    }
    // What it was trained with came along, so nothing has to be said again.
    let checkpoint = interchange::read(&theirs, &Hints::default()).unwrap();
    assert_eq!(checkpoint.about, interchange::read(&ours, &Hints::default()).unwrap().about);
}

#[test]
fn the_written_file_is_the_one_that_torch_has_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.pt");
    interchange::write(&path, &mut interchange::read(&file("reference.pt"), &HINTS).unwrap(), None).unwrap();
    let digest = Sha256::digest(std::fs::read(&path).unwrap());
    let digest: String = digest.iter().map(|b| format!("{b:02x}")).collect();
    // `reference.py check` has passed on the file with this digest; run it again where the digest changes.
    assert_eq!(digest, "7d8f7e317da1dc8db6d1e61997b898e65f1e28d46cedf62ba06e466d1fbde9ae");
}

#[test]
fn other_architectures_are_recognised() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["dit-tiny/2", "dtr-tiny/4", "switch-dit-tiny/2"] {
        let preset = Config::preset(name, 8, 10).unwrap();
        let configs = match preset.architecture {
            Architecture::SwitchDit => vec![
                Config { experts: 4, top_k: 3, ..preset.clone() },
                Config { experts: 4, top_k: 1, classes: 1, ..preset },
            ],
            _ => vec![preset],
        };
        for config in configs {
            let network = Network::fresh(&config, 1, Device::Cpu).unwrap();
            let path = folder.path().join("a.pt");
            write_bare(&path, &network, |_| {});
            let mut read = interchange::read(&path, &Hints { heads: None, ..HINTS }).unwrap();
            assert_eq!(read.about.network, config);
            let again = read.network(None, Device::Cpu).unwrap();
            let x = random::normal(0, "x", 0, &[2, 4, 8, 8]);
            let (t, y) = (Tensor::from_slice(&[3i64, 900]), Tensor::from_slice(&[0i64, 0]));
            assert_eq!(again.forward(&x, &t, &y), network.forward(&x, &t, &y), "{name}");
        }
    }
}

/// Writes a network's state dict, changed, without an outer dictionary's `model`.
fn write_bare(path: &Path, network: &Network, change: impl Fn(&mut Vec<(String, Tensor)>)) {
    let mut state: Vec<(String, Tensor)> = network.state().into_iter().collect();
    change(&mut state);
    let tensors = state.iter().map(|(name, tensor)| (name.clone(), tensor)).collect();
    pickle::write(path, &[("state_dict", Section::Tensors(tensors))]).unwrap();
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let refuse = |path: &Path, hints: &Hints, text: &str| {
        let read = interchange::read(path, hints);
        let error = read.and_then(|mut c| c.network(None, Device::Cpu)).err().unwrap();
        let error_text = format!("{error:#}");
        assert_eq!(stage::exit_code(&error), 2, "{error_text}");
        assert!(error_text.contains(text), "{error_text}");
    };
    refuse(&file("reference.pt"), &Hints { heads: None, ..HINTS }, "give --heads");
    refuse(&file("reference.pt"), &Hints { schedule: None, ..HINTS }, "give --schedule");
    refuse(&file("reference.pt"), &Hints { heads: Some(3), ..HINTS }, "no multiple of 4 and of heads 3");

    let folder = tempfile::tempdir().unwrap();
    let network =
        Network::fresh(&Config::preset("switch-dit-tiny/2", 4, 3).unwrap(), 0, Device::Cpu).unwrap();
    let path = folder.path().join("a.pt");
    let place = |state: &[(String, Tensor)], name: &str| state.iter().position(|(n, _)| n == name).unwrap();
    write_bare(&path, &network, |state| drop(state.remove(place(state, "blocks.1.attn.qkv.bias"))));
    refuse(&path, &HINTS, "no tensor blocks.1.attn.qkv.bias");
    write_bare(&path, &network, |state| drop(state.remove(place(state, "pos_embed"))));
    refuse(&path, &HINTS, "no tensor pos_embed");
    write_bare(&path, &network, |state| state.push(("blocks.0.x".into(), Tensor::from(0f32))));
    refuse(&path, &HINTS, "surplus tensors blocks.0.x");
    write_bare(&path, &network, |state| {
        let at = place(state, "final_layer.linear.bias");
        state[at].1 = Tensor::from_slice(&[0f32]);
    });
    refuse(&path, &HINTS, "tensor final_layer.linear.bias has shape [1]");
}
