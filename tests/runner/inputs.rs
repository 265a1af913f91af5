//! Folders as inputs and outputs of the real program: what does not count, links, modes, names, and clocks of whole seconds.

use crate::study::{Study, said, stderr};
use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

const SIZE: &str = "name: size
ignore: ['*.log']
stages:
  a:
    command: sh script.sh ${inputs.d} ${outputs.o}
    inputs: {d: d}
    ignore: {d: ['tmp/', '!keep.log']}
    outputs: [o]
";

fn size() -> Study {
    let study = Study::new(SIZE);
    study.write("script.sh", "echo a >> ran; ls -A $1 | wc -l > $2");
    study.write("d/code.py", "1");
    study
}

#[test]
fn what_is_ignored_runs_nothing_and_what_is_taken_back_counts() {
    let study = size();
    assert_eq!(study.run(&[]), ["a"]);
    for (name, counts) in [
        ("d/__pycache__/code.pyc", false),
        ("d/.git/HEAD", false),
        ("d/.code.py.swp", false),
        ("d/note.log", false),
        ("d/sub/deep.log", true), // the folder is new
        ("d/sub/more.log", false),
        ("d/tmp/x", false),
        ("d/keep.log", true),
        ("d/data", true),
    ] {
        study.write(name, "x");
        let expected: &[&str] = if counts { &["a"] } else { &[] };
        assert_eq!(study.run(&[]), expected, "{name}");
    }
    // What appears while the stage runs is no change of its input, where it does not count; else it is named.
    study.write(
        "script.sh",
        "echo a >> ran; mkdir -p $1/__pycache__; echo $(cat n)x > n; cp n $1/__pycache__/m.pyc; echo 1 > $2",
    );
    assert_eq!(study.run(&[]), ["a"]);
    assert!(study.run(&[]).is_empty());
    study.write("script.sh", "echo x >> $1/data; echo 1 > $2");
    let run = study.call(&["run"]);
    assert_eq!(run.status.code(), Some(1));
    assert!(stderr(&run).contains("its input `d` (data) changed while it ran"), "{}", stderr(&run));
}

#[test]
fn links_of_inputs_count_and_links_of_outputs_stay_inside() {
    let study = size();
    symlink("nothing", study.path("d/broken")).unwrap();
    symlink("/nothing/at/all", study.path("d/absolute")).unwrap();
    assert_eq!(study.run(&[]), ["a"]);
    assert!(study.run(&[]).is_empty());
    fs::remove_file(study.path("d/broken")).unwrap();
    symlink("nothing-else", study.path("d/broken")).unwrap();
    assert_eq!(study.run(&[]), ["a"]);

    let inside = Study::new(
        "name: links\nstages:\n  a:\n    command: sh -c 'mkdir -p $1/v1; echo w > $1/v1/model; ln -s $(readlink -f $1)/v1 $1/latest' sh ${outputs.o}\n    outputs: [o]\n  b:\n    command: cp ${inputs.i}/latest/model ${outputs.o}\n    inputs: {i: a.o}\n    outputs: [o]\n",
    );
    inside.run(&[]);
    assert_eq!(inside.read("out/b/o"), "w\n");
    assert_eq!(fs::read_link(inside.path("out/a/o/latest")).unwrap(), Path::new("v1"));
    let out = Study::new(
        "name: links\nstages:\n  a:\n    command: sh -c 'mkdir $1; echo hours > $1/work; ln -s /etc/passwd $1/way-out' sh ${outputs.o}\n    outputs: [o]\n",
    );
    let run = out.call(&["run"]);
    assert_eq!(run.status.code(), Some(1));
    assert!(stderr(&run).contains("way-out") && !out.exists("out/a/o"), "{}", stderr(&run));
    let kept =
        stderr(&run).split("what it wrote lies in ").nth(1).unwrap().lines().next().unwrap().to_string();
    assert_eq!(out.read(&format!("{kept}/o/work")), "hours\n", "what was refused is kept");
}

#[test]
fn modes_are_never_wider_and_other_names_of_a_file_are_left_alone() {
    let study = Study::new(
        "name: modes\nstages:\n  a:\n    command: sh -c 'umask 022; mkdir $1; echo s > $1/secret; chmod 600 $1/secret; ln $2 $1/linked; mkdir $1/closed; echo c > $1/closed/c; chmod 555 $1/closed' sh ${outputs.o} mine\n    outputs: [o]\n",
    );
    study.write("mine", "mine");
    fs::set_permissions(study.path("mine"), Permissions::from_mode(0o664)).unwrap();
    study.run(&[]);
    let mode = |name: &str| fs::metadata(study.path(name)).unwrap().mode() & 0o777;
    assert_eq!(mode("out/a/o/secret"), 0o400);
    assert_eq!(mode("mine"), 0o664, "the user's file keeps its mode");
    study.write("mine", "mine again");
    assert_eq!(study.read("out/a/o/linked"), "mine", "and the result its content");
    assert_eq!(study.read("out/a/o/closed/c"), "c\n");
    study.write("mine", "mine");
    assert!(study.run(&[]).is_empty());
}

#[test]
fn an_ordinary_user_s_read_only_folders_are_taken() {
    // SAFETY: asks the kernel who we are.
    if unsafe { libc::geteuid() } != 0 {
        return;
    }
    let study = Study::new(
        "name: closed\nstages:\n  a:\n    command: sh -c 'mkdir -p $1/d; echo x > $1/d/f; chmod 555 $1/d $1' sh ${outputs.o}\n    outputs: [o]\n",
    );
    for path in [".", "pipeline.yaml"] {
        std::os::unix::fs::chown(study.path(path), Some(4242), Some(4242)).unwrap();
    }
    let run = || {
        let mut command = study.command(&["run"]);
        std::os::unix::process::CommandExt::uid(&mut command, 4242);
        command.output().unwrap()
    };
    let first = run();
    assert!(first.status.success(), "{}", said(&first));
    assert_eq!(study.read("out/a/o/d/f"), "x\n");
    assert!(said(&run()).contains("cached"));
}

#[test]
fn entries_stay_apart_whatever_their_names_and_contents() {
    let study = Study::new(
        "name: each\nstages:\n  a:\n    command: sh -c 'echo a >> ran; basename \"$1\" > $2' -- ${inputs.f} ${outputs.o}\n    each: f\n    inputs: {f: d}\n    outputs: [o]\n",
    );
    let long = [b"x".repeat(251), b".txt".to_vec()].concat();
    let names: [&[u8]; 6] = [b"caf\xe9", b"caf\xe8", b"plain", b"other", b"a b;touch x", &long];
    fs::create_dir(study.path("d")).unwrap();
    let path = |folder: &str, name: &[u8]| -> PathBuf { study.path(folder).join(OsStr::from_bytes(name)) };
    for name in names {
        fs::write(path("d", name), "same").unwrap();
    }
    assert_eq!(study.run(&[]).len(), names.len());
    let entries = fs::read_dir(study.path("out/a/o")).unwrap().count();
    assert_eq!(entries, names.len());
    // On a command line, which is text, what is none is written byte by byte.
    let shown = ["caf\\xe9", "caf\\xe8", "plain", "other", "a b;touch x"];
    for (name, shown) in names.iter().zip(shown) {
        assert_eq!(fs::read_to_string(path("out/a/o", name)).unwrap(), format!("{shown}\n"));
    }
    assert!(study.run(&[]).is_empty() && !study.exists("x"));
}

/// Makes `stat` say what a file system says whose clocks have no fractions of a second.
const WHOLE_SECONDS: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/stat.h>
int statx(int folder, const char *restrict path, int flags, unsigned mask, struct statx *restrict found) {
    int (*real)(int, const char *, int, unsigned, struct statx *) = dlsym(RTLD_NEXT, "statx");
    int failed = real(folder, path, flags, mask, found);
    if (!failed) found->stx_mtime.tv_nsec = found->stx_ctime.tv_nsec = 0;
    return failed;
}
"#;

#[test]
fn a_change_within_one_second_is_seen_where_clocks_have_whole_seconds() {
    let study = Study::new(
        "name: clock\nstages:\n  a:\n    command: cp ${inputs.x} ${outputs.y}\n    inputs: {x: x}\n    outputs: [y]\n",
    );
    study.write("clock.c", WHOLE_SECONDS);
    let shim = study.path("clock.so");
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-o"]).arg(&shim).arg(study.path("clock.c")).arg("-ldl");
    assert!(compiler.status().unwrap().success());
    let run = || {
        let output = study.command(&["run"]).env("LD_PRELOAD", &shim).output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
    };
    let mut same = 0;
    for round in 0..40 {
        study.write("x", &format!("{:04}", 2 * round));
        let before = fs::metadata(study.path("x")).unwrap();
        run();
        // Of the same size, with the mtime put back: its ctime is all there is to see, where it moves.
        study.write("x", &format!("{:04}", 2 * round + 1));
        fs::File::open(study.path("x")).unwrap().set_modified(before.modified().unwrap()).unwrap();
        same += u32::from(fs::metadata(study.path("x")).unwrap().ctime() == before.ctime());
        run();
        assert_eq!(study.read("out/a/y"), format!("{:04}", 2 * round + 1));
        if same > 4 {
            return;
        }
    }
}
