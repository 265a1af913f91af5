//! Rows that are compared while they run: curves grow where they stand, and leave a person where they were.

use crate::driver::{Browser, DESK, Screen};
use crate::page::Server;
use crate::study::{Study, until};
use serde_json::{Value, json};
use std::io::Write;

/// A training that writes what it is told to, in pieces of any length, until it is told to end. What it is told stands in files
/// that are not to be seen in its line: they would be inputs.
const STUDY: &str = r#"name: follows
variants:
  plain: {}
  wide: {stages: {train: {params: {width: 20}}}}
stages:
  train:
    shell: |
      name=wor; exec 3< $name"ds-${params.width}"; log=PLACE
      until [ -e end-${params.width} ]; do cat <&3 >> "$log"; sleep 0.02; done
      cat <&3 >> "$log"
      REST
    params: {width: 3}
    outputs: {log: log.jsonl}
  score:
    shell: |
      echo '{"fid": '"$(wc -l < ${inputs.log})"'.25}' > ${outputs.scores}
    inputs: {log: train.log}
    outputs: {scores: scores.json}
    show: [scores]
"#;

fn study(place: &str, rest: &str) -> Study {
    let study = Study::new(&STUDY.replace("PLACE", place).replace("REST", rest));
    study.write("words-3", "{\"step\":1,\"loss\":9,\"gain\":1}\n{\"step\":2,\"loss\":8,\"gain\":2}\n");
    study.write("end-3", "");
    study.write("words-20", "");
    study.run(&["--variant", "plain"]);
    study
}

fn say(study: &Study, text: &str) {
    let mut file = std::fs::OpenOptions::new().append(true).open(study.path("words-20")).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

fn lines(steps: std::ops::RangeInclusive<u32>) -> String {
    steps
        .map(|step| format!("{{\"step\":{step},\"loss\":{},\"gain\":{step}}}\n", 20.0 / f64::from(step)))
        .collect()
}

/// How many points the curve of the second row has in the first figure.
const POINTS: &str =
    "(document.querySelector('figure.curves .curve.c1')?.getAttribute('d').split(/[ML]/).length ?? 1) - 1";

fn points(browser: &Browser, count: u32) {
    browser.until(&format!("{count} points"), &format!("{POINTS} === {count}"));
}

#[test]
fn curves_grow_while_a_training_runs_and_a_person_stays_where_they_were() {
    let Some(browser) = Browser::start() else { return };
    let study = study("${outputs.log}", "");
    let server = Server::of(&study);
    browser.screen(Screen { height: 300, ..DESK });
    server.open(&browser, "#/compare?rows=row/v~plain,row/v~wide");
    let curves = "document.querySelectorAll('figure.curves .curve').length";
    browser.until("the curves of what is done", &format!("{curves} === 2"));
    // Under a runner of another process, that begins when the page is there.
    let mut run = study.start(&["run", "--variant", "wide"]);
    browser.sees(".legend", "train running");
    say(&study, &lines(1..=4));
    points(&browser, 4);
    assert_eq!(browser.texts("figure.curves figcaption"), ["loss over step", "gain over step"]);

    // A person reads at a step, has the figure's focus, has selected a value, and has scrolled there.
    browser.click(".menu summary");
    browser.script("document.querySelector('figure.curves svg').focus()");
    browser.press("\u{e011}");
    assert_eq!(browser.texts("figure.curves:first-child .readout b"), ["9", "20"]);
    browser.script(
        "scrollTo(0, 150); const value = document.querySelector('.readout b'); getSelection().selectAllChildren(value); \
         window.before = { svg: document.activeElement, value, at: scrollY, least: Infinity, tables: document.querySelectorAll('table').length }; \
         setInterval(() => { before.least = Math.min(before.least, POINTS); }, 5)"
            .replace("POINTS", POINTS)
            .as_str(),
    );
    let stays = || {
        browser.script(
            "const svg = document.querySelector('figure.curves svg'); return [svg === before.svg, document.activeElement === svg, \
             String(getSelection()), document.querySelector('.readout b') === before.value, scrollY === before.at && scrollY > 0, \
             document.querySelector('.menu').open]",
        )
    };
    let all = json!([true, true, "9", true, true, true]);
    assert_eq!(stays(), all);
    // Half a line is nothing, even where its half could be read as a number.
    say(&study, &lines(5..=6));
    say(&study, "{\"step\":7,\"loss\":1");
    points(&browser, 6);
    assert_eq!(stays(), all);
    say(&study, "7,\"gain\":7}\n");
    points(&browser, 7);
    assert_eq!(stays(), all);
    let told = "document.querySelector('figure.curves svg').getAttribute('aria-label')";
    assert!(browser.script(&format!("return {told}")).as_str().unwrap().contains("wide ends at 17"));

    // To its end: what was measured then is there as well, and no point was ever missing between.
    say(&study, &lines(8..=9));
    study.write("end-20", "");
    assert!(run.wait().unwrap().success());
    points(&browser, 9);
    browser.sees("section[aria-labelledby=h-scores]", "9.25");
    browser.until("nothing runs", "!document.querySelector('.legend').textContent.includes('running')");
    assert_eq!(stays(), all);
    let least = browser.script("return before.least").as_u64().unwrap();
    assert!(least >= 4, "there were {least} points for a while");
    assert!(browser.complaints().is_empty(), "{:?}", browser.complaints());
}

#[test]
fn what_a_training_keeps_for_itself_or_reports_has_curves_as_well() {
    let Some(browser) = Browser::start() else { return };
    // As a program that goes on after a kill, whose output is there at its end; and one that reports.
    let study = study("$PIPELINE_STATE/log.jsonl", "cp \"$log\" ${outputs.log}");
    let server = Server::of(&study);
    server.open(&browser, "#/compare?rows=row/v~plain,row/v~wide");
    let mut run = study.start(&["run", "--variant", "wide"]);
    say(&study, &lines(1..=3));
    points(&browser, 3);
    // What a run that was stopped had come to stays to be seen.
    // SAFETY: a signal to a child that has not been waited for.
    unsafe { libc::kill(run.id() as i32, libc::SIGINT) };
    assert!(!run.wait().unwrap().success());
    browser.until("nothing runs", "!document.querySelector('.legend').textContent.includes('running')");
    points(&browser, 3);
    browser.script("location.reload()");
    browser.until("the page", "performance.getEntriesByName('shown').length");
    points(&browser, 3);

    let events = "$PIPELINE_EVENTS";
    study.write(
        "pipeline.yaml",
        &STUDY.replace("PLACE", events).replace("REST", "echo done > ${outputs.log}"),
    );
    study.write("words-20", "");
    let mut run = study.start(&["run", "--variant", "wide"]);
    browser.sees(".legend", "train running");
    for step in [1, 2, 3, 4] {
        say(&study, &format!("{{\"event\":\"metrics\",\"step\":{step},\"values\":{{\"loss\":{step}}}}}\n"));
        points(&browser, step);
    }
    study.write("end-20", "");
    assert!(run.wait().unwrap().success());
    assert!(browser.complaints().is_empty(), "{:?}", browser.complaints());
}

/// Scores of checkpoints, each made when it is told to be.
const EACH: &str = r#"name: each
stages:
  train:
    shell: mkdir ${outputs.nets}; for n in 10 20 30; do echo $n > ${outputs.nets}/step-$n; done
    outputs: [nets]
  score:
    shell: |
      read n < ${inputs.net}; until [ -e go-$n ]; do sleep 0.02; done
      echo "{\"fid\": $n.5}" > ${outputs.scores}
    each: net
    inputs: {net: train.nets}
    outputs: {scores: scores.json}
"#;

#[test]
fn scores_of_checkpoints_come_one_after_another() {
    let Some(browser) = Browser::start() else { return };
    let study = Study::new(EACH);
    study.run(&["train"]);
    let server = Server::of(&study);
    server.open(&browser, "#/compare?rows=row/v~");
    let mut run = study.start(&["run", "--jobs", "3"]);
    let points: Value = json!(
        "(document.querySelector('figure.curves .curve')?.getAttribute('d').split(/[ML]/).length ?? 1) - 1"
    );
    for (place, n) in [(1, 20), (2, 10), (3, 30)] {
        study.write(&format!("go-{n}"), "");
        browser.until(&format!("{place} points"), &format!("{} === {place}", points.as_str().unwrap()));
    }
    assert!(run.wait().unwrap().success());
    until("all is there", || study.exists("out/score"));
    assert!(browser.complaints().is_empty(), "{:?}", browser.complaints());
}
