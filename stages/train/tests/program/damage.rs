//! Checkpoints that something has happened to: it is noticed before training goes on, said, and made good where it can be.

use crate::support::{Place, refused};
use models::checkpoint;
use std::fs;
use std::path::Path;
use std::process::Output;

const FLAGS: &str = "--checkpoint-every 2";

/// Flips a byte in the middle of the tensors.
fn flip(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).unwrap();
}

fn said(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{text}");
    text
}

#[test]
fn it_goes_on_from_the_checkpoint_before_a_damaged_one() {
    let place = Place::new();
    place.train("whole", 8, FLAGS);
    let cut = |path: &Path| {
        let bytes = fs::read(path).unwrap();
        fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
    };
    let nothing = |path: &Path| fs::write(path, "").unwrap();
    for (name, damage) in [("flipped", &flip as &dyn Fn(&Path)), ("cut", &cut), ("empty", &nothing)] {
        place.train(name, 4, FLAGS);
        let last = place.path(&format!("{name}.state/step-00000004.safetensors"));
        // The same file as the one in the outputs.
        damage(&last);
        let text = said(&place.run(name, 8, FLAGS));
        let line = text.lines().find(|line| line.contains(&*last.to_string_lossy())).expect(&text);
        assert!(line.contains("going on from the checkpoint before it"), "{line}");
        assert!(text.contains("going on from step 2"), "{text}");
        for step in [2, 4, 6, 8] {
            assert!(
                place.checkpoint(name, step) == place.checkpoint("whole", step),
                "{name}: other step {step}"
            );
        }
        assert_eq!(place.log(name), place.log("whole"), "{name}");
    }

    // The one in the outputs is whole where they are two files.
    place.train("two", 4, FLAGS);
    let last = place.path("two.state/step-00000004.safetensors");
    let bytes = fs::read(&last).unwrap();
    fs::remove_file(&last).unwrap();
    fs::write(&last, &bytes[..bytes.len() - 1]).unwrap();
    let text = said(&place.run("two", 8, FLAGS));
    assert!(text.contains(&*last.to_string_lossy()) && text.contains("going on from step 4"), "{text}");
    assert!(place.checkpoint("two", 8) == place.checkpoint("whole", 8));
}

#[test]
fn a_damaged_checkpoint_without_one_before_it_is_refused() {
    let place = Place::new();
    place.train("a", 2, FLAGS);
    flip(&place.path("a.checkpoints/step-00000002.safetensors"));
    let output = place.run("a", 4, FLAGS);
    refused(&output, "step-00000002.safetensors: tensor ");
    refused(&output, "damaged: its checksum is another; there is no checkpoint before it");
    let given = place.path("a.checkpoints/step-00000002.safetensors");
    refused(
        &place.run("b", 4, &format!("{FLAGS} --resume {}", given.display())),
        "give the checkpoint before it",
    );
    let folder = place.path("a.checkpoints");
    refused(
        &place.run("b", 4, &format!("{FLAGS} --resume {}", folder.display())),
        "no checkpoint before it in this",
    );
    refused(
        &place.run("b", 4, &format!("{FLAGS} --initialize {}", folder.display())),
        "damaged: its checksum",
    );
}

/// As programs before checksums wrote it.
#[test]
fn a_checkpoint_without_checksums_is_read() {
    let place = Place::new();
    place.train("whole", 4, FLAGS);
    place.train("old", 2, FLAGS);
    let path = place.path("old.checkpoints/step-00000002.safetensors");
    let bytes = fs::read(&path).unwrap();
    let (length, rest) = bytes.split_first_chunk::<8>().unwrap();
    let (head, data) = rest.split_at(u64::from_le_bytes(*length) as usize);
    let mut head: serde_json::Value = serde_json::from_slice(head).unwrap();
    head["__metadata__"].as_object_mut().unwrap().remove("blake3").unwrap();
    let head = serde_json::to_vec(&head).unwrap();
    let old = [&(head.len() as u64).to_le_bytes()[..], &head, data].concat();
    fs::write(&path, &old).unwrap();
    assert_eq!(checkpoint::about(&path).unwrap().step, 2);
    said(&place.run("old", 4, FLAGS));
    assert!(place.checkpoint("old", 4) == place.checkpoint("whole", 4));
    assert!(place.checkpoint("old", 2) == old, "an old checkpoint was changed");
}

#[test]
fn other_parameters_are_named() {
    let place = Place::new();
    place.train("a", 2, FLAGS);
    let given = format!("{FLAGS} --resume {}", place.path("a.checkpoints").display());
    let output = place.run("b", 4, &format!("{given} --seed 1 --learning-rate 0.002 --clip 1"));
    for text in
        ["seed is 1 here and 0 there", "learning-rate is 0.002 here", "clip is 1.0 here", "by --initialize"]
    {
        refused(&output, text);
    }
    let output = place.run("a", 4, &format!("{FLAGS} --seed 1 --clip 1"));
    for text in ["seed is 1 here and 0 there", "clip is 1.0 here", "name other outputs"] {
        refused(&output, text);
    }
}

#[test]
fn a_log_that_was_cut_is_said() {
    let place = Place::new();
    place.train("a", 12, FLAGS);
    fs::remove_dir_all(place.path("a.state")).unwrap();
    let log = place.path("a.jsonl");
    let text = fs::read_to_string(&log).unwrap();
    let half = text.match_indices('\n').nth(1).unwrap().0 + 10;
    fs::write(&log, &text[..half]).unwrap();
    let text = said(&place.run("a", 16, FLAGS));
    assert!(text.contains("the log was cut: the lines of the steps after 6, up to 12"), "{text}");
    assert_eq!(
        place.log("a").iter().map(|l| l["step"].as_u64().unwrap()).collect::<Vec<_>>(),
        [3, 6, 15, 16]
    );
}
