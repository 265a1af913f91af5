//! A log that grows while it is read, and one that is too long to be on a page.

use crate::driver::Browser;
use crate::page::Server;
use crate::study::{Study, until};

#[test]
fn it_grows_and_its_end_is_followed() {
    let Some(browser) = Browser::start() else { return };
    // Says what it is told to say, until it is told to end. That it reads `words` is not to be seen: it would be an input.
    let study = Study::new(
        r#"name: talk
stages:
  talk:
    shell: |
      name=wor; touch began; exec 3< "${name}ds"
      while sleep 0.05; do
        while read -r line <&3; do
          echo "$line"
          if [ "$line" = end ]; then echo > ${outputs.x}; exit; fi
        done
      done
    outputs: [x]
"#,
    );
    study.write("words", "first words\n");
    let mut run = study.start(&["run"]);
    until("the stage began", || study.exists("began"));
    let server = Server::of(&study);
    server.open(&browser, "#/step/talk");
    browser.sees(".status", "running");
    browser.sees("pre.log", "first words");

    let say = |text: &str| {
        use std::io::Write;
        let mut file = std::fs::OpenOptions::new().append(true).open(study.path("words")).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    };
    let many: String = (0..400).map(|i| format!("line {i} of many\n")).collect();
    say(&many);
    browser.sees("pre.log", "line 399 of many");
    let below = "(() => { const p = document.querySelector('pre.log'); return p.scrollHeight - p.scrollTop - p.clientHeight })()";
    browser.until("the end is in sight", &format!("{below} < 40"));
    assert_eq!(browser.texts("pre.log")[0].matches("line 200 of many").count(), 1, "nothing comes twice");

    // Who has scrolled up is left there.
    browser.script("document.querySelector('pre.log').scrollTop = 0");
    browser.until("no following", "!document.getElementById('follow').checked");
    say("news\n");
    browser.until("it is told", "/ to .* of /.test(document.querySelector('.logged .hint').textContent)");
    browser.click("#follow");
    browser.sees("pre.log", "news");
    browser.until("the end is in sight", &format!("{below} < 40"));

    // More at a time than one answer has is followed all the same.
    say(&(0..60_000).map(|i| format!("line {i} of very many\n")).collect::<String>());
    browser.sees("pre.log", "line 59999 of very many");
    browser.until("the end is in sight", &format!("{below} < 40"));
    assert_eq!(browser.script("return document.getElementById('follow').checked"), true);

    say("end\n");
    assert!(run.wait().unwrap().success());
    browser.until("it has ended", "!document.querySelector('.status').textContent.includes('running')");
    assert!(browser.complaints().is_empty(), "{:?}", browser.complaints());
}

#[test]
fn of_a_long_one_only_parts_are_read() {
    let Some(browser) = Browser::start() else { return };
    let study = Study::new(
        "name: long\nstages:\n  long:\n    shell: |\n      seq -f 'line %.0f of a log that is long' 1 300000\n      echo > ${outputs.x}\n    outputs: [x]\n",
    );
    study.run(&[]);
    let server = Server::of(&study);
    server.open(&browser, "#/step/long");
    browser.sees("pre.log", "line 300000 of a log");
    let held =
        || browser.script("return document.querySelector('pre.log').textContent.length").as_u64().unwrap();
    assert!(held() < 300_000, "{}", held());
    // Upwards more comes, and what is read does not move.
    let first = "document.querySelector('pre.log').textContent.slice(0, 60)";
    let before = browser.script(&format!("return {first}"));
    browser.script("document.querySelector('pre.log').scrollTop = 0");
    browser.until("earlier lines", &format!("{first} !== {before}"));
    // To the beginning, by the keys.
    browser.types("input[type=range][aria-label='Position in the log']", "\u{e011}");
    browser.sees("pre.log", "line 1 of a log");
    assert!(held() < 2_000_000, "{}", held());
    assert!(browser.texts("pre.log")[0].starts_with("line 1 of a log that is long\nline 2 of"));
}
