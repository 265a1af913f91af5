//! `pipeline ui`: the server over plain HTTP, and the page as files.

mod parquet;

use crate::study::{Study, said, stderr, until};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Scores that depend on a parameter; a log of JSON lines; a page; a stage over the entries of a folder.
const NETS: &str = r#"name: nets
variants:
  dit: {stages: {train: {params: {model: dit_s}}}}
  wide: {stages: {train: {params: {width: 20}}}}
stages:
  train:
    command: sh -c 'echo https://user:secret@host/x; mkdir $3 && echo 5 > $3/step-10 && echo 4 > $3/step-20; for i in 1 2 3; do echo "{\"step\":$i,\"loss\":$i.5}"; done > $4; true $1 $2' -- ${params.model} ${params.width} ${outputs.nets} ${outputs.log}
    params: {model: none, width: 3}
    outputs: [nets, log]
  score:
    command: sh -c 'read n < $1; [ ! -e fail ] || { echo "<b>bad</b>" >&2; exit 3; }; echo "{\"fid\":$n}" > $2' -- ${inputs.net} ${outputs.scores}
    each: net
    inputs: {net: train.nets}
    outputs: {scores: scores.json}
  page:
    command: sh -c 'echo "<!doctype html><script>alert(1)</script>" > $2; true $1' -- ${inputs.log} ${outputs.page}
    inputs: {log: train.log}
    outputs: [page]
"#;

/// A server that is stopped when this goes.
pub struct Served {
    child: Child,
    host: String,
    token: String,
}

/// An answer, apart.
struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    fn json(&self) -> Value {
        assert_eq!(self.status, 200, "{}", self.text());
        serde_json::from_slice(&self.body).unwrap()
    }

    fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

impl Served {
    pub fn start(study: &Study) -> Self {
        let mut command = study.command(&["ui", "--port", "0", "--no-open"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("http://").unwrap();
        let (host, token) = address.split_once("/?token=").unwrap();
        Self { child, host: host.into(), token: token.into() }
    }

    fn connect(&self, request: &str) -> TcpStream {
        let mut stream = TcpStream::connect(&self.host).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        stream
    }

    fn ask(&self, request: &str) -> Answer {
        let mut bytes = Vec::new();
        self.connect(request).read_to_end(&mut bytes).unwrap();
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, head, body: bytes[end + 4..].to_vec() }
    }

    fn cookie(&self) -> String {
        let port = self.host.rsplit_once(':').unwrap().1;
        format!("Cookie: pipeline-{port}={}\r\n", self.token)
    }

    fn request(&self, path: &str, more: &str) -> String {
        format!("GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{more}\r\n", self.host)
    }

    /// As the page asks.
    fn get(&self, path: &str) -> Answer {
        self.ask(&self.request(path, &self.cookie()))
    }

    pub fn value(&self, name: &str) -> Value {
        self.get(&format!("/api/{name}")).json()
    }

    /// The study, once it was looked up.
    pub fn study(&self) -> Value {
        until("the study was looked up", || self.value("study")["looking"] == false);
        self.value("study")
    }

    fn stop(&mut self) -> i32 {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
        self.child.wait().unwrap().code().unwrap()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A step of what the page is told of the study.
pub fn step<'a>(study: &'a Value, id: &str) -> &'a Value {
    study["steps"].as_array().unwrap().iter().find(|step| step["id"] == id).unwrap()
}

#[test]
fn only_who_has_the_token_is_answered_and_only_by_our_own_name() {
    let study = Study::new(NETS);
    let mut served = Served::start(&study);
    assert_eq!(served.ask(&served.request("/api/study", "")).status, 403);
    assert_eq!(served.ask(&served.request("/", "")).status, 403);
    assert_eq!(served.ask(&served.request("/?token=0000", "")).status, 403);
    let wrong = served.cookie().replace(&served.token, &"0".repeat(served.token.len()));
    assert_eq!(served.ask(&served.request("/api/study", &wrong)).status, 403);
    // The token lets in once, and does not stay in the address.
    let first = served.ask(&served.request(&format!("/?token={}", served.token), ""));
    assert_eq!((first.status, first.header("location")), (303, Some("/")));
    let cookie = first.header("set-cookie").unwrap();
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
    assert_eq!(served.get("/").status, 200);
    // A name that is not ours, with the right token: a page whose name leads here.
    let cookie = served.cookie();
    for host in ["evil.example", "localhost.evil.example", "10.0.0.1"] {
        let request = format!("GET /api/study HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{cookie}\r\n");
        assert_eq!(served.ask(&request).status, 403, "{host}");
    }
    let origin = format!("{cookie}Origin: http://evil.example\r\n");
    assert_eq!(served.ask(&served.request("/api/study", &origin)).status, 403);
    let own = format!("{cookie}Origin: http://{}\r\n", served.host);
    assert_eq!(served.ask(&served.request("/api/study", &own)).status, 200);
    for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
        let request = served.request("/api/study", &cookie).replacen("GET", method, 1);
        assert_eq!(served.ask(&request).status, 405, "{method}");
    }
    let page = served.get("/");
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(served.stop(), 0);
}

#[test]
fn nothing_but_the_store_is_shown() {
    let study = Study::new(NETS);
    study.run(&["--variant", "*"]);
    study.write("private.txt", "private");
    let served = Served::start(&study);
    served.study();
    for path in [
        "/api/log/../format",
        "/api/log/%2e%2e/format",
        "/api/log/..%2f..%2f/private.txt",
        "/api/content/..%2f..%2fformat",
        "/raw/..%2f..%2fprivate.txt",
        "/raw/%2e%2e/private.txt",
        "/private.txt",
        "/../private.txt",
        "/api/run/..%2fformat",
        "/api/step/..",
        "/picture/..%2fx.grid.png",
        "/api/row/r~..~x",
        "/assets/../../pipeline.yaml",
        "/pipeline.yaml",
        "/api/content/0000000000000000000000000000000000000000000000000000000000000000",
    ] {
        let answer = served.get(path);
        assert!(answer.status == 404 || answer.status == 400, "{path}: {} {}", answer.status, answer.text());
        assert!(!answer.text().contains("private\n") && !answer.text().contains("name: nets"), "{path}");
    }
}

#[test]
fn the_page_is_told_what_there_is_and_names_lead_from_one_value_to_the_next() {
    let study = Study::new(NETS);
    let served = Served::start(&study);
    let before = served.study();
    assert_eq!((&before["study"], &before["error"]), (&"nets".into(), &Value::Null));
    assert_eq!(step(&before, "train@dit")["state"]["is"], "to-run");
    assert_eq!(step(&before, "score@dit")["state"]["is"], "waiting");
    study.run(&["--variant", "*", "--name", "first"]);
    until("all is cached", || {
        let now = served.value("study");
        now["steps"].as_array().unwrap().iter().all(|step| step["state"]["is"] == "cached")
    });
    let now = served.study();
    assert_eq!(step(&now, "score@dit")["mapped"], "entries");
    assert_eq!(step(&now, "score@dit")["state"]["tasks"], serde_json::json!([2, 2, 0, 0]));
    let table = served.value("table");
    let columns: Vec<&str> =
        table["columns"].as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap()).collect();
    assert!(columns.contains(&"model") && columns.contains(&"width"), "{columns:?}");
    let row = table["rows"].as_array().unwrap().iter().find(|row| row["variant"] == "dit").unwrap();
    let row = served.value(row["id"].as_str().unwrap());
    assert_eq!(row["stages"][0]["params"]["model"], "dit_s");
    let series = row["series"].as_array().unwrap();
    let loss = series.iter().find(|curve| curve["name"] == "loss").unwrap();
    assert_eq!(
        (&loss["x"], &loss["y"]),
        (&serde_json::json!([1.0, 2.0, 3.0]), &serde_json::json!([1.5, 2.5, 3.5]))
    );
    let fid = series.iter().find(|curve| curve["name"] == "fid").unwrap();
    assert_eq!((&fid["x"], &fid["y"]), (&serde_json::json!([10.0, 20.0]), &serde_json::json!([5.0, 4.0])));
    // A stage: its line, its inputs and outputs, its log without what authorises.
    let page = served.value(step(&now, "train@dit")["name"].as_str().unwrap());
    assert!(page["command"].as_str().unwrap().contains("dit_s"), "{page}");
    let log = page["logs"].as_array().unwrap().iter().find(|log| log["kind"] == "log").unwrap();
    let log = served.value(log["name"].as_str().unwrap());
    assert_eq!(log["text"], "https://***@host/x\n");
    let output = &page["outputs"][0];
    assert_eq!(output["name"], "log");
    let content = served.value(output["content"].as_str().unwrap());
    assert_eq!(content["what"]["type"], "json-lines");
    assert_eq!(content["what"]["lines"][2]["loss"], 3.5);
    let raw = served.get(&format!("/{}", content["raw"].as_str().unwrap()));
    assert_eq!((raw.status, raw.text().lines().count()), (200, 3));
    // HTML of a study does nothing.
    let page = served.value(step(&now, "page@dit")["name"].as_str().unwrap());
    let content = served.value(page["outputs"][0]["content"].as_str().unwrap());
    assert_eq!(content["what"]["type"], "html");
    let html = served.get(&format!("/{}", content["what"]["url"].as_str().unwrap()));
    let policy = html.header("content-security-policy").unwrap();
    assert!(policy.starts_with("sandbox;") && !policy.contains("allow-scripts"), "{policy}");
    // Past runs.
    let runs = served.value("runs");
    assert_eq!((&runs["runs"][0]["name"], &runs["runs"][0]["result"]), (&"first".into(), &"done".into()));
    let run = served.value(runs["runs"][0]["detail"].as_str().unwrap());
    assert_eq!(run["rows"].as_array().unwrap().len(), 2);
    let past = served.value(run["rows"][0].as_str().unwrap());
    assert_eq!(past["stages"][0]["params"]["model"], "dit_s");
    assert_eq!(served.value("table-runs")["rows"].as_array().unwrap().len(), 2);
    let plain = served.get("/plain.html").text();
    assert!(plain.contains("train@dit") && plain.contains("first"), "{plain}");
}

#[test]
fn a_failure_is_told_with_its_last_lines_which_stay_text() {
    let study = Study::new(NETS);
    study.write("fail", "");
    // As it stands: that is shown beside the variants once it ran.
    let output = study.call(&["run", "--keep-going"]);
    assert!(!output.status.success());
    let served = Served::start(&study);
    until("the failure is told", || {
        let now = served.value("study");
        now["steps"]
            .as_array()
            .unwrap()
            .iter()
            .any(|step| step["id"] == "score" && step["state"]["is"] == "failed")
    });
    let now = served.study();
    let state = &step(&now, "score")["state"];
    assert_eq!(
        (&state["reason"], &state["last"]),
        (&"failed with exit code 3".into(), &serde_json::json!(["<b>bad</b>"]))
    );
    assert!(served.get("/api/study").header("content-type") == Some("application/json"));
    // An edit of the study file is seen; one that cannot be read is told, and what was there stays.
    let yaml = study.read("pipeline.yaml");
    study.write("pipeline.yaml", &yaml.replace("stages:\n", "stagse:\n"));
    until("the mistake is told", || served.value("study")["error"].is_string());
    assert_eq!(served.value("study")["steps"].as_array().unwrap().len(), 9);
    study.write("pipeline.yaml", &yaml.replace("  page:\n", "  site:\n"));
    until("the edit is seen", || {
        let now = served.value("study");
        now["error"].is_null() && now["stages"].as_array().unwrap().contains(&"site".into())
    });
}

#[test]
fn a_run_of_another_process_is_told_as_it_goes() {
    let yaml = r#"name: live
stages:
  one:
    command: sh -c 'echo begun; while [ ! -e go ]; do sleep 0.05; done; echo x > $1' -- ${outputs.x}
    outputs: [x]
  two:
    command: cp ${inputs.x} ${outputs.y}
    inputs: {x: one.x}
    outputs: [y]
"#;
    let study = Study::new(yaml);
    let served = Served::start(&study);
    served.study();
    let mut events = BufReader::new(served.connect(&served.request("/events", &served.cookie())));
    let mut run = study.start(&["run"]);
    let mut told: Vec<(String, Value)> = Vec::new();
    let mut event = String::new();
    // Until both have run; chunks of the transfer are lines of their own.
    let mut next = |told: &mut Vec<(String, Value)>| {
        let mut line = String::new();
        assert!(events.read_line(&mut line).unwrap() > 0, "the stream ended: {told:?}");
        if let Some(name) = line.trim_end().strip_prefix("event: ") {
            event = name.to_string();
        } else if let Some(data) = line.trim_end().strip_prefix("data: ") {
            told.push((event.clone(), serde_json::from_str(data).unwrap()));
        }
    };
    let states = |told: &[(String, Value)], index: usize| -> Vec<String> {
        let events = told.iter().filter(|(name, _)| name == "states");
        let pairs = events.flat_map(|(_, data)| data["states"].as_array().unwrap().clone());
        pairs
            .filter(|pair| pair[0] == index)
            .map(|pair| pair[1]["is"].as_str().unwrap().to_string())
            .collect()
    };
    while !states(&told, 0).contains(&"running".to_string()) {
        next(&mut told);
    }
    let now = served.value("study");
    assert_eq!(now["live"].as_array().unwrap().len(), 1);
    until("its log is shown", || {
        step(&served.value("study"), "one")["state"]["last"] == serde_json::json!(["begun"])
    });
    assert_eq!(served.value("runs")["runs"][0]["result"], "running");
    study.write("go", "");
    assert!(run.wait().unwrap().success());
    while states(&told, 1).last().map(String::as_str) != Some("cached") {
        next(&mut told);
    }
    assert!(
        told.iter().any(|(name, _)| name == "hello") && told.iter().any(|(name, _)| name == "runs"),
        "{told:?}"
    );
    until("it is over", || served.value("study")["live"].as_array().unwrap().is_empty());
    assert_eq!(served.value("runs")["runs"][0]["result"], "done");
}

#[test]
fn a_runner_that_was_killed_leaves_a_lost_run() {
    let yaml = "name: lost\nstages:\n  one:\n    command: sh -c 'sleep 600; true $1' -- ${outputs.x}\n    outputs: [x]\n";
    let study = Study::new(yaml);
    let served = Served::start(&study);
    let mut run = study.start(&["run"]);
    until("it runs", || served.value("runs")["runs"][0]["result"] == "running");
    run.kill().unwrap();
    run.wait().unwrap();
    until("it is lost", || served.value("runs")["runs"][0]["result"] == "lost");
    assert!(served.value("study")["live"].as_array().unwrap().is_empty());
}

#[test]
fn the_page_as_files_has_all_that_it_shows_and_touches_nothing_else() {
    let study = Study::new(NETS);
    study.run(&["--variant", "*"]);
    let output = study.call(&["ui", "--export", "site"]);
    assert!(output.status.success(), "{}", said(&output));
    let page = study.read("site/index.html");
    assert!(page.contains("<html data-static"), "{page}");
    let value = |name: &str| -> Value {
        let text = study.read(&format!("site/data/{name}.js"));
        let json = text.strip_prefix(&format!("pipelineData(\"{name}\", ")).unwrap().trim_end();
        serde_json::from_str(json.strip_suffix(");").unwrap()).unwrap()
    };
    let now = value("study");
    assert!(now["steps"].as_array().unwrap().iter().all(|step| step["state"]["is"] == "cached"));
    let page = value(step(&now, "page@dit")["name"].as_str().unwrap());
    let content = value(page["outputs"][0]["content"].as_str().unwrap());
    assert!(study.read(&format!("site/{}", content["what"]["url"].as_str().unwrap())).contains("<script>"));
    let data = study.read(&format!("site/data/{}.js", page["outputs"][0]["content"].as_str().unwrap()));
    assert!(!data.contains('<'), "{data}");
    let row = value("table")["rows"][0]["id"].as_str().unwrap().to_string();
    assert!(!value(&row)["series"].as_array().unwrap().is_empty());
    // Ours is written anew; anybody else's folder stays as it is.
    study.write("site/stale", "x");
    assert!(study.call(&["ui", "--export", "site"]).status.success());
    assert!(!study.exists("site/stale"));
    study.write("other/mine.txt", "mine");
    let output = study.call(&["ui", "--export", "other"]);
    assert_eq!(output.status.code(), Some(2));
    let text = "error: other holds something that is no page of ours; give --export a new folder\n";
    assert_eq!(stderr(&output), text);
    assert_eq!(study.read("other/mine.txt"), "mine");
}

#[test]
fn looking_runs_nothing_and_changes_nothing() {
    // A program that would leave a mark when it is asked what it is.
    let yaml = "name: still\nstages:\n  one:\n    run: ./marks\n    outputs: [x]\n";
    let study = Study::new(yaml);
    study.program("marks", "#!/bin/sh\ntouch marked\nexit 1\n");
    let served = Served::start(&study);
    let now = served.study();
    assert_eq!(step(&now, "one")["state"]["is"], "waiting");
    assert!(!study.exists("marked"));
}

#[test]
fn hostile_names_stay_names() {
    let yaml = "name: names\nvariants:\n  a: {stages: {one: {params: {word: \"<img src=x onerror=alert(1)>\"}}}}\nstages:\n  one:\n    command: sh -c 'mkdir $2; echo x > \"$2/<svg onload=alert(1)>\"; echo \"</script><b>\"; true $1' -- ${params.word} ${outputs.x}\n    params: {word: w}\n    outputs: [x]\n";
    let study = Study::new(yaml);
    study.run(&["--variant", "*"]);
    assert!(study.call(&["ui", "--export", "site"]).status.success());
    let plain = study.read("site/plain.html");
    assert!(!plain.contains("<img") && !plain.contains("<svg"), "{plain}");
    let served = Served::start(&study);
    let now = served.study();
    let page = served.value(step(&now, "one@a")["name"].as_str().unwrap());
    assert_eq!(page["params"]["word"], "<img src=x onerror=alert(1)>");
    let content = served.value(page["outputs"][0]["content"].as_str().unwrap());
    assert_eq!(content["what"]["entries"][0]["path"], "<svg onload=alert(1)>");
}
