//! The runner beside DVC and Snakemake on one graph of six stages, and beside what the machine can do at all.
//!
//! `cargo bench -p pipeline --bench peers -- [start] [files] [big] [plan]` runs some parts, without names all. Peers are
//! found on `PATH` or in the folder that `PEERS` names; those that are not there are said to be absent. `BENCH_DIR`
//! (default the system's folder for temporary files) needs 15 GB for `big`. Numbers are medians of wall seconds.

#![expect(clippy::unwrap_used, reason = "a bench that cannot go on has failed")]

use measure::{median, peak_memory_of};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const FILES: usize = 10_000;
const BIG: u64 = 4_000_000_000;
const STAGES: usize = 6;

/// A table under way.
struct Bench {
    folder: tempfile::TempDir,
    dvc: Option<PathBuf>,
    snakemake: Option<PathBuf>,
    /// Largest memory of the runner so far, in bytes.
    memory: u64,
}

fn main() {
    let asked: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let wants = |part: &str| asked.is_empty() || asked.iter().any(|a| a == part);
    let place = std::env::var_os("BENCH_DIR").map_or(std::env::temp_dir(), PathBuf::from);
    let folder = tempfile::tempdir_in(place).unwrap();
    let mut bench = Bench { folder, dvc: find("dvc"), snakemake: find("snakemake"), memory: 0 };
    println!("{:42} {:>9} {:>9} {:>9} {:>9}  target", "seconds", "pipeline", "DVC", "Snakemake", "limit");
    if wants("start") {
        start(&mut bench);
    }
    if wants("files") {
        files(&mut bench);
    }
    if wants("big") {
        big(&mut bench);
    }
    if wants("plan") {
        plan(&mut bench);
    }
    let peak = bench.memory as f64 / 1e6;
    println!("peak memory of the runner: {peak:.0} MB (target 100 MB: {})", verdict(peak <= 100.0));
}

fn verdict(met: bool) -> &'static str {
    if met { "met" } else { "MISSED" }
}

/// A peer's program.
fn find(name: &str) -> Option<PathBuf> {
    let peers = std::env::var("PEERS").unwrap_or_default();
    let path = std::env::var("PATH").unwrap_or_default();
    std::iter::once(peers.as_str())
        .chain(path.split(':'))
        .map(|f| Path::new(f).join(name))
        .find(|p| p.is_file())
}

/// Times a program, which must succeed.
fn time(program: &Path, words: &[&str], folder: &Path) -> f64 {
    let start = Instant::now();
    let output = Command::new(program).args(words).current_dir(folder).output().unwrap();
    let seconds = start.elapsed().as_secs_f64();
    assert!(output.status.success(), "{program:?} {words:?}: {}", String::from_utf8_lossy(&output.stderr));
    seconds
}

impl Bench {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Times the runner, and notes its memory.
    fn ours(&mut self, words: &[&str], folder: &Path) -> f64 {
        let start = Instant::now();
        let mut child = Command::new(env!("CARGO_BIN_EXE_pipeline"))
            .args(words)
            .current_dir(folder)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let process = child.id().to_string();
        loop {
            if let Some(code) = child.try_wait().unwrap() {
                assert!(code.success(), "pipeline {words:?} in {}", folder.display());
                return start.elapsed().as_secs_f64();
            }
            self.memory = self.memory.max(peak_memory_of(&process).unwrap_or(0));
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    /// A line of the table. `most` is the target in seconds.
    fn line(
        &self,
        what: &str,
        ours: f64,
        dvc: Option<f64>,
        snakemake: Option<f64>,
        limit: Option<f64>,
        most: f64,
    ) {
        let cell = |time: Option<f64>| time.map_or("-".into(), |t| format!("{t:.3}"));
        let ratio = |name: &str, there: bool, time: Option<f64>| match time {
            Some(time) => format!(", {:.0} × {name}", time / ours),
            None if there => String::new(),
            None => format!(", {name} is absent"),
        };
        println!(
            "{what:42} {ours:9.4} {:>9} {:>9} {:>9}  {}{}{}",
            cell(dvc),
            cell(snakemake),
            cell(limit),
            match most {
                f64::INFINITY => "none".into(),
                most => format!("{most:.3}: {}", verdict(ours <= most)),
            },
            ratio("DVC", self.dvc.is_some(), dvc),
            ratio("Snakemake", self.snakemake.is_some(), snakemake),
        );
    }

    /// Six stages in a row, the first of which reads `data`, for all three; returns the folders.
    fn graph(&self, name: &str, data: &Path) -> [PathBuf; 3] {
        let folders = ["pipeline", "dvc", "snakemake"].map(|tool| self.path(&format!("{name}-{tool}")));
        for folder in &folders {
            fs::create_dir(folder).unwrap();
        }
        fs::rename(data, folders[0].join("data")).unwrap();
        for folder in &folders[1..] {
            // Their own files, with the blocks of ours.
            let copy = Command::new("cp")
                .args(["-al", "data"])
                .arg(folder.join("data"))
                .current_dir(&folders[0])
                .status();
            assert!(copy.unwrap().success());
        }
        let mut study = "name: toy\nstages:\n".to_string();
        let mut dvc = "stages:\n".to_string();
        let mut snake = format!("rule all:\n  input: \"s{STAGES}.txt\"\n");
        for n in 1..=STAGES {
            let (input, file) = match n {
                1 => ("data".to_string(), "data".to_string()),
                _ => (format!("s{}.o", n - 1), format!("s{}.txt", n - 1)),
            };
            let line = "ls -d ${inputs.i} | wc -l > ${outputs.o}";
            study += &format!(
                "  s{n}:\n    command: [sh, -c, '{line}']\n    inputs: {{i: {input}}}\n    outputs: [o]\n"
            );
            dvc += &format!(
                "  s{n}:\n    cmd: ls -d {file} | wc -l > s{n}.txt\n    deps: [{file}]\n    outs: [s{n}.txt]\n"
            );
            let reads = if n == 1 && folders[0].join("data").is_dir() {
                format!("[f\"data/{{i:05}}\" for i in range({FILES})]")
            } else {
                format!("\"{file}\"")
            };
            snake += &format!(
                "rule s{n}:\n  input: {reads}\n  output: \"s{n}.txt\"\n  shell: \"ls -d {file} | wc -l > {{output}}\"\n"
            );
        }
        fs::write(folders[0].join("pipeline.yaml"), study).unwrap();
        fs::write(folders[1].join("dvc.yaml"), dvc).unwrap();
        fs::write(folders[2].join("Snakefile"), snake).unwrap();
        if let Some(dvc) = &self.dvc {
            time(dvc, &["init", "--no-scm", "--quiet"], &folders[1]);
        }
        folders
    }

    fn dvc(&self, words: &[&str], folder: &Path, times: usize) -> Option<f64> {
        let dvc = self.dvc.as_ref()?;
        Some(median((0..times).map(|_| time(dvc, words, folder)).collect()))
    }

    fn snakemake(&self, words: &[&str], folder: &Path, times: usize) -> Option<f64> {
        let snakemake = self.snakemake.as_ref()?;
        Some(median((0..times).map(|_| time(snakemake, words, folder)).collect()))
    }

    fn median(&mut self, words: &[&str], folder: &Path, times: usize) -> f64 {
        median((0..times).map(|_| self.ours(words, folder)).collect())
    }
}

const SNAKEMAKE: [&str; 3] = ["--cores", "2", "--quiet"];

fn start(bench: &mut Bench) {
    let folder = bench.folder.path().to_path_buf();
    let ours = bench.median(&["--version"], &folder, 41);
    let dvc = bench.dvc(&["--version"], &folder, 3);
    let snakemake = bench.snakemake(&["--version"], &folder, 3);
    bench.line("start-up, --version", ours, dvc, snakemake, None, 0.005);
}

fn files(bench: &mut Bench) {
    let data = bench.path("data");
    fs::create_dir(&data).unwrap();
    for i in 0..FILES {
        fs::write(data.join(format!("{i:05}")), format!("file {i}\n").repeat(100)).unwrap();
    }
    // Older than the two seconds within which a file's time says nothing.
    std::thread::sleep(Duration::from_millis(2100));
    let limit_first = limit(|| walk(&data, true));
    let limit_again = limit(|| walk(&data, false));
    let [ours, dvc, snake] = bench.graph("files", &data);
    let first = bench.ours(&["run"], &ours);
    let dvc_first = bench.dvc(&["repro", "--quiet"], &dvc, 1);
    let snake_first = bench.snakemake(&SNAKEMAKE, &snake, 1);
    bench.line("first run, 10,000 files", first, dvc_first, snake_first, Some(limit_first), f64::INFINITY);
    let again = bench.median(&["run"], &ours, 11);
    let dvc_again = bench.dvc(&["repro", "--quiet"], &dvc, 3);
    let snake_again = bench.snakemake(&SNAKEMAKE, &snake, 3);
    bench.line("no-op, 10,000 files", again, dvc_again, snake_again, Some(limit_again), 0.060);

    // A stage that writes 10,000 files, whose folder is lost.
    let restore = bench.path("restore");
    fs::create_dir(&restore).unwrap();
    let command = "mkdir $0; for i in $(seq 10000); do echo $i > $0/$i; done";
    let study = format!(
        "name: many\nstages:\n  a:\n    command: [sh, -c, '{command}', '${{outputs.o}}']\n    outputs: [o]\n"
    );
    fs::write(restore.join("pipeline.yaml"), study).unwrap();
    bench.ours(&["run"], &restore);
    let mut times = Vec::new();
    for _ in 0..5 {
        fs::remove_dir_all(restore.join("out")).unwrap();
        fs::remove_dir_all(restore.join(".pipeline/views")).unwrap();
        times.push(bench.ours(&["run"], &restore));
    }
    let theirs = bench.path("restore-dvc");
    let dvc_restore = bench.dvc.clone().map(|dvc| {
        fs::create_dir(&theirs).unwrap();
        time(&dvc, &["init", "--no-scm", "--quiet"], &theirs);
        let cmd = command.replace("$0", "o");
        fs::write(theirs.join("dvc.yaml"), format!("stages:\n  a:\n    cmd: {cmd}\n    outs: [o]\n"))
            .unwrap();
        time(&dvc, &["repro", "--quiet"], &theirs);
        fs::remove_dir_all(theirs.join("o")).unwrap();
        time(&dvc, &["checkout", "--quiet"], &theirs)
    });
    bench.line("restoring 10,000 files", median(times), dvc_restore, None, None, 0.250);
}

fn big(bench: &mut Bench) {
    let data = bench.path("big");
    let mut file = File::create(&data).unwrap();
    let mut block = vec![0u8; 1 << 20];
    let mut left = BIG;
    while left > 0 {
        let mut random = blake3::Hasher::new().update(&left.to_le_bytes()).finalize_xof();
        random.fill(&mut block);
        let length = left.min(block.len() as u64);
        file.write_all(&block[..length as usize]).unwrap();
        left -= length;
    }
    file.sync_all().unwrap();
    drop(file);
    std::thread::sleep(Duration::from_millis(2100));
    let hash = || {
        let mut hasher = blake3::Hasher::new();
        hasher.update_mmap_rayon(&data).unwrap();
        std::hint::black_box(hasher.finalize());
    };
    hash();
    let limit = match find("b3sum") {
        Some(b3sum) => median((0..3).map(|_| time(&b3sum, &["big"], bench.folder.path())).collect()),
        None => {
            println!("(b3sum is absent: its limit is BLAKE3 on all cores over a mapped file)");
            limit(hash)
        }
    };
    let [ours, dvc, snake] = bench.graph("big", &data);
    let mut times = Vec::new();
    for _ in 0..3 {
        if ours.join(".pipeline").exists() {
            fs::remove_dir_all(ours.join(".pipeline")).unwrap();
        }
        times.push(bench.ours(&["plan"], &ours));
    }
    bench.line("first hashing of 4 GB", median(times), None, None, Some(limit), 1.15 * limit);
    fs::remove_dir_all(ours.join(".pipeline")).unwrap();
    let first = bench.ours(&["run"], &ours);
    let dvc_first = bench.dvc(&["repro", "--quiet"], &dvc, 1);
    let snake_first = bench.snakemake(&SNAKEMAKE, &snake, 1);
    bench.line("first run, one 4 GB file", first, dvc_first, snake_first, Some(limit), f64::INFINITY);
    let again = bench.median(&["run"], &ours, 11);
    let dvc_again = bench.dvc(&["repro", "--quiet"], &dvc, 3);
    let snake_again = bench.snakemake(&SNAKEMAKE, &snake, 3);
    bench.line("no-op, one 4 GB file", again, dvc_again, snake_again, None, 0.015);

    // The stage writes and syncs the file itself, so that what is measured on top is the runner's alone.
    let commit = bench.path("commit");
    fs::create_dir(&commit).unwrap();
    let line = "cp --reflink=never ${inputs.i} ${outputs.o} && sync ${outputs.o}";
    let path = ours.join("data");
    let study = format!(
        "name: commit\nstages:\n  a:\n    command: [sh, -c, '{line}']\n    inputs: {{i: {}}}\n    outputs: [o]\n",
        path.display()
    );
    fs::write(commit.join("pipeline.yaml"), study).unwrap();
    // The input is hashed before.
    bench.ours(&["plan"], &commit);
    let start = Instant::now();
    let output =
        Command::new(env!("CARGO_BIN_EXE_pipeline")).args(["run", "--json"]).current_dir(&commit).output();
    let wall = start.elapsed().as_secs_f64();
    let report: serde_json::Value = serde_json::from_slice(&output.unwrap().stdout).unwrap();
    let stage = report["stages"][0]["seconds"].as_f64().unwrap();
    bench.line("committing 4 GB, on top of its stage", wall - stage, None, None, Some(limit), 1.5);
}

fn plan(bench: &mut Bench) {
    let folder = bench.path("plan");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("x"), "x").unwrap();
    let mut study = "name: long\nstages:\n".to_string();
    for n in 0..1000 {
        // Ten wide.
        let input = if n < 10 { "x".into() } else { format!("s{}.o", n - 10) };
        study += &format!(
            "  s{n}:\n    command: cp ${{inputs.i}} ${{outputs.o}}\n    inputs: {{i: {input}}}\n    outputs: [o]\n"
        );
    }
    fs::write(folder.join("pipeline.yaml"), study).unwrap();
    let ours = bench.median(&["plan"], &folder, 11);
    bench.line("plan of 1,000 stages, none done", ours, None, None, None, 0.100);
    bench.ours(&["run"], &folder);
    let ours = bench.median(&["plan"], &folder, 11);
    bench.line("plan of 1,000 stages, all done", ours, None, None, None, 0.100);
}

/// What a bare loop needs, as the median of five.
fn limit(work: impl Fn()) -> f64 {
    let times = (0..5).map(|_| {
        let start = Instant::now();
        work();
        start.elapsed().as_secs_f64()
    });
    median(times.collect())
}

/// Walks a folder with one `lstat` for each file; with `read`, hashes each as well.
fn walk(folder: &Path, read: bool) {
    let mut hasher = blake3::Hasher::new();
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        hasher.update(&entry.metadata().unwrap().len().to_le_bytes());
        if read {
            hasher.update(&fs::read(entry.path()).unwrap());
        }
    }
    std::hint::black_box(hasher.finalize());
}
