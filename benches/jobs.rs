//! What the runner asks, opens and holds for jobs of a cluster, from twenty to two thousand: while they are submitted, and
//! after a runner that waited for them was killed.
//!
//! `cargo bench -p pipeline --bench jobs`; `JOBS` (default 2,000) is the largest number. Slurm's programs are the stand-ins of
//! the tests, the runner may open 256 files, and a job is an `echo`. An exponent is that of the last tenfold: 1 grows with
//! the jobs, 0 does not grow.

#![expect(clippy::unwrap_used, reason = "a bench that cannot go on has failed")]

use measure::peak_memory_of;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// The smallest number, and by what it grows.
const FIRST: usize = 20;
const STEP: usize = 10;
/// Seconds between two questions.
const INTERVAL: f64 = 2.0;
/// How often the runner is looked at.
const TICK: Duration = Duration::from_millis(20);

fn main() {
    let most = std::env::var("JOBS").map_or(2000, |text| text.parse().unwrap());
    println!(
        "{:>6} {:24} {:>10} {:>6} {:>6} {:>8} {:>8} {:>9} {:>10} {:>9}  exponents of seconds, memory",
        "jobs", "", "seconds", "MB", "files", "threads", "squeue", "intervals", "at most", "sbatch"
    );
    let mut before: Option<[Held; 2]> = None;
    let mut count = FIRST;
    while count <= most {
        let rows = Cluster::new(count).measure();
        for (i, (what, row)) in ["submitting", "after a kill, to the end"].iter().zip(&rows).enumerate() {
            let grown = before.as_ref().map_or(String::new(), |before| row.grown(&before[i]));
            println!("{count:6} {what:24} {}  {grown}", row.shown());
        }
        (before, count) = (Some(rows), count * STEP);
    }
}

/// What a runner took and held at most.
#[derive(Default)]
struct Held {
    seconds: f64,
    bytes: u64,
    files: usize,
    threads: usize,
    /// When `squeue` was called, and how often `sbatch`.
    asked: Vec<f64>,
    submissions: usize,
}

impl Held {
    fn look(&mut self, process: u32) {
        let entries = |name: &str| fs::read_dir(format!("/proc/{process}/{name}")).map_or(0, Iterator::count);
        self.files = self.files.max(entries("fd"));
        self.threads = self.threads.max(entries("task"));
        self.bytes = self.bytes.max(peak_memory_of(&process.to_string()).unwrap_or(0));
    }

    fn shown(&self) -> String {
        let asked = &self.asked;
        let between = asked.first().zip(asked.last()).map_or(0.0, |(first, last)| last - first);
        let intervals = between / INTERVAL;
        let in_one = |i: usize| asked[i..].iter().take_while(|at| **at < asked[i] + INTERVAL).count();
        let most = (0..asked.len()).map(in_one).max().unwrap_or(0);
        format!(
            "{:10.2} {:6.1} {:6} {:8} {:8} {intervals:9.1} {most:10} {:9}",
            self.seconds,
            self.bytes as f64 / 1e6,
            self.files,
            self.threads,
            asked.len(),
            self.submissions
        )
    }

    fn grown(&self, before: &Self) -> String {
        let exponent = |now: f64, then: f64| (now / then).log10() / (STEP as f64).log10();
        let memory = exponent(self.bytes as f64, before.bytes as f64);
        format!("{:5.2} {memory:5.2}", exponent(self.seconds, before.seconds))
    }
}

/// A study of so many jobs, and the stand-ins of a cluster.
struct Cluster {
    folder: tempfile::TempDir,
    count: usize,
}

impl Cluster {
    fn new(count: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let study = format!(
            "name: many\nengine: slurm\nslurm: {{interval: {INTERVAL}s}}\nstages:\n  a:\n    \
             command: sh -c 'echo ${{params.shard}} > ${{outputs.x}}'\n    shards: {count}\n    outputs: [x]\n"
        );
        fs::write(folder.path().join("pipeline.yaml"), study).unwrap();
        let programs = folder.path().join("fake/bin");
        fs::create_dir_all(&programs).unwrap();
        for name in ["sbatch", "squeue", "scancel", "scontrol", "work"] {
            let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/runner/slurm/fake");
            std::os::unix::fs::symlink(program, programs.join(name)).unwrap();
        }
        Self { folder, count }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn start(&self, line: &str, log: &str) -> Child {
        let log = File::create(self.path(log)).unwrap();
        let path = format!("{}:{}", self.path("fake/bin").display(), std::env::var("PATH").unwrap());
        let mut command = Command::new("sh");
        command.args(["-c", line, env!("CARGO_BIN_EXE_pipeline")]).env("PATH", path);
        command.current_dir(self.folder.path()).stdout(log.try_clone().unwrap()).stderr(log);
        command.spawn().unwrap()
    }

    fn runner(&self, log: &str) -> Child {
        self.start("ulimit -n 256; exec \"$0\" run", log)
    }

    /// When the calls of one of the programs were.
    fn calls(&self, name: &str) -> Vec<f64> {
        let calls = fs::read_to_string(self.path("fake/calls")).unwrap_or_default();
        let of = calls.lines().filter(|line| line.split(' ').nth(1) == Some(name));
        of.map(|line| line.split(' ').next().unwrap().parse().unwrap()).collect()
    }

    fn measure(&self) -> [Held; 2] {
        fs::write(self.path("fake/hold"), "").unwrap();
        let (begun, mut first) = (Instant::now(), Held::default());
        let mut runner = self.runner("1.log");
        while fs::read_to_string(self.path("1.log")).unwrap().matches("submitted as job").count() < self.count
        {
            first.look(runner.id());
            std::thread::sleep(TICK);
        }
        first.seconds = begun.elapsed().as_secs_f64();
        runner.kill().unwrap();
        runner.wait().unwrap();
        (first.asked, first.submissions) = (self.calls("squeue"), self.calls("sbatch").len());

        fs::remove_file(self.path("fake/hold")).unwrap();
        let (begun, mut second) = (Instant::now(), Held::default());
        let mut work = self.start("exec work 16", "work.log");
        let mut runner = self.runner("2.log");
        let end = loop {
            second.look(runner.id());
            if let Some(end) = runner.try_wait().unwrap() {
                break end;
            }
            std::thread::sleep(TICK);
        };
        second.seconds = begun.elapsed().as_secs_f64();
        fs::write(self.path("fake/stop"), "").unwrap();
        work.wait().unwrap();
        assert!(end.success(), "{}", fs::read_to_string(self.path("2.log")).unwrap());
        second.asked = self.calls("squeue").split_off(first.asked.len());
        second.submissions = self.calls("sbatch").len() - first.submissions;
        [first, second]
    }
}
