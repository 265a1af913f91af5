//! `seeds`: every variant several times.

use crate::study::{Study, said, stderr};

const SEEDED: &str = r#"name: seeded
seeds: 3
variants:
  a: {stages: {train: {params: {width: 1}}}}
  b: {stages: {train: {params: {width: 2}}}}
stages:
  train:
    command: sh -c 'echo $1 $2 >> ran; echo $1 $2 > $3' -- ${params.width} ${params.seed} ${outputs.score}
    params: {width: 0, seed: "${vars.seed}"}
    outputs: [score]
"#;

#[test]
fn every_variant_runs_once_for_each_seed() {
    let study = Study::new(SEEDED);
    let mut ran = study.run(&["--variant", "*"]);
    ran.sort();
    assert_eq!(ran, ["1 0", "1 1", "1 2", "2 0", "2 1", "2 2"]);
    assert_eq!(study.read("out/b-seed-2/train/score"), "2 2\n");
    // The study as it stands has the first of them.
    assert_eq!(study.run(&[]), ["0 0"]);
    // A variant's name stands for all of its seeds, and each has a name.
    study.write("pipeline.yaml", &SEEDED.replace("seeds: 3", "seeds: [4, 7]"));
    assert_eq!(study.run(&["--variant", "a-seed-7"]), ["1 7"]);
    assert_eq!(study.run(&["--variant", "a"]), ["1 4"]);
    // Without variants the study itself is the one.
    let variants = &SEEDED[SEEDED.find("variants:").unwrap()..SEEDED.find("stages:\n  train").unwrap()];
    study.write("pipeline.yaml", &SEEDED.replace(variants, ""));
    study.run(&["--variant", "*"]);
    assert_eq!(study.read("out/seeded-seed-2/train/score"), "0 2\n");
}

#[test]
fn a_profile_or_a_study_above_may_say_how_many() {
    let study = Study::new(&SEEDED.replace("seeds: 3\n", "vars: {seed: 9}\nprofiles: {twice: {seeds: 2}}\n"));
    assert_eq!(study.run(&["--variant", "a"]), ["1 9"]);
    let mut ran = study.run(&["--profile", "twice", "--variant", "a"]);
    ran.sort();
    assert_eq!(ran, ["1 0", "1 1"]);
    study.write("more.yaml", "extends: pipeline.yaml\nname: more\nout: more\nseeds: [9, 1]\n");
    // What the other study has trained is not trained again.
    assert!(study.run(&["--file", "more.yaml", "--variant", "a"]).is_empty());
    assert_eq!(study.read("more/a-seed-9/train/score"), "1 9\n");
}

#[test]
fn a_matrix_over_seeds_has_the_same_names() {
    let yaml = SEEDED.replace("seeds: 3\n", "vars: {seed: 0}\n");
    let variants = &yaml[yaml.find("variants:").unwrap()..yaml.find("stages:\n  train").unwrap()];
    let study = Study::new(&yaml.replace(variants, "matrix: {vars.seed: [1, 2], train.width: [5, 6]}\n"));
    study.run(&["--variant", "*"]);
    assert_eq!(study.read("out/6-seed-2/train/score"), "6 2\n");
    study.write("pipeline.yaml", &yaml.replace(variants, "matrix: {train.seed: [1, 2]}\n"));
    study.run(&["--variant", "*"]);
    assert_eq!(study.read("out/seeded-seed-1/train/score"), "0 1\n");
}

#[test]
fn mistakes_have_their_lines() {
    let cases = [
        (
            "seeds: 3",
            "seeds: 0",
            "pipeline.yaml:2: `seeds` is how many, from 1 to 1,000, or a list of whole numbers",
        ),
        (
            "seeds: 3",
            "seeds: [1, x]",
            "pipeline.yaml:2: `seeds` is how many, from 1 to 1,000, or a list of whole numbers",
        ),
        ("seeds: 3", "seeds: [1, 1]", "pipeline.yaml:2: `seeds` has 1 twice"),
        (
            "\"${vars.seed}\"",
            "3",
            "pipeline.yaml:2: `seeds` gives every variant a value of `${vars.seed}`, which nothing names; e.g. `params: {seed: \
             ${vars.seed}}`",
        ),
        (
            "seeds: 3",
            "seeds: 3\nmatrix: {vars.seed: [1]}",
            "pipeline.yaml:2: `seeds` and a matrix over `vars.seed` are two ways for one thing; keep one",
        ),
    ];
    for (old, new, text) in cases {
        let study = Study::new(&SEEDED.replacen(old, new, 1));
        let output = study.call(&["run", "--variant", "*"]);
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        assert_eq!(stderr(&output), format!("error: {text}\n"));
    }
    let study = Study::new(SEEDED);
    let output = study.call(&["run", "--variant", "*", "--set", "vars.seed=5"]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(
        stderr(&output),
        "error: --set vars.seed=5: the study has `seeds`, which decide this; select one with --variant NAME-seed-N\n"
    );
}
