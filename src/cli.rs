//! The command line.

mod arguments;
mod examples;
mod habits;

use crate::session::Options;
use clap::parser::ValueSource;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use examples::EXAMPLES;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use study::Choice;
use study::file::EngineName;

pub use arguments::{GcLimits, LogFormat, RunArguments, TableArguments, UiArguments};
pub use habits::explained;

/// What a study is called where none is named.
const STUDY: &str = "pipeline.yaml";

/// Runs a study: a DAG of programs whose outputs are cached by content.
#[derive(Debug, Parser)]
#[command(name = "pipeline", version, after_help = EXIT_CODES, max_term_width = 110)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 done, 1 a stage failed, 2 wrong usage or study file, \
75 a stage asks to be run again later, 130 stopped by a signal.
Environment: CARGO_TARGET_DIR moves the folder of built programs; CUDA_VISIBLE_DEVICES limits the GPUs handed out; \
PIPELINE_STAGES names folders of stage programs; PIPELINE_EVENTS and PIPELINE_STATE are set for every stage; NO_COLOR, \
CLICOLOR and CLICOLOR_FORCE say whether states have colours.
`pipeline COMMAND --help` has examples.";

/// Options of every command.
#[derive(Debug, Args)]
#[command(next_help_heading = "Options of every command")]
pub struct Global {
    /// The study; without it, that of this folder or of the nearest one above
    #[arg(long, global = true, value_name = "PATH", default_value = STUDY)]
    pub file: PathBuf,
    /// Whether `--file` was given.
    #[arg(skip)]
    named: bool,
    /// Apply a profile of the study
    #[arg(long, global = true, value_name = "NAME")]
    pub profile: Option<String>,
    /// Work on a variant of the study, `*` for all; may be repeated
    #[arg(long = "variant", global = true, value_name = "NAME")]
    pub variants: Vec<String>,
    /// Give a parameter (or, as vars.NAME, a variable, or STAGE.processes) another value; may be repeated
    #[arg(long, global = true, value_name = "STAGE.PARAM=VALUE")]
    pub set: Vec<String>,
    /// Put a file or folder in the place of an output; only what is downstream runs
    #[arg(long, global = true, value_name = "STAGE.OUTPUT=PATH")]
    pub with: Vec<String>,
    /// Run a stage although it is cached, or `*`, all of them; may be repeated
    #[arg(long, global = true, value_name = "STAGE")]
    pub force: Vec<String>,
    /// Run at most so many stages at the same time
    #[arg(long, short, global = true, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub jobs: Option<u32>,
    /// Use this shared cache: a folder, or s3://, gs://, az://, http(s)://
    #[arg(long, global = true, value_name = "URL")]
    pub cache: Option<String>,
    /// Ask no shared cache
    #[arg(long, global = true)]
    pub offline: bool,
    /// After a failure, still run what does not need the failed stage
    #[arg(long, short, global = true)]
    pub keep_going: bool,
    /// Run all stages here, on Slurm or on the study's cluster, whatever the study says
    #[arg(long, global = true, value_enum)]
    pub engine: Option<EngineName>,
    /// Print JSON on standard output, for programs
    #[arg(long, global = true)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run what is not cached, and show the scores
    Run(RunArguments),
    /// Take the newest outputs of a stage as those of its changed program, parameters or inputs
    Accept {
        #[arg(value_name = "STAGE", required = true)]
        stages: Vec<String>,
    },
    /// Say what a run would do, and why
    Plan {
        /// Stages to plan, with all that they need [default: all]
        #[arg(value_name = "STAGE")]
        stages: Vec<String>,
        /// What the stages that would run are expected to cost: GPU hours, CPU hours, disk
        #[arg(long)]
        cost: bool,
    },
    /// Run stages on what a stage that still runs has published (an output with `stream`), until it is done
    Watch {
        #[arg(value_name = "STAGE", required = true)]
        stages: Vec<String>,
        /// Only what is there now
        #[arg(long)]
        once: bool,
    },
    /// Send the results of a study that is done, or of some stages, to the shared cache
    Push {
        /// Stages to send, with all that they need [default: all]
        #[arg(value_name = "STAGE")]
        stages: Vec<String>,
    },
    /// Bring what the shared cache has of a study, or of some stages, here, without running anything
    Pull {
        /// Stages to bring, with all that they need [default: all]
        #[arg(value_name = "STAGE")]
        stages: Vec<String>,
    },
    /// Write the results of the study, or of a past run, to one archive, with where they came from
    Export {
        /// The study's name, or the name of a run or the beginning of it
        #[arg(value_name = "STUDY|RUN")]
        what: String,
        #[arg(value_name = "FILE.tar.zst")]
        archive: PathBuf,
    },
    /// Take the results of an archive into the store; they are hits from then on
    Import {
        #[arg(value_name = "FILE.tar.zst")]
        archive: PathBuf,
    },
    /// Say how a stage differs from its last success
    Why { stage: String },
    /// Compare two variants, or two past runs: parameters, inputs, programs, metrics
    Diff {
        #[arg(value_name = "A")]
        a: String,
        #[arg(value_name = "B")]
        b: String,
    },
    /// Print past runs, or one in full
    Runs {
        /// Its name, its id, or the beginning of the id
        #[arg(value_name = "RUN")]
        run: Option<String>,
        /// Also those of other studies in the store
        #[arg(long)]
        all: bool,
    },
    /// Print a table of the variants of the study, or of past runs: parameters that differ, and metrics
    Table(TableArguments),
    /// Show the study in a browser: its stages as they run, all variants and runs, what differs, what came out
    Ui(UiArguments),
    /// Print the study as a picture in text
    Graph {
        #[arg(long, value_enum, default_value = "mermaid")]
        format: GraphFormat,
    },
    /// Print the log of the newest attempt of a stage (or of `build`), or of the run that made its restored result
    Log {
        stage: String,
        /// Of a stage that ran as several processes, the log of this one
        #[arg(long, value_name = "N", default_value = "0")]
        rank: u32,
    },
    /// Become a stage program, found in the folders that `--list` names: `pipeline stage train --help`
    #[command(override_usage = "pipeline stage NAME [ARGUMENT]...\n       pipeline stage --list")]
    Stage {
        /// Print the stage programs, and the folders where they are looked for
        #[arg(long, conflicts_with = "words")]
        list: bool,
        /// The program, and everything that it is told
        #[arg(
            value_name = "NAME",
            required_unless_present = "list",
            num_args = 1..,
            trailing_var_arg = true,
            allow_hyphen_values = true
        )]
        words: Vec<OsString>,
    },
    /// Check the study file without running anything
    Check,
    /// List the presets for `engine: cluster`, or print one, to be copied and changed
    Clusters {
        /// Its name
        #[arg(value_name = "NAME")]
        name: Option<String>,
    },
    /// Remove old results from the store, and what no result names
    Gc(GcLimits),
    /// Read the whole store again and put what is damaged into quarantine
    Verify,
    /// Write the digests of all outputs beside the study, for `run --locked`
    Lock,
    /// Write a commented study to begin with
    Init,
    /// Print the completions of a shell
    Completions { shell: clap_complete::Shell },
    /// Print the JSON Schema of a study file, for editors
    Schema,
    /// Print the manual page
    Man,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum GraphFormat {
    Mermaid,
    Dot,
}

impl Cli {
    /// What may be typed, the commands in the order of their use, each with examples.
    pub fn grammar() -> clap::Command {
        let commands = EXAMPLES.iter().enumerate();
        commands.fold(Self::command(), |grammar, (place, (name, examples))| {
            let help = format!("Examples:\n{examples}");
            grammar.mut_subcommand(*name, |command| command.display_order(place).after_help(help))
        })
    }

    /// Reads a command line.
    pub fn read(arguments: Vec<OsString>) -> clap::error::Result<Self> {
        let matches = Self::grammar().try_get_matches_from(arguments)?;
        let mut cli = Self::from_arg_matches(&matches)?;
        cli.global.named = matches.value_source("file") == Some(ValueSource::CommandLine);
        Ok(cli)
    }
}

impl Command {
    /// Whether it is about a study that is there.
    pub fn reads_study(&self) -> bool {
        // `stage` looks for a study by itself, since it can do without one.
        !matches!(
            self,
            Self::Stage { .. }
                | Self::Clusters { .. }
                | Self::Init
                | Self::Completions { .. }
                | Self::Schema
                | Self::Man
        )
    }
}

impl Global {
    /// Looks for the study in the folders above, unless one was named. Returns it where it is another folder's.
    pub fn find(&mut self) -> study::Result<Option<&Path>> {
        self.file = self.nearest()?;
        if self.named {
            return Ok(None);
        }
        Ok(Some(self.file.as_path()).filter(|file| *file != Path::new(STUDY)))
    }

    /// The study's file: the one that was named, or else of this folder or the nearest above.
    pub fn nearest(&self) -> study::Result<PathBuf> {
        if self.named { Ok(self.file.clone()) } else { study::find(STUDY) }
    }

    /// Whether `--file` was given.
    pub fn named(&self) -> bool {
        self.named
    }

    /// Which study.
    pub fn choice(&self) -> Choice {
        Choice {
            file: self.file.clone(),
            profile: self.profile.clone(),
            variants: self.variants.clone(),
            set: self.set.clone(),
            engine: self.engine,
        }
    }

    /// What a session needs to know.
    pub fn options(&self, stages: &[String]) -> Options {
        Options {
            choice: self.choice(),
            with: self.with.clone(),
            force: self.force.clone(),
            stages: stages.to_vec(),
            cache: self.cache.clone(),
            offline: self.offline,
            only_look: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_examples_that_can_be_typed() {
        let grammar = Cli::grammar();
        grammar.clone().debug_assert();
        for command in grammar.get_subcommands() {
            let name = command.get_name();
            assert!(EXAMPLES.iter().any(|(known, _)| *known == name), "{name} has no examples");
        }
        for (name, examples) in EXAMPLES {
            // What stands behind two spaces says what it does.
            let typed = examples.lines().map(|line| line.trim().split("  ").next().unwrap_or_default());
            let calls = typed.flat_map(|line| line.split("&&")).map(str::trim);
            let mut named = false;
            for call in calls.filter(|call| call.starts_with("pipeline ")) {
                let call = call.split(['|', '>']).next().unwrap_or_default();
                let words: Vec<&str> = call.split_whitespace().map(|word| word.trim_matches('\'')).collect();
                named |= words.contains(&name);
                Cli::read(words.iter().map(OsString::from).collect()).unwrap();
            }
            assert!(named, "{name}");
        }
    }
}
