//! What of the arguments cannot be, whatever is fetched; and the question whether they can, answered without a network.

use crate::arguments::{ANY, Args};
use crate::cache::{Kind, is_name};
use crate::http::address;
use anyhow::Result;
use pictures::Labels;
use stage::check::{Check, judge};
use stage::{BadInputExt, CHECK, Question, bad_input};

/// What `download` answers in place of fetching.
pub const QUESTIONS: [Question; 1] = [Question {
    name: CHECK,
    help: "Judge the parameters among the other flags, and print those in force as JSON; asks no server",
    answer: |words| {
        judge(words, |args: &Args, _| {
            // The folder is an input, which need not be there yet.
            if sources(args) > 1 {
                bad_input!("{ONE_SOURCE}")
            }
            fit(args)?;
            Ok(Check::default())
        })
    },
}];

/// What is said where there are several sources or none.
pub(crate) const ONE_SOURCE: &str = "give exactly one source: --folder, --dataset, --model or --url";

/// How many sources are named.
pub(crate) fn sources(args: &Args) -> usize {
    let named = [args.folder.is_some(), args.dataset.is_some(), args.model.is_some(), args.url.is_some()];
    named.iter().filter(|named| **named).count()
}

/// Whether the arguments fit each other.
///
/// # Errors
/// Bad input that names the flags.
pub(crate) fn fit(args: &Args) -> Result<()> {
    if let (Some(column), Labels::Drop) = (&args.label_column, args.labels) {
        bad_input!("--label-column {column} and --labels drop contradict each other")
    }
    if args.model.is_some() != args.file.is_some() {
        bad_input!("--model and --file go together")
    }
    if let Some(name) = &args.dataset {
        is_name(Kind::Dataset, name)?;
    }
    if let Some(name) = &args.model {
        is_name(Kind::Model, name)?;
    }
    if let Some(url) = &args.url {
        address(url).bad_input(|| "--url")?;
        if args.sha256.is_none() {
            bad_input!(
                "--url needs --sha256: a file from the web counts only when its content is known (`any` takes what comes)"
            )
        }
    }
    match &args.sha256 {
        Some(text) if text != ANY && !(text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit())) => {
            bad_input!("--sha256 {text}: neither `{ANY}` nor 64 hexadecimal digits")
        }
        _ => Ok(()),
    }
}
