//! The page of a large study: how soon each part of it is there and on the screen, how soon a change is, and what the server holds.
//!
//! `cargo bench -p pipeline --bench ui`. The study has 1,000 variants of 7 stages and 200 past runs, and a stage with a log of
//! 100 MB runs. What is on the screen is measured where there is a Chromium with its driver. `BENCH_DIR` (default the system's folder for temporary files) needs 2 GB.

#![expect(clippy::unwrap_used, reason = "a bench that cannot go on has failed")]

#[path = "../tests/browser/driver.rs"]
#[expect(dead_code, reason = "the page's tests use the rest of it")]
mod driver;

use driver::Browser;
use measure::median;
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

const VARIANTS: usize = 1000;
const STAGES: [&str; 7] = ["download", "encode", "train", "sample", "reference", "evaluate", "report"];
const RUNS: usize = 200;
const LOG: usize = 100_000_000;
/// Variants that a past run was about.
const PART: usize = 5;

fn main() {
    let place = std::env::var_os("BENCH_DIR").map_or(std::env::temp_dir(), PathBuf::from);
    let folder = tempfile::tempdir_in(place).unwrap();
    let root = folder.path();
    fs::write(root.join("pipeline.yaml"), study()).unwrap();
    fs::write(root.join("data"), "data").unwrap();
    eprintln!("running {VARIANTS} variants once");
    pipeline(root, &["run", "--variant", "*", "--quiet", "--jobs", "2"]);
    eprintln!("making {RUNS} records of runs");
    past(root);
    let mut server = Server::start(root);
    let began = Instant::now();
    println!("{:44} {:>9} {:>10}  target", "", "seconds", "bytes");
    let line = |name: &str, seconds: f64, bytes: usize, most: f64| {
        let verdict = if seconds <= most { "met" } else { "MISSED" };
        println!("{name:44} {seconds:>9.3} {bytes:>10}  {most} s: {verdict}");
    };
    line("from the start to the address", server.took, 0, 1.0);
    for name in ["", "app.js", "style.css", "api/study"] {
        let (seconds, bytes) = server.get(&format!("/{name}"));
        line(&format!("first /{name}"), seconds, bytes.len(), 1.0);
    }
    loop {
        let (_, bytes) = server.get("/api/study");
        if String::from_utf8_lossy(&bytes).contains("\"looking\":false") {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    line("until every state is known", began.elapsed().as_secs_f64(), 0, 10.0);
    while !String::from_utf8_lossy(&server.get("/api/runs").1).contains("past-199") {
        std::thread::sleep(Duration::from_millis(100));
    }
    line("until every past run is known", began.elapsed().as_secs_f64(), 0, 20.0);
    let names = ["study", "table", "table-runs", "runs", "step/train~v500", "row/v~v500"].map(String::from);
    for name in &names {
        let times: Vec<(f64, Vec<u8>)> = (0..5).map(|_| server.get(&format!("/api/{name}"))).collect();
        let bytes = times[0].1.len();
        line(&format!("/api/{name}"), median(times.into_iter().map(|(time, _)| time).collect()), bytes, 1.0);
    }
    let browser = Browser::start();
    if let Some(browser) = &browser {
        for (name, place) in [
            ("the graph", "#/"),
            ("the table", "#/table"),
            ("past runs", "#/table?of=runs"),
            ("a variant", "#/?variant=v500"),
        ] {
            let times = (0..5).map(|_| server.paint(browser, place)).collect();
            line(&format!("on the screen: {name}"), median(times), 0, 1.0);
        }
    }
    let (changes, seen) = server.change(root, browser.as_ref());
    line("a change of another runner is told", median(changes), 0, 1.0);
    if browser.is_some() {
        line("a change of another runner is seen", median(seen), 0, 1.0);
    }
    let memory = server.memory();
    let verdict = if memory <= 200.0 { "met" } else { "MISSED" };
    println!("{:44} {memory:>9.0} {:>10}  200 MB: {verdict}", "memory of the server, MB at most", "");
    server.child.kill().unwrap();
    server.child.wait().unwrap();
}

/// The variants differ from the second stage on.
fn study() -> String {
    let mut text = String::from("name: many\nvariants:\n");
    for i in 0..VARIANTS {
        writeln!(text, "  v{i}: {{stages: {{encode: {{params: {{seed: {i}}}}}}}}}").unwrap();
    }
    text += "stages:\n";
    for (place, stage) in STAGES.iter().enumerate() {
        let input = match place {
            0 => "data".into(),
            place => format!("{}.out", STAGES[place - 1]),
        };
        let seed = if place == 1 { "; true ${params.seed}" } else { "" };
        let params = if place == 1 { "    params: {seed: none}\n" } else { "" };
        let command = format!(
            "sh -c 'echo \"{{\\\"fid\\\": 1.5}}\" > $2; cat $1 >> /dev/null{seed}' -- ${{inputs.x}} ${{outputs.out}}"
        );
        write!(
            text,
            "  {stage}:\n    command: >-\n      {command}\n{params}    inputs: {{x: {input}}}\n    outputs: [out]\n"
        )
        .unwrap();
    }
    text + "  slow:\n    command: sh -c 'while [ ! -e go ]; do sleep 0.05; done; true $1 > $2' -- ${params.n} ${outputs.out}\n    params: {n: 0}\n    outputs: [out]\n"
}

fn pipeline(root: &Path, words: &[&str]) {
    fs::write(root.join("go"), "").unwrap();
    let status = Command::new(env!("CARGO_BIN_EXE_pipeline")).args(words).current_dir(root).status().unwrap();
    assert!(status.success());
}

/// Records of earlier runs of some variants, made of that of one.
fn past(root: &Path) {
    let runs = root.join(".pipeline/runs");
    let name = fs::read_dir(&runs).unwrap().next().unwrap().unwrap().path();
    let text = fs::read_to_string(&name).unwrap();
    let mut report: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    let own: Vec<String> = (0..PART).map(|i| format!("v{i}")).collect();
    let stages = report["stages"].as_array().unwrap().iter().filter(|row| {
        row["variants"].as_array().unwrap().iter().any(|v| own.iter().any(|own| v == own.as_str()))
    });
    let mut stages: Vec<serde_json::Value> = stages.cloned().collect();
    for row in &mut stages {
        row["variants"].as_array_mut().unwrap().retain(|v| own.iter().any(|own| v == own.as_str()));
    }
    report["stages"] = stages.into();
    report["attempts"] = serde_json::json!([]);
    for i in 0..RUNS {
        let run = format!("20200101T000000.{i:03}-1");
        report["run"] = run.as_str().into();
        report["name"] = format!("past-{i}").into();
        let json = serde_json::to_string(&report).unwrap();
        let check = blake3::hash(json.as_bytes()).to_hex();
        fs::write(runs.join(format!("{run}.json")), format!("{json}\n{check}\n")).unwrap();
    }
}

struct Server {
    child: Child,
    _out: BufReader<ChildStdout>,
    host: String,
    cookie: String,
    took: f64,
}

impl Server {
    fn start(root: &Path) -> Self {
        let began = Instant::now();
        let mut command = Command::new(env!("CARGO_BIN_EXE_pipeline"));
        command.args(["ui", "--port", "0", "--no-open"]).current_dir(root).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        let took = began.elapsed().as_secs_f64();
        let (host, token) = line.trim().strip_prefix("http://").unwrap().split_once("/?token=").unwrap();
        let port = host.rsplit_once(':').unwrap().1;
        let cookie = format!("Cookie: pipeline-{port}={token}\r\n");
        Self { child, _out: out, host: host.into(), cookie, took }
    }

    fn ask(&self, path: &str) -> TcpStream {
        let mut stream = TcpStream::connect(&self.host).unwrap();
        let (host, cookie) = (&self.host, &self.cookie);
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{cookie}\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        stream
    }

    fn get(&self, path: &str) -> (f64, Vec<u8>) {
        let (began, mut bytes) = (Instant::now(), Vec::new());
        self.ask(path).read_to_end(&mut bytes).unwrap();
        (began.elapsed().as_secs_f64(), bytes)
    }

    /// How long a page takes from its address to all that it shows at first.
    fn paint(&self, browser: &Browser, place: &str) -> f64 {
        let token = self.cookie.trim().split_once('=').unwrap().1;
        browser.go(&format!("http://{}/?token={token}{place}", self.host));
        let painted = "performance.getEntriesByName('shown')[0]?.startTime";
        browser.until("the page", painted).as_f64().unwrap() / 1000.0
    }

    /// How long it takes until a change in a running stage's files is told, and seen, with a log that is long already.
    fn change(&self, root: &Path, browser: Option<&Browser>) -> (Vec<f64>, Vec<f64>) {
        fs::remove_file(root.join("go")).unwrap();
        let mut events = BufReader::new(self.ask("/events"));
        let mut run = Command::new(env!("CARGO_BIN_EXE_pipeline"));
        run.args(["run", "slow", "--variant", "v0", "--set", "slow.n=1", "--quiet"]).current_dir(root);
        let mut run = run.stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        let wait = |events: &mut BufReader<TcpStream>, text: &str| {
            let mut line = String::new();
            while !line.contains(text) {
                line.clear();
                assert!(events.read_line(&mut line).unwrap() > 0);
            }
        };
        wait(&mut events, "\"is\":\"running\"");
        let logs = fs::read_dir(root.join(".pipeline/logs")).unwrap().map(|entry| entry.unwrap().path());
        let folder = logs.max().unwrap();
        fs::write(folder.join("slow.log"), "a line of a log\n".repeat(LOG / 16)).unwrap();
        let mut times = Vec::new();
        let tell = |done: u32| {
            let event =
                format!("{{\"event\":\"progress\",\"done\":{done},\"total\":20,\"unit\":\"steps\"}}\n");
            let mut file =
                fs::File::options().create(true).append(true).open(folder.join("slow.events")).unwrap();
            file.write_all(event.as_bytes()).unwrap();
        };
        for done in 1..=10 {
            let began = Instant::now();
            tell(done);
            wait(&mut events, &format!("\"done\":{done},"));
            times.push(began.elapsed().as_secs_f64());
        }
        let mut seen = Vec::new();
        if let Some(browser) = browser {
            self.paint(browser, "#/");
            for done in 11..=20 {
                let began = Instant::now();
                tell(done);
                browser.sees(".runs", &format!("{done} of 20 steps"));
                seen.push(began.elapsed().as_secs_f64());
            }
        }
        let run_name = folder.file_name().unwrap().to_string_lossy().into_owned();
        let (seconds, bytes) = self.get(&format!("/api/log/{run_name}/slow.log"));
        println!("{:44} {seconds:>9.3} {:>10}", "the end of a log of 100 MB", bytes.len());
        fs::write(root.join("go"), "").unwrap();
        run.wait().unwrap();
        (times, seen)
    }

    /// The most memory that it held, MB.
    fn memory(&self) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1000.0
    }
}
