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
