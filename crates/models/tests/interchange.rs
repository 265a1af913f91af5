//! Checkpoints of `torch.save`, made by `reference/reference.py`: read, written, and refused by the name of what is wrong.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use models::config::Architecture;
use models::diffusion::NoiseSchedule;
use models::interchange::{self, Hints, WeightSet};
use models::{Config, Network};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tch::{Device, Kind, Tensor};
use torch::random;
use torch::shim::AdamW;
use weights::Weights;
use weights::pickle::{self, Found, Item, Wanted};

const HINTS: Hints = Hints {
    prediction: None,
    schedule: Some(NoiseSchedule::Linear),
    heads: Some(2),
    classes: None,
    any_classes: false,
    weights: WeightSet::Ema,
};

fn file(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/reference")).join(name)
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
    let parameters = sorted(network);
    assert!(parameters.len() > 20);
    for (k, (name, tensor)) in parameters.iter().enumerate() {
        let want = wanted(k as i64 + first, tensor);
        assert_eq!(bytes(tensor), bytes(&want), "{name}");
    }
}

fn sorted(network: &Network) -> BTreeMap<String, Tensor> {
    network.parameters().iter().map(|p| (p.name.clone(), p.tensor.detach())).collect()
}

/// AdamW in torch and in the shim differ by the rounding of a few operations on numbers of size one.
const ROUNDING: f64 = 2e-6;

fn near(name: &str, ours: &Tensor, theirs: &Tensor) {
    assert_eq!(ours.size(), theirs.size(), "{name}");
    let worst = (ours - theirs).abs().max().double_value(&[]);
    assert!(worst <= ROUNDING, "{name}: off by {worst:e}");
}

/// What the script trains with.
const ADAM: AdamW = AdamW { learning_rate: 0.01, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.1 };
const SCALES: AdamW = AdamW { learning_rate: 0.025, weight_decay: 0.0, ..ADAM };

/// Step `n` of the script's optimiser with tensor `k`.
fn advance(adam: &AdamW, n: i64, k: i64, [value, first, second]: [&Tensor; 3]) {
    let one = |tensor: &Tensor| [tensor.shallow_clone()];
    let gradient = wanted(k + 1000 * n, value);
    adam.step(&one(value), &[gradient], &one(first), &one(second), &Tensor::from(n as f32)).unwrap();
}

#[test]
fn the_reference_s_file_is_read() {
    let mut checkpoint = interchange::read(&file("reference.pt"), &HINTS).unwrap();
    let about = checkpoint.about.clone();
    let preset = Config::preset("switch-dit-tiny/2", 4, 3).unwrap();
    assert_eq!(about.network, Config { width: 8, blocks: 1, heads: 2, experts: 3, top_k: 2, ..preset });
    assert_eq!((about.schedule, about.ema_decays), (NoiseSchedule::Linear, vec![0.9999]));
    let trained = checkpoint.network(None, Device::Cpu).unwrap();
    for (k, (name, tensor)) in sorted(&trained).iter().enumerate() {
        let start = wanted(k as i64, tensor);
        let moments = [start.zeros_like(), start.zeros_like()];
        for n in (1..=3).filter(|_| name != "pos_embed") {
            advance(&ADAM, n, k as i64, [&start, &moments[0], &moments[1]]);
        }
        near(name, &start, tensor);
    }
    check(&checkpoint.network(Some(0.9999), Device::Cpu).unwrap(), 100);
    checkpoint.weights.finish().unwrap();
}

#[test]
fn its_optimiser_goes_on_as_in_torch() {
    let mut checkpoint = interchange::read_whole(&file("reference.pt"), &HINTS).unwrap();
    let about = checkpoint.about.clone();
    assert_eq!((about.step, about.foreign), (3, true));
    assert_eq!(about.training, serde_json::json!({"learning-rate": 0.01, "weight-decay": 0.1}));
    let next = Weights::read(&file("next.safetensors")).unwrap();
    let network = checkpoint.network(None, Device::Cpu).unwrap();
    checkpoint.network(Some(0.9999), Device::Cpu).unwrap();
    let mut take = |name: String, like: &Tensor| checkpoint.weights.take(&name, &like.size()).unwrap();
    for (k, (name, tensor)) in sorted(&network).iter().enumerate() {
        if name != "pos_embed" {
            let (first, second) = ("optimizer.first.", "optimizer.second.");
            let moments = [first, second].map(|prefix| take(format!("{prefix}{name}"), tensor));
            advance(&ADAM, 4, k as i64, [tensor, &moments[0], &moments[1]]);
        }
        near(name, tensor, next.get(name).unwrap().unwrap());
    }
    let want = next.get("scales").unwrap().unwrap();
    let [scales, first, second] = ["scales", "first", "second"].map(|name| take(format!("uw.{name}"), want));
    advance(&SCALES, 4, 50, [&scales, &first, &second]);
    near("scales", &scales, want);
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
    interchange::write_native(&ours, &mut whole(&file("reference.pt")), None).unwrap();
    interchange::write(&theirs, &mut whole(&ours), None).unwrap();
    let (want, got) = (everything(&file("reference.pt")), everything(&theirs));
    assert!(want.tensors.names().eq(got.tensors.names()));
    for name in want.tensors.names() {
        let (want, got) = [&want, &got].map(|found| found.tensors.get(name).unwrap().unwrap()).into();
        assert_eq!((want.kind(), bytes(want)), (got.kind(), bytes(got)), "{name}");
    }
    assert_eq!(want.numbers, got.numbers);
    // What it was trained with came along, so nothing has to be said again.
    let about = |path| interchange::read_whole(path, &Hints::default()).unwrap().about;
    assert_eq!(about(&theirs), about(&ours));
}

fn whole(path: &Path) -> models::checkpoint::Checkpoint {
    interchange::read_whole(path, &HINTS).unwrap()
}

fn everything(path: &Path) -> Found {
    let wanted = Wanted { states: &["model", "ema", "uw"], tree: "opt", note: "about" };
    pickle::find(path, &wanted).unwrap()
}

#[test]
fn the_written_file_is_the_one_that_torch_has_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.pt");
    interchange::write(&path, &mut whole(&file("reference.pt")), None).unwrap();
    let digest = Sha256::digest(std::fs::read(&path).unwrap());
    let digest: String = digest.iter().map(|b| format!("{b:02x}")).collect();
    // `reference.py check` has passed on the file with this digest; run it again where the digest changes.
    assert_eq!(digest, "7be999fe89856ee1529bbd237758213a3a4e1d8bdb75e01d0e21fbc60044c055");
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
    pickle::write(path, &Item::named([("state_dict", Item::State(tensors))])).unwrap();
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

type Moments = BTreeMap<String, Tensor>;
type Group = Vec<(&'static str, f64)>;

/// Writes the script's file once more, its optimiser changed.
fn write_changed(path: &Path, change: &dyn Fn(&mut Moments, &mut Group)) {
    let Found { mut tensors, .. } = everything(&file("reference.pt"));
    let state = |tensors: Weights| tensors.into_tensors().unwrap().into_iter().collect::<Vec<_>>();
    let (model, uw) = (state(tensors.split_off("model.")), state(tensors.split_off("uw.")));
    let mut moments = tensors.split_off("opt.state.").into_tensors().unwrap();
    let mut group = vec![("lr", 0.01), ("beta1", 0.9), ("beta2", 0.999), ("eps", 1e-8), ("parameters", 26.0)];
    change(&mut moments, &mut group);
    let number = |wanted: &str| group.iter().find(|(name, _)| *name == wanted).unwrap().1;
    let mut entries: BTreeMap<i64, Vec<(&str, Item)>> = BTreeMap::new();
    for (name, tensor) in &moments {
        let (index, what) = name.split_once('.').unwrap();
        entries.entry(index.parse().unwrap()).or_default().push((what, Item::Tensor(tensor)));
    }
    let entries = entries.into_iter().map(|(index, entry)| (Item::Integer(index), Item::named(entry)));
    let parameters = number("parameters") as i64;
    let group = |parameters: std::ops::Range<i64>| {
        Item::named([
            ("lr", Item::Float(number("lr"))),
            ("betas", Item::Tuple(vec![Item::Float(number("beta1")), Item::Float(number("beta2"))])),
            ("eps", Item::Float(number("eps"))),
            ("weight_decay", Item::Float(0.0)),
            ("params", Item::List(parameters.map(Item::Integer).collect())),
        ])
    };
    let groups = vec![group(0..parameters), group(parameters..parameters + 1)];
    let opt = Item::named([("state", Item::Dict(entries.collect())), ("param_groups", Item::List(groups))]);
    let [model, uw] = [&model, &uw].map(|s| Item::State(s.iter().map(|(n, t)| (n.clone(), t)).collect()));
    pickle::write(path, &Item::named([("model", model), ("uw", uw), ("opt", opt)])).unwrap();
}

#[test]
fn an_optimiser_that_does_not_fit_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.pt");
    let refuse = |change: &dyn Fn(&mut Moments, &mut Group), text: &str| {
        write_changed(&path, change);
        // The networks in it are read all the same.
        interchange::read(&path, &HINTS).unwrap().network(None, Device::Cpu).unwrap();
        let error = interchange::read_whole(&path, &HINTS).err().unwrap();
        let error_text = format!("{error:#}");
        assert_eq!(stage::exit_code(&error), 2, "{error_text}");
        assert!(error_text.contains(text), "{error_text}");
    };
    write_changed(&path, &|_, _| {});
    assert_eq!(whole(&path).about.step, 3);
    let set = |group: &mut Group, name: &str, value: f64| {
        group.iter_mut().filter(|(n, _)| *n == name).for_each(|entry| entry.1 = value)
    };
    refuse(&|m, _| drop(m.remove("1.exp_avg")), "x_embedder.proj.weight: ");
    refuse(&|m, _| drop(m.remove("1.exp_avg")), "no tensor opt.state.1.exp_avg");
    refuse(&|m, _| drop(m.remove("2.step")), "no tensor opt.state.2.step");
    refuse(&|m, _| drop(m.insert("2.exp_avg_sq".into(), Tensor::from_slice(&[0f32]))), "has shape [1]");
    refuse(&|m, _| drop(m.insert("0.exp_avg".into(), Tensor::from(0f32))), "surplus tensors opt.state.0");
    refuse(
        &|m, _| drop(m.insert("3.step".into(), Tensor::from(4f32))),
        "4 steps with t_embedder.mlp.0.weight",
    );
    refuse(&|m, _| drop(m.insert("1.step".into(), Tensor::from(-1f32))), "done -1 steps");
    refuse(&|_, g| set(g, "beta2", 0.95), "betas.1 is 0.95, wanted 0.999");
    refuse(&|_, g| set(g, "parameters", 25.0), "groups of [25, 1] parameters, wanted [26, 1]");
}

#[test]
fn entries_that_come_again_and_again_are_refused() {
    // A list of lists of lists, each a thousand times the same one.
    let mut pickle = b"\x80\x02}(X\x03\0\0\0opt}(X\x01\0\0\0s](".to_vec();
    pickle.extend(b"](");
    (0..1000).for_each(|_| pickle.extend(b"K\x01"));
    pickle.extend(b"eq\x00");
    for level in 1..=2u8 {
        pickle.extend(b"](");
        (0..1000).for_each(|_| pickle.extend([b'h', level - 1]));
        pickle.extend([b'e', b'q', level]);
    }
    pickle.extend(b"euu.");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.pt");
    let mut zip = zip::ZipWriter::new(std::fs::File::create(&path).unwrap());
    let options = zip::write::SimpleFileOptions::default();
    zip.start_file("a/data.pkl", options.compression_method(zip::CompressionMethod::Stored)).unwrap();
    std::io::Write::write_all(&mut zip, &pickle).unwrap();
    zip.finish().unwrap();
    let error = pickle::find(&path, &Wanted { tree: "opt", ..Wanted::default() }).err().unwrap();
    assert!(format!("{error:#}").contains("more entries than the file has"), "{error:#}");
}
