//! The key of a stage changes when, and only when, something changes that can change its outputs.

use crate::study::{Study, said};
use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

/// Changes that can change an output, and changes that cannot; a case is a set of them.
const COUNT: [usize; 2] = [13, 14];

/// The next number of a counter-based generator.
fn random(state: &mut u64) -> u64 {
    *state += 1;
    u64::from_le_bytes(blake3::hash(&state.to_le_bytes()).as_bytes()[..8].try_into().unwrap())
}

/// The key of the stage of a study that has these changes.
fn key(matters: u32, neutral: u32) -> String {
    let is = |i: usize| matters >> i & 1 == 1;
    let not = |i: usize| neutral >> i & 1 == 1;
    let pick = |on: bool, a: &'static str, b: &'static str| if on { b } else { a };

    let words = pick(is(0), "${params.p} ${params.w}", "${params.w} ${params.p}");
    let quoted = pick(is(1), "'x y'", "x y");
    let p = pick(is(2), "1", "2");
    let params = if not(1) { format!("{{w: same, p: {p}}}") } else { format!("{{p: {p}, w: same}}") };
    let env = pick(is(3), "", "    env: {LEVEL: 3}\n");
    let file = pick(is(4), "y", "y.txt");
    let stage = pick(is(5), "work", "labour");
    let yaml = format!(
        "name: {}\n{}{}stages:\n  {stage}:\n    command: sh script.sh {quoted} {words} ${{tuning.t}} ${{inputs.d}} ${{outputs.y}}\n    inputs: {{d: data}}\n    params: {params}\n    tuning: {{t: {}}}\n    outputs: {{y: {file}}}\n{env}{}{}{}{}{}{}",
        pick(not(2), "one", "two"),
        pick(not(0), "", "out: newest\n"),
        pick(not(3), "", "# A word about it.\nask-above: 1h\n"),
        pick(not(4), "1", "8"),
        pick(not(5), "", "    resources: {cpus: 2, memory: 1GiB}\n"),
        pick(not(6), "", "    retries: 3\n"),
        pick(not(7), "", "    timeout: 2h\n"),
        pick(not(8), "", "    pass-env: [HOME, TOKEN]\n"),
        pick(not(11), "", "    engine: slurm\n    slurm: {partition: long}\n"),
        pick(not(9), "", "  other:\n    command: touch ${outputs.o}\n    outputs: [o]\n"),
    );
    let study = Study::new(&yaml);
    study.write("script.sh", pick(is(6), "exit 0\n", "exit 1\n"));
    study.write("data/a", pick(is(7), "content", "c0ntent"));
    study.write(pick(is(8), "data/b", "data/c"), "b");
    study.write("data/run", "run");
    let mode = if is(9) { 0o755 } else { 0o644 };
    fs::set_permissions(study.path("data/run"), PermissionsExt::from_mode(mode)).unwrap();
    if is(10) {
        fs::create_dir(study.path("data/empty")).unwrap();
    }
    symlink(pick(is(11), "a", "run"), study.path("data/link")).unwrap();
    if is(12) {
        study.write("data/nothing", "");
    }
    if not(10) {
        let file = fs::File::options().append(true).open(study.path("data/a")).unwrap();
        file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    }
    if not(12) {
        fs::set_permissions(study.path("data/a"), PermissionsExt::from_mode(0o600)).unwrap();
    }
    let mut plan = study.command(&["plan", "--json"]);
    if not(13) {
        plan.envs([("LANG", "C"), ("OMP_NUM_THREADS", "7"), ("TMPDIR", "/var/tmp"), ("ANYTHING", "else")]);
    }
    let plan = plan.output().unwrap();
    assert!(plan.status.success(), "{}", said(&plan));
    let json: serde_json::Value = serde_json::from_slice(&plan.stdout).unwrap();
    let stages = json.as_array().unwrap();
    let planned = stages.iter().find(|s| s["stage"] == stage).unwrap();
    planned["key"].as_str().unwrap().to_string()
}

#[test]
fn the_key_follows_what_matters_and_nothing_else() {
    let mut by_set: HashMap<u32, String> = HashMap::new();
    let mut state = 0;
    let all = |i: usize| (1_u32 << COUNT[i]) - 1;
    // Every change by itself, then sets of them.
    let alone = (0..COUNT[0]).map(|i| (1 << i, 0)).chain((0..COUNT[1]).map(|i| (0, 1 << i)));
    let mut cases: Vec<(u32, u32)> = std::iter::once((0, 0)).chain(alone).collect();
    for _ in 0..60 {
        // Sparse sets, so that many are equal in what matters.
        let few = (random(&mut state) & random(&mut state) & random(&mut state)) as u32;
        cases.push((few & all(0), random(&mut state) as u32 & all(1)));
    }
    for (matters, neutral) in cases {
        let key = key(matters, neutral);
        let first = by_set.entry(matters).or_insert_with(|| key.clone());
        assert_eq!(*first, key, "{neutral:b} changed the key of {matters:b}");
    }
    let keys: std::collections::HashSet<&String> = by_set.values().collect();
    assert_eq!(keys.len(), by_set.len(), "two different sets have one key");
    assert!(by_set.len() > COUNT[0] + 10, "too few cases");
}

/// Two files of one content, read one by one by a stage that writes their names.
const NAMES: &str = "name: names
stages:
  a:
    command: sh -c 'mkdir $1; echo same > $1/cat.txt; echo same > $1/dog.txt; echo same > $1/cow; echo same > $1/pig' sh ${outputs.o}
    outputs: [o]
  b:
    command: sh -c 'basename $1 .txt >> ran; basename $1 .txt > $2' sh ${inputs.f} ${outputs.o}
    each: f
    inputs: {f: a.o}
    outputs: [o]
";

#[test]
fn an_input_under_another_name_is_another_input() {
    let study = Study::new(NAMES);
    let ran = study.run(&[]);
    assert_eq!(study.read("out/b/o/cat"), "cat\n");
    assert_eq!(study.read("out/b/o/dog"), "dog\n");
    // Without an ending a name means nothing: the stage sees a name of the store, and equal contents are one action.
    assert_eq!(ran.len(), 3, "{ran:?}");
    assert_eq!(study.read("out/b/o/cow"), study.read("out/b/o/pig"));

    let renamed = Study::new(
        "name: renamed
stages:
  a:
    command: cp in ${outputs.o}
    outputs: {o: table.csv}
  b:
    command: sh -c 'echo read as ${1##*.} > $2' sh ${inputs.t} ${outputs.o}
    inputs: {t: a.o}
    outputs: [o]
",
    );
    renamed.write("in", "1");
    renamed.run(&[]);
    assert_eq!(renamed.read("out/b/o"), "read as csv\n");
    renamed.write("pipeline.yaml", &renamed.read("pipeline.yaml").replace("table.csv", "table.tsv"));
    renamed.run(&[]);
    assert_eq!(renamed.read("out/b/o"), "read as tsv\n");
    // One of the study's own files under another name.
    let own = Study::new(
        "name: own\nstages:\n  b:\n    command: sh -c 'basename $1 > $2' sh ${inputs.t} ${outputs.o}\n    inputs: {t: x.csv}\n    outputs: [o]\n",
    );
    own.write("x.csv", "1");
    own.run(&[]);
    fs::rename(own.path("x.csv"), own.path("y.csv")).unwrap();
    own.write("pipeline.yaml", &own.read("pipeline.yaml").replace("x.csv", "y.csv"));
    let why = said(&own.call(&["why", "b"]));
    assert!(why.contains("the file name of input `t` `x.csv` → `y.csv`"), "{why}");
    own.run(&[]);
    assert_eq!(own.read("out/b/o"), "y.csv\n");
}
