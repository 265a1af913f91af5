//! Features of a killed evaluation, and of several processes: the scores are the bytes that one undisturbed process writes.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

fn digits(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/digits").join(name)
}

/// Pictures that differ, and their classes.
fn write_samples(path: &Path, count: usize, salt: u8) {
    let mut writer = npz::Writer::create(path).unwrap();
    writer.start("arr_0", "|u1", &[count, 32, 32, 3]).unwrap();
    let byte = |i: usize, at: usize| (i * 131 + at * (i % 7 + 1) * 5) as u8 ^ salt;
    for i in 0..count {
        writer.values(&(0..32 * 32 * 3).map(|at| byte(i, at)).collect::<Vec<u8>>()).unwrap();
    }
    writer.integers("arr_1", &(0..count).map(|i| (i % 3) as i64).collect::<Vec<_>>()).unwrap();
    writer.finish().unwrap();
}

/// A folder with samples, and outputs by name.
struct Place(tempfile::TempDir);

impl Place {
    fn new(count: usize) -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        write_samples(&place.at("samples.npz"), count, 0);
        place
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Scores these samples, and keeps the statistics of the digits and the features of the samples.
    fn command(&self, name: &str, more: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_evaluate"));
        command.current_dir(self.0.path()).env("OMP_NUM_THREADS", "1").env("OMP_WAIT_POLICY", "passive");
        command.env_remove("PIPELINE_EVENTS").env_remove("PIPELINE_STATE").stderr(Stdio::piped());
        command.args(["--device", "cpu", "--threads", "1", "--samples", "samples.npz"]);
        command.arg("--inception").arg(digits("inception.safetensors"));
        for (flag, ending) in [("--scores", "json"), ("--features", "parquet")] {
            command.arg(flag).arg(format!("{name}.{ending}"));
        }
        command.args(more);
        command
    }

    /// All that an evaluation wrote.
    fn outputs(&self, name: &str) -> Vec<Vec<u8>> {
        ["json", "parquet"].map(|ending| fs::read(self.at(&format!("{name}.{ending}"))).unwrap()).into()
    }

    fn parts(&self, name: &str, set: &str) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.at(&format!("{name}.json.state/{set}")));
        let paths = entries.into_iter().flatten().flatten().map(|entry| entry.path());
        let mut parts: Vec<_> = paths.filter(|p| p.extension().is_some_and(|e| e == "safetensors")).collect();
        parts.sort();
        parts
    }

    /// Lets an evaluation make so many parts of its samples, and kills all its processes.
    fn kill_after(&self, parts: usize, name: &str, mut children: Vec<Child>) -> Vec<PathBuf> {
        while self.parts(name, "samples").len() < parts {
            for child in &mut children {
                assert_eq!(child.try_wait().unwrap(), None, "ended before it could be killed");
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        for child in &mut children {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        assert!(!self.at(&format!("{name}.json")).exists(), "too quick for this test");
        self.parts(name, "samples")
    }
}

/// The processes of one evaluation, as `torchrun` would start them.
fn processes(count: usize, command: impl Fn() -> Command) -> Vec<Child> {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let start = |rank: usize| {
        let mut command = command();
        let (rank, size) = (rank.to_string(), count.to_string());
        command.envs([("RANK", &rank), ("LOCAL_RANK", &rank), ("WORLD_SIZE", &size), ("MASTER_PORT", &port)]);
        command.env("MASTER_ADDR", "127.0.0.1").spawn().unwrap()
    };
    (0..count).map(start).collect()
}

fn succeeds(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{text}");
    text
}

fn all_succeed(children: Vec<Child>) -> String {
    children.into_iter().map(|child| succeeds(&child.wait_with_output().unwrap())).collect()
}

/// How many samples had their features from an earlier run, by what the processes of an evaluation say.
fn found(text: &str) -> usize {
    let lines = text.lines().filter(|line| line.ends_with("samples were there from an earlier run"));
    let number = |line: &str| line.split(' ').nth(3).unwrap().parse::<usize>().unwrap();
    lines.map(number).sum()
}

const REFERENCE: [&str; 4] = ["--image-size", "32", "--batch-size", "7"];

#[test]
fn several_processes_write_the_bytes_of_one() {
    let place = Place::new(40);
    // Pictures in a folder, of which a part stands for all.
    let pictures = place.at("pictures");
    for i in 0..33u8 {
        let folder = pictures.join(format!("class-{}", i / 17));
        fs::create_dir_all(&folder).unwrap();
        let picture = image::RgbImage::from_fn(40, 36, |x, y| {
            image::Rgb([i.wrapping_mul(37), x as u8 * 5, y as u8 * 7])
        });
        picture.save(folder.join(format!("{i:02}.png"))).unwrap();
    }
    let run = |name: &str| {
        let statistics = format!("{name}.npz");
        let more = ["--reference", "pictures", "--reference-images", "20", "--statistics", &statistics];
        place.command(name, &[&REFERENCE[..], &more, &["--more", "true"]].concat())
    };
    succeeds(&run("one").output().unwrap());
    let all = |name: &str| {
        let statistics = fs::read(place.at(&format!("{name}.npz"))).unwrap();
        [place.outputs(name), vec![statistics]].concat()
    };
    for size in [2, 3] {
        let name = format!("of-{size}");
        all_succeed(processes(size, || run(&name)));
        assert!(all(&name) == all("one"), "{size} processes");
        assert!(!place.at(&format!("{name}.json.state")).exists());
    }
    // Statistics alone.
    let only = |name: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_evaluate"));
        command.current_dir(place.0.path()).env("OMP_NUM_THREADS", "1").stderr(Stdio::piped());
        command.args([
            "--device",
            "cpu",
            "--threads",
            "1",
            "--reference",
            "pictures",
            "--reference-images",
            "20",
        ]);
        command.args(REFERENCE).arg("--inception").arg(digits("inception.safetensors"));
        command.arg("--statistics").arg(name);
        command
    };
    succeeds(&only("alone.npz").output().unwrap());
    all_succeed(processes(2, || only("shared.npz")));
    let [alone, shared] = ["alone.npz", "shared.npz"].map(|name| fs::read(place.at(name)).unwrap());
    assert!(alone == shared);
}

#[test]
fn features_of_a_killed_evaluation_are_not_made_again() {
    let place = Place::new(120);
    // The reference's statistics are there already.
    let mut first = Command::new(env!("CARGO_BIN_EXE_evaluate"));
    first.current_dir(place.0.path()).args(["--device", "cpu", "--reference", "samples.npz"]);
    first.args(["--statistics", "reference.npz"]).arg("--inception").arg(digits("inception.safetensors"));
    succeeds(&first.output().unwrap());
    let run = |name: &str| place.command(name, &["--reference", "reference.npz", "--batch-size", "3"]);
    let text = succeeds(&run("calm").output().unwrap());
    assert_eq!(found(&text), 0, "{text}");
    assert!(!place.at("calm.json.state").exists());

    for (name, before, after) in [("one", 1, 1), ("fewer", 2, 1), ("more", 1, 3)] {
        let start = |count| match count {
            1 => vec![run(name).spawn().unwrap()],
            count => processes(count, || run(name)),
        };
        let kept = place.kill_after(6, name, start(before));
        // One that is damaged, or of other pictures, is made again.
        let mut bytes = fs::read(&kept[0]).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&kept[0], bytes).unwrap();
        fs::copy(&kept[2], &kept[1]).unwrap();
        let text = all_succeed(start(after));
        assert_eq!(found(&text), 3 * (kept.len() - 2), "{name}: {text}");
        assert!(place.outputs(name) == place.outputs("calm"), "{name}");
        assert!(!place.at(&format!("{name}.json.state")).exists());
    }

    // Other pictures under the same name have features of their own.
    place.kill_after(6, "other", vec![run("other").spawn().unwrap()]);
    write_samples(&place.at("samples.npz"), 120, 85);
    let text = succeeds(&run("other").output().unwrap());
    assert_eq!(found(&text), 0, "{text}");
    succeeds(&run("calm").output().unwrap());
    assert!(place.outputs("other") == place.outputs("calm"));
}

#[test]
fn a_stopped_evaluation_goes_on() {
    let place = Place::new(120);
    let run = |name: &str| place.command(name, &["--reference", "samples.npz", "--batch-size", "2"]);
    succeeds(&run("calm").output().unwrap());
    let mut child = run("stopped").spawn().unwrap();
    while place.parts("stopped", "reference").len() < 4 {
        assert_eq!(child.try_wait().unwrap(), None);
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(75));
    let text = succeeds(&run("stopped").output().unwrap());
    assert!(text.contains(" of 120 reference pictures were there from an earlier run"), "{text}");
    assert!(place.outputs("stopped") == place.outputs("calm"));
}

#[test]
fn more_processes_than_batches_are_refused_before_any_work() {
    let place = Place::new(8);
    let alone = |name: &str, more: &[&str]| {
        let mut command = place.command(name, &[&["--reference", "samples.npz"], more].concat());
        // The others never come: nobody waits for them to be told so.
        command.envs([("RANK", "0"), ("WORLD_SIZE", "3"), ("LOCAL_RANK", "0"), ("MASTER_ADDR", "127.0.0.1")]);
        command.env("MASTER_PORT", "1").output().unwrap()
    };
    for (batch, batches) in [("64", "one batch"), ("4", "2 batches")] {
        let refused = alone("none", &["--batch-size", batch]);
        let text = format!(
            "error: 8 samples with --batch-size {batch} make {batches}, which cannot be divided among 3 processes; give a \
             smaller --batch-size, or start fewer\n"
        );
        assert_eq!(
            (refused.status.code(), String::from_utf8_lossy(&refused.stderr).as_ref()),
            (Some(2), text.as_str())
        );
        assert!(!place.at("none.json.state").exists());
    }
}
