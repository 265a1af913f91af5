//! Words that users of DVC and Snakemake type by habit, each with ours: what `pipeline` says to who types one, and the table of
//! `docs/how-to/moving.md`.

use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue, ErrorKind};

/// Whose word it is.
const DVC: &str = "DVC";
const SNAKEMAKE: &str = "Snakemake";

/// A word of another program.
struct Habit {
    of: &'static str,
    /// A command or a flag of it.
    word: &'static str,
    /// What is typed here; where that is no command, what is done.
    ours: &'static str,
}

impl Habit {
    /// What is typed here, marked as such.
    fn shown(&self) -> String {
        if self.is_command() { format!("`{}`", self.ours) } else { self.ours.into() }
    }

    fn is_command(&self) -> bool {
        self.ours.starts_with("pipeline ")
    }
}

const fn habit(of: &'static str, word: &'static str, ours: &'static str) -> Habit {
    Habit { of, word, ours }
}

/// All of them.
const HABITS: [Habit; 33] = [
    habit(DVC, "repro", "pipeline run"),
    habit(DVC, "exp", "pipeline run --set STAGE.PARAM=VALUE"),
    habit(DVC, "status", "pipeline plan"),
    habit(DVC, "dag", "pipeline graph"),
    habit(DVC, "add", "a path under `inputs:` of a stage"),
    habit(DVC, "params", "pipeline diff A B"),
    habit(DVC, "metrics", "pipeline table"),
    habit(DVC, "plots", "pipeline ui"),
    habit(DVC, "fetch", "pipeline pull"),
    habit(DVC, "checkout", "pipeline run"),
    habit(DVC, "commit", "pipeline accept STAGE"),
    habit(DVC, "remote", "pipeline push --cache URL"),
    habit(DVC, "-r", "pipeline push --cache URL"),
    habit(DVC, "--remote", "pipeline push --cache URL"),
    habit(DVC, "--dry", "pipeline plan"),
    habit(DVC, "-S", "pipeline run --set STAGE.PARAM=VALUE"),
    habit(DVC, "--set-param", "pipeline run --set STAGE.PARAM=VALUE"),
    habit(DVC, "--single-item", "pipeline run STAGE"),
    habit(DVC, "-f", "pipeline run --force STAGE"),
    habit(SNAKEMAKE, "-n", "pipeline plan"),
    habit(SNAKEMAKE, "--dry-run", "pipeline plan"),
    habit(SNAKEMAKE, "--cores", "pipeline run --jobs N"),
    habit(SNAKEMAKE, "-c", "pipeline run --jobs N"),
    habit(SNAKEMAKE, "--forcerun", "pipeline run --force STAGE"),
    habit(SNAKEMAKE, "-R", "pipeline run --force STAGE"),
    habit(SNAKEMAKE, "--forceall", "pipeline run --force '*'"),
    habit(SNAKEMAKE, "-F", "pipeline run --force '*'"),
    habit(SNAKEMAKE, "--config", "pipeline run --set STAGE.PARAM=VALUE"),
    habit(SNAKEMAKE, "--snakefile", "pipeline run --file STUDY"),
    habit(SNAKEMAKE, "--executor", "pipeline run --engine slurm"),
    habit(SNAKEMAKE, "--dag", "pipeline graph"),
    habit(SNAKEMAKE, "--unlock", "pipeline run"),
    habit(SNAKEMAKE, "--rerun-incomplete", "pipeline run"),
];

/// Says our word where somebody typed that of another program, in the place of guesses.
pub fn explained(mut e: clap::Error) -> clap::Error {
    let kind = match e.kind() {
        ErrorKind::InvalidSubcommand => ContextKind::InvalidSubcommand,
        ErrorKind::UnknownArgument => ContextKind::InvalidArg,
        _ => return e,
    };
    let Some(ContextValue::String(typed)) = e.get(kind) else { return e };
    let typed = typed.split('=').next().unwrap_or_default();
    let Some(habit) = HABITS.iter().find(|habit| habit.word == typed) else { return e };
    let tip = StyledStr::from(format!("the `{}` of {} is {} here", habit.word, habit.of, habit.shown()));
    for guess in [ContextKind::SuggestedSubcommand, ContextKind::SuggestedArg] {
        e.remove(guess);
    }
    e.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip]));
    e
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;
    use std::collections::HashSet;
    use std::ffi::OsString;

    fn words(line: &str) -> Vec<OsString> {
        line.split_whitespace().map(|word| word.trim_matches('\'').into()).collect()
    }

    #[test]
    fn each_word_is_none_of_ours_and_is_answered_by_one_that_is() {
        let mut seen = HashSet::new();
        for habit in &HABITS {
            assert!(seen.insert(habit.word), "{} stands here twice", habit.word);
            let ours = habit.ours.replace(" N", " 2");
            assert!(!habit.is_command() || Cli::read(words(&ours)).is_ok(), "{ours}");
            let typed = match habit.word.starts_with('-') {
                true => format!("pipeline run {}", habit.word),
                false => format!("pipeline {}", habit.word),
            };
            let said = explained(Cli::read(words(&typed)).unwrap_err()).render().to_string();
            let tip = format!("tip: the `{}` of {} is {} here", habit.word, habit.of, habit.shown());
            assert!(said.contains(&tip) && said.matches("tip:").count() == 1, "{typed}: {said}");
        }
    }

    #[test]
    fn the_page_has_just_these_words() {
        let mut table = String::from("| typed by habit | of | here |\n|---|---|---|\n");
        for habit in &HABITS {
            table += &format!("| `{}` | {} | {} |\n", habit.word, habit.of, habit.shown());
        }
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/how-to/moving.md");
        let page = std::fs::read_to_string(page).unwrap();
        assert!(page.contains(&format!("\n{table}\n")), "docs/how-to/moving.md should have\n{table}");
    }
}
