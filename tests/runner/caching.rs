//! What runs, what is cached, what is restored.

use crate::study::{GEN, Study, TOY, said, stderr};
use std::fs;

#[test]
fn a_second_run_runs_nothing() {
    let study = Study::new(TOY);
    assert_eq!(study.run(&[]), ["gen", "count", "score"]);
    assert_eq!(study.read("out/score/scores.json"), "{\"n\": 3, \"weight\": 0.5}\n");
    let again = study.call(&["run"]);
    assert!(again.status.success());
    let text = String::from_utf8(again.stdout).unwrap();
    assert_eq!(text.matches("cached").count(), 3, "{text}");
    assert!(text.ends_with("score.scores\n  n       3\n  weight  0.5000\n"), "{text}");
    assert_eq!(study.read("ran").lines().count(), 3);
}

#[test]
fn a_changed_parameter_runs_only_what_is_downstream() {
    let study = Study::new(TOY);
    study.run(&[]);
    assert_eq!(study.run(&["--set", "score.weight=0.7"]), ["score"]);
    assert_eq!(study.read("out/score/scores.json"), "{\"n\": 3, \"weight\": 0.7}\n");
}

#[test]
fn putting_a_parameter_back_restores_without_running() {
    let study = Study::new(TOY);
    study.run(&[]);
    study.run(&["--set", "score.weight=0.7"]);
    assert!(study.run(&[]).is_empty());
    assert_eq!(study.read("out/score/scores.json"), "{\"n\": 3, \"weight\": 0.5}\n");
}

#[test]
fn the_same_bytes_stop_the_change() {
    let study = Study::new(TOY);
    study.run(&[]);
    assert_eq!(study.run(&["--set", "gen.size=9"]), ["gen", "count"]);
}

#[test]
fn tuning_and_ways_of_writing_change_nothing() {
    let study = Study::new(&TOY.replace("{size: 5}", "{size: 5, rate: 1e-4}"));
    study.run(&[]);
    for set in ["gen.workers=7", "gen.rate=0.0001", "gen.size=05"] {
        assert!(study.run(&["--set", set]).is_empty(), "{set}");
    }
    study.write("pipeline.yaml", &TOY.replace("params: {size: 5}", "params: {rate: 0.00010, size: 5}"));
    assert!(study.run(&[]).is_empty());
}

#[test]
fn a_default_written_out_is_the_default() {
    let study = Study::new(&TOY.replace("    params: {size: 5}\n", ""));
    study.run(&[]);
    assert!(study.run(&["--set", "gen.size=3"]).is_empty());
}

#[test]
fn a_changed_program_runs_again_and_says_why() {
    let study = Study::new(TOY);
    study.run(&[]);
    study.program("gen", &GEN.replace("echo file", "echo File"));
    let why = String::from_utf8(study.call(&["why", "gen"]).stdout).unwrap();
    assert_eq!(why, "gen\n  program `./gen` changed\n");
    assert_eq!(study.run(&[]), ["gen", "count"]);
}

#[test]
fn with_replaces_a_stage() {
    let study = Study::new(TOY);
    study.write("mine", "7\n");
    assert_eq!(study.run(&["--with", "count.n=mine"]), ["score"]);
    assert_eq!(study.read("out/score/scores.json"), "{\"n\": 7, \"weight\": 0.5}\n");
    assert!(!study.exists("out/gen"));
    let all = study.call(&["plan", "--with", "count.n=mine"]);
    assert!(!said(&all).contains("gen"), "{}", said(&all));
    assert_eq!(study.run(&[]), ["gen", "count", "score"]);
}

#[test]
fn with_says_which_other_output_is_missing() {
    let yaml = "name: two
stages:
  a:
    command: sh -c 'echo x > $1; echo y > $2' -- ${outputs.x} ${outputs.y}
    outputs: [x, y]
  b:
    command: sh -c 'cat $1 $2 > $3' -- ${inputs.x} ${inputs.y} ${outputs.z}
    inputs: {x: a.x, y: a.y}
    outputs: [z]
";
    let study = Study::new(yaml);
    study.write("mine", "mine\n");
    let refused = study.call(&["run", "--with", "a.x=mine"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(
        stderr(&refused).contains("b also reads a.y, which was never made; add --with a.y=PATH"),
        "{}",
        stderr(&refused)
    );
    study.run(&[]);
    study.run(&["--with", "a.x=mine"]);
    assert_eq!(study.read("out/b/z"), "mine\ny\n");
}

#[test]
fn force_runs_a_cached_stage() {
    let study = Study::new(TOY);
    study.run(&[]);
    assert_eq!(study.run(&["--force", "count"]), ["count"]);
}

#[test]
fn only_what_is_asked_for_runs() {
    let study = Study::new(TOY);
    assert_eq!(study.run(&["count"]), ["gen", "count"]);
}

#[test]
fn a_plan_gives_states_and_reasons() {
    let study = Study::new(TOY);
    let plan = || String::from_utf8(study.call(&["plan", "--set", "gen.size=2"]).stdout).unwrap();
    assert_eq!(
        plan(),
        "gen    to run     it never ran\ncount  waiting    on gen\nscore  waiting    on count\n"
    );
    study.run(&[]);
    let json = study.call(&["plan", "--json", "--set", "gen.size=2"]).stdout;
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(json[0]["state"], "to-run");
    assert_eq!(json[0]["reasons"][0], "`size` 5 → 2");
    assert_eq!(json[1]["on"][0], "gen");
    assert!(!study.read("ran").is_empty());
}

#[test]
fn an_input_edit_with_its_mtime_put_back_is_seen() {
    let yaml = "name: copy
stages:
  a:
    command: sh -c 'echo a >> ran; cp $1 $2' -- ${inputs.x} ${outputs.y}
    inputs: {x: x}
    outputs: [y]
";
    let study = Study::new(yaml);
    study.write("x", "aaaa");
    let past = std::time::SystemTime::now() - std::time::Duration::from_secs(1000);
    let back = || {
        let file = fs::File::options().write(true).open(study.path("x")).unwrap();
        file.set_times(fs::FileTimes::new().set_modified(past)).unwrap();
    };
    back();
    assert_eq!(study.run(&[]), ["a"]);
    assert!(study.run(&[]).is_empty());
    study.write("x", "bbbb");
    back();
    assert_eq!(study.run(&[]), ["a"]);
    assert_eq!(study.read("out/a/y"), "bbbb");
}

#[test]
fn a_script_that_a_command_names_is_an_input() {
    let yaml = "name: script
stages:
  a:
    command: sh script.sh ${outputs.y}
    outputs: [y]
";
    let study = Study::new(yaml);
    study.write("script.sh", "echo a >> ran; echo 1 > $1");
    assert_eq!(study.run(&[]), ["a"]);
    assert!(study.run(&[]).is_empty());
    study.write("script.sh", "echo a >> ran; echo 2 > $1");
    assert_eq!(study.run(&[]), ["a"]);
    assert_eq!(study.read("out/a/y"), "2\n");
}

#[test]
fn the_build_runs_when_its_sources_change() {
    let yaml = TOY.replace("run: ./gen", "run: gen").replace(
        "stages:\n",
        "build:\n  command: sh make.sh\n  sources: [make.sh, src]\n  programs: bin\nstages:\n",
    );
    let study = Study::new(&yaml);
    study.write("src/gen", GEN);
    study.write("make.sh", "echo build >> ran; mkdir -p bin; cp src/gen bin/gen; chmod +x bin/gen");
    let plan = String::from_utf8(study.call(&["plan"]).stdout).unwrap();
    assert!(plan.starts_with("build  to run     it never ran\ngen    waiting    on build\n"), "{plan}");
    assert_eq!(study.run(&[]), ["build", "gen", "count", "score"]);
    assert!(study.run(&[]).is_empty());
    study.write("src/gen", &GEN.replace("size=3", "size=4"));
    assert_eq!(study.run(&[]), ["build", "gen"]);
    fs::remove_file(study.path("bin/gen")).unwrap();
    assert_eq!(study.run(&[]), ["build"]);
    study.write("make.sh", "echo compiling; echo broken >&2; exit 3");
    let failed = study.call(&["run"]);
    assert_eq!(failed.status.code(), Some(1));
    assert!(
        stderr(&failed).contains("  | broken\n") && stderr(&failed).contains("build.log"),
        "{}",
        stderr(&failed)
    );
}

#[test]
fn lineage_names_everything_upstream() {
    let yaml = TOY
        .replace("inputs: {n: count.n}", "inputs: {n: count.n, from: pipeline.lineage}")
        .replace("${outputs.scores}\n", "${outputs.scores} ${inputs.from}\n");
    let study = Study::new(
        &yaml.replace("weight\\\": $2", "stages\\\": $(grep -c program_digest $4), \\\"weight\\\": $2"),
    );
    study.run(&[]);
    assert_eq!(study.read("out/score/scores.json"), "{\"n\": 3, \"stages\": 2, \"weight\": 0.5}\n");
    assert_eq!(study.run(&["--set", "gen.size=9"]), ["gen", "count", "score"]);
}

#[test]
fn gc_keeps_what_is_newest_and_drops_the_rest() {
    let study = Study::new(TOY);
    study.run(&[]);
    study.run(&["--set", "gen.size=9", "--set", "score.weight=2"]);
    study.run(&[]);
    let dry = said(&study.call(&["gc", "--max-size", "0", "--grace", "0s", "--dry-run"]));
    assert!(dry.starts_with("would remove"), "{dry}");
    // Within the limits nothing that a parameter put back would find is dropped.
    assert!(study.call(&["gc"]).status.success());
    assert!(study.run(&["--set", "gen.size=9", "--set", "score.weight=2"]).is_empty());
    study.run(&[]);
    assert!(study.call(&["gc", "--max-size", "0", "--grace", "0s"]).status.success());
    assert!(study.run(&[]).is_empty());
    assert_eq!(study.run(&["--set", "gen.size=9", "--set", "score.weight=2"]), ["gen", "count", "score"]);
}

#[test]
fn a_graph_is_drawn() {
    let study = Study::new(TOY);
    let text = String::from_utf8(study.call(&["graph"]).stdout).unwrap();
    assert!(text.starts_with("flowchart LR\n") && text.contains("gen -->|files| count"), "{text}");
    let text = String::from_utf8(study.call(&["graph", "--format", "dot"]).stdout).unwrap();
    assert!(text.contains("\"count\" -> \"score\" [label=\"n\"];"), "{text}");
}

#[test]
fn a_thousand_stages_are_planned() {
    let mut yaml =
        "name: long\nstages:\n  s0:\n    command: sh -c 'echo 0 > $1' -- ${outputs.n}\n    outputs: [n]\n"
            .to_string();
    for i in 1..1000 {
        yaml += &format!(
            "  s{i}:\n    command: cp ${{inputs.n}} ${{outputs.n}}\n    inputs: {{n: s{}.n}}\n    outputs: [n]\n",
            i - 1
        );
    }
    let study = Study::new(&yaml);
    let plan = String::from_utf8(study.call(&["plan"]).stdout).unwrap();
    assert_eq!(plan.lines().count(), 1000);
    assert!(plan.lines().last().unwrap().ends_with("on s998"));
}

#[test]
fn a_locked_run_fails_on_any_difference() {
    let study = Study::new(TOY);
    let early = study.call(&["lock"]);
    assert_eq!(
        (early.status.code(), stderr(&early)),
        (Some(2), "error: gen is not done; `pipeline run` first\n".into())
    );
    study.run(&[]);
    assert!(study.call(&["lock"]).status.success());
    assert!(study.call(&["run", "--locked"]).status.success());
    let other = study.call(&["run", "--locked", "--set", "gen.size=2"]);
    assert_eq!(other.status.code(), Some(1));
    let text = stderr(&other);
    assert!(
        text.ends_with("error: not what pipeline.lock says: gen.files, count.n, score.scores\n"),
        "{text}"
    );
    // Whether there is a lock file at all is known before anything runs.
    fs::rename(study.path("pipeline.lock"), study.path("kept")).unwrap();
    assert_eq!(study.run(&[]), [""; 0]);
    let none = study.call(&["run", "--locked", "--force", "*"]);
    assert_eq!(none.status.code(), Some(2), "{}", stderr(&none));
    assert!(!said(&none).contains("ran"), "{}", said(&none));
    fs::rename(study.path("kept"), study.path("pipeline.lock")).unwrap();
    let all = said(&study.call(&["run", "--locked", "--force", "*"]));
    assert_eq!(all.lines().filter(|line| line.contains(" ran ")).count(), 3, "{all}");
    // One that says more than this runner knows is not taken for less.
    let newer =
        fs::read_to_string(study.path("pipeline.lock")).unwrap().replace("\"version\": 1", "\"version\": 2");
    fs::write(study.path("pipeline.lock"), newer).unwrap();
    let other = study.call(&["run", "--locked"]);
    assert_eq!(other.status.code(), Some(2), "{}", stderr(&other));
    assert!(
        stderr(&other).contains(
            "pipeline.lock is of version 2, and this runner knows 1; make it anew by `pipeline lock`"
        )
    );
}

#[test]
fn the_first_study_of_a_newcomer_runs() {
    let study = Study::new("");
    fs::remove_file(study.path("pipeline.yaml")).unwrap();
    assert!(study.call(&["init"]).status.success());
    let run = study.call(&["run"]);
    assert!(run.status.success(), "{}", said(&run));
    assert!(said(&run).contains("sum.result\n  sum  55\n"), "{}", said(&run));
    let again = study.call(&["init"]);
    assert_eq!(
        (again.status.code(), stderr(&again)),
        (Some(2), "error: pipeline.yaml is there already\n".into())
    );
}

#[test]
fn completions_and_the_manual_are_printed() {
    let study = Study::new(TOY);
    assert!(said(&study.call(&["completions", "bash"])).contains("_pipeline"));
    assert!(said(&study.call(&["man"])).contains(".TH pipeline"));
}

#[test]
fn what_is_shown_is_shown_or_said_to_be_none() {
    let study = Study::new(
        r#"name: shown
stages:
  train:
    command: sh -c 'printf "%s" "$2" > "$1"' -- ${outputs.scores} ${params.scores}
    params: {scores: '{"acc": 0.9, "loss": NaN}'}
    outputs: {scores: scores.json}
    show: [scores]
"#,
    );
    let run = study.call(&["run"]);
    assert!(said(&run).contains("train.scores\n  acc   0.9000\n  loss  NaN\n"), "{}", said(&run));
    let table = said(&study.call(&["table", "--columns", "acc"]));
    assert!(table.contains("0.9"), "{table}");
    for scores in ["{", "3", "a,b"] {
        let run = study.call(&["run", "--set", &format!("train.scores={scores}")]);
        assert!(run.status.success());
        assert!(
            stderr(&run).contains("warning: train.scores is shown, and is no JSON object: "),
            "{scores}: {}",
            said(&run)
        );
    }
}

#[test]
fn a_log_that_is_empty_gives_what_was_reported() {
    let study = Study::new(
        r#"name: logs
stages:
  talk:
    command: sh -c 'echo "{\"event\":\"message\",\"text\":\"four of ten\"}" > $PIPELINE_EVENTS; echo > $1' -- ${outputs.out}
    outputs: [out]
  quiet:
    command: sh -c 'echo > $1' -- ${outputs.out}
    outputs: [out]
"#,
    );
    study.run(&[]);
    assert_eq!(String::from_utf8_lossy(&study.call(&["log", "talk"]).stdout), "four of ten\n");
    let quiet = study.call(&["log", "quiet"]);
    assert!(quiet.stdout.is_empty() && stderr(&quiet).ends_with("it wrote nothing\n"), "{}", said(&quiet));
}
