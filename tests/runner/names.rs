//! Names that become folders in `out/`: what they may be, and where what is written is found.

use crate::study::{Study, said, stderr};

const ONE: &str = "name: one
stages:
  a:
    command: sh -c 'echo a >> ran; echo $1 > $2' -- ${params.p} ${outputs.x}
    params: {p: 1}
    outputs: [x]
";

/// What is said of a study, which is refused before anything runs.
fn refused(yaml: &str) -> String {
    let study = Study::new(yaml);
    let run = study.call(&["run", "--variant", "*"]);
    assert_eq!(run.status.code(), Some(2), "{yaml}\n{}", said(&run));
    assert!(!study.exists("ran") && !study.exists("out"));
    let check = study.call(&["check"]);
    assert_eq!((check.status.code(), stderr(&check)), (Some(2), stderr(&run)));
    assert_eq!(stderr(&run).lines().count(), 1);
    stderr(&run).trim_end().strip_prefix("error: pipeline.yaml:").unwrap().to_string()
}

#[test]
fn a_variant_is_called_like_a_folder_and_like_no_stage() {
    let named = |name: &str| refused(&format!("{ONE}variants:\n  {name}: {{}}\n"));
    let may = "may only have letters, digits, `-`, `_` and `.`";
    assert_eq!(named("\"\""), format!("8: the variant's name `` {may}"));
    assert_eq!(named("a/b"), format!("8: the variant's name `a/b` {may}"));
    let dots =
        |name: &str| format!("8: `{name}` is no name of a variant: its outputs are a folder of that name");
    assert_eq!((named("."), named("..")), (dots("."), dots("..")));
    let stage = "the variant `a` is called like a stage, and both are folders in `out/`; call it otherwise";
    assert_eq!(named("a"), format!("8: {stage}"));
    let long = named(&"v".repeat(201));
    assert_eq!(
        long,
        format!("8: the variant's name `{}…` has 201 bytes; a name may have 200", "v".repeat(20))
    );
    // A stage that only a variant has counts as well.
    let other = refused(&format!(
        "{ONE}variants:\n  b: {{}}\n  c: {{stages: {{b: {{command: 'cp x ${{outputs.y}}', outputs: [y]}}}}}}\n"
    ));
    assert!(other.starts_with("8: the variant `b` is called like a stage"), "{other}");
}

#[test]
fn so_is_what_a_matrix_makes() {
    let matrix = |values: &str| refused(&format!("{ONE}matrix:\n  a.p: {values}\n"));
    assert!(matrix("[1, \"\"]").starts_with("8: the variant's name `` may only have"));
    assert!(matrix("[1, ..]").starts_with("8: `..` is no name of a variant"));
    assert!(matrix("[1, a]").starts_with("8: the variant `a` is called like a stage"));
    assert_eq!(matrix("[a/b, a-b]"), "8: two variants are called `a-b`");
    assert!(matrix(&format!("[{}]", "1".repeat(300))).contains("has 300 bytes"));
    // An empty value is a part of a name; no value at all makes no variant.
    let study = Study::new(&format!("{ONE}matrix: {{a.p: [\"\", 1], vars.x: [2]}}\n"));
    let run = study.call(&["run", "--variant", "*"]);
    assert!(run.status.success(), "{}", said(&run));
    assert_eq!((study.read("out/-2/a/x"), study.read("out/1-2/a/x")), ("\n".into(), "1\n".into()));
    assert_eq!(Study::new(&format!("{ONE}matrix: {{}}\n")).run(&[]), ["a"]);
}

#[test]
fn outputs_appear_in_the_root_and_nowhere_else() {
    let out = |folder: &str| refused(&ONE.replace("name: one", &format!("name: one\nout: {folder}")));
    let leads = |out: &str| {
        format!(
            "2: out: `{out}` may lead out of the study's root; name a folder in it, which may be a link to another disk"
        )
    };
    assert_eq!(out("../x"), leads("../x"));
    assert_eq!(out("x/../../y"), leads("x/../../y"));
    assert_eq!(out("/tmp/x"), leads("/tmp/x"));
    for root in [".", "''", "./"] {
        assert!(out(root).contains("is the study's root itself; name a folder in it"), "{root}");
    }
    for store in [".pipeline", "./.pipeline/x"] {
        assert!(out(store).contains("is the store's; name another folder"), "{store}");
    }
    assert_eq!(out("gen/x"), "2: out: `gen/x` needs a folder where the file gen is; name another");
    let study = Study::new(&ONE.replace("name: one", "name: one\nout: ./deep/er"));
    study.run(&[]);
    assert_eq!(study.read("deep/er/a/x"), "1\n");
}

#[test]
fn names_of_the_study_stages_and_files_fit_on_a_disk() {
    let long = "n".repeat(201);
    let begin = "n".repeat(20);
    for (old, new, what) in [
        ("name: one", format!("name: {long}"), "1: the study's name"),
        ("  a:\n", format!("  {long}:\n"), "3: the stage name"),
        ("outputs: [x]", format!("outputs: {{x: {long}}}"), "6: the file name"),
    ] {
        let text = refused(&ONE.replace(old, &new));
        assert_eq!(text, format!("{what} `{begin}…` has 201 bytes; a name may have 200"));
    }
    let escape = refused(&ONE.replace("outputs: [x]", "outputs: {x: \"a\\eb\"}"));
    assert_eq!(escape, "6: `a\\u{1b}b` is not a plain file name");
}

#[test]
fn no_way_of_writing_makes_a_result_an_input() {
    for path in ["out/a/x", "./out/a/x", "d/../out/a/x", ".pipeline/x", "ABS/out/a/x"] {
        let study = Study::new(ONE);
        study.run(&[]);
        let path = path.replace("ABS", study.dir.path().canonicalize().unwrap().to_str().unwrap());
        study.write("d/f", "");
        let reader = format!(
            "  b:\n    command: cp ${{inputs.i}} ${{outputs.o}}\n    inputs: {{i: {path}}}\n    outputs: [o]\n"
        );
        study.write("pipeline.yaml", &format!("{ONE}{reader}"));
        let check = study.call(&["check"]);
        let expected = format!(
            "error: pipeline.yaml:9: {path} is made by a run; name the stage's output, as in `stage.output`\n"
        );
        assert_eq!(stderr(&check), expected);
    }
}

#[test]
fn what_a_stage_says_of_its_outputs_names_where_they_are_found() {
    let study = Study::new(
        "name: one
variants: {v: {stages: {a: {params: {p: 2}}}}}
stages:
  a:
    command: >
      sh -c 'mkdir $2; echo $1 > $2/r.html; printf \"{\\\"event\\\": \\\"message\\\", \\\"text\\\": \\\"report in %s\\\"}\\\\n\" $2/r.html > $PIPELINE_EVENTS'
      -- ${params.p} ${outputs.x}
    params: {p: 1}
    outputs: [x]
  b:
    command: >
      sh -c 'cp $1 $2; printf \"{\\\"event\\\": \\\"message\\\", \\\"text\\\": \\\"in %s\\\"}\\\\n\" $(pwd)/$2 > $PIPELINE_EVENTS'
      -- ${inputs.i} ${outputs.y}
    inputs: {i: a.x}
    each: i
    outputs: {y: y.txt}
",
    );
    let text = said(&study.call(&["run"]));
    assert!(text.contains("a: report in out/a/x/r.html\n"), "{text}");
    let place = study.dir.path().canonicalize().unwrap().join("out/b/y.txt/r.txt");
    assert!(text.contains(&format!("b[r]: in {}\n", place.display())), "{text}");
    assert!(place.is_file());
    let text = said(&study.call(&["run", "--variant", "v"]));
    assert!(text.contains("a@v: report in out/v/a/x/r.html\n") && study.exists("out/v/a/x/r.html"), "{text}");
}
