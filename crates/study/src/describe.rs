//! Checking a study against what its programs say of themselves.

use crate::de::{Marked, Text};
use crate::environment;
use crate::error::{Error, Result, hint};
use crate::file::Cost;
use crate::graph::{Input, Source, Step};
use crate::mark::Mark;
use crate::processes::Processes;
use crate::sharded;
use stage::{Kind, Role, Spec};
use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

/// A program that has not described itself after this time is taken for one that cannot.
const DESCRIPTION_TIME: Duration = Duration::from_secs(10);
/// A program that judges what it is given reads files for it, so it has longer.
const CHECK_TIME: Duration = Duration::from_secs(60);
/// The largest description.
const ANSWER_SIZE: u64 = 1 << 20;
/// How often the end is looked for.
const PAUSE: Duration = Duration::from_millis(2);

/// Asks a program for its description.
pub fn ask(program: &Path, mark: &Mark) -> Result<Spec> {
    let wrong = |why: String| {
        if let Some(library) = lacking(&why) {
            return Error::NoLibrary {
                mark: mark.clone(),
                program: program.into(),
                library: library.into(),
                way: way_to(library, program),
            };
        }
        let text = format!(
            "asking {} to --describe itself: {why}; use `command:` for other programs",
            program.display()
        );
        Error::mistake(mark, text)
    };
    let (said, _) = answer(program, &["--describe".into()], 1, DESCRIPTION_TIME).map_err(wrong)?;
    serde_json::from_slice(&said).map_err(|e| wrong(e.to_string()))
}

/// The library that a program was not started for, as the loader names it.
fn lacking(why: &str) -> Option<&str> {
    let said = why.split_once("error while loading shared libraries: ")?.1;
    Some(said.split(':').next()?.trim())
}

/// How a library comes to a program: an installation has a program that fetches libtorch, as has a clone.
fn way_to(library: &str, program: &Path) -> String {
    if !["libtorch", "libc10"].iter().any(|torch| library.starts_with(torch)) {
        return "install it, or name its folder in LD_LIBRARY_PATH".into();
    }
    let fetch = program
        .ancestors()
        .flat_map(|folder| ["fetch-libtorch", "ci/libtorch"].map(|name| folder.join(name)));
    match fetch.into_iter().find(|path| path.is_file()) {
        Some(fetch) => format!("fetch it by {}", fetch.display()),
        None => "name the folder of a libtorch in LD_LIBRARY_PATH".into(),
    }
}

/// The inputs of a step that its program looks at for `--check`: those that lie in the study, and are taken whole.
pub fn judged<'a>(step: &'a Step, spec: &Spec, root: &Path) -> Vec<(&'a Input, &'a Path)> {
    let inputs = step.inputs.iter().enumerate().filter(|(index, _)| step.each != Some(*index));
    let judged = inputs.filter(|(_, input)| spec.argument(&input.name).is_some_and(|arg| arg.judged));
    let there = judged.filter_map(|(_, input)| match &input.source {
        Source::Path(path) if root.join(path).exists() => Some((input, path.as_path())),
        _ => None,
    });
    there.collect()
}

/// The command line by which a program that answers `--check` judges the parameters of a step, and what else it looks at.
pub fn question(step: &Step, spec: &Spec, root: &Path) -> Vec<String> {
    let looks = |name: &str| spec.argument(name).is_some_and(|arg| arg.judged);
    let params = step.params.iter().map(|(name, value)| (name, value.0.clone()));
    let tuning = step.tuning.iter().filter(|(name, _)| looks(name));
    let tuning = tuning.map(|(name, value)| (name, value.0.clone()));
    let inputs = judged(step, spec, root).into_iter();
    let inputs = inputs.map(|(input, path)| (&input.name, root.join(path).display().to_string()));
    let given = params.chain(tuning).chain(inputs).flat_map(|(name, value)| [format!("--{name}"), value]);
    std::iter::once("--check".into()).chain(given).collect()
}

/// What a program says of what a step gives it.
pub struct Judgement {
    /// The parameters in force, with their values.
    pub params: BTreeMap<String, String>,
    /// What may turn out to be wrong, each with its place.
    pub warnings: Vec<String>,
}

/// Asks a program which parameters are in force where it is given those of a step: with their values, where others decide
/// them, and without those that others switch off.
///
/// # Errors
/// What the program has against them, at the place of what it names.
pub fn in_force(program: &Path, step: &Step, spec: &Spec, root: &Path) -> Result<Judgement> {
    let wrong = |why: String| {
        let words: Vec<&str> = why.split(|c: char| !c.is_alphanumeric() && !"-_".contains(c)).collect();
        let named = |name: &str| words.contains(&format!("--{name}").as_str());
        let values = step.params.iter().chain(&step.tuning).map(|(name, value)| (name, &value.mark));
        let inputs = step.inputs.iter().map(|input| (&input.name, &input.mark));
        let mark = values.chain(inputs).find(|(name, _)| named(name)).map_or(&step.mark, |(_, mark)| mark);
        let why = why.strip_prefix("error: ").unwrap_or(&why);
        Error::mistake(mark, format!("stage {}: {} says: {why}", step.stage, spec.name))
    };
    let question = question(step, spec, root);
    let (said, aside) =
        answer(program, &question, Processes::of(step.processes), CHECK_TIME).map_err(wrong)?;
    let said: BTreeMap<String, String> =
        serde_json::from_slice(&said).map_err(|e| wrong(format!("its answer to --check is none: {e}")))?;
    let aside = aside.lines().filter_map(|line| line.strip_prefix("warning: "));
    let warnings = aside.map(|warning| wrong(warning.into()).to_string()).collect();
    let known = said.into_iter().map(|(name, value)| match spec.argument(&name) {
        Some(arg) if arg.role == Role::Param => Ok((name, canonical(&arg.kind, &value))),
        _ => Err(wrong(format!("its answer to --check has `{name}`, which is no parameter"))),
    });
    Ok(Judgement { params: known.collect::<Result<_>>()?, warnings })
}

/// What a program says, and what it says aside, when it is called so, in the environment of a stage of so many processes, within
/// bounds of time and size.
///
/// # Errors
/// Why it says nothing; the first line of what it says where it fails.
fn answer(
    program: &Path,
    arguments: &[String],
    processes: u32,
    patience: Duration,
) -> Result<(Vec<u8>, String), String> {
    let mut command = Command::new(program);
    // What it says is kept for everybody, so it depends on nothing that a stage would not see.
    command.args(arguments).env_clear().envs(environment::passed(&[]));
    if processes > 1 {
        command.env("WORLD_SIZE", processes.to_string());
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|e| e.to_string())?;
    let said = (reader(child.stdout.take()), reader(child.stderr.take()));
    let started = Instant::now();
    let status = loop {
        let ended = child.try_wait().map_err(|e| e.to_string())?;
        if let Some(status) = ended {
            break status;
        }
        if started.elapsed() > patience {
            // At worst it ends by itself.
            let _ = child.kill();
            let _ = child.wait();
            return Err(format!("it does not answer within {} s", patience.as_secs()));
        }
        std::thread::sleep(PAUSE);
    };
    let left = || patience.saturating_sub(started.elapsed()).max(PAUSE);
    // A child that it left behind may hold its output open.
    let text = said.0.recv_timeout(left()).map_err(|_| "its output does not end".to_string())?;
    if text.len() as u64 > ANSWER_SIZE {
        return Err("it says more than 1 MiB".into());
    }
    let aside = said.1.recv_timeout(left()).unwrap_or_default();
    let aside = String::from_utf8_lossy(&aside).into_owned();
    if !status.success() {
        return Err(aside.lines().next().unwrap_or("it failed and said nothing").to_string());
    }
    Ok((text, aside))
}

/// What comes out of a pipe, up to one byte more than a description may have.
fn reader(pipe: Option<impl Read + Send + 'static>) -> Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(pipe) = pipe {
            // What came so far is what there is to judge.
            let _ = pipe.take(ANSWER_SIZE + 1).read_to_end(&mut bytes);
        }
        // Nobody listens any more when it took too long.
        let _ = sender.send(bytes);
    });
    receiver
}

/// Checks a step that keeps the stage contract, brings its values to one way of writing, and returns all the
/// parameters in use, defaults included.
pub fn check(step: &mut Step, spec: &Spec) -> Result<BTreeMap<String, String>> {
    let program = &spec.name;
    for input in &step.inputs {
        find(spec, &input.name, Role::Input, &input.mark)?;
    }
    for output in &step.outputs {
        find(spec, &output.name, Role::Output, &output.mark)?;
    }
    for name in step.cost.iter().flat_map(Cost::names) {
        find(spec, name, Role::Param, &name.mark)?;
    }
    for name in sharded::PARAMS.iter().filter(|_| step.shards.is_some()) {
        if spec.argument(name).is_none_or(|arg| arg.role != Role::Param) {
            let text =
                format!("stage {}: {program} cannot be sharded, it has no parameter `{name}`", step.stage);
            return Err(Error::mistake(&step.mark, text));
        }
    }
    // `--set` does not say whether it means a parameter or a tuning value; the program does.
    let is_tuning = |name: &str| spec.argument(name).is_some_and(|a| a.role == Role::Tuning);
    let (tuning, params) = std::mem::take(&mut step.params)
        .into_iter()
        .partition::<Vec<_>, _>(|(name, value)| value.mark.line == 0 && is_tuning(name));
    step.params = params;
    step.tuning.extend(tuning);
    for (role, values) in [(Role::Param, &mut step.params), (Role::Tuning, &mut step.tuning)] {
        for (name, value) in values {
            let kind = find(spec, name, role, &value.mark)?;
            value.value = Text(checked(name, value, &kind)?);
        }
    }
    for arg in spec.arguments.iter().filter(|a| a.required) {
        let given = match arg.role {
            Role::Input => step.inputs.iter().any(|i| i.name == arg.name),
            Role::Output => step.outputs.iter().any(|o| o.name == arg.name),
            Role::Param => step.params.iter().any(|p| p.0 == arg.name),
            Role::Tuning => step.tuning.iter().any(|t| t.0 == arg.name),
        };
        if !given {
            let text = format!(
                "stage {}: {program} needs the {} `{}`: {}",
                step.stage,
                word(arg.role),
                arg.name,
                arg.help
            );
            return Err(Error::mistake(&step.mark, text.trim_end_matches([':', ' ', '.'])));
        }
    }
    let mut used = BTreeMap::new();
    for arg in spec.of(Role::Param) {
        if let Some(default) = &arg.default {
            used.insert(arg.name.clone(), canonical(&arg.kind, &plain(default)));
        }
    }
    used.extend(step.params.iter().map(|(name, value)| (name.clone(), value.0.clone())));
    Ok(used)
}

fn checked(name: &str, value: &Marked<Text>, kind: &Kind) -> Result<String> {
    kind.check(&value.0).map_err(|e| Error::mistake(&value.mark, format!("{name}: {e}")))?;
    Ok(canonical(kind, &value.0))
}

fn find(spec: &Spec, name: &str, role: Role, mark: &Mark) -> Result<Kind> {
    match spec.argument(name) {
        Some(arg) if arg.role == role => Ok(arg.kind.clone()),
        Some(arg) => {
            let (is, key) = (word(arg.role), key(arg.role));
            Err(Error::mistake(
                mark,
                format!("`{name}` of {} is {} {is}; it belongs under `{key}`", spec.name, article(is)),
            ))
        }
        None => {
            let near = hint(name, spec.of(role).map(|a| a.name.as_str()));
            Err(Error::mistake(mark, format!("{} has no {} `{name}`{near}", spec.name, word(role))))
        }
    }
}

fn word(role: Role) -> &'static str {
    match role {
        Role::Input => "input",
        Role::Param => "parameter",
        Role::Tuning => "tuning value",
        Role::Output => "output",
    }
}

fn key(role: Role) -> &'static str {
    match role {
        Role::Input => "inputs",
        Role::Param => "params",
        Role::Tuning => "tuning",
        Role::Output => "outputs",
    }
}

fn article(word: &str) -> &'static str {
    if word.starts_with(['i', 'o']) { "an" } else { "a" }
}

/// The text of a JSON default as it would stand on a command line.
fn plain(json: &serde_json::Value) -> String {
    match json {
        serde_json::Value::String(s) => s.clone(),
        serde_json::Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

/// One way of writing each value: `1e-4` and `0.0001` are one parameter.
fn canonical(kind: &Kind, text: &str) -> String {
    match kind {
        Kind::Integer { .. } => text.parse::<i64>().map_or(text.into(), |n| n.to_string()),
        // `{:?}` is the shortest text that reads back as the same number.
        Kind::Number { .. } => text.parse::<f64>().map_or(text.into(), |x| {
            let short = format!("{x:?}");
            short.strip_suffix(".0").map(str::to_string).unwrap_or(short)
        }),
        Kind::List { of } => {
            text.split(',').map(|part| canonical(of, part.trim())).collect::<Vec<_>>().join(",")
        }
        Kind::Path | Kind::Text | Kind::Flag | Kind::Choice { .. } => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_way_of_writing() {
        let number = Kind::Number { min: None, max: None };
        for text in ["1e-4", "0.0001", "0.00010"] {
            assert_eq!(canonical(&number, text), "0.0001");
        }
        assert_eq!(canonical(&number, "250"), canonical(&number, "250.0"));
        let list = Kind::List { of: Box::new(Kind::Integer { min: None, max: None }) };
        assert_eq!(canonical(&list, "1, 02"), "1,2");
        assert_eq!(canonical(&list, ""), "");
    }
}
