//! What the build command and the stages see of the caller's environment.

use crate::study::{GEN, Study, said};

#[test]
fn what_cargo_run_sets_reaches_neither_the_build_nor_a_stage() {
    let study = Study::new(
        "name: env
build: {command: sh build.sh, sources: [build.sh], programs: bin}
stages:
  g: {run: gen, outputs: [files]}
  a: {command: 'sh -c \"env > $1\" -- ${outputs.o}', outputs: [o]}
",
    );
    study.write("build.sh", "env > seen; mkdir -p bin; cp source bin/gen");
    study.program("source", GEN);
    let set = [
        "CARGO",
        "CARGO_PKG_NAME",
        "CARGO_PKG_VERSION_MAJOR",
        "CARGO_MANIFEST_DIR",
        "CARGO_MANIFEST_PATH",
        "OUT_DIR",
    ];
    let mut command = study.command(&["run"]);
    command.envs(set.map(|name| (name, "of the caller")));
    command.env("CARGO_HOME", "kept").env("CARGO_BUILD_JOBS", "kept").env("RUSTFLAGS", "kept");
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let (build, stage) = (study.read("seen"), study.read("out/a/o"));
    assert!(!build.contains("of the caller"), "{build}");
    for name in ["CARGO_HOME", "CARGO_BUILD_JOBS", "RUSTFLAGS"] {
        assert!(build.contains(&format!("{name}=kept\n")), "{build}");
    }
    assert!(!stage.contains("CARGO") && !stage.contains("of the caller"), "{stage}");
}

#[test]
fn a_program_describes_itself_in_the_environment_of_a_stage() {
    let study = Study::new("name: d\nstages:\n  a: {run: ./gen, outputs: [files]}\n");
    study.program("gen", &GEN.replacen("#!/bin/sh\n", "#!/bin/sh\nenv > env\n", 1));
    let mut command = study.command(&["check"]);
    let check =
        command.env("SECRET_TOKEN", "x").env("LC_ALL", "C").env("PIPELINE_STATE", "/").output().unwrap();
    assert!(check.status.success(), "{}", said(&check));
    let seen = study.read("env");
    assert!(seen.contains("LC_ALL=C\n") && seen.contains("PATH="), "{seen}");
    assert!(!seen.contains("SECRET_TOKEN") && !seen.contains("PIPELINE_"), "{seen}");
}
