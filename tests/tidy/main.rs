//! The tree keeps its own promises: one order of stages everywhere, files of a readable length, no unfinished marks,
//! and imports that only lead down.

#![expect(clippy::unwrap_used, reason = "a test that cannot read its tree has failed")]

mod imports;
mod links;

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("reading {path}: {e}"))
}

/// The stage programs in the order the workspace lists them.
fn members() -> Vec<String> {
    let text = read("Cargo.toml");
    let members = text.split("members = [").nth(1).and_then(|t| t.split(']').next()).unwrap();
    members.split('"').filter_map(|m| m.strip_prefix("stages/")).map(String::from).collect()
}

fn without_repeats(names: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut seen = Vec::new();
    for name in names {
        if !seen.contains(&name) {
            seen.push(name);
        }
    }
    seen
}

#[test]
fn workspace_study_and_readme_tell_one_story() {
    let members = members();
    assert_eq!(
        members.len(),
        fs::read_dir(root().join("stages")).unwrap().count(),
        "a stage is not a member"
    );

    let study = read("pipeline.yaml");
    let runs = study.lines().filter_map(|l| l.trim().strip_prefix("run: "));
    let runs = runs.map(|l| l.split_whitespace().next().unwrap().to_string());
    assert_eq!(without_repeats(runs), members, "pipeline.yaml names the stages in another order");

    let readme = read("README.md");
    let table = readme.lines().filter_map(|l| l.strip_prefix("| `")?.split('`').next());
    let rows = table.map(String::from).filter(|n| members.contains(n));
    assert_eq!(without_repeats(rows), members, "the README's table names the stages in another order");
}

/// Every file git tracks or would track, below the folders that hold code.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("target") {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// Folders whose files are shorter than elsewhere: longer ones tell two things.
const SHORT: [&str; 3] = ["src/", "crates/", "stages/"];

#[test]
fn files_open_with_their_purpose_and_stay_readable() {
    let mut files = Vec::new();
    for folder in ["src", "stages", "crates", "tests"] {
        sources(&root().join(folder), &mut files);
    }
    assert!(files.len() > 20, "only {} files were found", files.len());
    let mut faults = Vec::new();
    for path in files {
        let text = fs::read_to_string(&path).unwrap();
        let name = path.strip_prefix(root()).unwrap().display().to_string();
        if !text.starts_with("//!") {
            faults.push(format!("{name}: does not open with a //! line that says what it is for"));
        }
        let limit = if SHORT.iter().any(|folder| name.starts_with(folder)) { 400 } else { 800 };
        if text.lines().count() > limit {
            faults.push(format!("{name}: more than {limit} lines; split it"));
        }
        for mark in [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X:")] {
            if text.contains(mark) {
                faults.push(format!("{name}: holds a {mark}"));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn the_files_that_the_documents_name_are_there() {
    let mut files = Vec::new();
    for folder in ["src", "stages", "crates", "tests"] {
        sources(&root().join(folder), &mut files);
    }
    let mut named = 0;
    for document in [
        "docs/why/architecture.md",
        "docs/why/key.md",
        "docs/why/store.md",
        "docs/reference/formats.md",
        "CONTRIBUTING.md",
    ] {
        let text = read(document);
        for word in text.split('`').skip(1).step_by(2) {
            if word.ends_with(".rs")
                && !word.contains("NAME")
                && word.chars().all(|c| c.is_alphanumeric() || "./_-".contains(c))
            {
                named += 1;
                assert!(files.iter().any(|file| file.ends_with(word)), "{document}: there is no {word}");
            }
        }
    }
    assert!(named > 30, "only {named} files were found named");
}

/// The number that a line of source gives a constant of that name, `…VERSION… = 2;` or `= "2";`, or the last of its magic bytes.
fn version(source: &str) -> Option<String> {
    let line = source.lines().find(|line| {
        let named = ["VERSION:", "FORMAT:", "MAGIC:"].iter().any(|name| line.contains(name));
        line.trim_start_matches("pub ").starts_with("const ") && named
    })?;
    let value = line.split(" = ").nth(1)?.replace("\\n", "");
    value.split(|c: char| !c.is_ascii_digit()).rfind(|word| !word.is_empty()).map(String::from)
}

#[test]
fn formats_have_the_versions_that_their_page_says() {
    let page = read("docs/reference/formats.md");
    let rows = page.lines().filter(|line| line.ends_with(".rs` |"));
    let rows: Vec<Vec<&str>> = rows.map(|row| row.split('|').map(str::trim).collect()).collect();
    assert!(rows.len() >= 7, "only {} versions were found", rows.len());
    for row in rows {
        let [_, what, number, place, _] = row[..] else { panic!("{row:?}") };
        let found = version(&read(place.trim_matches('`')));
        assert_eq!(found.as_deref(), Some(number), "{what}: {place} has another version than the page");
    }
}

/// Variables that belong to the system, to a program that is called, or to a build script.
const OTHERS: [&str; 7] =
    ["PATH", "HOME", "SHELL", "TERM", "USER", "DEP_TCH_LIBTORCH_LIB", "CARGO_MANIFEST_DIR"];

#[test]
fn variables_of_the_environment_are_in_their_page() {
    let page = read("docs/reference/environment.md");
    let listed: Vec<&str> = page.split('`').skip(1).step_by(2).collect();
    let known = |name: &str| {
        let family = |word: &&str| word.strip_suffix('*').is_some_and(|family| name.starts_with(family));
        listed.contains(&name) || listed.iter().any(family) || OTHERS.contains(&name)
    };
    let mut files = Vec::new();
    for folder in ["src", "stages", "crates"] {
        sources(&root().join(folder), &mut files);
    }
    files.retain(|path| !["tests", "benches"].iter().any(|room| path.iter().any(|part| part == *room)));
    files.retain(|path| !path.ends_with("tests.rs") && !path.ends_with("build.rs"));
    let (mut found, mut missing) = (0, Vec::new());
    for path in files {
        let text = fs::read_to_string(&path).unwrap();
        let text = text.split("#[cfg(test)]").next().unwrap();
        for call in ["var(\"", "var_os(\"", ".env(\"", "\"PIPELINE_"] {
            for after in text.split(call).skip(1) {
                let name = after.split('"').next().unwrap();
                let name = if call.ends_with('_') { format!("PIPELINE_{name}") } else { name.into() };
                let named = name.chars().all(|c| c.is_ascii_uppercase() || c == '_');
                found += usize::from(named);
                if named && !known(&name) {
                    missing.push(format!("{}: {name}", path.strip_prefix(root()).unwrap().display()));
                }
            }
        }
    }
    assert!(found > 20, "only {found} uses were found");
    assert!(missing.is_empty(), "docs/reference/environment.md does not name\n{}", missing.join("\n"));
}

#[test]
fn the_digits_keep_their_notice() {
    let notice = read("data/digits/README.md");
    for word in ["Alpaydin", "Kaynak", "CC BY 4.0", "UCI Machine Learning Repository"] {
        assert!(notice.contains(word), "data/digits/README.md has lost `{word}`");
    }
    let bytes = |name: &str| fs::metadata(root().join("data/digits").join(name)).unwrap().len();
    let weights = bytes("vae.safetensors") + bytes("inception.safetensors");
    assert!(weights < 4_000_000, "the digits' weights have grown to {weights} bytes");
}

#[test]
fn no_two_files_need_each_other_and_nothing_is_imported_from_above() {
    let mut packages = vec![PathBuf::new()];
    for folder in ["crates", "stages"] {
        let entries = fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap().file_name());
        packages.extend(entries.map(|name| Path::new(folder).join(name)));
    }
    packages.retain(|package| root().join(package).join("src").is_dir());
    let mut wrong = Vec::new();
    for package in packages {
        wrong.extend(imports::faults(root(), &package.join("src")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_version_is_one_everywhere() {
    let version = env!("CARGO_PKG_VERSION");
    assert!(read("CHANGELOG.md").contains(&format!("\n## [{version}]")), "CHANGELOG.md has no {version}");
    assert!(
        read("CITATION.cff").contains(&format!("\nversion: {version}\n")),
        "CITATION.cff names another version"
    );
    for file in ["Containerfile", "Containerfile.cuda"] {
        assert!(
            read(file).contains(&format!("\nARG VERSION={version}\n")),
            "{file} takes another version's archive"
        );
    }
}

/// What an image does is what `ci/try-release` tries: unpack the archive, fetch libtorch, call the runner.
#[test]
fn images_do_what_is_tried_and_nothing_else() {
    for (file, option) in [("Containerfile", ""), ("Containerfile.cuda", " --cuda")] {
        let text = read(file);
        let text = text.replace("\\\n", "");
        let steps: Vec<&str> = text.lines().filter(|line| line.starts_with("RUN ")).collect();
        let (system, own): (Vec<&str>, Vec<&str>) =
            steps.into_iter().partition(|step| step.contains("apt-get"));
        assert_eq!(system.len(), 2, "{file}");
        let fetch =
            format!("RUN mv /opt/switch-dit-* /opt/pipeline && /opt/pipeline/libexec/fetch-libtorch{option}");
        assert_eq!(own, [fetch], "{file}");
        assert!(text.contains("\nENTRYPOINT [\"pipeline\"]\n"), "{file}");
    }
    let tried = read("ci/try-release");
    for word in ["libexec/fetch-libtorch", "--strip-components 1", "pipeline run", "pipeline stage --list"] {
        assert!(tried.contains(word), "ci/try-release no longer tries `{word}`");
    }
}

#[test]
fn links_lead_somewhere_and_every_page_is_in_the_book() {
    let broken = links::broken(root());
    assert!(broken.is_empty(), "{}", broken.join("\n"));
    let unlisted = links::unlisted(root());
    assert!(unlisted.is_empty(), "docs/SUMMARY.md does not name {}", unlisted.join(", "));
}
