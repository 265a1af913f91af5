//! Work that is killed, stopped, done in shards or by several processes makes the bytes of one piece.

use crate::support::{command, digits, encode, files, images, succeeds};
use std::process::{Command, Stdio};

#[test]
fn a_killed_run_redoes_at_most_one_shard() {
    let dir = tempfile::tempdir().unwrap();
    images(&dir.path().join("images"), 60, None);
    let arguments = ["--shard-rows", "12", "--batch-size", "4"];
    succeeds(&encode(dir.path(), &arguments));
    let read = |i: usize| std::fs::read(dir.path().join(format!("latents/{i:05}.parquet"))).unwrap();
    let whole: Vec<Vec<u8>> = (0..5).map(read).collect();
    std::fs::remove_dir_all(dir.path().join("latents")).unwrap();

    let state = dir.path().join("latents.state");
    let mut child = Command::new(env!("CARGO_BIN_EXE_encode"))
        .current_dir(dir.path())
        .env("OMP_NUM_THREADS", "1")
        .args(["--images", "images", "--latents", "latents", "--image-size", "32", "--threads", "1"])
        .args(["--device", "cpu"])
        .arg("--vae")
        .arg(digits("vae.safetensors"))
        .args(arguments)
        .spawn()
        .unwrap();
    while !state.join("00001.parquet.json").exists() && child.try_wait().unwrap().is_none() {
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    if !dir.path().join("latents").exists() {
        let output = encode(dir.path(), &arguments);
        succeeds(&output);
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(!text.contains("encoded 60 pictures"), "{text}");
    }
    assert_eq!((0..5).map(read).collect::<Vec<_>>(), whole);
    assert!(!state.exists());
}

#[test]
fn a_stopped_or_killed_run_keeps_what_it_has_of_a_shard() {
    let dir = tempfile::tempdir().unwrap();
    images(&dir.path().join("images"), 400, None);
    let arguments = ["--flip", "--batch-size", "3"];
    succeeds(&encode(dir.path(), &arguments));
    let latents = dir.path().join("latents");
    let whole = files(&latents);
    for signal in ["-TERM", "-KILL"] {
        std::fs::remove_dir_all(&latents).unwrap();
        let journal = dir.path().join("latents.state/00000.batches");
        let mut child = command(dir.path(), &arguments).stderr(Stdio::null()).spawn().unwrap();
        let long = || std::fs::metadata(&journal).is_ok_and(|there| there.len() > 50_000);
        while !long() && child.try_wait().unwrap().is_none() {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        let id = child.id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
        child.wait().unwrap();
        assert!(!latents.exists(), "too quick for this test");
        let output = encode(dir.path(), &arguments);
        succeeds(&output);
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(text.contains("encoded ") && !text.contains("encoded 400 pictures"), "{text}");
        assert!(files(&latents) == whole, "{signal}: other bytes");
        assert!(!dir.path().join("latents.state").exists());
    }
}

#[test]
fn shards_join_to_the_bytes_of_one_piece() {
    let dir = tempfile::tempdir().unwrap();
    images(&dir.path().join("images"), 40, None);
    succeeds(&encode(dir.path(), &["--shard-rows", "9"]));
    let latents = dir.path().join("latents");
    let whole = files(&latents);
    assert_eq!(whole.len(), 6);
    std::fs::remove_dir_all(dir.path().join("latents")).unwrap();
    for shard in ["0", "1", "2"] {
        succeeds(&encode(dir.path(), &["--shard-rows", "9", "--shards", "3", "--shard", shard]));
        std::fs::create_dir_all(dir.path().join("parts")).unwrap();
        std::fs::rename(dir.path().join("latents"), dir.path().join("parts").join(shard)).unwrap();
    }
    succeeds(&encode(dir.path(), &["--shard-rows", "9", "--latents-parts", "parts"]));
    assert!(files(&latents) == whole);
    let wrong = encode(dir.path(), &["--shards", "3", "--shard", "3"]);
    assert_eq!(wrong.status.code(), Some(2), "{}", String::from_utf8_lossy(&wrong.stderr));
}
