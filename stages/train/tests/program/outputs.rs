//! What `train` does to what stands at its outputs: nothing is lost, whatever it is and whenever the program ends.

#[path = "../../../../crates/stage/tests/support/outputs.rs"]
mod rules;

use crate::support::Place;
use models::checkpoint;
use rules::{everything, keeps_files, keeps_folders, refuses, stands_apart, succeeds};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

const FLAGS: &str = "--checkpoint-every 2 --log-every 2";

/// By hand: state is beside the outputs, and goes after success.
fn by_hand(place: &Place, name: &str, iterations: usize, flags: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_train"));
    command.args(["--threads", "1", "--device", "cpu", "--batch-size", "8", "--model", "switch-dit-tiny/2"]);
    command.arg("--iterations").arg(iterations.to_string()).args(flags.split_whitespace());
    command.arg("--latents").arg(place.path("latents"));
    command.arg("--checkpoints").arg(place.path(&format!("{name}.checkpoints")));
    command.arg("--log").arg(place.path(&format!("{name}.jsonl")));
    command.env_remove("PIPELINE_STATE").env_remove("PIPELINE_EVENTS");
    command
}

fn steps(place: &Place, name: &str) -> Vec<usize> {
    checkpoint::list(&place.path(&format!("{name}.checkpoints"))).unwrap().into_keys().collect()
}

fn log_steps(place: &Place, name: &str) -> Vec<u64> {
    place.log(name).iter().map(|line| line["step"].as_u64().unwrap()).collect()
}

/// Nothing but the latents and the outputs of these names.
fn nothing_else(place: &Place, names: &[&str]) {
    let mut found: Vec<String> = fs::read_dir(place.path(""))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    found.retain(|name| name != "latents" && !names.iter().any(|n| name.starts_with(&format!("{n}."))));
    assert!(found.is_empty(), "left: {found:?}");
    for name in names {
        assert!(!place.path(&format!("{name}.checkpoints.state")).exists());
    }
}

#[test]
fn a_finished_training_started_again_keeps_its_outputs() {
    let place = Place::new();
    let events = format!("{FLAGS} --events {}", place.path("a.events").display());
    succeeds(by_hand(&place, "a", 6, &events));
    let first = everything(&place.path(""));
    for (iterations, flags) in [
        (6, &*events),
        (6, FLAGS),
        (6, "--checkpoint-every 2 --log-every 2 --keep 0"),
        (4, &*events),
        (2, FLAGS),
    ] {
        let said = succeeds(by_hand(&place, "a", iterations, flags));
        assert!(said.contains("already"), "{said}");
        assert!(
            everything(&place.path("")) == first,
            "--iterations {iterations} {flags} has changed the outputs"
        );
    }
    nothing_else(&place, &["a"]);

    // A step that the outputs lack joins them; the log tells more already.
    succeeds(by_hand(&place, "a", 5, &events));
    assert_eq!(steps(&place, "a"), [2, 4, 5, 6]);
    assert_eq!(log_steps(&place, "a"), [2, 4, 6]);
    // More steps join them too, and are those of one run.
    succeeds(by_hand(&place, "a", 8, &events));
    assert_eq!(steps(&place, "a"), [2, 4, 5, 6, 8]);
    assert_eq!(log_steps(&place, "a"), [2, 4, 6, 8]);
    succeeds(by_hand(&place, "whole", 8, FLAGS));
    assert!(place.checkpoint("a", 8) == place.checkpoint("whole", 8), "other weights");
    assert_eq!(place.log("a"), place.log("whole"));

    // What was asked to be thinned out is; what is not there any more is said.
    succeeds(by_hand(&place, "a", 10, &format!("{events} --keep 2")));
    assert_eq!(steps(&place, "a"), [8, 10]);
    fs::remove_file(place.path("a.jsonl")).unwrap();
    let said = succeeds(by_hand(&place, "a", 10, &events));
    assert!(said.contains("the log of the steps up to 10 is not there"), "{said}");
    assert_eq!(steps(&place, "a"), [8, 10]);

    // Another training does not take their place, not even one that ends before their steps.
    for iterations in [1, 20] {
        let command = by_hand(&place, "a", iterations, &format!("{FLAGS} --seed 1"));
        refuses(&place.path(""), command, &["seed is 1 here and 0 there", "name other outputs"]);
    }
}

#[test]
fn a_given_checkpoint_of_the_last_step_is_in_the_outputs() {
    let place = Place::new();
    succeeds(by_hand(&place, "a", 6, FLAGS));
    let resume = format!("{FLAGS} --resume {}", place.path("a.checkpoints").display());
    succeeds(by_hand(&place, "b", 6, &resume));
    assert_eq!(steps(&place, "b"), [6]);
    assert!(place.checkpoint("a", 6) == place.checkpoint("b", 6), "other weights");
    succeeds(by_hand(&place, "b", 8, &resume));
    assert_eq!(steps(&place, "b"), [6, 8]);
    // Into its own input nothing is written.
    refuses(&place.path(""), by_hand(&place, "a", 6, &resume), &["--checkpoints", "is --resume"]);
}

#[test]
fn killed_while_it_cleans_up_it_loses_nothing() {
    let place = Place::new();
    succeeds(by_hand(&place, "a", 6, FLAGS));
    let whole = everything(&place.path(""));
    let state = place.path("a.checkpoints.state");
    let from = |name: &str| place.path("a.checkpoints").join(name);
    // State that was half removed, as programs before this did it: one checkpoint, no log.
    for step in [4, 6] {
        fs::create_dir(&state).unwrap();
        let name = checkpoint::file_name(step);
        fs::copy(from(&name), state.join(&name)).unwrap();
        succeeds(by_hand(&place, "a", 6, FLAGS));
        assert!(everything(&place.path("")) == whole, "state of step {step}");
    }
    // State on its way out.
    let finished = place.path(".a.checkpoints.state.finished");
    fs::create_dir(&finished).unwrap();
    fs::write(finished.join("made-by"), "train\n").unwrap();
    fs::write(finished.join("log.jsonl"), "").unwrap();
    succeeds(by_hand(&place, "a", 6, FLAGS));
    assert!(everything(&place.path("")) == whole, "state that was being removed");
    // A state of later steps is not thrown away for a shorter training.
    fs::create_dir(&state).unwrap();
    fs::rename(from(&checkpoint::file_name(6)), state.join(checkpoint::file_name(6))).unwrap();
    refuses(&place.path(""), by_hand(&place, "a", 4, FLAGS), &["--iterations 4", "interrupted at step 6"]);
}

/// Killed at a hundred moments of a run that replaces its outputs, it always has the earlier or the later ones.
#[test]
fn killed_at_any_moment_the_outputs_are_the_earlier_or_the_new() {
    let place = Place::new();
    let flags = "--checkpoint-every 1 --log-every 1";
    succeeds(by_hand(&place, "a", 3, flags));
    let begin = std::time::Instant::now();
    succeeds(by_hand(&place, "b", 3, flags));
    let length = begin.elapsed();
    let (mut last, mut logged) = (3, 3);
    for i in 0..40u32 {
        let mut child = by_hand(&place, "a", last + 1, flags).stderr(Stdio::null()).spawn().unwrap();
        // Most of the moments lie near the end, where outputs are replaced.
        std::thread::sleep(
            length.mul_f64(0.6 + f64::from(i % 20) / 40.0) + Duration::from_millis(u64::from(i) / 20),
        );
        child.kill().unwrap();
        child.wait().unwrap();
        let (found, log) = (steps(&place, "a"), log_steps(&place, "a"));
        let all = |last: usize| (1..=last).collect::<Vec<_>>();
        assert!(found == all(last) || found == all(last + 1), "{found:?} after {last}");
        // As it was, perhaps since a run that ended between the two, or the new one.
        assert!(log.len() == logged || log.len() == last + 1, "{log:?}, {logged} lines before, {last} steps");
        (last, logged) = (*found.last().unwrap(), log.len());
    }
    succeeds(by_hand(&place, "a", last + 1, flags));
    assert_eq!(steps(&place, "a"), (1..=last + 1).collect::<Vec<_>>());
    assert_eq!(log_steps(&place, "a").len(), last + 1);
    nothing_else(&place, &["a", "b"]);
    succeeds(by_hand(&place, "whole", last + 1, flags));
    assert!(place.checkpoint("a", last + 1) == place.checkpoint("whole", last + 1), "other weights");
}

#[test]
fn what_is_not_its_own_is_refused() {
    let place = Place::new();
    let root = place.path("");
    let with = |flag: &str, path: &Path| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_train"));
        command.args([
            "--threads",
            "1",
            "--device",
            "cpu",
            "--batch-size",
            "8",
            "--model",
            "switch-dit-tiny/2",
        ]);
        command.args(["--iterations", "2", "--latents"]).arg(place.path("latents"));
        for other in ["--checkpoints", "--log", "--events"].iter().filter(|other| **other != flag) {
            command.arg(other).arg(place.path(&format!("new{other}")));
        }
        command.arg(flag).arg(path);
        command
    };
    for flag in ["--checkpoints", "--events"] {
        keeps_folders(&root, flag, |path| with(flag, path));
        stands_apart(&root, flag, &place.path("latents"), |path| with(flag, path));
    }
    keeps_files(&root, "--log", ".jsonl", |path| with("--log", path));
    stands_apart(&root, "--log", &place.path("latents"), |path| with("--log", path));
    refuses(&root, with("--log", &place.path("new--checkpoints")), &["--log", "is --checkpoints"]);
    refuses(
        &root,
        with("--events", &place.path("new--checkpoints/events")),
        &["--events", "lies in --checkpoints"],
    );
    refuses(&root, with("--log", &place.path("new--checkpoints.state")), &["state folder", "is --log"]);

    // Files of others with names like ours.
    for (flag, name) in
        [("--checkpoints", "step-00000001.safetensors"), ("--events", "events.out.tfevents.train")]
    {
        let theirs = place.path(&format!("theirs{flag}"));
        fs::create_dir(&theirs).unwrap();
        let header = br#"{"x":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}"#;
        fs::write(theirs.join(name), [&(header.len() as u64).to_le_bytes()[..], header].concat()).unwrap();
        refuses(&root, with(flag, &theirs), &[flag, &format!("holds {name}, which train did not make")]);
    }
    // A state folder of the user's.
    let theirs = place.path("their.state");
    fs::create_dir(&theirs).unwrap();
    fs::write(theirs.join("thesis.txt"), "mine").unwrap();
    refuses(&root, with("--checkpoints", &place.path("their")), &["their.state", "holds thesis.txt"]);
    let mut command = with("--checkpoints", &place.path("new"));
    let output = command.env("PIPELINE_STATE", &theirs).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(fs::read_to_string(theirs.join("thesis.txt")).unwrap(), "mine");
    // A file of the user's beside its own.
    succeeds(by_hand(&place, "a", 2, FLAGS));
    fs::write(place.path("a.checkpoints/thesis.txt"), "mine").unwrap();
    refuses(&root, by_hand(&place, "a", 4, FLAGS), &["--checkpoints", "holds thesis.txt"]);
    fs::remove_file(place.path("a.checkpoints/thesis.txt")).unwrap();
    succeeds(by_hand(&place, "a", 4, FLAGS));
}

/// A file that the user puts into the checkpoints while training replaces them.
#[test]
fn what_is_put_into_the_outputs_meanwhile_is_kept() {
    let place = Place::new();
    let flags = "--checkpoint-every 50 --log-every 50";
    succeeds(by_hand(&place, "a", 1, flags));
    let mut child = by_hand(&place, "a", 150, flags).stderr(Stdio::piped()).spawn().unwrap();
    let saved = place.path("a.checkpoints.state").join(checkpoint::file_name(50));
    while !saved.exists() && child.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(2));
    }
    fs::write(place.path("a.checkpoints/thesis.txt"), "mine").unwrap();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("thesis.txt"), "{text}");
    assert_eq!(fs::read_to_string(place.path("a.checkpoints/thesis.txt")).unwrap(), "mine");
    // The work is kept, and takes its place once the file is elsewhere.
    fs::rename(place.path("a.checkpoints/thesis.txt"), place.path("a.thesis")).unwrap();
    succeeds(by_hand(&place, "a", 150, flags));
    assert_eq!(steps(&place, "a"), [1, 50, 100, 150]);
}
