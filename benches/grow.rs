//! What grows with the work: seconds and memory of the runner from a hundred to a million, with their exponents.
//!
//! `cargo bench -p pipeline --bench grow -- [files] [each] [stages]` runs some parts, without names all. `FILES` (default
//! 1,000,000) and `TASKS` (default 10,000) are the largest numbers; `BENCH_DIR` (default the system's folder for temporary
//! files) needs 15 GB and three million inodes for a million files. One call each. An exponent is that of the last
//! tenfold: 1 grows with the work, 0 does not grow.

#![expect(clippy::unwrap_used, reason = "a bench that cannot go on has failed")]

use measure::peak_memory_of;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The smallest number, and by what it grows.
const FIRST: usize = 100;
const STEP: usize = 10;

/// One call of the runner, or a bare loop of the bench's own, whose memory says nothing.
#[derive(Clone, Copy)]
struct Took {
    seconds: f64,
    bytes: Option<u64>,
}

/// What is measured of one shape of work, for each number.
type Row = Vec<(&'static str, Took)>;

/// A shape of work: its name, the largest number, and what measures it.
type Shape = (&'static str, usize, fn(&Path, usize) -> Row);

fn main() {
    let asked: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let number = |name: &str, usual: usize| std::env::var(name).map_or(usual, |text| text.parse().unwrap());
    let place = std::env::var_os("BENCH_DIR").map_or(std::env::temp_dir(), Into::into);
    let (many_files, many_tasks) = (number("FILES", 1_000_000), number("TASKS", 10_000));
    let shapes: [Shape; 3] =
        [("files", many_files, files), ("each", many_tasks, each), ("stages", many_tasks, stages)];
    for (name, most, measure) in shapes {
        if !asked.is_empty() && !asked.iter().any(|a| a == name) {
            continue;
        }
        let mut before: Row = Vec::new();
        let mut count = FIRST;
        while count <= most {
            let folder = tempfile::tempdir_in(&place).unwrap();
            let row = measure(folder.path(), count);
            for (i, (what, took)) in row.iter().enumerate() {
                let grown = before.get(i).map(|(_, before)| {
                    let exponent = |now: f64, then: f64| (now / then).log10() / (STEP as f64).log10();
                    let memory =
                        took.bytes.zip(before.bytes).map(|(now, then)| exponent(now as f64, then as f64));
                    let memory = memory.map(|memory| format!("{memory:5.2}")).unwrap_or_default();
                    format!("{:5.2} {memory}", exponent(took.seconds, before.seconds))
                });
                let megabytes = took.bytes.map_or("-".into(), |bytes| format!("{:.0}", bytes as f64 / 1e6));
                let grown = grown.unwrap_or_default();
                println!("{name:7} {count:9} {what:28} {:9.3} s {megabytes:>7} MB  {grown}", took.seconds);
            }
            (before, count) = (row, count * STEP);
        }
    }
}

/// Times the runner, and notes its memory.
fn ours(words: &[&str], folder: &Path) -> Took {
    let start = Instant::now();
    let mut child = Command::new(env!("CARGO_BIN_EXE_pipeline"))
        .args(words)
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let process = child.id().to_string();
    let mut bytes = 0;
    loop {
        if let Some(code) = child.try_wait().unwrap() {
            assert!(code.success(), "pipeline {words:?} in {}", folder.display());
            return Took { seconds: start.elapsed().as_secs_f64(), bytes: Some(bytes) };
        }
        bytes = bytes.max(peak_memory_of(&process).unwrap_or(0));
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// What nobody who looks at every file can do without: the folder is read, and threads ask what `stat` says of the files.
fn bare(folder: &Path) -> Took {
    let start = Instant::now();
    let files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    let threads = std::thread::available_parallelism().unwrap().get();
    std::thread::scope(|scope| {
        for files in files.chunks(files.len().div_ceil(threads)) {
            scope.spawn(|| assert!(files.iter().all(|file| fs::symlink_metadata(file).is_ok())));
        }
    });
    Took { seconds: start.elapsed().as_secs_f64(), bytes: None }
}

fn study(folder: &Path, stages: &str) {
    fs::write(folder.join("pipeline.yaml"), format!("name: grow\nstages:\n{stages}")).unwrap();
}

/// A folder of files: as an input for the first time and again, as an output, and made again from the store.
fn files(folder: &Path, count: usize) -> Row {
    let read = folder.join("read");
    fs::create_dir_all(read.join("data")).unwrap();
    (0..count).for_each(|i| fs::write(read.join(format!("data/{i:07}")), format!("{i}\n")).unwrap());
    // Older than the two seconds within which a file's time says nothing.
    std::thread::sleep(Duration::from_millis(2100));
    let count_lines = "[sh, -c, 'ls $0 | wc -l > $1', '${inputs.d}', '${outputs.n}']";
    study(&read, &format!("  a:\n    command: {count_lines}\n    inputs: {{d: data}}\n    outputs: [n]\n"));
    let first = ours(&["plan"], &read);
    ours(&["run"], &read);
    let again = ours(&["run"], &read);
    let limit = bare(&read.join("data"));
    fs::remove_dir_all(&read).unwrap();

    let write = folder.join("write");
    fs::create_dir(&write).unwrap();
    let make = format!("[sh, -c, 'mkdir $0; cd $0; seq {count} | split -l 1 -a 7 -d - f', '${{outputs.o}}']");
    study(&write, &format!("  a:\n    command: {make}\n    outputs: [o]\n"));
    let run = ours(&["run"], &write);
    fs::remove_dir_all(write.join("out")).unwrap();
    fs::remove_dir_all(write.join(".pipeline/views")).unwrap();
    let restored = ours(&["run"], &write);
    vec![
        ("first hashing", first),
        ("nothing to do", again),
        ("the limit of that", limit),
        ("making and committing", run),
        ("restoring", restored),
    ]
}

/// A stage over every file of a folder.
fn each(folder: &Path, count: usize) -> Row {
    let make = format!("[sh, -c, 'mkdir $0; cd $0; seq {count} | split -l 1 -a 7 -d - f', '${{outputs.d}}']");
    let map = "[cp, '${inputs.d}', '${outputs.x}']";
    study(
        folder,
        &format!(
            "  make:\n    command: {make}\n    outputs: [d]\n  map:\n    command: {map}\n    inputs: {{d: make.d}}\n    each: d\n    outputs: [x]\n"
        ),
    );
    ours(&["run", "make"], folder);
    let planned = ours(&["plan"], folder);
    let run = ours(&["run"], folder);
    let again = ours(&["run"], folder);
    vec![("plan, nothing done", planned), ("run", run), ("nothing to do", again)]
}

/// Stages ten wide, each behind another.
fn stages(folder: &Path, count: usize) -> Row {
    fs::write(folder.join("x"), "x").unwrap();
    let mut text = String::new();
    for n in 0..count {
        let input = if n < 10 { "x".into() } else { format!("s{}.o", n - 10) };
        text += &format!(
            "  s{n}:\n    command: cp ${{inputs.i}} ${{outputs.o}}\n    inputs: {{i: {input}}}\n    outputs: [o]\n"
        );
    }
    study(folder, &text);
    let planned = ours(&["plan"], folder);
    let run = ours(&["run"], folder);
    let again = ours(&["run"], folder);
    vec![("plan, nothing done", planned), ("run", run), ("nothing to do", again)]
}
