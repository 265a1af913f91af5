//! A command line read: the value of each argument, or the answer to `--help` and `--describe`.

use crate::question::Question;
use crate::spec::{Kind, Role, Spec};
use crate::value::Value;
use crate::{BadInput, nearest};
use anyhow::Result;
use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

/// The values given on a command line, and the defaults of the others.
#[derive(Clone, Debug, Default)]
pub struct Values(BTreeMap<String, String>);

impl Values {
    /// Values by flag name, for tests and for callers without a command line.
    ///
    /// # Errors
    /// When a name or a value does not fit the description.
    pub fn new<'a>(spec: &Spec, given: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self> {
        let mut values = BTreeMap::new();
        for (name, text) in given {
            let arg = spec.argument(name).ok_or_else(|| {
                let near = nearest(name, spec.arguments.iter().map(|a| a.name.as_str()));
                let hint = near.map(|n| format!("; did you mean --{n}?")).unwrap_or_default();
                BadInput(format!("{} has no --{name}{hint}", spec.name))
            })?;
            arg.kind.check(text).map_err(|e| BadInput(format!("--{name}: {e}")))?;
            values.insert(name.to_string(), text.to_string());
        }
        for arg in &spec.arguments {
            if let Some(default) = &arg.default {
                values.entry(arg.name.clone()).or_insert_with(|| plain(default));
            }
        }
        Ok(Self(values))
    }

    /// Parses a command line. `None` when `--help`, `--version` or `--describe` was asked for and answered.
    ///
    /// # Errors
    /// Exit code 2, after the mistake has been printed on one line.
    pub fn from_command_line(
        spec: &Spec,
        arguments: impl IntoIterator<Item = OsString>,
    ) -> Result<Option<Self>, ExitCode> {
        Self::parse(spec, &[], arguments)
    }

    /// The same for a program that answers questions, so that `--help` lists them.
    pub(crate) fn parse(
        spec: &Spec,
        questions: &[Question],
        arguments: impl IntoIterator<Item = OsString>,
    ) -> Result<Option<Self>, ExitCode> {
        let program = std::iter::once(OsString::from(&spec.name));
        let matches = match command(spec, questions).try_get_matches_from(program.chain(arguments)) {
            Ok(matches) => matches,
            Err(e) if e.use_stderr() => {
                let text = e.render().to_string();
                let line: Vec<_> =
                    text.lines().take_while(|l| !l.starts_with("Usage")).map(str::trim).collect();
                eprintln!("{}; see `{} --help`", line.join(" ").trim_end(), spec.name);
                return Err(ExitCode::from(2));
            }
            Err(e) => {
                // `--help` into a closed pipe is no failure.
                let _ = e.print();
                return Ok(None);
            }
        };
        if matches.get_flag("describe") {
            // A reader that closes the pipe early has seen enough.
            let _ = writeln!(std::io::stdout(), "{}", serde_json::to_string_pretty(spec).unwrap_or_default());
            return Ok(None);
        }
        let given = spec.arguments.iter().filter_map(|arg| {
            let explicit = matches.value_source(&arg.name) == Some(clap::parser::ValueSource::CommandLine);
            let text = matches.get_one::<String>(&arg.name).filter(|_| explicit)?;
            Some((arg.name.as_str(), text.as_str()))
        });
        Self::new(spec, given).map(Some).map_err(|e| {
            eprintln!("error: {e:#}");
            ExitCode::from(2)
        })
    }

    /// The text of an argument, given or default.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// The typed value of an argument.
    ///
    /// # Errors
    /// When it is required and missing, or does not parse.
    pub fn get<T: Value>(&self, name: &str) -> Result<T> {
        match self.text(name) {
            Some(text) => Ok(T::parse(text).map_err(|e| BadInput(format!("--{name}: {e}")))?),
            None => Ok(T::absent().ok_or_else(|| BadInput(format!("--{name} is missing")))?),
        }
    }
}

/// The text of a default as it would stand on a command line.
fn plain(json: &Json) -> String {
    match json {
        Json::String(s) => s.clone(),
        Json::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

pub(crate) fn command(spec: &Spec, questions: &[Question]) -> clap::Command {
    let describe = clap::Arg::new("describe")
        .long("describe")
        .action(clap::ArgAction::SetTrue)
        .exclusive(true)
        .help("Print the arguments as JSON: roles, types, ranges, defaults, units");
    let mut command = clap::Command::new(spec.name.clone())
        .about(spec.about.clone())
        .version(env!("CARGO_PKG_VERSION"))
        .after_help(
            "An output is put in its place when it is whole. What is there already is replaced where this program made it, and \
             refused (exit code 2) where it holds anything else; so is an output that is, holds or lies in an input.\n\
             Exit codes: 0 done, 1 failed, 2 wrong usage or bad input, 75 try again (also when stopped by SIGTERM).\n\
             Environment: PIPELINE_EVENTS names a file for progress as JSON lines, PIPELINE_STATE a folder to resume from.",
        )
        .arg(describe);
    for question in questions {
        let flag = clap::Arg::new(question.name).long(question.name).help(question.help);
        command = command.arg(flag.action(clap::ArgAction::SetTrue).help_heading("Questions"));
    }
    for arg in &spec.arguments {
        let notes = [
            arg.kind.range(),
            arg.unit.clone(),
            arg.default.as_ref().map(|d| format!("default {}", plain(d))),
        ];
        let notes: Vec<_> = notes.into_iter().flatten().collect();
        let mut help = match notes.as_slice() {
            [] => arg.help.clone(),
            notes => format!("{} [{}]", arg.help, notes.join("; ")),
        };
        arg.kind.meanings().for_each(|(word, meaning)| help += &format!("\n- {word}: {meaning}"));
        let mut flag = clap::Arg::new(arg.name.clone())
            .long(arg.name.clone())
            .value_name(arg.kind.placeholder())
            .allow_hyphen_values(matches!(arg.kind, Kind::Integer { .. } | Kind::Number { .. }))
            .required(arg.required)
            .help(help)
            .help_heading(match arg.role {
                Role::Input => "Inputs",
                Role::Param => "Parameters (change the result)",
                Role::Tuning => "Tuning (changes only the speed)",
                Role::Output => "Outputs",
            });
        if arg.kind == Kind::Flag {
            flag = flag.num_args(0..=1).default_missing_value("true");
        }
        command = command.arg(flag);
    }
    command
}
