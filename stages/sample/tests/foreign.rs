//! Checkpoints and autoencoders of other programs, given to the program itself.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use models::{Config, Network};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tch::{Device, Kind, Tensor};
use torch::random;
use weights::Weights;
use weights::pickle::{self, Item};

type State = BTreeMap<String, Tensor>;

/// An autoencoder, random, and a place for checkpoints and outputs.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self { folder: tempfile::tempdir().unwrap() };
        write_safetensors(&place.path("vae.safetensors"), &autoencoder(4));
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Samples four pictures.
    fn run(&self, checkpoint: &str, flags: &str) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sample"));
        command.arg("--checkpoints").arg(self.path(checkpoint)).arg("--samples").arg(self.path("samples"));
        if !flags.contains("--vae") {
            command.arg("--vae").arg(self.path("vae.safetensors"));
        }
        command
            .args(["--device", "cpu", "--threads", "1", "--images", "4", "--steps", "2"])
            .args(["--labels", "balanced"])
            .args(flags.split_whitespace())
            .current_dir(self.folder.path())
            .env_remove("PIPELINE_STATE")
            .env_remove("PIPELINE_EVENTS")
            .output()
            .unwrap()
    }

    /// The samples, and what was said beside them.
    fn samples(&self, checkpoint: &str, flags: &str) -> (Vec<u8>, String) {
        let _ = fs::remove_dir_all(self.path("samples"));
        let output = self.run(checkpoint, flags);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{checkpoint} {flags}: {text}");
        (fs::read(self.path("samples/samples.npz")).unwrap(), text)
    }

    fn refused(&self, checkpoint: &str, flags: &str, words: &[&str]) {
        let _ = fs::remove_dir_all(self.path("samples"));
        let output = self.run(checkpoint, flags);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{checkpoint} {flags}: {text}");
        // One line says what is wrong; what was read before it may have been told.
        assert_eq!(text.lines().filter(|line| line.starts_with("error: ")).count(), 1, "{text}");
        assert!(text.lines().next_back().is_some_and(|line| line.starts_with("error: ")), "{text}");
        for word in words {
            assert!(text.contains(word), "`{word}` is not in: {text}");
        }
        assert!(!self.path("samples").exists());
    }
}

fn autoencoder(latent: i64) -> State {
    let config = vae::Config { channels: vec![32, 32], layers: 1, latent, picture: 3 };
    let draw = |(name, shape): (&String, &Vec<i64>)| (name.clone(), random::normal(1, name, 0, shape) * 0.1);
    config.shapes().unwrap().iter().map(draw).collect()
}

fn write_safetensors(path: &Path, state: &State) {
    weights::write(path, state.iter().map(|(n, t)| (n.clone(), t)), &BTreeMap::new()).unwrap();
}

/// A network's tensors, with values that show.
fn network(config: &Config, seed: u64) -> State {
    let network = Network::fresh(config, 0, Device::Cpu).unwrap();
    let draw = |(name, tensor): (String, Tensor)| {
        let fixed = name == "pos_embed" || name == "full_time" || name.ends_with("_unit_mapping");
        let drawn = if fixed { tensor.copy() } else { random::normal(seed, &name, 0, &tensor.size()) * 0.05 };
        (name, drawn)
    };
    network.state().into_iter().map(draw).collect()
}

fn dit(classes: i64) -> Config {
    Config::preset("dit-tiny/2", 4, classes).unwrap()
}

fn item(state: &State) -> Item<'_> {
    Item::State(state.iter().map(|(name, tensor)| (name.clone(), tensor)).collect())
}

fn prefixed(state: &State, prefix: &str) -> State {
    state.iter().map(|(name, tensor)| (format!("{prefix}{name}"), tensor.shallow_clone())).collect()
}

const LINEAR: &str = "--schedule linear";

#[test]
fn wrapped_names_and_safetensors_are_the_same_network() {
    let place = Place::new();
    let state = network(&dit(3), 1);
    pickle::write(&place.path("bare.pt"), &item(&state)).unwrap();
    let (wanted, said) = place.samples("bare.pt", LINEAR);
    assert!(said.contains("bare.pt: taking the file's own tensors, of 3 classes and a null label"), "{said}");
    for prefix in ["module.", "_orig_mod.", "module._orig_mod."] {
        pickle::write(&place.path("wrapped.pt"), &item(&prefixed(&state, prefix))).unwrap();
        assert!(place.samples("wrapped.pt", LINEAR).0 == wanted, "{prefix}");
        write_safetensors(&place.path("wrapped.safetensors"), &prefixed(&state, prefix));
        assert!(place.samples("wrapped.safetensors", LINEAR).0 == wanted, "{prefix}");
    }
    write_safetensors(&place.path("bare.safetensors"), &state);
    assert!(place.samples("bare.safetensors", LINEAR).0 == wanted);
    // Something beside the network, as programs that save it all have it.
    let inner = prefixed(&state, "module.");
    let all = [("epoch", Item::Integer(3)), ("state_dict", item(&inner))];
    pickle::write(&place.path("inner.pt"), &Item::named(all)).unwrap();
    assert!(place.samples("inner.pt", LINEAR).0 == wanted);
}

#[test]
fn an_average_is_found_by_any_of_its_names_and_two_are_refused() {
    let place = Place::new();
    let (model, average) = (network(&dit(3), 1), network(&dit(3), 2));
    pickle::write(&place.path("average.pt"), &item(&average)).unwrap();
    pickle::write(&place.path("model.pt"), &item(&model)).unwrap();
    let [wanted, others] = ["average.pt", "model.pt"].map(|name| place.samples(name, LINEAR).0);
    assert!(wanted != others);
    for name in ["ema", "ema_model", "model_ema", "ema_state", "ema_state_dict", "params_ema"] {
        let wrapped = prefixed(&average, "module.");
        pickle::write(
            &place.path("both.pt"),
            &Item::named([("model", item(&model)), (name, item(&wrapped))]),
        )
        .unwrap();
        let (samples, said) = place.samples("both.pt", LINEAR);
        assert!(samples == wanted && said.contains(&format!("taking {name}, an average")), "{said}");
        let (samples, said) = place.samples("both.pt", &format!("{LINEAR} --weights model"));
        assert!(samples == others && said.contains("taking model"), "{said}");
    }
    let all = Item::named([("model", item(&model)), ("ema", item(&average)), ("ema_fast", item(&model))]);
    pickle::write(&place.path("two.pt"), &all).unwrap();
    place.refused("two.pt", LINEAR, &["several averages in it: ema, ema_fast", "--weights"]);
    assert!(place.samples("two.pt", &format!("{LINEAR} --weights ema_fast")).0 == others);
    place.refused(
        "two.pt",
        &format!("{LINEAR} --weights swa"),
        &["no weights `swa`", "ema, ema_fast, model"],
    );
}

#[test]
fn what_is_there_is_shown_where_no_network_is() {
    let place = Place::new();
    let stranger =
        BTreeMap::from([("conv.weight".to_string(), Tensor::zeros([3, 2], (Kind::Float, Device::Cpu)))]);
    let all = Item::named([("net", item(&stranger)), ("epoch", Item::Integer(1))]);
    pickle::write(&place.path("a.pt"), &all).unwrap();
    place.refused("a.pt", LINEAR, &["no tensor pos_embed", "net.conv.weight [3, 2]"]);
    write_safetensors(&place.path("a.safetensors"), &stranger);
    place.refused("a.safetensors", LINEAR, &["no tensor pos_embed", "conv.weight [3, 2]"]);
}

#[test]
fn dtr_s_own_names_are_known() {
    let place = Place::new();
    let config = Config::preset("dtr-tiny/2", 4, 3).unwrap();
    let state = network(&config, 1);
    pickle::write(&place.path("ours.pt"), &item(&state)).unwrap();
    let wanted = place.samples("ours.pt", LINEAR).0;
    let theirs = state.iter().map(|(name, tensor)| {
        let name = match name.strip_prefix("routers.").and_then(|rest| rest.split_once('.')) {
            Some((block, rest)) => format!("blocks.{block}.routing.{rest}"),
            None => name.clone(),
        };
        (name, tensor.shallow_clone())
    });
    let theirs: State = theirs.collect();
    assert!(theirs.contains_key("blocks.1.routing._unit_mapping"));
    pickle::write(&place.path("theirs.pt"), &Item::named([("ema", item(&theirs))])).unwrap();
    assert!(place.samples("theirs.pt", LINEAR).0 == wanted);
}

#[test]
fn an_official_file_says_its_schedule_and_its_classes() {
    let place = Place::new();
    // A table of ten rows, which could be read in two ways.
    let state = network(&dit(9), 1);
    let text = |text: &str| Item::Text(text.into());
    let general = Item::named([("schedule_name", text("linear")), ("image_size", Item::Integer(32))]);
    let data = Item::named([("name", text("nine")), ("num_classes", Item::Integer(9))]);
    let model = Item::named([("num_classes", text("${data.num_classes}"))]);
    let config =
        Item::named([("general", general), ("data", data), ("models", Item::named([("param", model)]))]);
    pickle::write(&place.path("a.pt"), &Item::named([("ema", item(&state)), ("config", config)])).unwrap();
    let (wanted, said) = place.samples("a.pt", "");
    assert!(said.contains("of 9 classes and a null label"), "{said}");
    pickle::write(&place.path("bare.pt"), &item(&state)).unwrap();
    assert!(place.samples("bare.pt", "--schedule linear --classes 9").0 == wanted);
    place.refused("a.pt", "--schedule cosine", &["say schedule linear, not cosine"]);
    place.refused("a.pt", "--classes 10", &["say classes 9, not 10"]);
    let other = Item::named([("noise_schedule", text("scaled_linear"))]);
    pickle::write(&place.path("b.pt"), &Item::named([("ema", item(&state)), ("args", other)])).unwrap();
    place.refused("b.pt", "--schedule linear --classes 9", &["the noise schedule scaled_linear"]);
}

#[test]
fn tables_of_labels_that_can_be_read_in_two_ways_are_refused_until_it_is_said() {
    let place = Place::new();
    // One class that was trained with hidden labels has two rows; so have two classes without.
    let one = network(&Config { null_row: Some(true), ..dit(1) }, 1);
    pickle::write(&place.path("one.pt"), &item(&one)).unwrap();
    place.refused(
        "one.pt",
        LINEAR,
        &["2 rows", "1 class with a null label, or 2 classes without", "--classes 1"],
    );
    let labels = |samples: &[u8]| {
        fs::write(place.path("x.npz"), samples).unwrap();
        npz::labels(&mut npz::Npz::open(&place.path("x.npz")).unwrap(), 4).unwrap().unwrap()
    };
    let guided = |flags: &str| place.samples("one.pt", &format!("{LINEAR} {flags}")).0;
    assert_eq!(labels(&guided("--classes 1")), [0; 4]);
    assert_eq!(labels(&guided("--classes 2")), [0, 1, 0, 1]);
    // With a null label there is guidance, without there is none.
    assert!(guided("--classes 1 --guidance 4") != guided("--classes 1 --guidance 1"));
    assert!(guided("--classes 2 --guidance 4") == guided("--classes 2 --guidance 1"));

    let ten = network(&Config { null_row: Some(false), ..dit(10) }, 1);
    pickle::write(&place.path("ten.pt"), &item(&ten)).unwrap();
    place.refused("ten.pt", LINEAR, &["9 classes with a null label, or 10 classes without"]);
    let (_, said) = place.samples("ten.pt", &format!("{LINEAR} --classes 10"));
    assert!(said.contains("of 10 classes and no null label"), "{said}");
    place.refused("ten.pt", &format!("{LINEAR} --classes 7"), &["10 rows", "7 classes"]);
}

#[test]
fn files_that_are_something_else_say_what() {
    let place = Place::new();
    fs::write(place.path("a.pt"), "version https://git-lfs.github.com/spec/v1\noid sha256:01\nsize 9\n")
        .unwrap();
    place.refused("a.pt", LINEAR, &["a.pt", "git lfs pull"]);
    fs::write(place.path("a.safetensors"), "<!DOCTYPE html>\n<html></html>\n").unwrap();
    place.refused("a.safetensors", LINEAR, &["a.safetensors", "web page"]);
    pickle::write(&place.path("whole.pt"), &item(&network(&dit(3), 1))).unwrap();
    let whole = fs::read(place.path("whole.pt")).unwrap();
    fs::write(place.path("half.pt"), &whole[..whole.len() / 2]).unwrap();
    place.refused("half.pt", LINEAR, &["half.pt", "download it again"]);
    let vae = fs::read(place.path("vae.safetensors")).unwrap();
    fs::write(place.path("half.safetensors"), &vae[..vae.len() / 2]).unwrap();
    let vae = format!("{LINEAR} --vae {}", place.path("half.safetensors").display());
    place.refused("whole.pt", &vae, &["half.safetensors", "cut short", "download it again"]);
}

/// The autoencoder of a checkpoint may come in another precision and under other names.
#[test]
fn the_same_autoencoder_is_known_in_f16_and_in_a_folder() {
    let place = Place::new();
    let state = network(&dit(3), 1);
    let identity = vae::Vae::identity(&Weights::read(&place.path("vae.safetensors")).unwrap()).unwrap();
    let latents = latents::LatentSpace::scaled(vae::LATENT_SCALE, identity);
    let about = models::checkpoint::CheckpointMetadata::new(
        3,
        dit(3),
        models::diffusion::NoiseSchedule::Linear,
        vec![],
        latents,
    );
    let mut content = models::checkpoint::Content::default();
    content.add("model.", state);
    content.write(&place.path("step-00000003.safetensors"), &about).unwrap();
    let flags = |vae: &str| format!("--weights model --vae {}", place.path(vae).display());
    let (wanted, _) = place.samples("step-00000003.safetensors", &flags("vae.safetensors"));

    let half: State = autoencoder(4).into_iter().map(|(name, t)| (name, t.to_kind(Kind::Half))).collect();
    fs::create_dir(place.path("f16")).unwrap();
    write_safetensors(&place.path("f16/model.safetensors"), &half);
    place.samples("step-00000003.safetensors", &flags("f16"));

    let named: State =
        autoencoder(4).into_iter().map(|(name, t)| (format!("first_stage_model.{name}"), t)).collect();
    pickle::write(&place.path("named.ckpt"), &Item::named([("state_dict", item(&named))])).unwrap();
    assert!(place.samples("step-00000003.safetensors", &flags("named.ckpt")).0 == wanted);

    let mut other = autoencoder(4);
    let _ = other.get_mut("decoder.conv_in.bias").unwrap().g_add_scalar_(1.0);
    write_safetensors(&place.path("other.safetensors"), &other);
    place.refused("step-00000003.safetensors", &flags("other.safetensors"), &["not the autoencoder"]);
}

#[test]
fn a_foreign_checkpoint_is_decoded_as_its_autoencoder_says() {
    let place = Place::new();
    pickle::write(&place.path("a.pt"), &item(&network(&dit(3), 1))).unwrap();
    let (usual, _) = place.samples("a.pt", LINEAR);
    fs::create_dir(place.path("sdxl")).unwrap();
    fs::copy(place.path("vae.safetensors"), place.path("sdxl/vae.safetensors")).unwrap();
    let config = r#"{"_class_name": "AutoencoderKL", "scaling_factor": 0.13025}"#;
    fs::write(place.path("sdxl/config.json"), config).unwrap();
    let folder = format!("{LINEAR} --vae {}", place.path("sdxl").display());
    let (scaled, _) = place.samples("a.pt", &folder);
    assert!(scaled != usual);
    assert!(place.samples("a.pt", &format!("{LINEAR} --scale 0.13025")).0 == scaled);
    assert!(place.samples("a.pt", &format!("{folder} --scale 0.18215")).0 == usual);
    assert!(place.samples("a.pt", &format!("{LINEAR} --scale 0.18215 --shift 0.5")).0 != usual);

    // Sixteen channels and no maps between moments and latents, as newer autoencoders have them.
    let wide = Config { channels: 16, ..dit(3) };
    pickle::write(&place.path("wide.pt"), &item(&network(&wide, 1))).unwrap();
    let mut vae = autoencoder(16);
    vae.retain(|name, _| !name.contains("quant_conv"));
    fs::create_dir(place.path("flux")).unwrap();
    write_safetensors(&place.path("flux/vae.safetensors"), &vae);
    let folder = format!("{LINEAR} --vae {}", place.path("flux").display());
    place.refused("wide.pt", &folder, &["16 channels", "give --scale"]);
    let config = r#"{"_class_name": "AutoencoderKL", "latent_channels": 16, "scaling_factor": 0.3611, "shift_factor": 0.1159}"#;
    fs::write(place.path("flux/config.json"), config).unwrap();
    let (told, _) = place.samples("wide.pt", &folder);
    assert!(place.samples("wide.pt", &format!("{folder} --scale 0.3611 --shift 0.1159")).0 == told);
    assert!(place.samples("wide.pt", &format!("{folder} --scale 0.3611 --shift 0")).0 != told);
}
