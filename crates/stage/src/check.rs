//! `--check`: a program judges its arguments before there is anything to work on.

use crate::arguments::Arguments;
use crate::spec::{Arg, Kind, Role};
use crate::{BadInput, Values, bad_input};
use anyhow::Result;
use std::collections::{BTreeMap, BTreeSet};

/// What a program finds of the arguments of `--check`, beside what it refuses.
#[derive(Default)]
pub struct Check {
    /// Parameters that others decide, with their values.
    pub decided: Vec<(&'static str, String)>,
    /// Parameters that others switch off.
    pub off: Vec<&'static str>,
    /// What may turn out to be wrong where the work is done, or with inputs that are not there yet.
    pub warnings: Vec<String>,
}

/// The answer to `--check`, from what the program finds of the arguments. Which of them were given is told too: what must be
/// given for the work and was not for this question only has some text.
///
/// # Errors
/// Bad input when an argument is unknown, of the wrong type or out of its range; what `find` refuses.
pub fn judge<A: Arguments>(
    words: &[String],
    find: impl FnOnce(&A, &dyn Fn(&str) -> bool) -> Result<Check>,
) -> Result<String> {
    let flags = flags(words)?;
    let given: BTreeSet<&str> = flags.iter().map(|(name, _)| *name).collect();
    let values = values::<A>(&flags)?;
    let found = find(&A::from_values(&values)?, &|name| given.contains(name))?;
    found.warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
    let spec = A::spec();
    let written =
        spec.of(Role::Param).filter_map(|arg| Some((arg.name.as_str(), values.text(&arg.name)?.into())));
    let mut force: BTreeMap<&str, String> = written.collect();
    force.extend(found.decided);
    found.off.iter().for_each(|name| drop(force.remove(name)));
    Ok(serde_json::to_string(&force)? + "\n")
}

/// As how many processes the work would be started: `WORLD_SIZE`, as the work itself will see it.
///
/// # Errors
/// Bad input when it is no such number.
pub fn processes() -> Result<usize> {
    let Ok(text) = std::env::var("WORLD_SIZE") else { return Ok(1) };
    match text.parse() {
        Ok(number) if number > 0 => Ok(number),
        _ => bad_input!("WORLD_SIZE=`{text}` is no number that it can be"),
    }
}

/// The flags of a question with their values.
///
/// # Errors
/// Bad input when a word is no flag, or a flag has no value.
pub fn flags(words: &[String]) -> Result<Vec<(&str, &str)>> {
    let mut given = Vec::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let Some(flag) = word.strip_prefix("--") else { bad_input!("`{word}` is no flag") };
        given.push(match flag.split_once('=') {
            Some(pair) => pair,
            None => {
                let value = words.next().map(String::as_str);
                (flag, value.ok_or_else(|| BadInput(format!("--{flag} has no value")))?)
            }
        });
    }
    Ok(given)
}

/// Values for a question, of which those that no answer depends on only have to be there.
///
/// # Errors
/// Bad input when a name or a value does not fit the description.
pub fn values<A: Arguments>(given: &[(&str, &str)]) -> Result<Values> {
    let spec = A::spec();
    let given_not = |arg: &&Arg| !given.iter().any(|(name, _)| *name == arg.name);
    let missing = spec.arguments.iter().filter(|arg| arg.required && arg.kind == Kind::Path);
    let missing = missing.filter(given_not).map(|arg| (arg.name.as_str(), "unused"));
    Values::new(&spec, given.iter().copied().chain(missing))
}
