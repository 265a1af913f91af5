//! Disks that are full, read only, or not what they were; and stages that write where they should not.

use crate::study::{Study, TOY, said, stderr};
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Runs a shell script where it may mount what nobody else sees; `None` where that is not permitted.
fn with_mounts(study: &Study, script: &str) -> Option<Output> {
    let unshare = |flags: &[&str], script: &str| {
        let mut command = Command::new("unshare");
        command.args(flags).args(["sh", "-c", script]).current_dir(study.dir.path());
        command.env("P", env!("CARGO_BIN_EXE_pipeline")).output().ok()
    };
    let may = "mkdir -p probe && mount -t tmpfs none probe";
    let ways: [&[&str]; 2] = [&["--mount"], &["--mount", "--map-root-user"]];
    let Some(way) = ways.into_iter().find(|way| unshare(way, may).is_some_and(|o| o.status.success())) else {
        // Written past the test's own captured output: nobody should believe that it ran.
        std::io::stderr()
            .write_all(b"\nSKIPPED: a test of full and read-only disks may not mount here\n")
            .unwrap();
        return None;
    };
    unshare(way, script)
}

/// Where the outputs lead: their digests.
fn digests(study: &Study) -> Vec<PathBuf> {
    ["gen/files", "count/n", "score/scores.json"]
        .map(|output| {
            fs::read_link(study.path(&format!("out/{output}"))).unwrap().file_name().unwrap().into()
        })
        .to_vec()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

#[test]
fn a_full_disk_is_told_and_nothing_done_is_lost() {
    let yaml = "name: heavy
stages:
  a:
    command: sh -c 'echo a >> ran; seq 60000 > $1' -- ${outputs.x}
    outputs: [x]
  b:
    command: sh -c 'echo b >> ran; cat $1 $1 > $2' -- ${inputs.x} ${outputs.y}
    inputs: {x: a.x}
    outputs: [y]
  c:
    command: sh -c 'echo c >> ran; mkdir $2; cp $1 $2/1; seq 70000 > $2/2' -- ${inputs.y} ${outputs.z}
    inputs: {y: b.y}
    outputs: [z]
";
    let outs = "readlink out/a/x out/b/y out/c/z";
    let calm = Study::new(yaml);
    calm.run(&[]);
    let expected = Command::new("sh").args(["-c", outs]).current_dir(calm.dir.path()).output().unwrap();
    let study = Study::new(yaml);
    // The disk grows a little between runs. What a plan calls cached does not run again.
    let script = r#"
mkdir .pipeline; mount -t tmpfs -o size=16k none .pipeline; : > ran; failures=0
for size in 16k 60k 150k 340k 420k 600k 900k 1300k 1700k 2200k 3000k 9000k; do
  mount -o remount,size=$size .pipeline
  "$P" plan 2>/dev/null | awk '$2 == "cached" { print $1 }' | sort > cached
  before=$(wc -l < ran)
  if ! "$P" run > log 2>&1; then
    failures=$((failures+1)); grep -Eq 'No space left|is full' log || { echo "$size: no word of space"; cat log; exit 4; }
  fi
  tail -n +$((before+1)) ran | sort > new
  [ -z "$(comm -12 cached new)" ] || { echo "$size: ran again"; cat log; exit 5; }
done
[ $failures -ge 3 ] || { echo "only $failures failures"; exit 6; }
: > ran; "$P" run > log 2>&1 || { cat log; exit 7; }
[ ! -s ran ] || exit 8
"$P" verify > log 2>&1 || { cat log; exit 9; }
"#;
    let Some(output) = with_mounts(&study, &format!("{script}{outs}")) else { return };
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(output.stdout, expected.stdout);
}

#[test]
fn a_read_only_store_is_read_and_told() {
    let study = Study::new(TOY);
    study.run(&[]);
    let script = r#"mount --bind .pipeline .pipeline && mount -o remount,bind,ro .pipeline
"$P" plan || exit 4; "$P" verify > /dev/null || exit 5; "$P" run --set gen.size=2; echo $?"#;
    let Some(output) = with_mounts(&study, script) else { return };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(text.matches("cached").count(), 3, "{}", said(&output));
    assert!(
        text.ends_with("\n1\n") && stderr(&output).contains("Read-only file system"),
        "{}",
        said(&output)
    );
    assert_eq!(stderr(&output).lines().count(), 1, "{}", stderr(&output));
    assert!(study.run(&[]).is_empty());
}

#[test]
fn any_flipped_bit_is_noticed_or_does_no_harm() {
    let study = Study::new(TOY);
    study.run(&[]);
    let expected = digests(&study);
    let mut state = blake3::Hasher::new();
    for round in 0..60 {
        let folder = ["results", "blobs", "trees", "last", "statcache"][round % 5];
        let path = study.path(".pipeline").join(folder);
        let all = if path.is_dir() { files(&path) } else { vec![path] };
        let random = state.update(b"next").finalize();
        let number = |at: usize| usize::from_le_bytes(random.as_bytes()[at..at + 8].try_into().unwrap());
        let file = &all[number(0) % all.len()];
        let mut bytes = fs::read(file).unwrap();
        let bit = number(8) % (bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        let mode = fs::metadata(file).unwrap().permissions();
        fs::set_permissions(file, PermissionsExt::from_mode(0o644)).unwrap();
        fs::write(file, bytes).unwrap();
        fs::set_permissions(file, mode).unwrap();
        let ran = study.run(&[]);
        assert_eq!(digests(&study), expected, "{} bit {bit}", file.display());
        assert_eq!(study.read("out/score/scores.json"), "{\"n\": 3, \"weight\": 0.5}\n");
        // Results and contents are made again, and only those; the rest is known otherwise.
        let most = usize::from(matches!(folder, "results" | "blobs"));
        assert!(ran.len() <= most, "{}: {ran:?}", file.display());
        assert!(study.run(&[]).is_empty());
    }
}

#[test]
fn a_stage_that_writes_elsewhere_changes_nothing_for_long() {
    let evil = "  evil:
    command: >
      sh -c 'echo evil >> ran; echo more > \"$(dirname \"$1\")/extra\"; echo x > out/gen/files/0;
      echo y > out/gen/new; rm .pipeline/last/toy/count.json; echo ok > \"$1\"' -- ${outputs.o}
    outputs: [o]
";
    let study = Study::new(&format!("{TOY}{evil}"));
    study.run(&["score"]);
    let expected = digests(&study);
    let output = study.call(&["run", "evil"]);
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).contains("wrote `extra`, which is not one of its outputs; not kept"));
    // The file that it wrote over is made again, and nothing else.
    assert_eq!(study.run(&[]), ["gen"]);
    assert_eq!(digests(&study), expected);
    assert_eq!(study.read("out/gen/files/0"), "file 0\n");
    assert!(study.run(&[]).is_empty());
}
