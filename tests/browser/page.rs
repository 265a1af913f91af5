//! `pipeline ui` of a study, and the addresses of its page.

use crate::driver::Browser;
use crate::study::Study;
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};

/// A server that ends with this.
pub struct Server {
    child: Child,
    _output: BufReader<ChildStdout>,
    entry: String,
}

impl Server {
    pub fn of(study: &Study) -> Self {
        Self::start(study.command(&["ui", "--port", "0", "--no-open"]))
    }

    pub fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut entry = String::new();
        output.read_line(&mut entry).unwrap();
        let entry = entry.trim().to_string();
        assert!(entry.starts_with("http://127.0.0.1:") && entry.contains("token="), "{entry:?}");
        Self { child, _output: output, entry }
    }

    /// Opens a page, by the address that lets in.
    pub fn open(&self, browser: &Browser, place: &str) {
        browser.go(&format!("{}{place}", self.entry));
        browser.until("the page", "performance.getEntriesByName('shown').length");
    }

    /// The same, without waiting for what it shows.
    pub fn begin(&self, browser: &Browser, place: &str) {
        browser.go(&format!("{}{place}", self.entry));
    }

    /// Goes on to another place of the page that is open, as a link does.
    pub fn on(&self, browser: &Browser, place: &str) {
        browser.script(&format!("performance.clearMarks(); location.hash = {}", serde_json::json!(place)));
        browser.until("the page", "performance.getEntriesByName('shown').length");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Scores and logs that depend on a parameter, without any network.
pub const NETS: &str = r#"name: nets
variants:
  small: {}
  wide: {stages: {train: {params: {width: 20}}}}
  deep: {stages: {train: {params: {width: 7, model: deep}}}}
stages:
  data:
    shell: seq 1 5 > ${outputs.data}
    outputs: [data]
  train:
    shell: |
      for step in $(seq 1 60); do
        awk -v s=$step -v w=${params.width} 'BEGIN {printf "{\"step\":%d,\"loss\":%.4f,\"gain\":%.3f}\n", s, w/s, s/w}'
      done > ${outputs.log}
      echo trained ${params.model} on ${inputs.data}
    inputs: {data: data.data}
    params: {width: 3, model: plain}
    outputs: {log: log.jsonl}
  score:
    shell: |
      echo '{"fid": '"$(wc -c < ${inputs.log})"'.25, "steps": 10}' > ${outputs.scores}
    inputs: {log: train.log}
    outputs: {scores: scores.json}
    show: [scores]
"#;

pub fn nets() -> Study {
    let study = Study::new(NETS);
    study.run(&["--variant", "*"]);
    study
}
