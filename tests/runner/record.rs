//! What is written down of a run, kept and shown: names, commit, machine, attempts, and what a study is told at the end.

use crate::study::{Study, TOY, said, stderr};
use serde_json::Value;
use std::process::Command;

fn json(study: &Study, arguments: &[&str]) -> Value {
    let output = study.call(arguments);
    assert!(output.status.success(), "{}", said(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn git(study: &Study, arguments: &[&str]) -> String {
    let name = ["-c", "user.name=n", "-c", "user.email=n@n"];
    let output =
        Command::new("git").current_dir(study.dir.path()).args(name).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    String::from_utf8(output.stdout).unwrap().trim().to_string()
}

#[test]
fn a_run_is_found_by_its_name_with_all_that_is_known_of_it() {
    let study = Study::new(TOY);
    git(&study, &["init", "-q"]);
    git(&study, &["add", "pipeline.yaml"]);
    git(&study, &["commit", "-qm", "first"]);
    let commit = git(&study, &["rev-parse", "HEAD"]);
    study.run(&["--name", "first", "--note", "all as it was"]);
    study.write("pipeline.yaml", &TOY.replace("size: 5", "size: 6"));
    study.run(&["--set", "score.weight=2"]);
    // What is cached is no run to tell of, unless it has a name.
    study.run(&["--set", "score.weight=2"]);
    study.run(&["--set", "score.weight=2", "--name", "again"]);
    let runs = json(&study, &["runs", "--json"]);
    let runs = runs.as_array().unwrap();
    assert_eq!(runs.len(), 3);
    let first = &runs[0];
    assert_eq!((&first["name"], &first["note"]), (&"first".into(), &"all as it was".into()));
    assert_eq!((&first["commit"], &first["changed"]), (&Value::from(commit.clone()), &Value::Null));
    assert_eq!((&runs[1]["commit"], &runs[1]["changed"]), (&Value::from(commit.clone()), &Value::Bool(true)));
    assert_eq!(runs[1]["asked"]["set"][0], "score.weight=2");
    let machine = &first["machine"];
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    assert_eq!(machine["host"], host.trim());
    assert!(
        machine["cpus"].as_u64().unwrap() > 0 && machine["memory"].as_u64().unwrap() > 1 << 20,
        "{machine}"
    );
    assert!(machine["kernel"].as_str().unwrap().starts_with("Linux "), "{machine}");
    assert_eq!(first["runner"], env!("CARGO_PKG_VERSION"));
    let attempts = first["attempts"].as_array().unwrap();
    assert_eq!(
        attempts.iter().map(|a| a["task"].as_str().unwrap()).collect::<Vec<_>>(),
        ["gen", "count", "score"]
    );
    for attempt in attempts {
        assert_eq!((&attempt["exit"], &attempt["attempt"]), (&0.into(), &1.into()), "{attempt}");
        // A shell takes some hundred kilobytes, and not gigabytes.
        let peak = attempt["peak_memory"].as_u64().unwrap();
        assert!((1 << 17..1 << 30).contains(&peak), "{attempt}");
        assert_eq!((&attempt["engine"], &attempt["host"]), (&"local".into(), &host.trim().into()));
    }
    let last = first["stages"].as_array().unwrap().last().unwrap();
    assert_eq!((&last["params"]["weight"], &last["metrics"]["n"]), (&"0.5".into(), &3.into()));
    // For people: one line each, and one of them in full.
    let text = String::from_utf8(study.call(&["runs"]).stdout).unwrap();
    let line = text.lines().nth(1).unwrap();
    for part in ["first", "done", "3 ran", &commit[..8], "all as it was"] {
        assert!(line.contains(part), "{text}");
    }
    assert!(text.lines().nth(2).unwrap().contains(&format!("{}+", &commit[..8])), "{text}");
    assert!(text.lines().nth(3).unwrap().contains("3 cached"), "{text}");
    let full = said(&study.call(&["runs", "first"]));
    for part in [commit.as_str(), "all as it was", "exit 0", "it never ran"] {
        assert!(full.contains(part), "{full}");
    }
    let wrong = study.call(&["runs", "frist"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(stderr(&wrong).contains("there is no run `frist`; did you mean `first`?"), "{}", stderr(&wrong));
    let wrong = study.call(&["run", "--name", "2026"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(stderr(&wrong).contains("a name begins with a letter"), "{}", stderr(&wrong));
}

#[test]
fn every_attempt_has_its_end() {
    let study = Study::new(
        "name: tries
stages:
  s:
    command: sh -c 'echo x >> tries; case $(wc -l < tries) in 1) exit 75;; 2) kill -9 $$;; esac; echo > $1' -- ${outputs.o}
    outputs: [o]
    retries: 3
  t: {command: \"sh -c 'exit 4' -- ${outputs.o}\", outputs: [o]}
",
    );
    assert_eq!(study.call(&["run", "--keep-going", "--jobs", "1"]).status.code(), Some(1));
    let runs = json(&study, &["runs", "--json"]);
    let of = |task: &str| -> Vec<Value> {
        let all = runs[0]["attempts"].as_array().unwrap().iter();
        all.filter(|a| a["task"] == task).cloned().collect()
    };
    let ends: Vec<_> = of("s")
        .iter()
        .map(|a| (a["attempt"].clone(), a["exit"].clone(), a["failure"]["kind"].clone()))
        .collect();
    assert_eq!(
        ends,
        [
            (1.into(), 75.into(), "try-again".into()),
            (2.into(), Value::Null, "signal".into()),
            (3.into(), 0.into(), Value::Null)
        ]
    );
    assert_eq!((&of("t")[0]["exit"], &of("t")[0]["failure"]["kind"]), (&4.into(), &"exit".into()));
    assert!(said(&study.call(&["runs"])).contains("1 ran, 1 failed"), "{}", said(&study.call(&["runs"])));
}

#[test]
fn where_a_result_was_made_travels_with_it() {
    let study = Study::new(TOY);
    study.run(&["--name", "first"]);
    assert!(study.call(&["export", "first", "a.tar.zst"]).status.success());
    let other = Study::new(TOY);
    std::fs::copy(study.path("a.tar.zst"), other.path("a.tar.zst")).unwrap();
    assert!(other.call(&["import", "a.tar.zst"]).status.success());
    assert_eq!(json(&other, &["runs", "--json"]), json(&study, &["runs", "--json"]));
    assert_eq!(json(&other, &["runs", "first", "--json"])["attempts"].as_array().unwrap().len(), 3);
    // The archive of a study has no run, but its results know.
    assert!(study.call(&["export", "toy", "b.tar.zst"]).status.success());
    let third = Study::new(TOY);
    std::fs::copy(study.path("b.tar.zst"), third.path("b.tar.zst")).unwrap();
    assert!(third.call(&["import", "b.tar.zst"]).status.success());
    let ran = |study: &Study| {
        let find = Command::new("grep")
            .args(["-rho", "\"ran\":{.*", ".pipeline/results"])
            .current_dir(study.dir.path())
            .output();
        let text = String::from_utf8(find.unwrap().stdout).unwrap();
        let mut lines: Vec<String> = text.lines().map(String::from).collect();
        lines.sort();
        lines
    };
    assert_eq!(ran(&third).len(), 3);
    assert_eq!(ran(&third), ran(&study));
    assert!(ran(&third)[0].contains("\"peak_memory\":"), "{:?}", ran(&third));
}

#[test]
fn the_lineage_says_when_and_where() {
    let yaml = TOY
        .replace("inputs: {n: count.n}", "inputs: {n: count.n, from: pipeline.lineage}")
        .replace(
            "${inputs.n} ${params.weight} ${outputs.scores}",
            "${inputs.n} ${params.weight} ${outputs.scores} ${inputs.from}",
        )
        .replace("> \"$3\"'", "> \"$3\"; cp $4 lineage'");
    let study = Study::new(&yaml);
    study.write("sub/own.yaml", "extends: ../pipeline.yaml\nroot: ..\nprofiles: {p: {}}\n");
    let own = ["--file", "sub/own.yaml", "--profile", "p", "--set", "gen.size=4", "--set", "score.weight=1"];
    study.run(&own);
    let lineage: Value = serde_json::from_str(&study.read("lineage")).unwrap();
    let said = &lineage["study"];
    assert_eq!(
        *said,
        serde_json::json!({"name": "toy", "file": "sub/own.yaml", "profile": "p", "set": ["gen.size=4", "score.weight=1"]})
    );
    let [generated, count] = lineage["stages"].as_array().unwrap().as_slice() else { panic!("{lineage}") };
    let ran = &generated["ran"];
    assert!(ran["finished"].as_u64().unwrap() > 1_700_000_000 && ran["seconds"].is_number(), "{ran}");
    for name in ["host", "processor", "cpus", "memory", "engine", "peak_memory"] {
        assert!(!ran[name].is_null(), "{name}: {ran}");
    }
    assert_eq!(count["sources"]["files"]["output"], "gen.files");
    assert_eq!(count["command"][0], "sh");
    assert!(generated["command"].is_null());
    // It is the same the next time, and whatever else is selected.
    assert!(study.run(&own).is_empty());
}

#[test]
fn the_study_is_told_at_the_end() {
    let study = Study::new(&format!(
        "on-end: sh -c 'cat > told; echo told-them; [ ! -e bad ]'\n{}",
        TOY.replace("echo score >> ran;", "echo score >> ran; [ ! -e fail ] || exit 3;")
    ));
    let output = study.call(&["run", "--json"]);
    assert!(output.status.success(), "{}", said(&output));
    let told: Value = serde_json::from_str(&study.read("told")).unwrap();
    assert_eq!(told["stages"].as_array().unwrap().len(), 3);
    // What it says does not disturb what the run prints.
    assert_eq!(serde_json::from_slice::<Value>(&output.stdout).unwrap()["run"], told["run"]);
    assert!(stderr(&output).contains("told-them"), "{}", stderr(&output));
    std::fs::remove_file(study.path("told")).unwrap();
    study.run(&[]);
    assert!(!study.exists("told"), "nothing was run");
    study.write("fail", "");
    study.write("bad", "");
    let failed = study.call(&["run", "--set", "score.weight=7"]);
    assert_eq!(failed.status.code(), Some(1));
    let told: Value = serde_json::from_str(&study.read("told")).unwrap();
    assert_eq!(told["attempts"][0]["exit"], 3);
    assert!(stderr(&failed).contains("warning: on-end: sh ended with exit status: 1"), "{}", stderr(&failed));
    std::fs::remove_file(study.path("fail")).unwrap();
    study.write("pipeline.yaml", &format!("on-end: no-such-program\n{TOY}"));
    let output = study.call(&["run", "--set", "score.weight=8"]);
    assert!(
        output.status.success() && stderr(&output).contains("warning: on-end: calling no-such-program"),
        "{}",
        said(&output)
    );
    study.write("pipeline.yaml", &format!("on-end: mail me && beep\n{TOY}"));
    assert_eq!(study.call(&["check"]).status.code(), Some(2));
    study.write("pipeline.yaml", &format!("on-end: mail ${{outputs.x}}\n{TOY}"));
    let told = stderr(&study.call(&["check"]));
    assert!(told.contains("`on-end` has no inputs, parameters or outputs to fill in"), "{told}");
}

#[test]
fn what_a_program_says_that_it_ran_with_is_in_every_record() {
    let facts = r#"{\"event\":\"facts\",\"values\":{\"device\":\"cuda:0\",\"libtorch\":\"2.9\",\"host\":\"forged\",\"key\":\"https://u:secret@h/\"}}"#;
    let one = format!("sh -c 'echo \"{facts}\" >> $PIPELINE_EVENTS; echo x > $1' -- ${{outputs.x}}");
    let two = "sh -c 'cp $1 $3; true $2' -- ${inputs.lineage} ${inputs.x} ${outputs.l}";
    let two = format!("{two}\n    inputs: {{x: one.x, lineage: pipeline.lineage}}\n    outputs: [l]");
    let study = Study::new(&format!(
        "name: facts\nstages:\n  one:\n    command: {one}\n    outputs: [x]\n  two:\n    command: {two}\n"
    ));
    study.run(&[]);
    let runs = json(&study, &["runs", "--json"]);
    let row = &runs[0]["stages"][0];
    assert_eq!(
        row["reported"],
        serde_json::json!({"device": "cuda:0", "key": "https://***@h/", "libtorch": "2.9"})
    );
    let run = runs[0]["run"].as_str().unwrap();
    let shown = said(&study.call(&["runs", run]));
    assert!(shown.contains("device cuda:0, key https://***@h/, libtorch 2.9"), "{shown}");
    let why = said(&study.call(&["why", "one"]));
    assert!(why.contains(" with device cuda:0, "), "{why}");
    let lineage: Value = serde_json::from_str(&study.read("out/two/l")).unwrap();
    let ran = &lineage["stages"][0]["ran"];
    assert_eq!((&ran["device"], &ran["libtorch"]), (&"cuda:0".into(), &"2.9".into()));
    assert_ne!(ran["host"], "forged");
}
