//! The shared cache: in a folder, in an S3, damaged, slow, gone.

use crate::study::{Study, TOY, said, stderr, until};
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Two studies with stores of their own and one cache.
fn pair(yaml: &str) -> (Study, Study, tempfile::TempDir) {
    let cache = tempfile::tempdir().unwrap();
    let yaml = yaml.replacen("\nstages:", &format!("\ncache: {}\nstages:", cache.path().display()), 1);
    (Study::new(&yaml), Study::new(&yaml), cache)
}

fn objects(cache: &Path, kind: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![cache.join("v1").join(kind), cache.join("v2").join(kind)];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() { open.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    found
}

fn fates(study: &Study, arguments: &[&str]) -> Vec<String> {
    let output = study.call(&[&["run", "--json"], arguments].concat());
    assert!(output.status.success(), "{}", said(&output));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    json["stages"].as_array().unwrap().iter().map(|s| s["fate"].as_str().unwrap().to_string()).collect()
}

#[test]
fn what_one_made_another_fetches() {
    let (a, b, _cache) = pair(TOY);
    assert_eq!(fates(&a, &[]), ["ran", "ran", "ran"]);
    let plan = said(&b.call(&["plan"]));
    assert_eq!(plan.matches("to fetch").count(), 3, "{plan}");
    assert_eq!(fates(&b, &[]), ["fetched", "fetched", "fetched"]);
    assert_eq!(b.read("out/gen/files/4"), "file 4\n");
    assert_eq!(b.read("out/score/scores.json"), a.read("out/score/scores.json"));
    assert!(!b.exists("ran"));
    assert_eq!(fates(&b, &[]), ["cached", "cached", "cached"]);
    // A change is made once and then everybody's.
    assert_eq!(b.run(&["--set", "score.weight=2"]), ["score"]);
    assert_eq!(fates(&a, &["--set", "score.weight=2"]), ["cached", "cached", "fetched"]);
}

#[test]
fn offline_and_forced_stages_ask_nobody() {
    let (a, b, _cache) = pair(TOY);
    a.run(&[]);
    assert_eq!(b.run(&["--offline"]), ["gen", "count", "score"]);
    assert_eq!(b.run(&["--force", "count"]), ["count"]);
}

#[test]
fn push_and_pull_by_hand() {
    let cache = tempfile::tempdir().unwrap();
    let place = format!("file://{}", cache.path().display());
    let (a, b) = (Study::new(TOY), Study::new(TOY));
    let none = a.call(&["push"]);
    assert_eq!(none.status.code(), Some(2));
    assert!(
        stderr(&none).starts_with("error: no shared cache: give one with --cache URL"),
        "{}",
        stderr(&none)
    );
    a.run(&[]);
    let pushed = said(&a.call(&["push", "--cache", &place]));
    assert_eq!(pushed.matches("sent").count(), 3, "{pushed}");
    let again = said(&a.call(&["push", "--cache", &place]));
    assert_eq!(again.matches("in the cache already").count(), 3, "{again}");
    let pulled = b.call(&["pull", "count", "--cache", &place]);
    assert!(pulled.status.success(), "{}", said(&pulled));
    assert_eq!(said(&pulled).matches("fetched").count(), 2, "{}", said(&pulled));
    assert_eq!(b.read("out/count/n"), "3\n");
    assert_eq!(b.run(&[]), ["score"]);
    let partly = said(&b.call(&["pull", "--cache", &place, "--set", "gen.size=9"]));
    assert!(
        partly.contains("not in the cache") && partly.contains("a stage before it is not here"),
        "{partly}"
    );
}

#[test]
fn two_runners_race_for_one_cache() {
    let (a, b, cache) = pair(&TOY.replace("echo count >> ran", "echo count >> ran; sleep 0.3"));
    let mut both = [a.start(&["run"]), b.start(&["run"])];
    for child in &mut both {
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(a.read("out/score/scores.json"), b.read("out/score/scores.json"));
    assert_eq!(objects(cache.path(), "results").len(), 3);
    let third = Study::new(&a.read("pipeline.yaml"));
    assert_eq!(fates(&third, &[]), ["fetched", "fetched", "fetched"]);
}

#[test]
fn damage_in_the_cache_is_told_of_made_good_and_never_used() {
    for kind in ["blobs", "packs", "trees", "results"] {
        let (a, b, cache) = pair(TOY);
        a.run(&[]);
        let found = objects(cache.path(), kind);
        assert!(!found.is_empty(), "{kind}");
        for object in found {
            let mut bytes = fs::read(&object).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            fs::write(&object, bytes).unwrap();
        }
        let run = b.call(&["run"]);
        assert!(run.status.success(), "{}", said(&run));
        assert!(stderr(&run).contains("has a damaged or missing v"), "{kind}: {}", stderr(&run));
        assert_eq!(b.read("out/gen/files/4"), "file 4\n");
        assert_eq!(b.read("out/score/scores.json"), a.read("out/score/scores.json"));
        let third = Study::new(&a.read("pipeline.yaml"));
        assert_eq!(fates(&third, &[]), ["fetched", "fetched", "fetched"], "{kind}");
    }
}

#[test]
fn a_cache_that_is_not_there_is_a_warning() {
    for (place, words) in [("/nowhere/at/all", "there is no folder"), ("s3://bucket/x", "")] {
        let study = Study::new(TOY);
        let mut command = study.command(&["run", "--cache", place]);
        // Nobody listens on the port of discard.
        command.env("AWS_ENDPOINT_URL", "http://127.0.0.1:9").env("AWS_ALLOW_HTTP", "true");
        command.env("AWS_ACCESS_KEY_ID", "x").env("AWS_SECRET_ACCESS_KEY", "secret-word");
        let run = command.output().unwrap();
        assert!(run.status.success(), "{}", said(&run));
        let told = stderr(&run);
        assert_eq!(told.matches("warning: the cache").count(), 1, "{told}");
        assert!(told.contains(words) && told.contains("does not answer"), "{told}");
        assert!(!told.contains("secret-word"), "{told}");
    }
    let study = Study::new(TOY);
    let wrong = study.call(&["run", "--cache", "ftp://x/y"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(
        stderr(&wrong).starts_with("error: --cache `ftp://x/y` is no place for a cache"),
        "{}",
        stderr(&wrong)
    );
}

/// A process that ends with its owner.
struct Server(Child, String);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An S3 with a bucket.
fn s3() -> Server {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("ci/moto-server");
    let mut command = Command::new(script);
    command.args(["-p", &port.to_string()]).stdout(Stdio::null()).stderr(Stdio::null());
    let address = format!("127.0.0.1:{port}");
    let server = Server(command.spawn().unwrap(), address.clone());
    let listens = || TcpStream::connect(&address).is_ok();
    for _ in 0..1800 {
        if listens() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    let mut stream = TcpStream::connect(&address).expect("ci/moto-server serves");
    write!(
        stream,
        "PUT /bucket HTTP/1.1\r\nHost: {address}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    server
}

fn with_s3(study: &Study, address: &str, arguments: &[&str]) -> Command {
    let mut command = study.command(arguments);
    command.args(["--cache", "s3://bucket/team"]);
    command.env("AWS_ENDPOINT_URL", format!("http://{address}")).env("AWS_ALLOW_HTTP", "true");
    command.env("AWS_ACCESS_KEY_ID", "x").env("AWS_SECRET_ACCESS_KEY", "y").env("AWS_REGION", "us-east-1");
    command
}

/// Hands connections on to `to`, and cuts each after so many bytes of the answer.
fn cutter(to: String, after: u64) -> (String, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let cuts = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&cuts);
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let (Ok(client), Ok(server)) = (client, TcpStream::connect(&to)) else { return };
            let (mut up, mut ask) = (server.try_clone().unwrap(), client.try_clone().unwrap());
            std::thread::spawn(move || std::io::copy(&mut ask, &mut up));
            let count = Arc::clone(&count);
            std::thread::spawn(move || {
                let mut answer = server.try_clone().unwrap().take(after);
                let sent = std::io::copy(&mut answer, &mut client.try_clone().unwrap());
                if sent.is_ok_and(|n| n == after) {
                    count.fetch_add(1, Ordering::SeqCst);
                }
                let _ =
                    (client.shutdown(std::net::Shutdown::Both), server.shutdown(std::net::Shutdown::Both));
            });
        }
    });
    (address, cuts)
}

/// Hands connections on to `to`, and counts the most that were open at once.
fn counter(to: String) -> (String, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (open, most) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let seen = Arc::clone(&most);
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let (Ok(client), Ok(server)) = (client, TcpStream::connect(&to)) else { return };
            seen.fetch_max(open.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            let (mut up, mut ask) = (server.try_clone().unwrap(), client.try_clone().unwrap());
            std::thread::spawn(move || std::io::copy(&mut ask, &mut up));
            let open = Arc::clone(&open);
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut server.try_clone().unwrap(), &mut client.try_clone().unwrap());
                let _ =
                    (client.shutdown(std::net::Shutdown::Both), server.shutdown(std::net::Shutdown::Both));
                open.fetch_sub(1, Ordering::SeqCst);
            });
        }
    });
    (address, most)
}

const BIG: &str = "name: big
stages:
  big:
    command: sh -c 'echo big >> ran; mkdir $1; yes 0123456789abcde | head -c 30000000 > $1/large; i=0; while [ $i -lt 40 ]; do echo $i > $1/$i; i=$((i+1)); done' -- ${outputs.files}
    outputs: [files]
";

#[test]
fn an_s3_serves_two_machines_and_a_cut_connection_costs_nothing() {
    let server = s3();
    let [a, b, c, d] = [0; 4].map(|_| Study::new(BIG));
    let first = with_s3(&a, &server.1, &["run"]).output().unwrap();
    assert!(
        first.status.success() && stderr(&first).contains("big: sent 28.6 MiB to the cache"),
        "{}",
        said(&first)
    );
    let second = with_s3(&b, &server.1, &["run"]).output().unwrap();
    assert!(second.status.success() && stderr(&second).contains("fetched 28.6 MiB"), "{}", said(&second));
    assert!(!b.exists("ran"));
    assert_eq!(b.read("out/big/files/large"), a.read("out/big/files/large"));

    // Cut now and then: what is missing is asked for again.
    let (address, cuts) = cutter(server.1.clone(), 5_000_000);
    let third = with_s3(&c, &address, &["run"]).output().unwrap();
    assert!(third.status.success() && stderr(&third).contains("fetched 28.6 MiB"), "{}", said(&third));
    assert!(cuts.load(Ordering::SeqCst) > 0, "nothing was cut");
    assert_eq!(c.read("out/big/files/large"), a.read("out/big/files/large"));

    // Cut all the time: nothing half is left, and the stage runs instead.
    let (address, cuts) = cutter(server.1.clone(), 50_000);
    let fourth = with_s3(&d, &address, &["run"]).output().unwrap();
    assert!(fourth.status.success(), "{}", said(&fourth));
    assert!(
        stderr(&fourth).contains("warning: the cache s3://bucket/team does not answer"),
        "{}",
        said(&fourth)
    );
    assert!(cuts.load(Ordering::SeqCst) > 3, "hardly anything was cut");
    assert_eq!(d.read("ran"), "big\n");
    assert_eq!(d.read("out/big/files/large"), a.read("out/big/files/large"));
    assert_eq!(fs::read_dir(d.path(".pipeline/attempts")).unwrap().count(), 0, "something half is left");
}

/// One connection carries one request at a time.
#[test]
fn results_travel_side_by_side() {
    let server = s3();
    let yaml = "name: many
stages:
  a:
    command: sh -c 'echo a >> ran; mkdir $1; for i in 1 2 3; do echo $2 $i > $1/$i; done' -- ${outputs.d} ${params.shard}
    shards: 30
    outputs: [d]
";
    let (a, b, c) = (Study::new(yaml), Study::new(yaml), Study::new(yaml));
    a.run(&[]);
    let calls = [(&a, "push"), (&a, "push"), (&b, "plan"), (&b, "pull"), (&c, "run")];
    for (study, command) in calls {
        let (address, most) = counter(server.1.clone());
        let done = with_s3(study, &address, &[command]).output().unwrap();
        assert!(done.status.success(), "{}", said(&done));
        assert!(most.load(Ordering::SeqCst) > 4, "{command}: {most:?} connections at once");
    }
    assert!(!b.exists("ran") && !c.exists("ran"));
    assert_eq!(b.read("out/a/d/29/3"), a.read("out/a/d/29/3"));
    assert_eq!(c.read("out/a/d/0/1"), a.read("out/a/d/0/1"));
}

#[test]
fn a_killed_pull_leaves_nothing_half() {
    let server = s3();
    let (a, b) = (Study::new(BIG), Study::new(BIG));
    assert!(with_s3(&a, &server.1, &["run"]).status().unwrap().success());
    let mut pull =
        with_s3(&b, &server.1, &["pull"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    until("a blob of the pull", || {
        fs::read_dir(b.path(".pipeline/attempts")).is_ok_and(|mut d| d.next().is_some())
    });
    pull.kill().unwrap();
    pull.wait().unwrap();
    assert!(!b.exists("out/big/files"));
    let again = with_s3(&b, &server.1, &["pull"]).output().unwrap();
    assert!(again.status.success(), "{}", said(&again));
    assert_eq!(b.read("out/big/files/large"), a.read("out/big/files/large"));
}

#[test]
fn executable_files_and_links_arrive_as_they_were() {
    let yaml = "name: kinds
stages:
  a:
    command: >
      sh -c 'mkdir $1; echo x > $1/run; chmod +x $1/run; echo x > $1/plain; ln -s plain $1/link; mkdir $1/empty; : > $1/nothing' -- ${outputs.d}
    outputs: [d]
";
    let (a, b, _cache) = pair(yaml);
    assert_eq!(fates(&a, &[]), ["ran"]);
    assert_eq!(fates(&b, &[]), ["fetched"]);
    let at = |name: &str| b.path("out/a/d").join(name);
    assert_eq!(fs::read_link(at("link")).unwrap(), Path::new("plain"));
    assert!(at("empty").is_dir() && fs::read(at("nothing")).unwrap().is_empty());
    use std::os::unix::fs::PermissionsExt;
    assert!(at("run").metadata().unwrap().permissions().mode() & 0o100 != 0);
    assert!(at("plain").metadata().unwrap().permissions().mode() & 0o111 == 0);
}

#[test]
fn a_named_pipe_in_a_folder_cache_is_told_of_and_not_waited_for() {
    let study = Study::new(TOY);
    fs::create_dir(study.path("cache")).unwrap();
    let cached = ["run", "--cache", "cache"];
    assert!(study.call(&cached).status.success());
    let found =
        ["blobs", "packs", "trees", "results"].map(|kind| objects(&study.path("cache"), kind)).concat();
    assert!(found.len() > 5);
    for object in found {
        let kept = fs::read(&object).unwrap();
        fs::remove_file(&object).unwrap();
        let made = Command::new("mkfifo").arg(&object).status().unwrap();
        assert!(made.success());
        fs::remove_dir_all(study.path(".pipeline")).unwrap();
        let run = study.call(&cached);
        assert!(run.status.success(), "{}", said(&run));
        let place = object.strip_prefix(study.dir.path()).unwrap();
        let expected = format!("{} is no file); going on without it", place.display());
        assert!(stderr(&run).contains(&expected), "{}", said(&run));
        fs::remove_file(&object).unwrap();
        fs::write(&object, kept).unwrap();
    }
}
