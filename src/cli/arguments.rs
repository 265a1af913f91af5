//! What single commands are told.

use clap::{Args, ValueEnum};
use std::net::IpAddr;
use std::path::PathBuf;
use study::{Bytes, Time};

/// What `run` is told.
#[derive(Debug, Args)]
pub struct RunArguments {
    /// Stages to run, with all that they need [default: all]
    #[arg(value_name = "STAGE")]
    pub stages: Vec<String>,
    /// Do not ask before a long stage runs again only because its program changed
    #[arg(long, short)]
    pub yes: bool,
    /// Fail when an output is not the one that the lock file names
    #[arg(long)]
    pub locked: bool,
    /// What the run is called in `pipeline runs` and `pipeline table`
    #[arg(long, value_name = "NAME", value_parser = run_name)]
    pub name: Option<String>,
    /// What the record of the run says of it
    #[arg(long, value_name = "TEXT")]
    pub note: Option<String>,
    /// Show no progress, only what goes wrong, and the summary
    #[arg(long, short)]
    pub quiet: bool,
    /// `json` prints every event of the run on standard output, one object a line, in the place of the summary
    #[arg(long, value_enum, default_value = "text", value_name = "FORMAT", conflicts_with = "json")]
    pub log_format: LogFormat,
}

/// A name that can be told from the id of a run.
fn run_name(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if !text.starts_with(|c: char| c.is_ascii_alphabetic()) || !text.chars().all(plain) {
        return Err("a name begins with a letter and has letters, digits, `-`, `_` and `.` only".into());
    }
    Ok(text.into())
}

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub enum LogFormat {
    Text,
    Json,
}

/// What `gc` keeps beside the newest result of each stage.
#[derive(Debug, Args)]
pub struct GcLimits {
    /// Keep the most recently used other results up to this size in all
    #[arg(long, value_name = "SIZE", default_value = "100GiB")]
    pub max_size: Bytes,
    /// Keep every result that was made or used so recently, whatever its size
    #[arg(long, value_name = "TIME", default_value = "1d")]
    pub grace: Time,
    /// Keep the logs and records of runs for so long
    #[arg(long, value_name = "TIME", default_value = "90d")]
    pub logs: Time,
    /// Only say what would go
    #[arg(long)]
    pub dry_run: bool,
}

/// What `table` shows, and how.
#[derive(Debug, Args)]
pub struct TableArguments {
    /// The study by its name or another by its file, or past runs by their names or ids [default: the study]
    #[arg(value_name = "STUDY|RUN")]
    pub of: Vec<String>,
    /// Every past run of the study
    #[arg(long)]
    pub runs: bool,
    /// Sort by these columns, downwards with a `-` before the name
    #[arg(long, value_name = "COLUMN", value_delimiter = ',', allow_hyphen_values = true)]
    pub sort: Vec<String>,
    /// Only rows of which this is so, as `fid<10`, `model=dit-b/2`, `variant~switch` (holds); may be repeated
    #[arg(long, value_name = "COLUMN<VALUE")]
    pub filter: Vec<String>,
    /// These columns in this order [default: parameters that differ, and metrics]
    #[arg(long, value_name = "COLUMN", value_delimiter = ',')]
    pub columns: Vec<String>,
    /// Mark the lowest number of these columns
    #[arg(long, value_name = "COLUMN", value_delimiter = ',')]
    pub lowest: Vec<String>,
    /// Mark the highest number of these columns
    #[arg(long, value_name = "COLUMN", value_delimiter = ',')]
    pub highest: Vec<String>,
    /// A row for every seed, in the place of mean ± deviation
    #[arg(long)]
    pub each_seed: bool,
    /// As CSV, with every digit
    #[arg(long, conflicts_with_all = ["markdown", "latex", "json"])]
    pub csv: bool,
    /// As Markdown
    #[arg(long, conflicts_with_all = ["latex", "json"])]
    pub markdown: bool,
    /// As LaTeX, for a document that uses `booktabs`
    #[arg(long, conflicts_with = "json")]
    pub latex: bool,
}

/// How the page is served, or where it is written.
#[derive(Debug, Args)]
pub struct UiArguments {
    /// Listen on this address; anything but a loopback address lets others in who know the token
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    pub host: IpAddr,
    /// Listen on this port, 0 for any that is free [default: 7474, or another where that is taken]
    #[arg(long, value_name = "PORT")]
    pub port: Option<u16>,
    /// Only print the address
    #[arg(long)]
    pub no_open: bool,
    /// Write the page with all that it shows into this folder, and serve nothing
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["host", "port", "no_open"])]
    pub export: Option<PathBuf>,
}
