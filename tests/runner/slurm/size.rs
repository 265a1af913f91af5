//! Thousands of jobs, with programs that stand in for Slurm's: what the runner asks, opens and holds does not grow with them.

use crate::study::{Study, said, stderr, until};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Output};

/// A stand-in for a cluster, in a folder of a study.
struct Fake {
    study: Study,
    work: Option<Child>,
}

impl Fake {
    /// `shards` instances of one stage; `more` belongs to the study's `slurm`.
    fn new(shards: u32, interval: &str, more: &str) -> Self {
        let study = Study::new(&format!(
            "name: many\nengine: slurm\nslurm: {{interval: {interval}{more}}}\nstages:\n  a:\n    \
             command: sh -c 'echo ${{params.shard}} $SLURM_ARRAY_TASK_ID > ${{outputs.x}}'\n    shards: {shards}\n    outputs: [x]\n"
        ));
        std::fs::create_dir_all(study.path("fake/bin")).unwrap();
        for name in ["sbatch", "squeue", "scancel", "scontrol", "work"] {
            let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/runner/slurm/fake");
            std::os::unix::fs::symlink(program, study.path("fake/bin").join(name)).unwrap();
        }
        Self { study, work: None }
    }

    fn on(&self, mut command: Command) -> Command {
        let path = std::env::var("PATH").unwrap();
        let bin = self.study.path("fake/bin");
        command.env("PATH", format!("{}:{path}", bin.display()));
        command
    }

    fn command(&self, arguments: &[&str]) -> Command {
        self.on(self.study.command(arguments))
    }

    fn run(&self) -> Output {
        self.command(&["run"]).output().unwrap()
    }

    /// The runner, under a limit of open files.
    fn start(&self, log: &str, files: u64) -> Child {
        let log = std::fs::File::create(self.study.path(log)).unwrap();
        let mut command = self.command(&["run"]);
        let limit = open_files(files);
        // SAFETY: one system call, of plain numbers.
        unsafe { command.pre_exec(limit) };
        command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap()
    }

    /// Begins to run jobs, so many at a time.
    fn work(&mut self, at_once: u32) {
        let mut command = self.on(Command::new(self.study.path("fake/bin/work")));
        self.work = Some(command.arg(at_once.to_string()).current_dir(self.study.path("")).spawn().unwrap());
    }

    fn calls(&self, name: &str) -> Vec<f64> {
        let calls = self.study.read("fake/calls");
        let of = calls.lines().filter(|line| line.split(' ').nth(1) == Some(name));
        of.map(|line| line.split(' ').next().unwrap().parse().unwrap()).collect()
    }

    fn jobs(&self) -> usize {
        self.study.read("fake/jobs").matches("\"state\"").count()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.study.write("fake/stop", "");
        if let Some(mut work) = self.work.take() {
            let _ = work.wait();
        }
    }
}

/// Seconds between two questions.
const INTERVAL: f64 = 2.0;

/// Sets the limit of open files in a process that is to be.
fn open_files(files: u64) -> impl FnMut() -> std::io::Result<()> {
    move || {
        let limit = libc::rlimit { rlim_cur: files, rlim_max: files };
        // SAFETY: the argument lives as long as the call.
        match unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) } {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        }
    }
}

/// A number of `/proc/PID/status`.
fn status(pid: u32, name: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap_or("0");
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// What a runner holds at most.
#[derive(Debug, Default)]
struct Figures {
    files: usize,
    threads: u64,
    memory: u64,
}

impl Figures {
    fn and(self, pid: u32) -> Self {
        let files = std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
        let (threads, memory) = (status(pid, "Threads"), status(pid, "VmHWM"));
        Self {
            files: self.files.max(files),
            threads: self.threads.max(threads),
            memory: self.memory.max(memory),
        }
    }

    fn are_few(&self) {
        assert!(self.files < 40 && self.threads < 40 && self.memory < 100_000, "{self:?}");
    }
}

/// However all calls of `squeue` are looked at, two are the most in an interval, whichever runner made them. What is printed is of
/// those from the one of this number on.
fn few_calls(fake: &Fake, what: &str, from: usize, figures: &Figures) {
    let all = fake.calls("squeue");
    let most = (0..all.len()).map(|i| all[i..].iter().take_while(|at| **at < all[i] + INTERVAL).count());
    let (most, seconds) = (most.max().unwrap(), all[all.len() - 1] - all[from]);
    println!(
        "{what}: {} calls of squeue in {seconds:.1} s, {:.1} intervals, at most {most} in one; {} files, {} threads, {} kB; \
         {} calls of sbatch so far",
        all.len() - from,
        seconds / INTERVAL,
        figures.files,
        figures.threads,
        figures.memory,
        fake.calls("sbatch").len()
    );
    assert!(most <= 2, "{most} calls in an interval: {all:?}");
}

/// Waits until a line was said of every job.
fn all(fake: &Fake, log: &str, line: &str) {
    let begun = std::time::Instant::now();
    while fake.study.read(log).matches(line).count() < 2000 {
        assert!(begun.elapsed().as_secs() < 600, "`{line}` is not said of all in {log}");
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
}

#[test]
fn two_thousand_jobs_cost_as_few_files_threads_and_calls_as_two() {
    let mut fake = Fake::new(2000, "2s", "");
    fake.study.write("fake/hold", "");
    let mut runner = fake.start("1.log", 256);
    all(&fake, "1.log", "submitted as job ");
    // In arrays that the cluster takes; what comes slowly is submitted every few seconds.
    let (first, last) = (fake.calls("scontrol")[0], *fake.calls("sbatch").last().unwrap());
    let most = 2.0 + (last - first) / 4.0;
    assert!(fake.calls("sbatch").len() as f64 <= most, "{}", fake.study.read("fake/calls"));
    assert_eq!(fake.jobs(), 2000);
    let figures = Figures::default().and(runner.id());
    figures.are_few();
    few_calls(&fake, "submitted", 0, &figures);
    runner.kill().unwrap();
    runner.wait().unwrap();
    // The next runner finds all of them, by one question.
    let (before, submitted) = (fake.calls("squeue").len(), fake.calls("sbatch").len());
    let mut runner = fake.start("2.log", 256);
    all(&fake, "2.log", "goes on with the job of an earlier run");
    let reattached = fake.calls("squeue").len();
    std::thread::sleep(std::time::Duration::from_secs(6));
    assert!(fake.calls("squeue").len() > reattached, "it asks on");
    std::fs::remove_file(fake.study.path("fake/hold")).unwrap();
    fake.work(16);
    let mut figures = Figures::default();
    let end = loop {
        figures = figures.and(runner.id());
        if let Some(end) = runner.try_wait().unwrap() {
            break end;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    };
    assert!(end.success(), "{}", fake.study.read("2.log"));
    figures.are_few();
    few_calls(&fake, "reattached, to the end", before, &figures);
    assert_eq!(fake.calls("sbatch").len(), submitted, "nothing is submitted again");
    assert!(fake.calls("scancel").is_empty(), "nothing is cancelled");
    assert_eq!(fake.study.read("out/a/x/0007"), "7 7\n");
    assert!(fake.study.read("out/a/x/1001").starts_with("1001 "));
    assert_eq!(std::fs::read_dir(fake.study.path(".pipeline/attempts")).unwrap().count(), 0);
}

#[test]
fn arrays_are_as_large_as_the_cluster_takes() {
    let mut fake = Fake::new(25, "1s", "");
    fake.study.write("fake/array", "10");
    fake.work(8);
    let run = fake.run();
    assert!(run.status.success(), "{}", said(&run));
    assert_eq!(fake.calls("sbatch").len(), 3, "{}", fake.study.read("fake/calls"));
    assert_eq!(
        (fake.study.read("out/a/x/09"), fake.study.read("out/a/x/24")),
        ("9 9\n".into(), "24 4\n".into())
    );
}

#[test]
fn no_more_are_submitted_than_the_study_allows() {
    let mut fake = Fake::new(12, "1s", ", max-submitted: 5");
    fake.study.write("fake/most", "5");
    fake.work(5);
    let run = fake.run();
    assert!(run.status.success(), "{}", said(&run));
    assert!(!stderr(&run).contains("QOSMaxSubmit"), "{}", stderr(&run));
    let refused = Fake::new(2, "1s", ", max-submitted: 0").run();
    let text = "error: pipeline.yaml:3: with `max-submitted: 0` no job could ever be submitted\n";
    assert_eq!((refused.status.code(), stderr(&refused).as_str()), (Some(2), text));
}

#[test]
fn where_slurm_refuses_more_fewer_are_submitted_and_the_rest_waits() {
    let mut fake = Fake::new(12, "1s", "");
    fake.study.write("fake/most", "4");
    fake.work(4);
    let run = fake.run();
    assert!(run.status.success(), "{}", said(&run));
    assert_eq!(fake.jobs(), 12);
}

#[test]
fn a_folder_that_no_node_sees_is_said_as_that() {
    let mut fake = Fake::new(2, "1s", "");
    fake.study.write("fake/fate", "FAILED 53");
    fake.work(2);
    let run = fake.run();
    assert_eq!(run.status.code(), Some(1));
    let text = stderr(&run);
    assert!(
        text.contains("could not begin, as its node does not see ") && !text.contains("signal 53"),
        "{text}"
    );
}

#[test]
fn two_runners_submit_a_job_once() {
    let mut fake = Fake::new(3, "1s", "");
    fake.study.write("fake/hold", "");
    let mut first = fake.start("1.log", 256);
    until("the submission", || fake.study.read("1.log").contains("submitted as job "));
    let mut second = fake.start("2.log", 256);
    until("the second", || {
        fake.study.read("2.log").contains("waiting for another runner that does the same")
    });
    // The one that is killed leaves its jobs to the other.
    first.kill().unwrap();
    first.wait().unwrap();
    until("the second again", || fake.study.read("2.log").contains("goes on with the job of an earlier run"));
    std::fs::remove_file(fake.study.path("fake/hold")).unwrap();
    fake.work(3);
    assert!(second.wait().unwrap().success(), "{}", fake.study.read("2.log"));
    assert_eq!((fake.jobs(), fake.calls("sbatch").len()), (3, 1));
}

#[test]
fn what_waits_is_counted_apart_from_what_runs() {
    let mut fake = Fake::new(2, "1s", "");
    fake.work(2);
    let run = fake.command(&["run", "--log-format", "json"]).output().unwrap();
    let lines = String::from_utf8(run.stdout).unwrap();
    let of = |name: &str| lines.matches(&format!("\"event\":\"{name}\"")).count();
    assert_eq!(of("task-queued"), 2, "{lines}");
}
