//! A place with latents to train on, and the program to run there.

use half::f16;
use rng::Stream;
use serde_json::Value as Json;
use shards::{LatentsMetadata, Rows, ShardWriter, write_manifest};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// A folder with latents of two classes and a place for outputs.
pub struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    pub fn new() -> Self {
        Self::of_side(8)
    }

    /// The same with latents of this side.
    pub fn of_side(side: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let about = LatentsMetadata {
            shape: [4, side, side],
            dtype: "float16".into(),
            scale: 0.18215,
            shift: 0.0,
            channels: None,
            vae: String::new(),
            classes: 2,
            class_names: Vec::new(),
            image_size: 64,
            flipped: false,
        };
        let latents = folder.path().join("latents");
        fs::create_dir(&latents).unwrap();
        let mut writer = ShardWriter::create(&latents.join("00000.parquet"), &about).unwrap();
        let (rows, numel) = (32, about.numel());
        let mut values = vec![0f32; rows * numel];
        Stream::new(0, "latents", 0).fill_normal(&mut values);
        writer
            .write(Rows {
                mean: values.iter().map(|v| f16::from_f32(v * 5.0)).collect(),
                std: vec![f16::from_f32(0.1); rows * numel],
                label: (0..rows as i64).map(|i| i % 2).collect(),
                source: (0..rows).map(|i| i.to_string()).collect(),
                ..Rows::default()
            })
            .unwrap();
        let shard = writer.finish().unwrap();
        write_manifest(&latents, &about, vec![shard]).unwrap();
        Self { folder }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A training whose outputs and state begin with `name`; a small Switch-DiT where the flags name no model.
    pub fn command(&self, name: &str, iterations: usize, flags: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_train"));
        command
            .args(if flags.contains("--threads ") { [].as_slice() } else { &["--threads", "1"] })
            .args(if flags.contains("--device ") { [].as_slice() } else { &["--device", "cpu"] })
            .args(if flags.contains("--batch-size ") { [].as_slice() } else { &["--batch-size", "8"] })
            .args(if flags.contains("--model ") { [].as_slice() } else { &["--model", "switch-dit-tiny/2"] })
            .args(["--iterations", &iterations.to_string(), "--log-every", "3"])
            .arg("--latents")
            .arg(self.path("latents"))
            .arg("--checkpoints")
            .arg(self.path(&format!("{name}.checkpoints")))
            .arg("--log")
            .arg(self.path(&format!("{name}.jsonl")))
            .args(flags.split_whitespace())
            .env("PIPELINE_STATE", self.path(&format!("{name}.state")))
            .env_remove("PIPELINE_EVENTS");
        command
    }

    pub fn run(&self, name: &str, iterations: usize, flags: &str) -> Output {
        self.command(name, iterations, flags).output().unwrap()
    }

    pub fn train(&self, name: &str, iterations: usize, flags: &str) {
        let output = self.run(name, iterations, flags);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// The same by two processes of one machine, as `torchrun` would start them.
    pub fn train_in_two_processes(&self, name: &str, iterations: usize, flags: &str) {
        self.in_two_processes(name, iterations, flags, |_, _| ());
    }

    /// The same with commands that are changed before their start, by rank.
    pub fn in_two_processes(
        &self,
        name: &str,
        iterations: usize,
        flags: &str,
        change: impl Fn(&mut Command, &str),
    ) {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let start = |rank: &str| {
            let mut command = self.command(name, iterations, flags);
            change(&mut command, rank);
            command.envs([
                ("RANK", rank),
                ("LOCAL_RANK", rank),
                ("WORLD_SIZE", "2"),
                ("MASTER_ADDR", "127.0.0.1"),
            ]);
            command.env("MASTER_PORT", port.to_string()).stderr(Stdio::piped()).spawn().unwrap()
        };
        for child in [start("0"), start("1")] {
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
    }

    pub fn checkpoint(&self, name: &str, step: usize) -> Vec<u8> {
        fs::read(self.path(&format!("{name}.checkpoints/step-{step:08}.safetensors"))).unwrap()
    }

    /// The log without its speeds.
    pub fn log(&self, name: &str) -> Vec<Json> {
        let text = fs::read_to_string(self.path(&format!("{name}.jsonl"))).unwrap();
        let lines = text.lines().map(|l| serde_json::from_str::<Json>(l).unwrap());
        lines
            .map(|mut line| {
                line.as_object_mut().unwrap().remove("images_per_second").unwrap();
                line
            })
            .collect()
    }

    /// Starts a training and lets it run until `file` is there.
    pub fn start(&self, name: &str, iterations: usize, flags: &str, file: &Path) -> std::process::Child {
        let child = self.command(name, iterations, flags).stderr(Stdio::null()).spawn().unwrap();
        let begin = Instant::now();
        while !file.exists() {
            assert!(begin.elapsed() < Duration::from_secs(120), "no {}", file.display());
            std::thread::sleep(Duration::from_millis(5));
        }
        child
    }
}

/// Refused: exit code 2, one line that holds `text`.
pub fn refused(output: &Output, text: &str) {
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{error}");
    let last = error.lines().last().unwrap_or_default();
    assert!(last.starts_with("error: ") && last.contains(text), "{error}");
}
