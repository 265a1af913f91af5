//! What a report says of machine, days and commands, and that the commands are those of a shell.

use crate::inputs::{done, lineage};
use serde_json::{Value as Json, json};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

fn report(folder: &Path, lineage: &Json, more: &[&str]) -> String {
    let path = folder.join("lineage.json");
    fs::write(&path, lineage.to_string()).unwrap();
    let out = folder.join("report");
    done(&[("lineage", &path), ("report", &out)], more);
    fs::read_to_string(out.join("report.md")).unwrap()
}

/// The blocks of code of a Markdown text.
fn code(markdown: &str) -> Vec<&str> {
    markdown.split("```sh\n").skip(1).map(|rest| rest.split("\n```").next().unwrap()).collect()
}

/// Programs that write what they were called with.
fn programs(folder: &Path, names: &[&str]) {
    fs::create_dir_all(folder).unwrap();
    for name in names {
        let path = folder.join(name);
        fs::write(
            &path,
            "#!/bin/sh\nprintf '%s' \"${0##*/}\" >> calls\nprintf ' [%s]' \"$@\" >> calls\necho >> calls\n",
        )
        .unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
}

#[test]
fn commands_run_as_they_stand() {
    let dir = tempfile::tempdir().unwrap();
    let d = |x: &str| x.repeat(32);
    let sources = json!({"vae": {"path": "data/a vae.safetensors"}});
    let text = json!({
        "study": {"name": "digits", "file": "pipelines/table-1.yaml", "variant": "m3-k2", "profile": "digits",
                  "set": ["train.iterations=5"], "programs": "bin"},
        "stages": [
            {"stage": "encode", "program": "encode", "program_digest": d("0e"),
             "params": {"image-size": "32", "flip": "false"}, "inputs": {"vae": d("03")}, "sources": sources,
             "outputs": {"latents": d("04")}},
            {"stage": "count", "program": "sh -c ls \"$1\" -- ${inputs.files}", "program_digest": d("0f"),
             "command": ["sh", "-c", "echo \"$1 $2\" > \"$3\"", "--", "${inputs.files}", "it's ${params.n}", "${outputs.n}"],
             "params": {"n": "a b"}, "inputs": {"files": d("04")}, "outputs": {"n": d("05")}},
            {"stage": "sample", "entry": "step-1", "program": "sample", "params": {}, "inputs": {"checkpoints": d("07")},
             "sources": {"checkpoints": {"output": "train.checkpoints", "entry": "step-1"}}, "outputs": {"samples": d("09")}},
            {"stage": "sample", "entry": "step-2", "program": "sample", "params": {}, "inputs": {"checkpoints": d("08")},
             "sources": {"checkpoints": {"output": "train.checkpoints", "entry": "step-2"}}, "outputs": {"samples": d("09")}},
        ]
    });
    let markdown = report(dir.path(), &text, &[]);
    let blocks = code(&markdown);
    assert_eq!(
        blocks[0],
        "pipeline --file pipelines/table-1.yaml plan --profile digits --variant m3-k2 --set train.iterations=5    \
         # what would run, and why\n\
         pipeline --file pipelines/table-1.yaml run --profile digits --variant m3-k2 --set train.iterations=5"
    );
    programs(&dir.path().join("bin"), &["encode", "sample"]);
    let ran = Command::new("sh").args(["-euc", blocks[1]]).current_dir(dir.path()).output().unwrap();
    assert!(ran.status.success(), "{}\n{}", blocks[1], String::from_utf8_lossy(&ran.stderr));
    assert_eq!(
        fs::read_to_string(dir.path().join("calls")).unwrap(),
        "encode [--vae] [data/a vae.safetensors] [--image-size] [32] [--flip] [false] [--latents] [reproduced/encode/latents]\n\
         sample [--checkpoints] [reproduced/train/checkpoints/step-1] [--samples] [reproduced/sample/samples/step-1]\n\
         sample [--checkpoints] [reproduced/train/checkpoints/step-2] [--samples] [reproduced/sample/samples/step-2]\n"
    );
    let count = fs::read_to_string(dir.path().join("reproduced/count/n")).unwrap();
    assert_eq!(count, "reproduced/encode/latents it's a b\n");
}

#[test]
fn what_has_no_path_is_asked_for_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let markdown = report(dir.path(), &lineage(), &["--place", "false"]);
    let script = code(&markdown)[1];
    programs(&dir.path().join("bin"), &["download", "encode", "train", "sample"]);
    let path = format!("{}:/usr/bin:/bin", dir.path().join("bin").display());
    let mut shell = Command::new("sh");
    shell.args(["-euc", script]).current_dir(dir.path()).env_clear().env("PATH", path);
    let first = shell.output().unwrap();
    let said = String::from_utf8_lossy(&first.stderr).into_owned();
    assert!(
        !first.status.success()
            && said.contains(&format!("the path of repository, BLAKE3 {}", "01".repeat(32))),
        "{said}"
    );
    let given = [("REPOSITORY", "r e"), ("VAE", "v"), ("CHECKPOINTS", "c")];
    let second = shell.envs(given).output().unwrap();
    assert!(second.status.success(), "{script}\n{}", String::from_utf8_lossy(&second.stderr));
    let calls = fs::read_to_string(dir.path().join("calls")).unwrap();
    for call in [
        "download [--repository] [r e] [--images] [reproduced/download/images]",
        "encode [--images] [reproduced/download/images] [--vae] [v]",
        "train [--latents] [reproduced/encode/latents]",
        "sample [--checkpoints] [c/step-2]",
    ] {
        assert!(calls.contains(call), "{call} is not in\n{calls}");
    }
}

#[test]
fn the_run_says_when_where_and_how_long() {
    let dir = tempfile::tempdir().unwrap();
    let mut text = lineage();
    let ran = |finished: u64, seconds: f64, device: &str| {
        json!({"finished": finished, "seconds": seconds, "host": "node7", "processor": "A Processor", "cpus": 2,
               "memory": 25_769_803_776u64, "gpus": [], "engine": "local", "device": device, "threads": 2,
               "libtorch": "2.11.0", "commit": "ab".repeat(20), "changed": true})
    };
    for (i, device) in ["cpu", "cpu", "cuda:0"].into_iter().enumerate() {
        text["stages"][i]["ran"] = ran(1_767_225_600 + 60 * i as u64, 231.4, device);
    }
    text["stages"][0]["replaced"] = json!(["images"]);
    let markdown = report(dir.path(), &text, &[]);
    for part in [
        "Machine: node7, A Processor, 2 CPUs, 24.0 GiB. Engine: local. Threads: 2. libtorch: 2.11.0. Commit: `abab",
        "with changes that are not in it",
        "| Stage | Finished (UTC) | Took | Device |",
        "| train | 2026-01-01 00:02 | 3 min 51 s | cuda:0 |",
        "11 min 34 s of work in all",
        // The place of the report itself.
        "| day (UTC) | 2026-01-01 |",
        "| libtorch | 2.",
        "| threads |",
        "| devices | cpu",
        "writes `images`, given by hand",
    ] {
        assert!(markdown.contains(part), "{part} is not in\n{markdown}");
    }
    let without = report(dir.path(), &lineage(), &["--place", "false"]);
    assert!(!without.contains("## Run") && !without.contains("2026-01-01"), "{without}");
}
