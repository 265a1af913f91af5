//! One attempt at an action: its folders, its command line, its environment, its process.

use crate::engine::error::{Error, Result};
use crate::engine::private::{self, Words};
use crate::engine::ranks::{self, Ranks};
use crate::engine::supervise;
use crate::session::{Input, Place, Session, Task};
use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use store::IoContext;
use store::Store;
use store::lock::Lock;
use store::name;
use study::graph::{Call, Step};
use study::sharded;
use study::template::Group;

/// The working folder of an attempt.
pub struct Attempt {
    pub folder: PathBuf,
    /// Where the outputs are written.
    pub out: PathBuf,
    /// Where progress is reported.
    pub events: PathBuf,
    /// What an interrupted run left, and this one may.
    pub state: PathBuf,
    pub log: PathBuf,
    /// The program and its arguments, as a person could type them in the study's root.
    pub words: Vec<String>,
}

impl Attempt {
    /// Makes the folders, which needs the action's lock: what a killed attempt left is removed.
    pub fn prepare(session: &Session, task: &Task, log: PathBuf) -> Result<Self> {
        let key = &task.key;
        let store = &session.store;
        let folder = store.attempt(key);
        let out = Store::next_outputs(&folder);
        store.fresh(&folder)?;
        fs::create_dir(&out).at("making", &out)?;
        let state = store.state(key);
        fs::create_dir_all(&state).at("making", &state)?;
        if let Some(parent) = log.parent() {
            fs::create_dir_all(parent).at("making", parent)?;
        }
        let step = &session.graph.steps[task.step];
        let mut attempt =
            Self { events: log.with_extension("events"), folder, out, state, log, words: Vec::new() };
        let short = |path: &Path| shortened(session, path);
        attempt.words =
            command_line(session, task, &attempt.out, |input| attempt.seen(session, input, step, short))?;
        Ok(attempt)
    }

    /// The path by which a stage sees an input: that of the study, its place in the store or, where it has a name there,
    /// a link with that name.
    fn seen(
        &self,
        session: &Session,
        input: &Input,
        step: &Step,
        short: impl Fn(&Path) -> String,
    ) -> Result<String> {
        let place = match &input.place {
            // A command line is text; a name that is none gets one.
            Place::Study(path, _) => match path.to_str() {
                Some(path) => return Ok(path.into()),
                None => session.graph.root.join(path),
            },
            Place::Store => session.store.place(&input.digest),
        };
        if matches!(input.place, Place::Store) && !session.store.materialize(&input.digest)? {
            return Err(Error::Gone { input: input.name.clone(), stage: step.stage.clone() });
        }
        let Some(named) = self.named(input) else { return Ok(short(&place)) };
        store::link::point(&named, &place)?;
        Ok(short(&named))
    }

    /// The link by which a stage sees an input that has a name.
    pub fn named(&self, input: &Input) -> Option<PathBuf> {
        let file = name::fit(input.file.as_ref()?.as_ref(), name::LONGEST);
        Some(self.folder.join("in").join(&input.name).join(file))
    }

    /// What the starter of its ranks needs to know, where it is to be several processes.
    pub fn ranks(&self, step: &Step, program: &Path) -> Option<Ranks> {
        let (program, words) = (program.to_path_buf(), Words::of(&self.words).0);
        let (log, events) = (self.log.clone(), self.events.clone());
        step.processes.map(|processes| Ranks { program, words, processes, log, events })
    }

    /// Starts the program under a supervisor, which holds the lock as long as anything of it lives.
    pub fn start(
        &self,
        step: &Step,
        root: &Path,
        program: &Path,
        lock: &Lock,
        gpus: &[String],
    ) -> Result<Child> {
        let log = File::options().create(true).append(true).open(&self.log).at("opening", &self.log)?;
        let runner = store::process::program().at("finding", Path::new("the runner itself"))?;
        let lock = lock.0.try_clone().at("sharing", &self.folder)?;
        let mut command = Command::new(&runner);
        command.arg(supervise::WORD).arg(std::process::id().to_string());
        let mut private = None;
        match self.ranks(step, program) {
            Some(ranks) => {
                ranks.write(&self.folder)?;
                command.arg(&runner).arg(ranks::WORD).arg(&self.folder);
                private = Words::of(&self.words).1.value();
            }
            None => drop(command.arg(program).args(&self.words[1..])),
        }
        command
            .current_dir(root)
            .env_clear()
            .envs(environment(step, gpus))
            .envs(private.map(|words| (private::VARIABLE, words)))
            .env("PIPELINE_EVENTS", &self.events)
            .env("PIPELINE_STATE", &self.state)
            .stdin(Stdio::from(lock))
            .stdout(log.try_clone().at("opening", &self.log)?)
            .stderr(log)
            .process_group(0);
        let what = || format!("stage {}", step.stage);
        command.spawn().map_err(|source| Error::Start { what: what(), source })
    }
}

/// A path as a person in the study's root would type it.
fn shortened(session: &Session, path: &Path) -> String {
    path.strip_prefix(&session.graph.root).unwrap_or(path).display().to_string()
}

/// The program of a task and its arguments: its outputs are written to files in `out`, and `seen` gives the path of an
/// input.
pub fn command_line(
    session: &Session,
    task: &Task,
    out: &Path,
    seen: impl Fn(&Input) -> Result<String>,
) -> Result<Vec<String>> {
    let step = &session.graph.steps[task.step];
    let short = |path: &Path| shortened(session, path);
    let mut values: Vec<((&str, &str), String)> = Vec::new();
    for input in &task.inputs {
        values.push((("inputs", &input.name), seen(input)?));
    }
    for output in &step.outputs {
        values.push((("outputs", &output.name), short(&out.join(&output.file))));
    }
    for (group, pairs) in [("params", &step.params), ("tuning", &step.tuning)] {
        values.extend(pairs.iter().map(|(name, value)| ((group, name.as_str()), value.0.clone())));
    }
    let shard: &[&str] = if step.shards.is_some() { &sharded::PARAMS } else { &[] };
    values.extend(shard.iter().map(|name| (("params", *name), task.action.params[*name].clone())));
    let value = |group: Group, name: &str| {
        let found = values.iter().find(|((g, n), _)| *g == group.name() && *n == name);
        found.map_or("", |(_, text)| text.as_str())
    };
    let program = session.programs[task.step].as_ref().map(|p| p.path.clone()).unwrap_or_default();
    Ok(match &step.call {
        Call::Command(_, words) => words.iter().map(|word| word.fill(value)).collect(),
        Call::Run(_) => {
            let mut line = vec![short(&program)];
            let names = step.inputs.iter().map(|i| (Group::Inputs, i.name.as_str()));
            let names = names.chain(step.params.iter().map(|p| (Group::Params, p.0.as_str())));
            let names = names.chain(shard.iter().map(|name| (Group::Params, *name)));
            let names = names.chain(step.outputs.iter().map(|o| (Group::Outputs, o.name.as_str())));
            for (group, name) in names.chain(step.tuning.iter().map(|t| (Group::Tuning, t.0.as_str()))) {
                line.extend([format!("--{name}"), value(group, name).to_string()]);
            }
            line
        }
    })
}

/// The environment of a stage.
pub fn environment(step: &Step, gpus: &[String]) -> Vec<(OsString, OsString)> {
    let mut kept = study::environment::passed(&step.pass_env);
    let mut unless_set = |name: &str, value: String| {
        if !kept.iter().any(|(kept, _)| kept == name) {
            kept.push((name.into(), value.into()));
        }
    };
    // Threads that wait by spinning take the processor from the stages beside them.
    unless_set("OMP_WAIT_POLICY", "PASSIVE".into());
    // Of several processes, each would else take every core.
    if let Some(cpus) = step.resources.cpus.or(step.processes.map(|_| 1)) {
        unless_set("OMP_NUM_THREADS", cpus.to_string());
    }
    if step.resources.gpus > 0 {
        kept.retain(|(name, _)| name != "CUDA_VISIBLE_DEVICES");
        kept.push(("CUDA_VISIBLE_DEVICES".into(), gpus.join(",").into()));
    }
    kept.extend(step.env.iter().map(|(name, value)| (name.into(), value.into())));
    kept
}
