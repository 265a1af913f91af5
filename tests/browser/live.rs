//! The graph while a run is under way: nobody reloads anything.

use crate::driver::Browser;
use crate::page::Server;
use crate::study::{Study, until};
use std::io::Write;

/// `first` waits for `go`; `second` tells how far it is, and waits for `on`; `third` fails.
const STUDY: &str = r#"name: live
stages:
  first:
    shell: |
      until [ -e go ]; do sleep 0.02; done
      echo > ${outputs.x}
    outputs: [x]
  second:
    shell: |
      for i in 1 2 3 4; do
        echo '{"event": "progress", "done": '$((i * 10))', "total": 80, "unit": "steps"}' >> "$PIPELINE_EVENTS"
        sleep 0.3
      done
      until [ -e on ]; do sleep 0.02; done
      cp ${inputs.x} ${outputs.y}
    inputs: {x: first.x}
    outputs: [y]
  third:
    shell: |
      echo the disk is on fire
      cp ${inputs.y} ${outputs.z}
      false
    inputs: {y: second.y}
    outputs: [z]
"#;

fn node(stage: &str) -> String {
    format!(".node[href='#/step/{stage}']")
}

#[test]
fn states_change_on_the_screen_as_they_do_in_the_run() {
    let Some(browser) = Browser::start() else { return };
    let study = Study::new(STUDY);
    // Nothing has been run.
    let server = Server::of(&study);
    server.open(&browser, "#/");
    browser.sees(&node("first"), "to run");
    browser.sees("#connection", "no run under way");
    browser.script("window.same = true; document.querySelector('.node').focus()");

    let mut run = study.start(&["run"]);
    browser.sees(&node("first"), "running");
    browser.sees("#connection", "1 run under way");
    // It is told to those who hear the page, politely, and the focus stays where it was.
    browser.until(
        "it is told",
        "document.querySelector('#announcer[aria-live=polite]').textContent.includes('first: running')",
    );
    assert_eq!(browser.script("return document.activeElement.getAttribute('href')"), "#/step/first");

    study.write("go", "");
    browser.sees(&node("second"), "40 of 80 steps");
    browser.sees(&node("second"), "left");
    let bar = format!("document.querySelector(\"{} [role=progressbar]\")?.ariaValueNow", node("second"));
    assert_eq!(browser.until("the bar", &bar), "50");
    assert!(
        browser.texts(&node("first"))[0]
            .lines()
            .any(|line| line.ends_with("ran") || line.ends_with("cached"))
    );

    study.write("on", "");
    browser.sees(&node("third"), "failed");
    browser.sees(".failure", "the disk is on fire");
    assert_eq!(run.wait().unwrap().code(), Some(1));
    browser.sees("#connection", "no run under way");
    assert_eq!(browser.script("return window.same"), true, "the page was loaded anew");
    assert!(browser.complaints().is_empty(), "{:?}", browser.complaints());

    // The step's page says the same, with its line.
    browser.click(&node("third"));
    browser.sees("h1", "third");
    browser.sees(".status", "failed");
    browser.sees("pre.log", "the disk is on fire");
}

#[test]
fn a_study_that_is_edited_is_shown_as_it_is_now() {
    let Some(browser) = Browser::start() else { return };
    let study =
        Study::new("name: edited\nstages:\n  one:\n    shell: echo > ${outputs.x}\n    outputs: [x]\n");
    let server = Server::of(&study);
    server.open(&browser, "#/");
    browser.sees(&node("one"), "to run");
    browser.script("document.querySelector('.node').focus()");
    let mut file = std::fs::OpenOptions::new().append(true).open(study.path("pipeline.yaml")).unwrap();
    file.write_all(
        b"  two:\n    shell: cp ${inputs.x} ${outputs.y}\n    inputs: {x: one.x}\n    outputs: [y]\n",
    )
    .unwrap();
    browser.sees(&node("two"), "waiting");
    assert_eq!(browser.script("return document.activeElement.getAttribute('href')"), "#/step/one");
    // One that cannot be read is said to be so; the last that could stays.
    file.write_all(b"  three: [\n").unwrap();
    browser.sees(".problem[role=alert]", "pipeline.yaml");
    browser.sees(&node("two"), "waiting");
}

#[test]
fn a_server_that_ends_is_told_of() {
    let Some(browser) = Browser::start() else { return };
    let study =
        Study::new("name: short\nstages:\n  one:\n    shell: echo > ${outputs.x}\n    outputs: [x]\n");
    study.run(&[]);
    let server = Server::of(&study);
    server.open(&browser, "#/");
    browser.sees(&node("one"), "cached");
    drop(server);
    browser.until("it is told", "/lost|ended/.test(document.getElementById('connection').textContent)");
    browser.sees(&node("one"), "cached");
    until("the store is left alone", || study.exists("out/one/x"));
}

/// A stage that says what it is told to; what comes after it waits for `go`.
const AGAIN: &str = r#"name: again
stages:
  one:
    shell: |
      seq -f 'line %.0f' 1 500
      echo ${params.n} > ${outputs.x}
    params: {n: 1}
    outputs: [x]
  two:
    shell: |
      until [ -e go ]; do sleep 0.02; done
      cp ${inputs.x} ${outputs.y}
    inputs: {x: one.x}
    outputs: [y]
"#;

#[test]
fn what_is_open_and_read_of_a_step_stays_as_it_runs_again() {
    let Some(browser) = Browser::start() else { return };
    let study = Study::new(AGAIN);
    study.write("go", "");
    study.run(&[]);
    std::fs::remove_file(study.path("go")).unwrap();
    let server = Server::of(&study);
    server.open(&browser, "#/step/one");
    browser.sees("pre.log", "line 500");
    let output = "section[aria-labelledby=h-outputs] details";
    browser.click(&format!("{output} summary"));
    browser.sees(&format!("{output} pre"), "1");
    // Somebody reads in the middle of the log, and holds nothing.
    browser.script("document.activeElement.blur(); document.querySelector('pre.log').scrollTop = 300");
    browser.until("no following", "!document.getElementById('follow').checked");
    browser.script("window.log = document.querySelector('pre.log')");

    let changed = AGAIN.replace("{n: 1}", "{n: 2}");
    study.write("pipeline.yaml", &changed);
    let mut run = study.start(&["run"]);
    // The run goes on; what it made already is shown.
    browser.sees(&format!("{output}[open] pre"), "2");
    browser.until("the log of the run", "document.querySelectorAll('#log option').length === 2");
    let stays = browser.script("return [document.querySelector('pre.log') === window.log, window.log.scrollTop, document.getElementById('follow').checked]");
    assert_eq!(stays, serde_json::json!([true, 300, false]));
    assert!(run.try_wait().unwrap().is_none(), "the run is over");
    study.write("go", "");
    assert!(run.wait().unwrap().success());
    // Another that is chosen is shown from its end.
    browser.script("const c = document.getElementById('log'); c.value = c.options[0].value; c.dispatchEvent(new Event('change'))");
    browser.until("another log", "document.querySelector('pre.log') !== window.log && document.querySelector('pre.log').textContent.includes('line 500')");
    assert!(browser.complaints().is_empty(), "{:?}", browser.complaints());
}
