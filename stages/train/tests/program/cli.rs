//! The program itself: it trains, stops, is killed, goes on to the same bytes, and refuses what does not fit.

use crate::support::{Place, refused};
use models::checkpoint::Checkpoint;
use models::interchange;
use serde_json::Value as Json;
use std::fs;
use std::process::Command;
use tch::Tensor;

#[test]
fn it_learns_and_logs() {
    let place = Place::new();
    place.train("a", 60, "--learning-rate 0.003 --checkpoint-every 25 --ema-decay 0.9,0.99");
    let log = place.log("a");
    let steps: Vec<u64> = log.iter().map(|l| l["step"].as_u64().unwrap()).collect();
    assert_eq!(steps, (1..=20).map(|i| i * 3).collect::<Vec<_>>());
    let mean =
        |lines: &[Json]| lines.iter().map(|l| l["mse"].as_f64().unwrap()).sum::<f64>() / lines.len() as f64;
    let (first, last) = (mean(&log[..3]), mean(&log[17..]));
    assert!(last < 0.9 * first, "mse {first} to {last}");
    assert!(log[0]["prior"].as_f64().unwrap() > 0.0);
    for step in [25, 50, 60] {
        place.checkpoint("a", step);
    }
    let mut checkpoint = models::checkpoint::Checkpoint::read(&place.path("a.checkpoints")).unwrap();
    assert_eq!((checkpoint.about.step, checkpoint.about.network.classes), (60, 2));
    for decay in [None, Some(0.9), Some(0.99)] {
        checkpoint.network(decay, tch::Device::Cpu).unwrap();
    }
    assert!(checkpoint.network(Some(0.5), tch::Device::Cpu).is_err());
}

#[test]
fn killed_stopped_or_lengthened_it_ends_with_the_same_bytes() {
    let place = Place::new();
    let flags = "--checkpoint-every 10";
    place.train("whole", 200, flags);

    let mut child = place.start("killed", 200, flags, &place.path("killed.state/step-00000010.safetensors"));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!place.path("killed.checkpoints").exists());
    place.train("killed", 200, flags);

    let mut child =
        place.start("stopped", 200, flags, &place.path("stopped.state/step-00000010.safetensors"));
    let id = child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    let status = child.wait().unwrap();
    // Where it was already at its end, it was done.
    assert!(status.code() == Some(75) || status.success(), "{status}");
    place.train("stopped", 200, flags);

    place.train("longer", 104, flags);
    place.train("longer", 200, flags);

    let checkpoints = format!("--resume {} {flags}", place.path("whole.checkpoints").display());
    fs::create_dir(place.path("part")).unwrap();
    let name = "step-00000150.safetensors";
    fs::copy(place.path("whole.checkpoints").join(name), place.path("part").join(name)).unwrap();
    place.train("resumed", 200, &checkpoints.replace("whole.checkpoints", "part"));

    for name in ["killed", "stopped", "longer", "resumed"] {
        assert!(place.checkpoint("whole", 200) == place.checkpoint(name, 200), "{name}: other weights");
    }
    // A run that was to end at 104 logs its last steps by themselves; the others agree line by line.
    for name in ["killed", "stopped"] {
        assert_eq!(place.log(name), place.log("whole"), "{name}");
    }
    assert_eq!(place.log("resumed").len(), 17);
}

/// Relative distance of what 12 steps changed, which AdamW's division by small second moments widens; measured 5e-6.
const ANOTHER_ORDER: f64 = 1e-4;

#[test]
fn two_processes_train_what_one_trains() {
    let place = Place::new();
    let flags = "--checkpoint-every 4 --learning-rate 0.001";
    place.train("begin", 1, flags);
    place.train("one", 12, flags);
    place.train_in_two_processes("two", 12, flags);
    place.train_in_two_processes("parts", 6, flags);
    place.train_in_two_processes("parts", 12, flags);
    assert!(place.checkpoint("two", 12) == place.checkpoint("parts", 12), "other weights after a resume");

    let weights = |name: &str, step: usize| {
        let path = place.path(&format!("{name}.checkpoints/{}", models::checkpoint::file_name(step)));
        let mut weights = models::checkpoint::Checkpoint::read(&path).unwrap().weights;
        let all = weights.split_off("model.").into_tensors().unwrap().into_values();
        tch::Tensor::cat(&all.map(|t| t.to_kind(tch::Kind::Double).flatten(0, -1)).collect::<Vec<_>>(), 0)
    };
    place.train_in_two_processes("accumulated", 12, &format!("{flags} --accumulate 2"));
    let (begin, one) = (weights("begin", 1), weights("one", 12));
    for name in ["two", "accumulated"] {
        let distance = ((weights(name, 12) - &one).norm() / (&one - &begin).norm()).double_value(&[]);
        println!("{name}: distance {distance:.1e}");
        assert!(distance < ANOTHER_ORDER, "{name}: {distance}");
    }
    let (one, two) = (place.log("one"), place.log("two"));
    assert_eq!(one.len(), two.len());
    for (a, b) in one.iter().zip(&two) {
        let (a, b) = (a["loss"].as_f64().unwrap(), b["loss"].as_f64().unwrap());
        assert!((a - b).abs() < 1e-3 * a.abs(), "{a} and {b}");
    }

    let mut command = place.command("odd", 4, "");
    command.envs([("RANK", "0"), ("WORLD_SIZE", "2")]);
    refused(&command.output().unwrap(), "LOCAL_RANK is not set");
    // Nobody waits for the others to be told so.
    let mut command = place.command("one", 1, "");
    command.envs([("RANK", "0"), ("WORLD_SIZE", "3"), ("LOCAL_RANK", "0")]);
    command.envs([("MASTER_ADDR", "127.0.0.1"), ("MASTER_PORT", "1")]);
    refused(&command.output().unwrap(), "--batch-size 8 does not divide among 3 processes");
    let mut command = place.command("one", 1, "--weighting uw");
    command.envs([("RANK", "0"), ("WORLD_SIZE", "2"), ("LOCAL_RANK", "0")]);
    command.envs([("MASTER_ADDR", "127.0.0.1"), ("MASTER_PORT", "1")]);
    refused(
        &command.output().unwrap(),
        "several processes: this weighting or gating needs the whole batch at once",
    );
}

#[test]
fn a_training_begins_with_given_weights() {
    let place = Place::new();
    place.train("a", 12, "--ema-decay 0.9,0.99");
    let given = format!("--initialize {}", place.path("a.checkpoints").display());
    // With a learning rate of 0 the weights stay what they were given.
    place.train("b", 1, &format!("{given} --learning-rate 0 --ema-decay 0.99,0.5"));
    place.train("c", 1, &format!("{given} --learning-rate 0 --ema-decay 1"));
    let state = |name: &str, decay: Option<f64>| {
        let path = place.path(&format!("{name}.checkpoints"));
        let mut checkpoint = models::checkpoint::Checkpoint::read(&path).unwrap();
        checkpoint.network(decay, tch::Device::Cpu).unwrap().state()
    };
    let weights = state("a", None);
    assert_eq!(weights, state("b", None));
    // The average of the same decay, else the first. With a decay of 1 it stays what it was given.
    assert_eq!(state("a", Some(0.9)), state("c", Some(1.0)));
    let name = "final_layer.linear.weight";
    let difference = |a: &Tensor, b: &Tensor| (a - b).abs().max().double_value(&[]);
    let (given, moved) = (&state("a", Some(0.99))[name], &state("b", Some(0.99))[name]);
    let wanted = given * 0.99 + &weights[name] * 0.01;
    assert!(difference(moved, &wanted) < 1e-6 && difference(moved, &state("a", Some(0.9))[name]) > 1e-5);

    // It goes on only with what it began with, and only the same network begins.
    refused(&place.run("b", 2, "--learning-rate 0 --ema-decay 0.99,0.5"), "initialize is null here");
    let given = format!("--initialize {}", place.path("a.checkpoints").display());
    refused(&place.run("e", 1, &format!("{given} --top-k 1")), "top-k is 1 here and 2 there");
    refused(&place.run("f", 1, &format!("{given} --schedule linear")), "trained with the schedule cosine");
}

#[test]
fn a_training_goes_on_from_a_file_of_torch() {
    let place = Place::new();
    for (name, flags) in [("plain", ""), ("weighted", "--weighting uw --clusters 4")] {
        let [whole, part, given, again] = ["whole", "part", "given", "again"].map(|w| format!("{name}-{w}"));
        let flags = format!("{flags} --learning-rate 0.001 --weight-decay 0.01 --ema-decay 0.9999");
        place.train(&whole, 12, &format!("{flags} --checkpoint-every 7"));
        place.train(&part, 7, &format!("{flags} --checkpoint-every 7"));
        let checkpoint = || Checkpoint::read(&place.path(&format!("{part}.checkpoints"))).unwrap();
        let file = place.path(&format!("{given}.pt"));
        interchange::write(&file, &mut checkpoint(), None).unwrap();
        let resume = |flags: &str| format!("--resume {} {flags} --checkpoint-every 7", file.display());
        place.train(&again, 12, &resume(&flags));
        assert!(place.checkpoint(&whole, 12) == place.checkpoint(&again, 12), "{name}: other bytes");

        // A file that says no more than torch's own: what it does not say is this training's.
        let mut foreign = checkpoint();
        foreign.about.foreign = true;
        foreign.about.training = serde_json::json!({"learning-rate": 0.001, "weight-decay": 0.01});
        interchange::write(&file, &mut foreign, None).unwrap();
        let again = format!("{name}-foreign");
        place.train(&again, 12, &resume(&flags));
        // It goes on with batches of the same numbers, so it ends alike.
        assert!(place.checkpoint(&whole, 12) == place.checkpoint(&again, 12), "{name}: other bytes");
        let refuse = |flags: &str, text: &str| refused(&place.run("x", 12, &resume(flags)), text);
        refuse(&flags.replace("0.001", "0.002"), "learning-rate is 0.002 here and 0.001 there");
        refuse(&flags.replace("0.9999", "0.9"), "ema-decay is [0.9] here and [0.9999] there");
        refuse(&format!("{flags} --top-k 1"), "top-k is 1 here and 2 there");
        refuse(&format!("{flags} --schedule linear"), "trained with the schedule cosine");
    }
    // One with weights alone begins a training, and continues none.
    let file = place.path("weights.pt");
    let mut checkpoint = Checkpoint::read(&place.path("plain-part.checkpoints")).unwrap();
    drop(checkpoint.weights.split_off("optimizer."));
    interchange::write(&file, &mut checkpoint, None).unwrap();
    refused(&place.run("x", 12, &format!("--resume {}", file.display())), "no optimiser's state in it");
    place.train("begun", 1, &format!("--initialize {}", file.display()));
}

#[test]
fn events_are_beside_the_log() {
    let place = Place::new();
    let events = place.path("events");
    let flags = format!("--checkpoint-every 6 --events {}", events.display());
    place.train("a", 9, &flags);
    let first = fs::read(events.join("events.out.tfevents.train")).unwrap();
    place.train("a", 18, &flags);
    let second = fs::read(events.join("events.out.tfevents.train")).unwrap();
    // A version, then one event for every line of the log; a longer training goes on with what was there.
    assert!(second.starts_with(&first) && second.len() > first.len());
    let (mut at, mut count) = (0, 0);
    while at < second.len() {
        at += 16 + u64::from_le_bytes(second[at..at + 8].try_into().unwrap()) as usize;
        count += 1;
    }
    assert_eq!((at, count), (second.len(), 1 + place.log("a").len()));
}

#[test]
fn retention_keeps_the_newest() {
    let place = Place::new();
    place.train("a", 12, "--checkpoint-every 2 --keep 2");
    let mut names: Vec<String> = fs::read_dir(place.path("a.checkpoints"))
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["step-00000010.safetensors", "step-00000012.safetensors"]);
}

#[test]
fn what_does_not_fit_is_refused() {
    let place = Place::new();
    place.train("a", 4, "--checkpoint-every 2");
    refused(&place.run("a", 8, "--checkpoint-every 2 --seed 1"), "seed is 1 here and 0 there");

    refused(&place.run("b", 4, "--experts 2 --top-k 3"), "top-k 3 is outside 1 to 2");
    refused(&place.run("c", 4, "--ema-decay 0.9,0.9"), "0.9 is there twice");
    refused(&place.run("g", 4, "--cuda-graphs on"), "--cuda-graphs on: the device is no GPU");
    let mut command = place.command("d", 4, "");
    let output = command.arg("--itertions").arg("4").output().unwrap();
    assert_eq!(output.status.code(), Some(2));

    let shard = place.path("latents/00000.parquet");
    let mut bytes = fs::read(&shard).unwrap();
    bytes[1000] ^= 1;
    fs::write(&shard, bytes).unwrap();
    refused(&place.run("e", 4, ""), "00000.parquet");
}

#[test]
fn a_loss_that_is_no_number_stops_it() {
    let place = Place::new();
    let output = place.run("a", 400, "--learning-rate 1e30 --checkpoint-every 1");
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("step-0000") && error.contains("no finite number"), "{error}");
    let output = place.run("b", 400, "--learning-rate 1e30 --checkpoint-every 100");
    let error = String::from_utf8_lossy(&output.stderr);
    let last = error.lines().last().unwrap_or_default();
    assert!(last.starts_with("error: training from the start, no checkpoint yet: step "), "{error}");
    assert!(last.contains("at learning rate 1000000"), "{error}");
}

#[test]
fn other_classes_begin_with_labels_of_their_own() {
    let place = Place::new();
    // Trained on three classes by another program, whose table has a null label: four rows.
    let config = models::Config::preset("switch-dit-tiny/2", 8, 3).unwrap();
    let network = models::Network::fresh(&config, 5, tch::Device::Cpu).unwrap();
    let state = network.state();
    let items = state.iter().map(|(name, tensor)| (name.clone(), tensor)).collect();
    weights::pickle::write(&place.path("three.pt"), &weights::pickle::Item::State(items)).unwrap();
    let given = format!("--initialize {} --schedule linear", place.path("three.pt").display());
    refused(&place.run("a", 1, &given), "4 rows");
    refused(&place.run("a", 1, "--new-labels true"), "--new-labels without --initialize");
    place.train("b", 1, &format!("{given} --new-labels true --learning-rate 0 --ema-decay 0.99"));
    let mut begun = Checkpoint::read(&place.path("b.checkpoints")).unwrap();
    assert_eq!((begun.about.network.classes, begun.about.training["new-labels"].as_bool()), (2, Some(true)));
    let (model, average) = (begun.weights.split_off("model."), begun.weights.split_off("ema.0.99."));
    const TABLE: &str = "y_embedder.embedding_table.weight";
    for weights in [&model, &average] {
        for (name, tensor) in &state {
            let found = weights.get(name).unwrap().unwrap();
            match name.as_str() {
                TABLE => assert_eq!(found.size(), [3, 32]),
                _ => assert!(found.equal(tensor), "{name}"),
            }
        }
    }
    // The table is the one that a fresh training draws.
    place.train("fresh", 1, "--schedule linear --learning-rate 0");
    let fresh = Checkpoint::read(&place.path("fresh.checkpoints")).unwrap().weights;
    assert!(fresh.get(&format!("model.{TABLE}")).unwrap().unwrap().equal(model.get(TABLE).unwrap().unwrap()));
    // A training of ours with other classes is refused with the way out.
    let ours = models::checkpoint::CheckpointMetadata::new(
        1,
        config,
        models::diffusion::NoiseSchedule::Linear,
        vec![],
        models::checkpoint::LatentSpace::scaled(0.18215, ""),
    );
    let mut content = models::checkpoint::Content::default();
    content.add("model.", state);
    content.write(&place.path("ours.safetensors"), &ours).unwrap();
    let given = format!("--initialize {} --schedule linear", place.path("ours.safetensors").display());
    refused(&place.run("c", 1, &given), "classes is 2 here and 3 there; --new-labels begins");
    place.train("c", 1, &format!("{given} --new-labels true"));
}
