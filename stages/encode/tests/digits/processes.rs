//! Several processes encode what one encodes, to the same bytes.

use crate::support::{command, encode, files, images, refuses, succeeds};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Stdio};

/// The processes of one encoding, as `torchrun` would start them.
fn processes(dir: &Path, count: usize, flags: &[&str]) -> Vec<Child> {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let start = |rank: usize| {
        let mut command = command(dir, flags);
        let (rank, size) = (rank.to_string(), count.to_string());
        command.envs([("RANK", &rank), ("LOCAL_RANK", &rank), ("WORLD_SIZE", &size), ("MASTER_PORT", &port)]);
        command.env("MASTER_ADDR", "127.0.0.1").stderr(Stdio::piped()).spawn().unwrap()
    };
    (0..count).map(start).collect()
}

#[test]
fn several_processes_make_the_bytes_of_one() {
    let dir = tempfile::tempdir().unwrap();
    images(&dir.path().join("images"), 40, None);
    let latents = dir.path().join("latents");
    // Whole shards, parts of shards, and one shard among all.
    for (size, flags) in [
        (2, &["--shard-rows", "9"][..]),
        (3, &["--shard-rows", "30", "--batch-size", "4", "--flip"]),
        (2, &["--batch-size", "7", "--channel-statistics", "true"]),
        (2, &["--shard-rows", "20", "--shards", "2", "--shard", "1", "--batch-size", "3"]),
    ] {
        succeeds(&encode(dir.path(), flags));
        let whole = files(&latents);
        std::fs::remove_dir_all(&latents).unwrap();
        for child in processes(dir.path(), size, flags) {
            succeeds(&child.wait_with_output().unwrap());
        }
        assert!(files(&latents) == whole, "{flags:?}");
        assert!(!dir.path().join("latents.state").exists());
        std::fs::remove_dir_all(&latents).unwrap();
    }
}

#[test]
fn processes_that_were_killed_go_on_with_their_parts() {
    let dir = tempfile::tempdir().unwrap();
    images(&dir.path().join("images"), 400, None);
    let flags = ["--flip", "--batch-size", "3"];
    succeeds(&encode(dir.path(), &flags));
    let latents = dir.path().join("latents");
    let whole = files(&latents);
    std::fs::remove_dir_all(&latents).unwrap();
    let mut children = processes(dir.path(), 2, &flags);
    let journal = |rank: usize| dir.path().join(format!("latents.state/rank-{rank}-of-2/00000.batches"));
    let long = |rank: usize| std::fs::metadata(journal(rank)).is_ok_and(|there| there.len() > 30_000);
    while !(long(0) && long(1)) && children[0].try_wait().unwrap().is_none() {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    for child in &mut children {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert!(!latents.exists(), "too quick for this test");
    for child in processes(dir.path(), 2, &flags) {
        let output = child.wait_with_output().unwrap();
        succeeds(&output);
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(text.contains("encoded ") && !text.contains("encoded 200 pictures"), "{text}");
    }
    assert!(files(&latents) == whole);
}

#[test]
fn more_processes_than_batches_are_refused_before_any_work() {
    let dir = tempfile::tempdir().unwrap();
    images(&dir.path().join("images"), 20, None);
    let mut alone = command(dir.path(), &["--batch-size", "16", "--vae", "images"]);
    // The others never come: nobody waits for them to be told so.
    alone.envs([("RANK", "0"), ("WORLD_SIZE", "5"), ("LOCAL_RANK", "0"), ("MASTER_ADDR", "127.0.0.1")]);
    let text = "20 images with --batch-size 16 make 2 batches, which cannot be divided among 5 processes; give a smaller --batch-size";
    refuses(&alone.env("MASTER_PORT", "1").output().unwrap(), text);
    assert!(!dir.path().join("latents.state").exists());
}
