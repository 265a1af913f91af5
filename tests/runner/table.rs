//! `pipeline table`: variants and past runs beside each other.

use crate::study::{Study, said, stderr};
use serde_json::{Value, json};

/// Scores that depend on the parameters; `page` is after what is measured.
const NETS: &str = r#"name: nets
vars: {seed: 0}
variants:
  dit: {stages: {train: {params: {model: dit_s}}}}
  wide: {stages: {train: {params: {model: dit_s, width: 20}}}}
  switch: {stages: {train: {params: {model: switch}}}}
stages:
  train:
    command: sh -c 'echo train $1 $2 >> ran; echo $2 $3 > $4' -- ${params.model} ${params.width} ${params.seed} ${outputs.net}
    params: {model: none, width: 3, seed: "${vars.seed}"}
    outputs: [net]
  score:
    command: sh -c 'read w s < $1; [ ! -e fail$w ] || exit 1; echo "{\"fid\":$((w + s)).125,\"steps\":$2,\"of\":\"x\"}" > $3' -- ${inputs.net} ${params.steps} ${outputs.scores}
    inputs: {net: train.net}
    params: {steps: 10}
    outputs: {scores: scores.json}
    show: [scores]
  page:
    command: sh -c 'cat $1 > $3; true $2' -- ${inputs.scores} ${params.title} ${outputs.page}
    inputs: {scores: score.scores}
    params: {title: none}
    outputs: [page]
"#;

fn nets() -> Study {
    let yaml = NETS.replace("{model: switch}", "{model: switch, width: 7}").replace(
        "dit: {stages: {train: {params: {model: dit_s}}}}",
        "dit: {stages: {train: {params: {model: dit_s}}, page: {params: {title: DiT}}}}",
    );
    Study::new(&yaml)
}

fn table(study: &Study, arguments: &[&str]) -> String {
    let output = study.call(&[&["table"], arguments].concat());
    assert!(output.status.success(), "{}", said(&output));
    String::from_utf8(output.stdout).unwrap()
}

const TABLE: &str = "variant  model   width    fid  steps
dit      dit_s       3   3.125     10
wide     dit_s      20  20.125     10
switch   switch      7   7.125     10
";

#[test]
fn a_run_of_several_variants_ends_with_their_table() {
    let study = nets();
    let output = study.call(&["run", "--variant", "*"]);
    let text = String::from_utf8(output.stdout).unwrap();
    let (summary, shown) = text.split_once("\n\n").unwrap();
    assert!(summary.contains("score@wide") && !text.contains("score@wide.scores"), "{text}");
    // The title is of a stage after what is measured, and no parameter that anything depends on.
    let table_text =
        TABLE.replace("   3.125", "  3.12").replace(" 20.125", " 20.12").replace("   7.125", "  7.12");
    let spaced = |text: &str| text.split_whitespace().map(String::from).collect::<Vec<_>>();
    assert_eq!(spaced(shown), spaced(&table_text), "{text}");
    // The same from the store, and of one variant the scores as ever.
    assert_eq!(table(&study, &[]), shown);
    let one = said(&study.call(&["run", "--variant", "wide"]));
    assert!(one.contains("score@wide.scores\n  fid    20.12\n"), "{one}");
}

#[test]
fn rows_are_sorted_and_filtered_and_columns_chosen() {
    let study = nets();
    study.run(&["--variant", "*"]);
    let first = |arguments: &[&str]| -> Vec<String> {
        let text = table(&study, arguments);
        text.lines().skip(1).map(|line| line.split_whitespace().next().unwrap().to_string()).collect()
    };
    assert_eq!(first(&["--sort", "fid"]), ["dit", "switch", "wide"]);
    assert_eq!(first(&["--sort", "-fid"]), ["wide", "switch", "dit"]);
    assert_eq!(first(&["--sort", "model,-width"]), ["wide", "dit", "switch"]);
    assert_eq!(first(&["--filter", "fid<10"]), ["dit", "switch"]);
    assert_eq!(first(&["--filter", "fid>=7.125", "--filter", "model=dit_s"]), ["wide"]);
    assert_eq!(first(&["--filter", "variant~i"]), ["dit", "wide", "switch"]);
    assert_eq!(first(&["--filter", "train.model!=dit_s"]), ["switch"]);
    assert_eq!(
        table(&study, &["--columns", "fid,variant,page.title", "--filter", "width<5"]),
        "  fid  variant  title\n3.125  dit      DiT\n"
    );
    assert_eq!(
        table(&study, &["--csv"]),
        "variant,model,width,fid,steps\ndit,dit_s,3,3.125,10\nwide,dit_s,20,20.125,10\nswitch,switch,7,7.125,10\n"
    );
    assert_eq!(
        table(&study, &["--markdown", "--columns", "variant,model,fid", "--lowest", "fid"]),
        "| variant | model | fid |\n| --- | --- | ---: |\n| dit | dit\\_s | **3.12** |\n| wide | dit\\_s | 20.12 |\n| switch | switch | 7.12 |\n"
    );
    assert_eq!(
        table(&study, &["--latex", "--columns", "model,fid", "--highest", "fid"]),
        "% \\usepackage{booktabs}\n\\begin{tabular}{lr}\n\\toprule\nmodel & fid \\\\\n\\midrule\ndit\\_s & 3.12 \\\\\ndit\\_s & \\textbf{20.12} \\\\\nswitch & 7.12 \\\\\n\\bottomrule\n\\end{tabular}\n"
    );
    let rows: Value = serde_json::from_str(&table(&study, &["--json"])).unwrap();
    assert_eq!(
        rows[1],
        json!({"variant": "wide", "model": "dit_s", "width": 20, "fid": 20.125, "steps": 10})
    );
    for (arguments, text) in [
        (
            &["--sort", "fd"][..],
            "error: the table has no column `fd`, but fid, steps, variant, model, seed, width, score.steps, title, seconds, state; did you mean `fid`?\n",
        ),
        (
            &["--columns", "variant,wdth"],
            "error: the table has no column `wdth`, but fid, steps, variant, model, seed, width, score.steps, title, seconds, state; did you mean `width`?\n",
        ),
        (
            &["--lowest", "accuracy"],
            "error: the table has no column `accuracy`, but fid, steps, variant, model, seed, width, score.steps, title, seconds, state\n",
        ),
        (
            &["--filter", "fid"],
            "error: --filter fid: expected a column, one of < <= > >= = != ~, and a value, as fid<10\n",
        ),
        (
            &["--filter", "fid<ten"],
            "error: --filter fid<ten: expected a column, one of < <= > >= = != ~, and a value, as fid<10\n",
        ),
        (
            &["nests"],
            "error: `nests` is neither the study, nor a study file, nor a run; did you mean `nets`?\n",
        ),
    ] {
        let output = study.call(&[&["table"], arguments].concat());
        assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(2), text));
    }
}

#[test]
fn what_is_not_done_says_so() {
    let study = nets();
    study.run(&["--variant", "dit"]);
    let text = table(&study, &[]);
    let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["variant", "model", "width", "fid", "steps", "state"], "{text}");
    assert_eq!(rows[1], ["dit", "dit_s", "3", "3.125", "10", "done"], "{text}");
    assert_eq!(rows[2], ["wide", "dit_s", "20", "-", "-", "0", "of", "3", "stages"], "{text}");
    study.write("fail20", "");
    assert_eq!(
        study.call(&["run", "--variant", "*", "--keep-going", "--name", "bad"]).status.code(),
        Some(1)
    );
    let text = table(&study, &["bad", "--columns", "variant,state", "--filter", "state!=done"]);
    assert_eq!(text, "variant  state\nwide     failed\n");
}

#[test]
fn past_runs_are_rows_of_their_own() {
    let study = nets();
    study.run(&["--name", "three", "--variant", "dit"]);
    study.run(&["--name", "four", "--variant", "dit", "--set", "train.width=4"]);
    study.run(&["--variant", "*"]);
    // What became of their results does not matter.
    study.call(&["gc", "--grace", "0s", "--max-size", "0"]);
    assert_eq!(
        table(&study, &["four", "three"]),
        "run    variant  width    fid  steps\nfour   dit          4  4.125     10\nthree  dit          3  3.125     10\n"
    );
    let all: Value =
        serde_json::from_str(&table(&study, &["--runs", "--json", "--columns", "run,date,variant,fid"]))
            .unwrap();
    assert_eq!(all.as_array().unwrap().len(), 5);
    assert_eq!((&all[0]["run"], &all[0]["fid"]), (&"three".into(), &3.125.into()));
    assert!(all[0]["date"].as_str().unwrap().starts_with("20"), "{all}");
    // The study beside a run, by its name or its file.
    let text = table(&study, &["three", "nets", "--columns", "run,variant"]);
    assert_eq!(text, "run    variant\nthree  dit\nnets   dit\nnets   wide\nnets   switch\n");
    assert_eq!(table(&study, &["pipeline.yaml"]), table(&study, &[]));
}

#[test]
fn seeds_are_one_row_with_mean_and_deviation() {
    let study = Study::new(&format!("seeds: [0, 1, 5]\n{}", NETS.replace("vars: {seed: 0}\n", "")));
    study.run(&["--variant", "*"]);
    let text = table(&study, &["--variant", "wide", "--variant", "dit"]);
    let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["variant", "width", "seeds", "fid", "steps"], "{text}");
    // The number of steps is the same for all seeds, and whole: it was set, and not measured.
    assert_eq!(rows[2], ["wide", "20", "3", "22.12", "±", "2.65", "10"], "{text}");
    assert_eq!(rows.len(), 3);
    let csv = table(&study, &["--csv", "--filter", "variant=dit"]);
    assert!(
        csv.starts_with("variant,seeds,fid,fid_deviation,steps,steps_deviation\ndit,3,5.125,2.6457"),
        "{csv}"
    );
    assert!(table(&study, &["--latex"]).contains("$\\pm$"));
    let each =
        table(&study, &["--each-seed", "--csv", "--columns", "variant,seed,fid", "--filter", "variant~dit"]);
    assert_eq!(each, "variant,seed,fid\ndit-seed-0,0,3.125\ndit-seed-1,1,4.125\ndit-seed-5,5,8.125\n");
}

/// Scores of the entries of a folder, and of nothing else.
const ENTRIES: &str = r#"name: entries
variants:
  plain: {}
  wide: {stages: {train: {params: {width: 20}}}}
stages:
  train:
    command: sh -c 'mkdir $2 && echo $1 > $2/step-10 && echo 2$1 > $2/step-20' -- ${params.width} ${outputs.nets}
    params: {width: 3}
    outputs: [nets]
  score:
    command: sh -c 'read n < $1; echo "{\"fid\":$n.5}" > $2' -- ${inputs.net} ${outputs.scores}
    each: net
    inputs: {net: train.nets}
    outputs: {scores: scores.json}
    show: [scores]
"#;

#[test]
fn where_only_entries_are_measured_each_is_a_row() {
    let study = Study::new(ENTRIES);
    study.run(&["--variant", "*"]);
    let expected = "variant  entry    width    fid\nplain    step-10      3    3.5\nplain    step-20      3   23.5\n\
                    wide     step-10     20   20.5\nwide     step-20     20  220.5\n";
    assert_eq!(table(&study, &[]), expected);
    let best =
        table(&study, &["--sort", "-fid", "--filter", "entry=step-20", "--columns", "variant,fid", "--csv"]);
    assert_eq!(best, "variant,fid\nwide,220.5\nplain,23.5\n");
    // Where there is also a score of the whole, the rows are those of the variants.
    let whole = "  all:\n    command: sh -c 'echo {\\\"best\\\":1.5} > $2' -- ${inputs.scores} ${outputs.all}\n    \
                 inputs: {scores: score.scores}\n    outputs: {all: all.json}\n    show: [all]\n";
    study.write("pipeline.yaml", &format!("{ENTRIES}{whole}"));
    study.run(&["--variant", "*"]);
    assert_eq!(table(&study, &[]), "variant  width   best\nplain        3  1.500\nwide        20  1.500\n");
}

#[test]
fn a_table_of_nothing_says_so() {
    let study =
        Study::new("name: n\nstages:\n  a:\n    command: cp pipeline.yaml ${outputs.x}\n    outputs: [x]\n");
    study.run(&[]);
    for form in [&[][..], &["--csv"], &["--latex"]] {
        let output = study.call(&[&["table"], form].concat());
        let said = "nothing to show: no output is a JSON object of numbers, and nothing tells rows apart\n";
        assert_eq!((output.stdout.as_slice(), stderr(&output).as_str()), (&b""[..], said));
    }
    assert_eq!(serde_json::from_str::<Value>(&table(&study, &["--json"])).unwrap(), json!([{}]));
}
