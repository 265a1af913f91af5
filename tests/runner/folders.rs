//! Files and folders as people have them: what is read, what is taken in, and what is left alone.

use crate::study::{Study, said, stderr};
use std::fs::{self, File};
use std::process::Stdio;
use std::time::{Duration, Instant};

/// A study of one stage with the input `x`.
const COPY: &str = "name: copy
stages:
  a:
    command: cp -r ${inputs.x} ${outputs.y}
    inputs: {x: x}
    outputs: [y]
";

#[test]
fn a_file_that_is_cut_short_while_it_is_read_is_told() {
    let study = Study::new(COPY);
    // Holes are read quickly, yet the file is large enough to be cut short while that goes on.
    for _ in 0..5 {
        File::create(study.path("x")).unwrap().set_len(64 << 30).unwrap();
        let mut plan = study.command(&["plan"]);
        let plan = plan.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let opened = Instant::now();
        let reads = |name: &str| fs::read_link(name).is_ok_and(|path| path.ends_with("x"));
        let fds = format!("/proc/{}/fd", plan.id());
        while !fs::read_dir(&fds)
            .is_ok_and(|mut fds| fds.any(|fd| reads(fd.unwrap().path().to_str().unwrap())))
        {
            assert!(opened.elapsed() < Duration::from_secs(30), "the file was never opened");
        }
        File::options().write(true).open(study.path("x")).unwrap().set_len(10).unwrap();
        let output = plan.wait_with_output().unwrap();
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.ends_with("x changed while it was read\n"), "{text}");
    }
    assert!(said(&study.call(&["plan"])).contains("to run"));
}

#[test]
fn what_a_person_put_into_out_is_put_aside_by_name() {
    let study = Study::new(COPY);
    fs::write(study.path("x"), "1").unwrap();
    assert!(study.call(&["run"]).status.success());
    // A file, then folders, each in the place of the output; as often as they come.
    for (round, kept) in ["y.kept", "y.kept-2", "y.kept-3"].into_iter().enumerate() {
        let output = study.path("out/a/y");
        fs::remove_file(&output).unwrap();
        if round == 0 {
            fs::write(&output, "my notes 0").unwrap();
        } else {
            fs::create_dir(&output).unwrap();
            fs::write(output.join("notes"), format!("my notes {round}")).unwrap();
        }
        let run = study.call(&["run"]);
        assert!(run.status.success(), "{}", said(&run));
        assert!(
            stderr(&run).contains(&format!("out/a/y is not the runner's; it is now out/a/{kept}")),
            "{}",
            said(&run)
        );
        let mine = if round == 0 { format!("out/a/{kept}") } else { format!("out/a/{kept}/notes") };
        assert_eq!(study.read(&mine), format!("my notes {round}"));
        assert_eq!(study.read("out/a/y"), "1");
    }
}

#[test]
fn nothing_is_published_through_a_link_below_out() {
    let study = Study::new(COPY);
    fs::write(study.path("x"), "1").unwrap();
    fs::create_dir_all(study.path("elsewhere")).unwrap();
    fs::write(study.path("elsewhere/y"), "mine").unwrap();
    fs::create_dir(study.path("out")).unwrap();
    std::os::unix::fs::symlink("../elsewhere", study.path("out/a")).unwrap();
    let run = study.call(&["run"]);
    assert!(run.status.success(), "{}", said(&run));
    assert_eq!(study.read("elsewhere/y"), "mine");
    assert_eq!(study.read("out/a/y"), "1");
}
