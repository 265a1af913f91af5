//! `download` against a Hub that misbehaves: every fault ends in a whole verified file or a clear error.

#![expect(clippy::unwrap_used, reason = "a test whose set-up fails has failed")]

mod double;
mod studies;

use double::{COMMIT, Hub, TOKEN};
use pictures::Pictures;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

fn digits(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/digits").join(name)).unwrap()
}

/// A dataset of two files, which suffer this fault.
fn dataset(hub: &Hub, name: &str, fault: &str) {
    for (i, file) in ["train-00000-of-00002.parquet", "train-00001-of-00002.parquet"].iter().enumerate() {
        hub.add(&format!("datasets/{name}"), &format!("data/{fault}{i}.parquet"), digits(file));
    }
}

fn command(hub: &Hub, dir: &Path, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_download"));
    command.current_dir(dir).args(more).env("HF_ENDPOINT", &hub.endpoint).env("HF_HOME", dir.join("hf"));
    command.env_remove("HF_TOKEN").env_remove("HUGGINGFACE_HUB_CACHE").stderr(Stdio::piped());
    command
}

fn fetch(hub: &Hub, dir: &Path, name: &str) -> Output {
    command(hub, dir, &["--dataset", name, "--images", "images"]).output().unwrap()
}

fn whole(dir: &Path) {
    let pictures = Pictures::open(&dir.join("images")).unwrap();
    assert_eq!((pictures.manifest().rows, pictures.manifest().classes), (1797, 10));
    assert_eq!(pictures.manifest().revision, COMMIT);
    assert_eq!(pictures.iter().map(Result::unwrap).count(), 1797);
}

fn fails(output: &Output, code: i32, dir: &Path) -> String {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let errors: Vec<&str> = text.lines().filter(|l| l.starts_with("error: ")).collect();
    assert_eq!((output.status.code(), errors.len()), (Some(code), 1), "{text}");
    assert!(!dir.join("images").exists(), "something was left");
    errors[0].to_string()
}

#[test]
fn passing_faults_end_in_whole_files_and_a_second_run_fetches_nothing() {
    let hub = Hub::start();
    for fault in ["", "cut-", "busy-", "expired-", "once-", "moved-", "slow-"] {
        let dir = tempfile::tempdir().unwrap();
        let name = format!("org/passing{}", fault.trim_end_matches('-'));
        dataset(&hub, &name, fault);
        let output = fetch(&hub, dir.path(), &name);
        assert!(output.status.success(), "{fault}: {}", String::from_utf8_lossy(&output.stderr));
        whole(dir.path());
        let sent = hub.sent();
        std::fs::remove_dir_all(dir.path().join("images")).unwrap();
        assert!(fetch(&hub, dir.path(), &name).status.success());
        whole(dir.path());
        assert_eq!(hub.sent(), sent, "{fault}: fetched again");
    }
}

#[test]
fn only_what_is_missing_is_fetched_and_several_files_at_once() {
    let (hub, dir) = (Hub::start(), tempfile::tempdir().unwrap());
    dataset(&hub, "org/parts", "slow-");
    assert!(fetch(&hub, dir.path(), "org/parts").status.success());
    assert_eq!(hub.most(), 2);
    std::fs::remove_dir_all(dir.path().join("images")).unwrap();
    // One file was damaged in place: its size is still right.
    let blobs = dir.path().join("hf/hub/datasets--org--parts/blobs");
    let mut blobs: Vec<_> = std::fs::read_dir(blobs).unwrap().map(|e| e.unwrap().path()).collect();
    blobs.retain(|path| path.extension().is_none());
    assert_eq!(blobs.len(), 2);
    let mut content = std::fs::read(&blobs[0]).unwrap();
    content[1000] ^= 1;
    std::fs::write(&blobs[0], &content).unwrap();
    let sent = hub.sent();
    assert!(fetch(&hub, dir.path(), "org/parts").status.success());
    whole(dir.path());
    assert_eq!(hub.sent() - sent, content.len());

    let hub = Hub::start();
    dataset(&hub, "org/single", "slow-");
    let dir = tempfile::tempdir().unwrap();
    let arguments = ["--dataset", "org/single", "--images", "images", "--connections", "1"];
    assert!(command(&hub, dir.path(), &arguments).output().unwrap().status.success());
    assert_eq!(hub.most(), 1);
}

#[test]
fn the_hubs_own_conversion_to_parquet_is_read() {
    let (hub, dir) = (Hub::start(), tempfile::tempdir().unwrap());
    for (file, part) in [("0", "default/train/0000"), ("1", "default/train/0001"), ("0", "default/test/0000")]
    {
        let content = digits(&format!("train-0000{file}-of-00002.parquet"));
        hub.add("datasets/org/converted", &format!("{part}.parquet"), content);
    }
    let arguments =
        ["--dataset", "org/converted", "--revision", "refs/convert/parquet", "--images", "images"];
    let output = command(&hub, dir.path(), &arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    whole(dir.path());
    hub.add("datasets/org/script", "loader.py", b"raise".to_vec());
    std::fs::remove_dir_all(dir.path().join("images")).unwrap();
    let error = fails(&fetch(&hub, dir.path(), "org/script"), 2, dir.path());
    assert!(error.contains("try --revision refs/convert/parquet"), "{error}");
}

#[test]
fn lasting_faults_are_named_and_leave_nothing() {
    let hub = Hub::start();
    for (fault, code, part) in [
        ("wrong-", 75, "what arrives is not what the Hub states"),
        ("short-", 75, "what arrives is not what the Hub states"),
        ("forbidden-", 75, "its storage answers 403, as when a link has expired"),
        ("vast-", 2, "GB free"),
        ("down-", 75, "503"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let name = format!("org/lasting{}", fault.trim_end_matches('-'));
        dataset(&hub, &name, fault);
        let error = fails(&fetch(&hub, dir.path(), &name), code, dir.path());
        assert!(error.contains(part) && (error.contains(&name) || fault == "vast-"), "{error}");
    }
    let dir = tempfile::tempdir().unwrap();
    let error = fails(&fetch(&hub, dir.path(), "org/nothing"), 2, dir.path());
    assert!(error.contains("org/nothing") && error.contains("not found"), "{error}");
}

#[test]
fn a_gated_repository_says_what_to_accept_and_what_to_set() {
    let (hub, dir) = (Hub::start(), tempfile::tempdir().unwrap());
    dataset(&hub, "org/gated", "");
    hub.gate("datasets/org/gated");
    let error = fails(&fetch(&hub, dir.path(), "org/gated"), 2, dir.path());
    assert!(
        error.contains("https://huggingface.co/datasets/org/gated") && error.contains("HF_TOKEN"),
        "{error}"
    );
    let mut allowed = command(&hub, dir.path(), &["--dataset", "org/gated", "--images", "images"]);
    assert!(allowed.env("HF_TOKEN", TOKEN).output().unwrap().status.success());
    whole(dir.path());
}

#[test]
fn the_token_goes_to_the_hub_and_nowhere_else() {
    let (hub, storage, dir) = (Hub::start(), Hub::start(), tempfile::tempdir().unwrap());
    for fault in ["away-", "moved-"] {
        let name = format!("org/{fault}private");
        for server in [&hub, &storage] {
            dataset(server, &name, fault);
        }
        hub.gate(&format!("datasets/{name}"));
        hub.store_at(&storage);
        let mut fetch = command(&hub, dir.path(), &["--dataset", &name, "--images", "images"]);
        let output = fetch.env("HF_TOKEN", TOKEN).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        whole(dir.path());
        std::fs::remove_dir_all(dir.path().join("images")).unwrap();
        if fault == "away-" {
            assert!(hub.authorised() > 0 && storage.sent() > 0);
            assert_eq!(storage.authorised(), 0);
        }
    }
    assert_eq!(hub.authorised_at_storage(), 0);
    // A file of weights from anywhere is asked for without it.
    storage.add("org/web", "x.safetensors", digits("vae.safetensors"));
    let url = format!("{}/org/web/resolve/main/x.safetensors", storage.endpoint);
    let mut fetch = command(&hub, dir.path(), &["--url", &url, "--sha256", "any", "--weights", "w"]);
    assert!(fetch.env("HF_TOKEN", TOKEN).output().unwrap().status.success());
    assert_eq!(storage.authorised(), 0);
}

#[test]
fn no_name_of_a_server_leads_out_of_the_cache() {
    let before = |dir: &Path| std::fs::read_dir(dir).unwrap().count();
    for (file, commit) in [
        ("../../../../evil.parquet", COMMIT),
        ("/tmp/evil.parquet", COMMIT),
        ("data/../../evil.parquet", COMMIT),
        ("train.parquet", "../../../evil"),
        ("train.parquet", "0123"),
    ] {
        let (hub, dir) = (Hub::start(), tempfile::tempdir().unwrap());
        hub.add("datasets/org/evil", file, digits("train-00000-of-00002.parquet"));
        hub.claim_commit(commit);
        let error = fails(&fetch(&hub, dir.path(), "org/evil"), 2, dir.path());
        assert!(error.contains("would lead out of its cache") || error.contains("which is none"), "{error}");
        assert_eq!(before(dir.path()), 0, "{file} at {commit}");
    }
    let (hub, dir) = (Hub::start(), tempfile::tempdir().unwrap());
    for name in ["..", "../evil", "a/b/c", "https://huggingface.co/datasets/a/b"] {
        let error = fails(&fetch(&hub, dir.path(), name), 2, dir.path());
        assert!(error.contains("is called ORGANISATION/NAME"), "{error}");
    }
    // A revision that looks like a way is one of the Hub's to refuse.
    dataset(&hub, "org/plain", "");
    let arguments = ["--dataset", "org/plain", "--images", "images", "--revision", "../../evil"];
    let error = fails(&command(&hub, dir.path(), &arguments).output().unwrap(), 2, dir.path());
    assert!(error.contains("not found at revision ../../evil"), "{error}");
}

#[test]
fn splits_and_configurations_of_the_hub_are_told_apart() {
    let (hub, dir) = (Hub::start(), tempfile::tempdir().unwrap());
    for file in
        ["a/train/0000.parquet", "a/test/0000.parquet", "b/train/0000.parquet", "b/train/0001.parquet"]
    {
        let part = if file.contains("0001") { "1" } else { "0" };
        hub.add("datasets/org/two", file, digits(&format!("train-0000{part}-of-00002.parquet")));
    }
    let with = |more: &[&str]| {
        command(&hub, dir.path(), &[&["--dataset", "org/two", "--images", "images"], more].concat())
            .output()
            .unwrap()
    };
    let error = fails(&with(&[]), 2, dir.path());
    assert!(
        error.contains("dataset org/two: several configurations: a, b; choose one with --config"),
        "{error}"
    );
    let error = fails(&with(&["--config", "a", "--split", "val"]), 2, dir.path());
    assert!(error.contains("--split val: the dataset has test, train"), "{error}");
    assert!(with(&["--config", "b"]).status.success());
    whole(dir.path());
}

#[test]
fn a_stop_is_heard_while_the_server_is_silent() {
    let (hub, dir) = (Hub::start(), tempfile::tempdir().unwrap());
    dataset(&hub, "org/silent", "stalled-");
    hub.add("org/web", "stalled-x.safetensors", digits("vae.safetensors"));
    let url = format!("{}/org/web/resolve/main/stalled-x.safetensors", hub.endpoint);
    let arguments: [&[&str]; 2] = [
        &["--dataset", "org/silent", "--images", "images"],
        &["--url", &url, "--sha256", "any", "--weights", "w"],
    ];
    for arguments in arguments {
        let sent = hub.sent();
        let child = command(&hub, dir.path(), arguments).spawn().unwrap();
        while hub.sent() == sent {
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
        // Without an ear for it this waits until the server is given up.
        let output = child.wait_with_output().unwrap();
        let error = fails(&output, 75, dir.path());
        assert!(error.contains("stopped on request"), "{error}");
    }
}

#[test]
fn killed_at_any_moment_it_goes_on() {
    let hub = Hub::start();
    dataset(&hub, "org/killed", "slow-");
    let dir = tempfile::tempdir().unwrap();
    let start = Instant::now();
    assert!(fetch(&hub, dir.path(), "org/killed").status.success());
    let once = start.elapsed();
    let dir = tempfile::tempdir().unwrap();
    let sent = hub.sent();
    for moment in 0..20u32 {
        // Spread over the run by the golden ratio, so that early and late moments alternate.
        let share = (f64::from(moment) * 0.618_033_988_75).fract();
        let mut child =
            command(&hub, dir.path(), &["--dataset", "org/killed", "--images", "images"]).spawn().unwrap();
        std::thread::sleep(once.mul_f64(share).min(Duration::from_secs(2)));
        let _ = child.kill();
        child.wait().unwrap();
        if dir.path().join("images").exists() {
            whole(dir.path());
            std::fs::remove_dir_all(dir.path().join("images")).unwrap();
        }
    }
    let output = fetch(&hub, dir.path(), "org/killed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    whole(dir.path());
    assert!(hub.sent() >= sent);
}

#[test]
fn weights_come_verified_or_not_at_all() {
    let (hub, dir) = (Hub::start(), tempfile::tempdir().unwrap());
    let content = digits("vae.safetensors");
    hub.add("org/vae", "vae/model.safetensors", content.clone());
    hub.add("org/vae", "config.json", b"{\"a\": 1}".to_vec());
    hub.add("org/vae", "wrong-config.json", b"{\"b\": 2}".to_vec());
    let get_to = |file: &str, to: &str| {
        command(&hub, dir.path(), &["--model", "org/vae", "--file", file, "--weights", to]).output().unwrap()
    };
    let get = |file: &str| get_to(file, "w");
    assert!(get("vae/model.safetensors").status.success());
    assert_eq!(std::fs::read(dir.path().join("w")).unwrap(), content);
    // A small file is no LFS file: its digest is git's.
    assert!(get_to("config.json", "c").status.success());
    // The same once more is there already; another in its place may be the user's own.
    let sent = hub.sent();
    assert!(get("vae/model.safetensors").status.success() && get_to("config.json", "c").status.success());
    assert_eq!(hub.sent(), sent);
    let error = fails(&get_to("vae/model.safetensors", "c"), 2, dir.path());
    assert!(error.contains("--weights c: a file that is not org/vae/vae/model.safetensors"), "{error}");
    assert_eq!(std::fs::read(dir.path().join("c")).unwrap(), b"{\"a\": 1}");
    std::fs::remove_file(dir.path().join("w")).unwrap();
    let error = fails(&get("wrong-config.json"), 75, dir.path());
    assert!(error.contains("wrong-config.json"), "{error}");
    let error = fails(&get("vae/modl.safetensors"), 2, dir.path());
    assert!(error.contains("did you mean vae/model.safetensors?"), "{error}");

    let url = format!("{}/org/vae/resolve/main/vae/model.safetensors", hub.endpoint);
    let from_url = |sha256: &str| {
        command(&hub, dir.path(), &["--url", &url, "--sha256", sha256, "--weights", "u"]).output().unwrap()
    };
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &content).unwrap();
    let sha256 = stage::sha256(file.path()).unwrap();
    let error = fails(&from_url(&"0".repeat(64)), 2, dir.path());
    assert!(error.contains(&sha256) && !dir.path().join("u").exists(), "{error}");
    assert!(from_url(&sha256).status.success());
    assert_eq!(std::fs::read(dir.path().join("u")).unwrap(), content);
}

#[test]
fn a_file_from_the_web_goes_on_where_it_stopped_unless_it_has_changed() {
    let (hub, dir) = (Hub::start(), tempfile::tempdir().unwrap());
    let content = digits("vae.safetensors");
    for name in ["x.safetensors", "cut-x.safetensors", "busy-x.safetensors", "down-x.safetensors"] {
        hub.add("org/web", name, content.clone());
    }
    hub.add("org/web", "forbidden-x.safetensors", content.clone());
    hub.add("org/web", "vast-x.safetensors", content.clone());
    let get = |name: &str, sha256: &str| {
        let url = format!("{}/org/web/resolve/main/{name}", hub.endpoint);
        command(&hub, dir.path(), &["--url", &url, "--sha256", sha256, "--weights", "w"]).output().unwrap()
    };
    let arrives = |name: &str, sha256: &str| {
        let sent = hub.sent();
        let output = get(name, sha256);
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(std::fs::read(dir.path().join("w")).unwrap(), content);
        assert!(!dir.path().join("w.state").exists());
        std::fs::remove_file(dir.path().join("w")).unwrap();
        hub.sent() - sent
    };
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &content).unwrap();
    let sha256 = stage::sha256(file.path()).unwrap();
    assert_eq!(arrives("x.safetensors", "any"), content.len());
    arrives("cut-x.safetensors", &sha256);
    arrives("busy-x.safetensors", "any");

    // What a killed run leaves: a part of this content, of another, and of nobody knows what.
    let leave = |bytes: &[u8], etag: Option<&str>| {
        std::fs::create_dir_all(dir.path().join("w.state")).unwrap();
        std::fs::write(dir.path().join("w.state/weights.part"), bytes).unwrap();
        if let Some(etag) = etag {
            std::fs::write(dir.path().join("w.state/weights.etag"), format!("\"{etag}\"")).unwrap();
        }
    };
    leave(&content[..1000], Some(&sha256));
    assert_eq!(arrives("x.safetensors", "any"), content.len() - 1000);
    leave(&content, Some(&sha256));
    assert_eq!(arrives("x.safetensors", &sha256), 0);
    leave(&[7; 1000], Some("another"));
    assert_eq!(arrives("x.safetensors", "any"), content.len());
    leave(&[7; 1000], None);
    assert_eq!(arrives("x.safetensors", &sha256), content.len());

    for (name, code, part) in [
        ("forbidden-", 2, "answers 403"),
        ("down-", 75, "503"),
        ("none-", 2, "answers 404"),
        ("vast-", 2, "GB needed"),
    ] {
        let error = fails(&get(&format!("{name}x.safetensors"), &sha256), code, dir.path());
        assert!(error.contains(part) && !dir.path().join("w").exists(), "{error}");
    }
}
