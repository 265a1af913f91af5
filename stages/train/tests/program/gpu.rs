//! Training on a GPU, as the double of one shows it: the results of the CPU, graphs, NCCL, and nothing that the host waits for.

use crate::support::Place;
use models::checkpoint::Checkpoint;
use models::interchange;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::process::{Command, Stdio};

/// Relative distance of losses: sums in another order.
const F32: f64 = 1e-5;
/// Of losses in bf16, whose products are rounded to 8 bits on either device.
const BF16: f64 = 2e-2;

/// What makes the double's kernels fail.
const KERNELS: &str = "CUDA_DOUBLE_KERNELS";
/// What makes the double's recording fail.
const GRAPHS: &str = "CUDA_DOUBLE_GRAPHS";
/// Of a step: three in each of two blocks, and that of the final layer, forwards and backwards.
const PASSES: i64 = 2 * (2 * 3 + 1);

/// Trains on one GPU; what it did there. `None` where there is no double.
fn on_a_gpu(place: &Place, name: &str, iterations: usize, flags: &str) -> Option<BTreeMap<String, i64>> {
    let mut command = place.command(name, iterations, &format!("--device cuda:0 {flags}"));
    let gpu = cuda_double::lend(&mut command, 1, &place.path(&format!("{name}.report")))?;
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{flags}: {text}");
    assert!(!text.contains("Warning"), "{flags}: {text}");
    Some(gpu.report())
}

fn near(place: &Place, ours: &str, theirs: &str, tolerance: f64) {
    let logs = [ours, theirs].map(|name| place.log(name));
    assert_eq!(logs[0].len(), logs[1].len());
    for (ours, theirs) in logs[0].iter().zip(&logs[1]) {
        for (name, value) in theirs.as_object().unwrap() {
            let (ours, theirs) = (ours[name].as_f64().unwrap(), value.as_f64().unwrap());
            assert!((ours - theirs).abs() <= tolerance * theirs.abs(), "{name}: {ours} and {theirs}");
        }
    }
}

/// A part of the report that grows by this much from one training to a longer one.
fn growth(short: &BTreeMap<String, i64>, long: &BTreeMap<String, i64>, what: &str) -> i64 {
    long.get(what).unwrap_or(&0) - short.get(what).unwrap_or(&0)
}

#[test]
fn a_gpu_trains_what_the_cpu_trains() {
    let place = Place::new();
    for (i, flags) in [
        "",
        "--accumulate 2",
        "--cuda-graphs off",
        "--model dtr-tiny/2",
        "--model dit-tiny/2 --clip 0.5",
        "--gating noisy-prior",
        "--gating load-balance --z-weight 0.1",
        "--weighting uw --clusters 4",
        "--precision bf16",
    ]
    .into_iter()
    .enumerate()
    {
        let (gpu, cpu) = (format!("gpu-{i}"), format!("cpu-{i}"));
        let Some(report) = on_a_gpu(&place, &gpu, 9, flags) else { return };
        place.train(&cpu, 9, &flags.replace(" --cuda-graphs off", ""));
        assert!(report["launches"] > 0, "{flags}: {report:?}");
        near(&place, &gpu, &cpu, if flags.contains("bf16") { BF16 } else { F32 });
        let graphs = match flags {
            "--accumulate 2" | "--cuda-graphs off" => 0,
            // The costs of the matching, which only the prior has, are one.
            _ if flags.contains("--model") || flags.contains("load-balance") => 2,
            _ => 3,
        };
        assert_eq!(report.get("graphs").copied().unwrap_or(0), graphs, "{flags}: {report:?}");
        // One step is recorded and compared, the others after the first three are repeated.
        assert_eq!(report.get("replays").copied().unwrap_or(0), graphs * 6, "{flags}: {report:?}");
    }
}

#[test]
fn what_cannot_be_recorded_goes_on_without_graphs() {
    let place = Place::new();
    let run = |name: &str, graphs: &str| {
        let mut command = place.command(name, 6, &format!("--device cuda:0 --cuda-graphs {graphs}"));
        command.env(GRAPHS, "refused");
        cuda_double::lend(&mut command, 1, &place.path("report"))?;
        let output = command.output().unwrap();
        Some((output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned()))
    };
    let Some((code, text)) = run("auto", "auto") else { return };
    let reason = "recording a CUDA graph: CUDA error: operation not permitted";
    assert_eq!(code, Some(0), "{text}");
    assert!(
        text.lines().any(|l| l.starts_with("going on without CUDA graphs: ") && l.contains(reason)),
        "{text}"
    );
    assert!(!text.contains("panicked"), "{text}");
    place.train("cpu", 6, "");
    near(&place, "auto", "cpu", F32);
    let (code, text) = run("on", "on").unwrap();
    assert_eq!(code, Some(1), "{text}");
    assert!(
        text.lines().last().is_some_and(|l| l.contains("--cuda-graphs on") && l.contains(reason)),
        "{text}"
    );
}

#[test]
fn passes_are_launched_in_every_step_and_repeated_by_graphs() {
    let place = Place::new();
    let mut per_step = Vec::new();
    for (i, flags) in ["--cuda-graphs off", "--cuda-graphs on"].into_iter().enumerate() {
        let flags = format!("{flags} --checkpoint-every 100");
        let Some(short) = on_a_gpu(&place, &format!("short-{i}"), 6, &flags) else { return };
        let long = on_a_gpu(&place, &format!("long-{i}"), 16, &flags).unwrap();
        per_step.push(growth(&short, &long, "launches"));
    }
    assert_eq!(per_step, [10 * PASSES; 2]);
}

#[test]
fn the_host_waits_for_the_losses_and_the_costs_alone() {
    let place = Place::new();
    let all = ["--cuda-graphs off", "--cuda-graphs on", "--cuda-graphs off --accumulate 2 --clip 1"];
    for (i, flags) in all.into_iter().enumerate() {
        let flags = format!("{flags} --checkpoint-every 100");
        let Some(short) = on_a_gpu(&place, &format!("short-{i}"), 6, &flags) else { return };
        let long = on_a_gpu(&place, &format!("long-{i}"), 16, &flags).unwrap();
        for what in long.keys().filter(|what| what.starts_with("wait ") && *what != "wait event") {
            assert_eq!(growth(&short, &long, what), 0, "{flags}: {what}");
        }
        assert_eq!(growth(&short, &long, "wait event"), 20, "{flags}");
    }
}

#[test]
fn a_training_goes_on_from_one_device_to_another() {
    let place = Place::new();
    place.train("whole", 12, "");
    place.train("half", 6, "");
    let folder = place.path("half.checkpoints");
    let file = place.path("half.pt");
    interchange::write(&file, &mut Checkpoint::read(&folder).unwrap(), None).unwrap();
    for (name, from) in [("ours", folder), ("theirs", file)] {
        if on_a_gpu(&place, name, 12, &format!("--resume {}", from.display())).is_some() {
            let logs = [name, "whole"].map(|name| place.log(name).pop().unwrap()["loss"].as_f64().unwrap());
            assert!((logs[0] - logs[1]).abs() <= F32 * logs[1], "{logs:?}");
        }
    }
}

#[test]
fn two_gpus_sum_their_gradients_by_nccl() {
    let place = Place::new();
    if cuda_double::folder().is_none() {
        return;
    }
    let lent = RefCell::new(Vec::new());
    place.in_two_processes("two", 9, "--device auto", |command, rank| {
        let report = place.path(&format!("two.report-{rank}"));
        lent.borrow_mut().extend(cuda_double::lend(command, 2, &report));
    });
    place.train("one", 9, "");
    near(&place, "two", "one", F32);
    let sums: Vec<i64> = lent.borrow().iter().map(|gpu| gpu.report()["sums"]).collect();
    assert_eq!(sums, [9, 9]);
}

/// What `train --doctor` says of two GPUs, with this variable of the environment. `None` where there is no double.
fn doctor(variable: (&str, &str)) -> Option<String> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_train"));
    command.arg("--doctor").env(variable.0, variable.1).stderr(Stdio::inherit());
    let folder = tempfile::tempdir().unwrap();
    cuda_double::lend(&mut command, 2, &folder.path().join("report"))?;
    Some(String::from_utf8(command.output().unwrap().stdout).unwrap())
}

#[test]
fn the_doctor_finds_the_gpus() {
    let Some(text) = doctor((KERNELS, "")) else { return };
    for line in ["cuda       loaded", "devices    cpu, cuda:0, cuda:1", "passes     fused"] {
        assert!(text.lines().any(|l| l == line), "no `{line}` in\n{text}");
    }
}

/// Passes that do not compile, or that compute something else, are found out before they are used.
#[test]
fn a_gpu_with_broken_passes_trains_by_their_formulas() {
    let place = Place::new();
    place.train("cpu", 6, "");
    for (fault, reason) in [
        ("refused", "passes     plain: NVRTC did not compile the passes (6): "),
        ("wrong", "passes     plain: modulate with products in Float: result 0 is "),
    ] {
        let Some(text) = doctor((KERNELS, fault)) else { return };
        assert!(text.lines().any(|line| line.starts_with(reason)), "{text}");
        let [gpu, report] = [fault.to_string(), format!("{fault}.report")];
        let mut command = place.command(&gpu, 6, "--device cuda:0");
        command.env(KERNELS, fault);
        let lent = cuda_double::lend(&mut command, 1, &place.path(&report)).unwrap();
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && text.contains("going on without fused passes: "), "{text}");
        // The comparison ends with the first pass.
        assert!(lent.report().get("launches").is_none_or(|&launches| launches <= 2), "{fault}");
        near(&place, &gpu, "cpu", F32);
    }
}
