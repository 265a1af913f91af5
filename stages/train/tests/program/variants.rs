//! Every option of the design space and of the methods it is compared with trains, and those that should agree do.

use crate::support::{Place, refused};
use models::analysis::Gating;
use serde_json::Value as Json;

fn mean(log: &[Json], name: &str) -> f64 {
    log.iter().map(|line| line[name].as_f64().unwrap()).sum::<f64>() / log.len() as f64
}

#[test]
fn each_learns() {
    let place = Place::new();
    let variants = [
        "--gating none",
        "--gating noisy-top-k",
        "--gating noisy-prior --relations paper",
        "--gating load-balance --z-weight 0.001",
        "--gating noisy-load-balance",
        "--gating random",
        "--integration replace",
        "--integration mask",
        "--integration mask-skip",
        "--experts 4 --top-k 1 --prior-weight 0.1",
        "--weighting min-snr",
        "--weighting p2",
        "--weighting p2-as-published",
        "--weighting uw",
        "--weighting uw --clusters 5 --batch-size 10",
        "--loss simple --schedule linear",
        "--interval 250,500",
        "--clip 1 --warm-up 10",
        "--precision bf16",
        "--prediction v",
        "--prediction velocity",
        "--prediction velocity --weighting uw",
    ];
    for (i, flags) in variants.iter().enumerate() {
        let name = i.to_string();
        place.train(&name, 36, &format!("--learning-rate 0.005 {flags}"));
        let log = place.log(&name);
        let (first, last) = (mean(&log[..3], "mse"), mean(&log[9..], "mse"));
        assert!(last < first, "{flags}: mse {first} to {last}");
        assert_eq!(log[0].get("load_balance").is_some(), flags.contains("load-balance"), "{flags}");
        assert_eq!(log[0].get("z").is_some(), flags.contains("--z-weight"), "{flags}");
    }
    place.train("v-min-snr", 6, "--prediction v --weighting min-snr --schedule linear");
    for model in ["dit-tiny", "dtr-tiny", "dtr-tiny --gating random", "time-moe-tiny"] {
        place.train(model, 6, &format!("--model {model}"));
    }
}

#[test]
fn parts_of_a_batch_give_the_step_of_the_whole() {
    let place = Place::new();
    place.train("whole", 9, "");
    place.train("parts", 9, "--accumulate 4");
    for (a, b) in place.log("whole").iter().zip(&place.log("parts")) {
        for name in ["mse", "prior", "loss"] {
            let (a, b) = (a[name].as_f64().unwrap(), b[name].as_f64().unwrap());
            assert!((a - b).abs() <= 1e-4 * a.abs(), "{name}: {a} and {b}");
        }
    }
    refused(&place.run("x", 3, "--accumulate 4 --weighting uw"), "needs the whole batch");
    refused(&place.run("y", 3, "--accumulate 3"), "no multiple of --accumulate 3");
}

#[test]
fn learned_scales_resume() {
    let place = Place::new();
    // The reference's clusters, and ANT's.
    for clusters in [8, 5] {
        let flags = format!(
            "--weighting uw --clusters {clusters} --batch-size {} --checkpoint-every 6",
            2 * clusters
        );
        let [whole, longer] = ["whole", "longer"].map(|name| format!("{name}-{clusters}"));
        place.train(&whole, 12, &flags);
        place.train(&longer, 6, &flags);
        place.train(&longer, 12, &flags);
        assert!(place.checkpoint(&whole, 12) == place.checkpoint(&longer, 12));
        let path = place.path(&format!("{whole}.checkpoints"));
        let weights = models::checkpoint::Checkpoint::read(&path).unwrap().weights;
        // Every cluster's scale was trained.
        let scales = Vec::<f32>::try_from(weights.get("uw.scales").unwrap().unwrap()).unwrap();
        assert!(scales.len() == clusters && scales.iter().all(|s| *s != 0.0), "{scales:?}");
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let place = Place::new();
    refused(&place.run("a", 3, "--weighting uw --clusters 3"), "no multiple of --clusters 3");
    refused(&place.run("b", 3, "--interval 500,250"), "--interval");
    refused(&place.run("c", 3, "--gating random --experts 4"), "random allocation");
    refused(&place.run("d", 3, "--model dit-tiny --gating random"), "dit has no gates");
    refused(&place.run("e", 3, "--model dit-tiny --experts 4"), "--experts: dit has no experts");
    refused(&place.run("f", 3, "--model dtr-tiny --top-k 1"), "--top-k: dtr has no experts");
    refused(&place.run("g", 3, "--model dit-tiny --integration mask"), "--integration: dit has no experts");
    refused(&place.run("h", 3, "--prediction v --weighting p2"), "its weights are not of errors of v");
    refused(&place.run("i", 3, "--prediction velocity --weighting min-snr"), "not of errors of velocity");
    refused(&place.run("j", 3, "--prediction velocity --schedule linear"), "without a schedule");
    place.train("k", 3, "--prediction v");
    refused(&place.run("k", 6, ""), "prediction is null here and \"v\" there");
    let given = format!("--initialize {}", place.path("k.checkpoints").display());
    refused(&place.run("l", 3, &given), "trained to predict v, not noise");
}

/// The log has, of the network and of its first average, how much of the gating map agrees with the prior and with the map of the
/// line before; read again from the checkpoints of those steps.
#[test]
fn the_log_tells_how_gating_maps_move() {
    let place = Place::new();
    place.train("a", 12, "--checkpoint-every 3 --gating-every 3 --learning-rate 0.03 --ema-decay 0.5,0.9");
    let gating = |step: usize, decay: Option<f64>| {
        if step == 0 {
            let about = models::checkpoint::Checkpoint::read(&place.path("a.checkpoints")).unwrap().about;
            let fresh = models::Network::fresh(&about.network, 0, tch::Device::Cpu).unwrap();
            return Gating::of(&fresh).unwrap();
        }
        let path = place.path(&format!("a.checkpoints/{}", models::checkpoint::file_name(step)));
        let mut checkpoint = models::checkpoint::Checkpoint::read(&path).unwrap();
        Gating::of(&checkpoint.network(decay, tch::Device::Cpu).unwrap()).unwrap()
    };
    let mut moved = 0;
    for line in place.log("a") {
        let step = line["step"].as_u64().unwrap() as usize;
        for (prefix, decay) in [("", None), ("ema_", Some(0.5))] {
            let (now, before) = (gating(step, decay), gating(step - 3, decay));
            let same = now.chosen.iter().zip(&before.chosen).filter(|(a, b)| a == b).count();
            let close = |name: &str, wanted: f64| {
                let told = line[format!("{prefix}{name}")].as_f64().unwrap();
                assert!((told - wanted).abs() < 1e-9, "{step} {prefix}{name}: {told}, not {wanted}");
            };
            close("prior_agreement", now.agreement());
            close("map_agreement", same as f64 / now.chosen.len() as f64);
            moved += usize::from(same < now.chosen.len());
        }
    }
    assert!(moved > 4, "the maps moved {moved} times");
    place.train("b", 3, "--gating-every 3 --model dit-tiny");
    place.train("c", 3, "--gating-every 3 --gating random");
    // Not at every line, and a run that was killed between two looks goes on to the same log.
    let flags = "--checkpoint-every 10 --gating-every 12 --learning-rate 0.03";
    place.train("whole", 60, flags);
    let looks: Vec<u64> = (place.log("whole").iter().filter(|line| line.get("map_agreement").is_some()))
        .map(|line| line["step"].as_u64().unwrap())
        .collect();
    assert_eq!(looks, [12, 24, 36, 48, 60]);
    let begun = place.path("killed.state/step-00000020.safetensors");
    let mut child = place.start("killed", 60, flags, &begun);
    child.kill().unwrap();
    child.wait().unwrap();
    place.train("killed", 60, flags);
    assert_eq!(place.log("killed"), place.log("whole"));
    for name in ["b", "c"] {
        assert!(place.log(name)[0].get("map_agreement").is_none());
    }
}

#[test]
fn a_summary_needs_no_latents() {
    let run = |flags: &str| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_train"));
        command.args(flags.split_whitespace()).output().unwrap()
    };
    let output = run("--summary --model switch-dit-b/2 --experts 4 --top-k 3 --classes 1");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("158129744 stored") && text.contains("151042640 activated"), "{text}");
    refused(&run("--summary --model switch-dit-q/2"), "none of");
}

#[test]
fn what_cannot_be_divided_among_processes_is_refused_before_there_is_anything_to_learn_from() {
    let run = |processes: &str, flags: &str| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_train"));
        command.env("WORLD_SIZE", processes).arg("--check").args(flags.split_whitespace()).output().unwrap()
    };
    assert!(run("8", "--batch-size 256 --accumulate 2").status.success());
    refused(&run("3", "--batch-size 256"), "--batch-size 256 does not divide among 3 processes");
    refused(&run("8", "--batch-size 8 --accumulate 2"), "no multiple of --accumulate 2");
    refused(&run("2", "--weighting uw"), "needs the whole batch at once");
    refused(&run("none", ""), "WORLD_SIZE=`none`");
}

#[test]
fn the_parameters_in_force_are_those_that_decide_something() {
    let run = |flags: &str| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_train"));
        command.arg("--check").args(flags.split_whitespace()).output().unwrap()
    };
    let force = |flags: &str| -> std::collections::BTreeMap<String, String> {
        let output = run(flags);
        assert!(output.status.success(), "{flags}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    // A default that others decide, written out, is the default.
    let standard = force("");
    assert_eq!(force("--experts 3 --top-k 2 --gating prior --integration mask-skip-one"), standard);
    assert_eq!((standard["experts"].as_str(), standard["top-k"].as_str()), ("3", "2"));
    for flags in ["--experts 4", "--top-k 1", "--gating none", "--integration replace", "--prior-weight 2"] {
        assert_ne!(force(flags), standard, "{flags}");
    }
    // What another parameter switches off makes no difference, and what is on does.
    let dit = force("--model dit-s/2");
    assert_eq!(dit["gating"], "none");
    for flags in ["--prior-weight 2", "--balance-weight 2", "--z-weight 1", "--relations paper"] {
        assert_eq!(force(&format!("--model dit-s/2 {flags}")), dit, "{flags}");
    }
    for (on, off) in [
        ("--weighting min-snr --snr-gamma 3", "--snr-gamma 3"),
        ("--weighting p2 --p2-k 3", "--p2-k 3"),
        ("--weighting p2-as-published --p2-gamma 3", "--p2-gamma 3"),
        ("--weighting uw --clusters 4", "--clusters 4"),
        ("--gating load-balance --balance-weight 3", "--balance-weight 3"),
    ] {
        assert_eq!(force(off), standard, "{off}");
        let without = on.rsplitn(3, ' ').last().unwrap();
        assert_ne!(force(on), force(without), "{on}");
    }
    // A velocity has no noise schedule.
    assert_eq!(standard["schedule"], "cosine");
    assert_eq!(force("--prediction velocity").get("schedule"), None);
    // What decides the course of every training is in force always.
    for flags in [
        "--seed 1",
        "--loss simple",
        "--learning-rate 1e-3",
        "--iterations 5",
        "--relations paper",
        "--precision bf16",
    ] {
        assert_ne!(force(flags), standard, "{flags}");
    }
    refused(&run("--model switch-dit-q/2"), "none of");
    refused(&run("--model dit-s/2 --experts 4"), "--experts: dit has no experts");
    refused(&run("--weighting uw --clusters 3"), "no multiple of --clusters 3");
    refused(&run("--batch-size 16 --accumulate 3"), "no multiple of --accumulate 3");
    refused(&run("--itertions 3"), "did you mean --iterations?");
}
