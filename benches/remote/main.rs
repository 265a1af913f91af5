//! The shared cache against DVC and s5cmd, over a line on which every question takes a round trip.
//!
//! `cargo bench -p pipeline --bench remote -- [files] [small] [large] [results]` runs some parts, without names all. The object
//! store and the line to it are the bench's own, on loopback. Peers are found on `PATH` or in the folder that `PEERS`
//! names; those that are not there are said to be absent. `ROUND_TRIP` (default 30) is in milliseconds, `LARGE` (default
//! 1000) the size of the large file in MB, of which `BENCH_DIR` (default the system's folder for temporary files) needs
//! six times as much. Wall seconds of one call each; results are checked.

#![expect(clippy::unwrap_used, reason = "a bench that cannot go on has failed")]

mod bucket;
mod distance;

use measure::peak_memory_of;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The largest that the runner's memory may become.
const MEMORY: f64 = 150.0;

struct Bench {
    folder: tempfile::TempDir,
    address: String,
    dvc: Option<PathBuf>,
    s5cmd: Option<PathBuf>,
    memory: u64,
    caches: u32,
}

fn main() {
    let asked: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let wants = |part: &str| asked.is_empty() || asked.iter().any(|a| a == part);
    let number = |name: &str, usual: u64| std::env::var(name).map_or(usual, |text| text.parse().unwrap());
    let place = std::env::var_os("BENCH_DIR").map_or(std::env::temp_dir(), PathBuf::from);
    let folder = tempfile::tempdir_in(place).unwrap();
    let objects = folder.path().join("objects");
    fs::create_dir(&objects).unwrap();
    let trip = number("ROUND_TRIP", 30);
    let address = distance::between(bucket::serve(&objects), Duration::from_micros(trip * 500)).to_string();
    let (dvc, s5cmd) = (find("dvc"), find("s5cmd"));
    let mut bench = Bench { folder, address, dvc, s5cmd, memory: 0, caches: 0 };
    for (name, peer) in [("DVC", &bench.dvc), ("s5cmd", &bench.s5cmd)] {
        if peer.is_none() {
            println!("{name} is absent");
        }
    }
    println!("a round trip of {trip} ms; seconds, and ours over the peer's");
    println!(
        "{:38} {:>9} {:>9} {:>9} {:>8} {:>8}  target",
        "", "pipeline", "DVC", "s5cmd", "/ DVC", "/ s5cmd"
    );
    if wants("files") {
        bench.folders("200 files of 2 MB", 200, 2_000_000, Some(1.5));
    }
    if wants("small") {
        bench.folders("10,000 files of 1 KiB", 10_000, 1024, Some(1.0));
    }
    if wants("large") {
        let large = number("LARGE", 1000);
        bench.folders(&format!("one file of {large} MB"), 1, large * 1_000_000, Some(1.5));
    }
    if wants("results") {
        bench.results();
    }
    let peak = bench.memory as f64 / 1e6;
    println!("peak memory of the runner: {peak:.0} MB (target {MEMORY:.0}: {})", verdict(peak <= MEMORY));
}

fn verdict(met: bool) -> &'static str {
    if met { "met" } else { "MISSED" }
}

/// A peer's program.
fn find(name: &str) -> Option<PathBuf> {
    let peers = std::env::var("PEERS").unwrap_or_default();
    let path = std::env::var("PATH").unwrap_or_default();
    let folders = std::iter::once(peers.as_str()).chain(path.split(':'));
    folders.map(|folder| Path::new(folder).join(name)).find(|program| program.is_file())
}

/// What can be had in one direction, in seconds.
struct Times {
    ours: f64,
    dvc: Option<f64>,
    s5cmd: Option<f64>,
}

fn line(what: &str, times: &Times, most: Option<f64>, ratio: Option<f64>) {
    let cell = |time: Option<f64>| time.map_or("-".into(), |t| format!("{t:.2}"));
    let over = |time: Option<f64>| cell(time.map(|time| times.ours / time));
    let met = match (most, ratio, times.s5cmd) {
        (Some(most), ..) => format!("{most:.1} s: {}", verdict(times.ours <= most)),
        (None, Some(ratio), Some(s5cmd)) => {
            format!("{ratio:.1} × s5cmd: {}", verdict(times.ours <= ratio * s5cmd))
        }
        _ => String::new(),
    };
    let Times { ours, dvc, s5cmd } = *times;
    println!(
        "{what:38} {ours:9.2} {:>9} {:>9} {:>8} {:>8}  {met}",
        cell(dvc),
        cell(s5cmd),
        over(dvc),
        over(s5cmd)
    );
}

impl Bench {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, program: &Path, words: &[&str], folder: &Path) -> Command {
        let mut command = Command::new(program);
        command.args(words).current_dir(folder).stdin(Stdio::null());
        command
            .env("AWS_ACCESS_KEY_ID", "x")
            .env("AWS_SECRET_ACCESS_KEY", "y")
            .env("AWS_REGION", "us-east-1");
        command
            .env("AWS_DEFAULT_REGION", "us-east-1")
            .env("AWS_ALLOW_HTTP", "true")
            .env("DVC_NO_ANALYTICS", "1");
        // s5cmd has its own name for it.
        for name in ["AWS_ENDPOINT_URL", "S3_ENDPOINT_URL"] {
            command.env(name, format!("http://{}", self.address));
        }
        command
    }

    /// Times the runner, and notes its memory.
    fn ours(&mut self, words: &[&str], folder: &Path) -> f64 {
        let start = Instant::now();
        let mut command = self.command(Path::new(env!("CARGO_BIN_EXE_pipeline")), words, folder);
        let log = File::create(folder.join("log")).unwrap();
        let mut child = command.stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let process = child.id().to_string();
        loop {
            if let Some(code) = child.try_wait().unwrap() {
                let log = fs::read_to_string(folder.join("log")).unwrap();
                assert!(code.success() && !log.contains("warning"), "pipeline {words:?}: {log}");
                return start.elapsed().as_secs_f64();
            }
            self.memory = self.memory.max(peak_memory_of(&process).unwrap_or(0));
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn time(&self, program: &Path, words: &[&str], folder: &Path) -> f64 {
        let start = Instant::now();
        let output = self.command(program, words, folder).output().unwrap();
        let seconds = start.elapsed().as_secs_f64();
        assert!(
            output.status.success(),
            "{program:?} {words:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        seconds
    }

    /// A place in the store that nobody has used.
    fn cache(&mut self) -> String {
        self.caches += 1;
        format!("s3://bucket/{}", self.caches)
    }

    /// A folder of files, both ways; `ratio` is what ours may take of s5cmd's.
    fn folders(&mut self, what: &str, count: usize, bytes: u64, ratio: Option<f64>) {
        let data = self.path("data");
        fs::create_dir(&data).unwrap();
        (0..count).for_each(|i| write(&data.join(format!("{i:05}")), i as u64, bytes));
        let s5cmd = self.with_s5cmd(&data);
        let dvc = self.with_dvc(&data);
        let [push, again, pull] = self.with_pipeline(&data, count, bytes);
        let times = |ours: f64, at: usize| Times { ours, dvc: dvc.map(|d| d[at]), s5cmd: None };
        let against = |at: usize| s5cmd.map(|s| s[at]);
        line(&format!("{what}, push"), &Times { s5cmd: against(0), ..times(push, 0) }, None, ratio);
        line(&format!("{what}, push again"), &times(again, 1), Some(1.0), None);
        line(&format!("{what}, pull"), &Times { s5cmd: against(1), ..times(pull, 2) }, None, ratio);
        fs::remove_dir_all(self.path("objects")).unwrap();
        fs::create_dir(self.path("objects")).unwrap();
    }

    /// Up and down.
    fn with_s5cmd(&mut self, data: &Path) -> Option<[f64; 2]> {
        let program = self.s5cmd.clone()?;
        let place = self.cache();
        let up = self.time(&program, &["cp", &format!("{}/", data.display()), &format!("{place}/")], data);
        let down = self.path("s5cmd");
        fs::create_dir(&down).unwrap();
        let seconds = self.time(&program, &["cp", &format!("{place}/*"), "."], &down);
        assert_eq!(fs::read_dir(&down).unwrap().count(), fs::read_dir(data).unwrap().count());
        fs::remove_dir_all(down).unwrap();
        Some([up, seconds])
    }

    /// Push, push again, pull.
    fn with_dvc(&mut self, data: &Path) -> Option<[f64; 3]> {
        let program = self.dvc.clone()?;
        let (place, folder) = (self.cache(), self.path("dvc"));
        fs::create_dir(&folder).unwrap();
        assert!(Command::new("cp").arg("-al").arg(data).arg(folder.join("data")).status().unwrap().success());
        for words in [
            &["init", "--no-scm", "--quiet"][..],
            &["remote", "add", "-d", "far", &place],
            &["add", "--quiet", "data"],
        ] {
            self.time(&program, words, &folder);
        }
        let push = self.time(&program, &["push", "--quiet"], &folder);
        let again = self.time(&program, &["push", "--quiet"], &folder);
        fs::remove_dir_all(folder.join(".dvc/cache")).unwrap();
        fs::remove_dir_all(folder.join("data")).unwrap();
        let pull = self.time(&program, &["pull", "--quiet"], &folder);
        assert_eq!(fs::read_dir(folder.join("data")).unwrap().count(), fs::read_dir(data).unwrap().count());
        fs::remove_dir_all(folder).unwrap();
        Some([push, again, pull])
    }

    /// Push, push again, pull. The files are the output of a stage, and are taken for it.
    fn with_pipeline(&mut self, data: &Path, count: usize, bytes: u64) -> [f64; 3] {
        let (place, folder) = (self.cache(), self.path("pipeline"));
        fs::create_dir(&folder).unwrap();
        // A move of the files themselves: the disk holds them once.
        let command = format!("[sh, -c, 'mv {} $0', '${{outputs.o}}']", data.display());
        study(&folder, &format!("  a:\n    command: {command}\n    outputs: [o]\n"));
        self.ours(&["run"], &folder);
        let push = self.ours(&["push", "--cache", &place], &folder);
        let again = self.ours(&["push", "--cache", &place], &folder);
        fs::remove_dir_all(folder.join(".pipeline")).unwrap();
        fs::remove_dir_all(folder.join("out")).unwrap();
        let pull = self.ours(&["pull", "--cache", &place], &folder);
        let got = folder.join("out/a/o");
        assert_eq!(fs::read_dir(&got).unwrap().count(), count);
        assert_eq!(fs::metadata(got.join("00000")).unwrap().len(), bytes);
        fs::remove_dir_all(folder).unwrap();
        [push, again, pull]
    }

    /// A run and a plan that find 500 results in the cache, and a push of what is there.
    fn results(&mut self) {
        let (place, folder) = (self.cache(), self.path("results"));
        fs::create_dir(&folder).unwrap();
        let command = "[sh, -c, 'echo ${params.shard} > $0', '${outputs.x}']";
        study(&folder, &format!("  a:\n    command: {command}\n    shards: 500\n    outputs: [x]\n"));
        self.ours(&["run"], &folder);
        let cache = ["--cache", place.as_str()];
        let alone = |ours: f64| Times { ours, dvc: None, s5cmd: None };
        let call = |bench: &mut Self, word: &str| bench.ours(&[&[word], &cache[..]].concat(), &folder);
        let fresh = || {
            fs::remove_dir_all(folder.join(".pipeline")).unwrap();
            let _ = fs::remove_dir_all(folder.join("out"));
        };
        let push = call(self, "push");
        let again = call(self, "push");
        fresh();
        let plan = call(self, "plan");
        let run = call(self, "run");
        assert_eq!(fs::read_to_string(folder.join("out/a/x/499")).unwrap(), "499\n");
        fresh();
        let pull = call(self, "pull");
        for (what, seconds) in [
            ("push", push),
            ("push again", again),
            ("plan", plan),
            ("run that finds them", run),
            ("pull", pull),
        ] {
            let most = (what != "push" && what != "pull").then_some(1.0);
            line(&format!("500 results, {what}"), &alone(seconds), most, None);
        }
    }
}

fn study(folder: &Path, stages: &str) {
    fs::write(folder.join("pipeline.yaml"), format!("name: remote\nstages:\n{stages}")).unwrap();
}

/// Bytes that no compression makes fewer.
fn write(path: &Path, seed: u64, bytes: u64) {
    let mut file = File::create(path).unwrap();
    let mut random = blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof();
    let (mut block, mut left) = (vec![0; 1 << 20], bytes);
    while left > 0 {
        let length = left.min(block.len() as u64) as usize;
        random.fill(&mut block[..length]);
        file.write_all(&block[..length]).unwrap();
        left -= length as u64;
    }
}
