//! From the file to the graph: every name found, every mistake told with its line.

use crate::clusters;
use crate::de::{Marked, Text};
use crate::error::{Error, Result, hint};
use crate::file::{Build, Command, EngineName, Stage, Study};
use crate::graph::{BuildStep, Call, Graph, Input, Output, Source, Step, Stream};
use crate::naming;
use crate::operators;
use crate::order::sort;
use crate::sharded;
use crate::slurm;
use crate::source::{self, Folders, RESERVED};
use crate::template::{self, Group, Part, Word};
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Resolves a study whose file lies in `folder`, as one variant of it is; the empty name is the study as it stands.
pub fn resolve(study: &Study, variant: &str, folder: &Path) -> Result<Graph> {
    let root = folder.join(study.root.as_ref().map_or(".", |r| r.as_str()));
    // Without `.` and `..`, which messages and the environment of stages would show.
    let root = root.canonicalize().unwrap_or(root);
    check_name(&study.name, "the study's name")?;
    let index: HashMap<&str, usize> =
        study.stages.iter().enumerate().map(|(i, (name, _))| (name.as_str(), i)).collect();
    if let Some((name, _)) = study.stages.iter().find(|(name, _)| name.as_str() == RESERVED) {
        return Err(Error::mistake(
            &name.mark,
            format!("`{RESERVED}` means the runner itself; call the stage otherwise"),
        ));
    }
    check_lines(&study.ignore)?;
    let out = naming::out(study.out.as_ref(), &root)?;
    let mut steps = Vec::with_capacity(study.stages.len());
    for (name, stage) in study.stages.iter() {
        steps.push(step(name, stage, study, &index, variant, Folders { root: &root, out: &out })?);
    }
    sort(&mut steps)?;
    let build = study.build.as_ref().map(|b| build_step(b, &root)).transpose()?;
    let ask_above = study.ask_above.map_or(Duration::from_secs(600), |t| t.0);
    let on_end = study.on_end.as_ref().map(|command| plain_command(command, "`on-end`")).transpose()?;
    let words = |words: Vec<Word>| words.iter().filter_map(Word::literal).map(str::to_string).collect();
    let on_end = on_end.map(words);
    let (name, cache) = (study.name.value.clone(), study.cache.clone());
    let ignore = study.ignore.iter().map(|line| line.value.clone()).collect();
    Ok(Graph { name, root, out, ignore, build, cache, ask_above, on_end, steps, left_out: Vec::new() })
}

fn build_step(build: &Build, root: &Path) -> Result<BuildStep> {
    let command = plain_command(&build.command, "the build command")?;
    for source in &build.sources {
        if !root.join(source.as_str()).exists() {
            return Err(Error::mistake(&source.mark, format!("no such file or folder: {}", source.as_str())));
        }
    }
    let programs = match &build.programs {
        Some(folder) => folder.as_str().into(),
        None => std::env::var_os("CARGO_TARGET_DIR").map_or("target".into(), PathBuf::from).join("release"),
    };
    Ok(BuildStep { command, sources: build.sources.clone(), programs })
}

/// A command that is no stage's.
fn plain_command(command: &Marked<Command>, what: &str) -> Result<Vec<Word>> {
    operators::refuse(command)?;
    let words = template::parse(command).map_err(|e| Error::mistake(&command.mark, e))?;
    if words.iter().any(|word| word.0.iter().any(|part| matches!(part, Part::Slot(..)))) {
        let text = format!("{what} has no inputs, parameters or outputs to fill in");
        return Err(Error::mistake(&command.mark, text));
    }
    Ok(words)
}

fn check_name(name: &Marked<String>, what: &str) -> Result<()> {
    let good = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if name.is_empty() || !name.chars().all(good) {
        let text = format!("{what} `{}` may only have letters, digits, `-` and `_`", name.as_str());
        return Err(Error::mistake(&name.mark, text));
    }
    naming::short(name, &name.mark, what)
}

fn step(
    name: &Marked<String>,
    stage: &Stage,
    study: &Study,
    index: &HashMap<&str, usize>,
    variant: &str,
    folders: Folders,
) -> Result<Step> {
    check_name(name, "the stage name")?;
    let call = call(name, stage)?;
    check_names(stage)?;
    let outputs = outputs(name, stage)?;
    let mut inputs = Vec::with_capacity(stage.inputs.len());
    for (key, text) in stage.inputs.iter() {
        let source = source::of(text, study, index, variant, folders)?;
        let lines = ignored(stage, key, &source, study);
        inputs.push(Input { name: key.value.clone(), mark: text.mark.clone(), source, ignore: lines });
    }
    check_ignored(stage, &inputs)?;
    let each = match &stage.each {
        None => None,
        Some(each) => Some(inputs.iter().position(|i| i.name == each.as_str()).ok_or_else(|| {
            let near = hint(each, inputs.iter().map(|i| i.name.as_str()));
            Error::mistake(&each.mark, format!("stage {} has no input `{}`{near}", **name, **each))
        })?),
    };
    let shards = shards(stage)?;
    let own = |pairs: &[(Marked<String>, Marked<Text>)]| {
        pairs.iter().map(|(k, v)| (k.value.clone(), v.clone())).collect::<Vec<_>>()
    };
    let step = Step {
        stage: name.value.clone(),
        id: name.value.clone(),
        variants: Vec::new(),
        each,
        shards,
        mark: name.mark.clone(),
        call,
        script: stage.shell.as_ref().map(|script| script.value.clone()),
        inputs,
        params: own(&stage.params),
        tuning: own(&stage.tuning),
        outputs,
        resources: stage.resources.clone(),
        processes: stage.processes,
        cost: stage.cost.clone(),
        engine: stage.engine.or(study.engine).unwrap_or_default(),
        slurm: slurm::slurm(&study.slurm, stage)?,
        cluster: clusters::of(study.cluster.as_ref(), stage.cluster.as_ref(), folders.root)?,
        env: stage.env.iter().map(|(k, v)| (k.value.clone(), v.0.clone())).collect(),
        pass_env: stage.pass_env.iter().map(|n| n.value.clone()).collect(),
        retries: stage.retries,
        timeout: stage.timeout.map(|t| t.0),
        show: stage.show.iter().map(|s| s.value.clone()).collect(),
    };
    check_slots(&step)?;
    check_cost(&step)?;
    Ok(step)
}

/// What a stage is expected to cost is no less than nothing, and counted by parameters that it has.
fn check_cost(step: &Step) -> Result<()> {
    let Some(cost) = &step.cost else { return Ok(()) };
    let good = |amount: &f64| amount.is_finite() && *amount >= 0.0;
    if !good(&cost.gpu_hours) || !good(&cost.cpu_hours) {
        return Err(Error::mistake(
            &step.mark,
            format!("stage {}: the hours of `cost` are a number from 0", step.stage),
        ));
    }
    let rates = [&cost.gpu_seconds_per, &cost.cpu_seconds_per];
    for (name, amount) in rates.into_iter().flat_map(|rates| rates.iter()) {
        if !good(amount) {
            return Err(Error::mistake(&name.mark, format!("`{}`: seconds are a number from 0", **name)));
        }
    }
    for name in cost.names() {
        // Which parameters a stage program has beside those of the study it says itself.
        let known = step.params.iter().any(|(param, _)| param == name.as_str());
        if matches!(step.call, Call::Command(..)) && !known {
            let near = hint(name, step.params.iter().map(|(param, _)| param.as_str()));
            let text = format!("stage {} has no parameter `{}`{near}", step.stage, **name);
            return Err(Error::mistake(&name.mark, text));
        }
    }
    Ok(())
}

/// The names of a stage are good, and each is one thing's.
fn check_names(stage: &Stage) -> Result<()> {
    let mut names: HashMap<&str, &'static str> = HashMap::new();
    let outputs = stage.outputs.0.iter().map(|(name, _)| (name, "an output"));
    let inputs = stage.inputs.iter().map(|(name, _)| (name, "an input"));
    let params = stage.params.iter().map(|(name, _)| (name, "a parameter"));
    let tuning = stage.tuning.iter().map(|(name, _)| (name, "a tuning value"));
    for (key, role) in inputs.chain(outputs).chain(params).chain(tuning) {
        check_name(key, &format!("the name of {role},"))?;
        // The flags of a stage program share one space of names; the places of a command say which they mean.
        if stage.run.is_none() && !matches!(role, "a parameter" | "a tuning value") {
            continue;
        }
        if let Some(other) = names.insert(key, role) {
            return Err(Error::mistake(&key.mark, format!("`{}` is already the name of {other}", **key)));
        }
    }
    Ok(())
}

/// What a stage writes.
fn outputs(name: &Marked<String>, stage: &Stage) -> Result<Vec<Output>> {
    let mut files = HashSet::new();
    for (_, said) in &stage.outputs.0 {
        let file = Marked { value: said.file.clone(), mark: said.mark.clone() };
        naming::file(&file, &file.mark)?;
        if !files.insert(file.value.clone()) {
            return Err(Error::mistake(&file.mark, format!("two outputs are written to `{}`", *file)));
        }
    }
    let outputs: Vec<_> = stage
        .outputs
        .0
        .iter()
        .map(|(name, said)| Output {
            name: name.value.clone(),
            file: said.file.clone(),
            stream: said.stream.as_deref().and_then(Stream::parse),
            temp: said.temp,
            mark: name.mark.clone(),
        })
        .collect();
    if outputs.is_empty() {
        return Err(Error::mistake(
            &name.mark,
            format!("stage {} has no outputs, so there is nothing to cache", **name),
        ));
    }
    for show in &stage.show {
        if !outputs.iter().any(|o| o.name == show.as_str()) {
            let near = hint(show, outputs.iter().map(|o| o.name.as_str()));
            return Err(Error::mistake(
                &show.mark,
                format!("stage {} has no output `{}`{near}", **name, **show),
            ));
        }
    }
    Ok(outputs)
}

/// What a stage runs.
fn call(name: &Marked<String>, stage: &Stage) -> Result<Call> {
    let (run, command, shell) = (&stage.run, &stage.command, &stage.shell);
    let given = [
        run.as_ref().map(|r| ("run", &r.mark)),
        command.as_ref().map(|c| ("command", &c.mark)),
        shell.as_ref().map(|s| ("shell", &s.mark)),
    ];
    let given: Vec<_> = given.into_iter().flatten().collect();
    if let [(first, _), (second, mark), ..] = given.as_slice() {
        return Err(Error::mistake(mark, format!("stage {} has both `{first}` and `{second}`", **name)));
    }
    if let Some(run) = run {
        return Ok(Call::Run(run.clone()));
    }
    let (mark, words) = match (command, shell) {
        (Some(command), _) => {
            operators::refuse(command)?;
            (&command.mark, template::parse(command))
        }
        (None, Some(shell)) => (&shell.mark, crate::shell::parse(shell)),
        (None, None) => {
            let text = format!("stage {} has neither `run` nor `command` nor `shell`", **name);
            return Err(Error::mistake(&name.mark, text));
        }
    };
    Ok(Call::Command(mark.clone(), words.map_err(|e| Error::mistake(mark, e))?))
}

/// Every place of a command names something, and every input, parameter and output has its place.
fn check_slots(step: &Step) -> Result<()> {
    let Call::Command(mark, words) = &step.call else { return Ok(()) };
    let names = |group: Group| -> Vec<&str> {
        match group {
            Group::Inputs => step.inputs.iter().map(|i| i.name.as_str()).collect(),
            Group::Params => {
                let shard = sharded::PARAMS.iter().filter(|_| step.shards.is_some());
                step.params.iter().map(|p| p.0.as_str()).chain(shard.copied()).collect()
            }
            Group::Tuning => step.tuning.iter().map(|t| t.0.as_str()).collect(),
            Group::Outputs => step.outputs.iter().map(|o| o.name.as_str()).collect(),
            Group::Job => Vec::new(),
        }
    };
    let mut used = HashSet::new();
    for part in words.iter().flat_map(|w| &w.0) {
        let Part::Slot(group, name) = part else { continue };
        let known = names(*group);
        if !known.contains(&name.as_str()) {
            let near = hint(name, known);
            let text = format!("stage {} has no {}.{name}{near}", step.stage, group.name());
            return Err(Error::mistake(mark, text));
        }
        used.insert((group.name(), name.as_str()));
    }
    if step.shards.is_some() && !used.contains(&("params", sharded::PARAMS[0])) {
        let text = format!(
            "the command never names ${{params.{}}}: its shards would all do the same",
            sharded::PARAMS[0]
        );
        return Err(Error::mistake(mark, text));
    }
    if let Some(unused) = step.outputs.iter().find(|o| !used.contains(&("outputs", o.name.as_str()))) {
        let text = format!("the command never names ${{outputs.{}}}", unused.name);
        return Err(Error::mistake(&unused.mark, text));
    }
    Ok(())
}

/// What does not count of an input that is a folder of the study.
fn ignored(stage: &Stage, name: &str, source: &Source, study: &Study) -> Vec<String> {
    let Source::Path(_) = source else { return Vec::new() };
    let own = stage.ignore.inputs.iter().filter(|(input, _)| input.as_str() == name);
    let lines = study.ignore.iter().chain(&stage.ignore.all).chain(own.flat_map(|(_, lines)| lines));
    lines.map(|line| line.value.clone()).collect()
}

/// Every line is one of a `.gitignore`, and changes something.
fn check_ignored(stage: &Stage, inputs: &[Input]) -> Result<()> {
    let named = stage.ignore.inputs.iter().flat_map(|(_, lines)| lines);
    check_lines(stage.ignore.all.iter().chain(named))?;
    let path = |input: &&Input| matches!(input.source, Source::Path(_));
    if let (Some(line), None) = (stage.ignore.all.first(), inputs.iter().find(path)) {
        let text = "`ignore` is about inputs that are paths, and the stage has none";
        return Err(Error::mistake(&line.mark, text));
    }
    for (name, _) in &stage.ignore.inputs {
        if !inputs.iter().filter(path).any(|input| input.name == name.as_str()) {
            let near = hint(name, inputs.iter().filter(path).map(|i| i.name.as_str()));
            return Err(Error::mistake(&name.mark, format!("`{}` is no input that is a path{near}", **name)));
        }
    }
    Ok(())
}

fn check_lines<'a>(lines: impl IntoIterator<Item = &'a Marked<String>>) -> Result<()> {
    let mut builder = ignore::gitignore::GitignoreBuilder::new("");
    for line in lines {
        builder.add_line(None, line.as_str()).map_err(|e| {
            Error::mistake(&line.mark, format!("`{}` is no line of a .gitignore: {e}", **line))
        })?;
    }
    Ok(())
}

/// The number of shards, where there are several.
fn shards(stage: &Stage) -> Result<Option<u32>> {
    let Some(shards) = &stage.shards else { return Ok(None) };
    let wrong = |text: String| Err(Error::mistake(&shards.mark, text));
    if stage.each.is_some() {
        return wrong("a stage has either `each` or `shards`".into());
    }
    if let Some((name, _)) = stage.params.iter().find(|(name, _)| sharded::PARAMS.contains(&name.as_str())) {
        return wrong(format!("`shards` gives the parameter `{}` already", **name));
    }
    match **shards {
        0 => wrong("0 shards would do nothing; leave `shards` out for one piece".into()),
        1 => Ok(None),
        n @ 2..=10_000 => Ok(Some(n)),
        n => wrong(format!("{n} shards are more than 10,000")),
    }
}

/// Every step that is to run on a cluster has one, which can do what it asks for.
///
/// # Errors
/// The first that has none, or asks for several nodes where jobs have one.
pub fn check_clusters(steps: &[Step]) -> Result<()> {
    for step in steps.iter().filter(|step| step.engine == EngineName::Cluster) {
        let text = match (&step.cluster, step.processes) {
            (None, _) => {
                "`engine: cluster` needs a `cluster`: the name of a preset, as `pipeline clusters` lists them, or commands"
                    .into()
            }
            (Some(cluster), Some(processes)) if processes.nodes > 1 && !cluster.has_nodes() => format!(
                "it asks for {} nodes, and `submit` of the cluster {} names no ${{job.nodes}}; let it have ${{job.worker}} \
                 started once on each of so many, or say `processes: {}`",
                processes.nodes,
                cluster.name,
                processes.total()
            ),
            (Some(_), _) => continue,
        };
        return Err(Error::mistake(&step.mark, format!("stage {}: {text}", step.stage)));
    }
    Ok(())
}
