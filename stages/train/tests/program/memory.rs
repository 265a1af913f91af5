//! What `--summary` says of memory, against what the program takes.

use crate::support::Place;
use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

/// The most memory that a training has had at once in its first steps, GiB; it is ended before it writes a checkpoint.
fn peak(place: &Place, name: &str, flags: &str) -> f64 {
    let mut child = place.command(name, 1000, flags).stderr(Stdio::null()).spawn().unwrap();
    let (id, log) = (child.id().to_string(), place.path(&format!("{name}.state/log.jsonl")));
    let mut most = 0;
    while !fs::read_to_string(&log).is_ok_and(|text| text.ends_with('\n')) {
        assert!(child.try_wait().unwrap().is_none(), "{flags}: it has ended");
        most = measure::peak_memory_of(&id).unwrap_or(most);
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    most as f64 / f64::from(1 << 30)
}

fn told(flags: &str) -> f64 {
    let mut command = Command::new(env!("CARGO_BIN_EXE_train"));
    let output = command.arg("--summary").args(flags.split_whitespace()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let line = text.lines().find(|line| line.trim_start().starts_with("all ")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Within 15 % of what it takes, libtorch and the program themselves aside.
fn holds(cases: &[(&str, usize)]) {
    let place = Place::of_side(32);
    let itself = peak(&place, "tiny", "--model dit-tiny/8 --batch-size 1");
    for (i, (flags, batch)) in cases.iter().enumerate() {
        let flags = format!("{flags} --batch-size {batch}");
        let (told, peak) = (told(&format!("{flags} --classes 2")), peak(&place, &i.to_string(), &flags));
        let taken = peak - itself;
        println!("{flags}: told {told:.2} GiB, taken {taken:.2} GiB, {itself:.2} GiB beside it");
        assert!((told / taken - 1.0).abs() < 0.15, "{flags}: told {told:.2} GiB, taken {taken:.2} GiB");
    }
}

#[test]
fn the_summary_tells_the_memory_of_small_trainings() {
    holds(&[
        ("--model switch-dit-s/2", 6),
        ("--model dit-s/2", 6),
        ("--model dtr-s/4 --ema-decay 0.9,0.99", 16),
    ]);
}

#[test]
#[ignore = "takes 5 GiB and minutes"]
fn the_summary_tells_the_memory_of_trainings_of_b() {
    let b = "--model switch-dit-b/2";
    holds(&[(b, 2), (b, 4), (b, 6), (b, 8), ("--model dit-b/2", 6)]);
}
