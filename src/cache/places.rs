//! What a person calls the paths that a stage was given: those of the store and of an attempt are the runner's own affair.
//!
//! They stand beside the stage's log, so that whoever shows that log can show them.

use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use store::record;

/// Paths as a stage has them, each with the path that a person knows in its place. What stands first counts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Places(pub Vec<(String, String)>);

impl Places {
    /// Those beside the log, or the events, of a stage; of several processes the stage's.
    pub fn beside(log: &Path) -> Self {
        record::read(&file(log)).unwrap_or_default()
    }

    /// Writes them beside a log, with those of the attempts before, which wrote to the same log. Without them a log is shown as it
    /// stands.
    pub fn keep(&self, log: &Path) {
        let mut all = self.clone();
        all.0.extend(Self::beside(log).0.into_iter().filter(|place| !self.0.contains(place)));
        let _ = record::write(&file(log), &all, false);
    }

    /// A text of a stage with the paths that a person knows.
    pub fn shown(&self, text: &str) -> String {
        // Few lines name a path, and a stage may have thousands of them.
        let begin = self.common();
        let of_line = |line: &str| {
            if !line.contains(begin) {
                return line.to_string();
            }
            let mut shown = line.to_string();
            for (during, after) in &self.0 {
                if shown.contains(during.as_str()) {
                    shown = replaced(&shown, during, after);
                }
            }
            shown
        };
        text.split_inclusive('\n').map(of_line).collect()
    }

    /// With what all of them begin.
    fn common(&self) -> &str {
        let mut all = self.0.iter().map(|(during, _)| during.as_str());
        let Some(first) = all.next() else { return "" };
        all.fold(first, |begin, path| {
            let same = begin.chars().zip(path.chars()).take_while(|(a, b)| a == b);
            &begin[..same.map(|(c, _)| c.len_utf8()).sum()]
        })
    }
}

/// Where those of a log are kept.
fn file(log: &Path) -> PathBuf {
    // The log of a rank is `STAGE.rank-1.log`.
    let bare = log.with_extension("");
    let rank = bare.extension().and_then(|ending| ending.to_str()?.strip_prefix("rank-"));
    let of_rank = rank.is_some_and(|rank| !rank.is_empty() && rank.bytes().all(|b| b.is_ascii_digit()));
    let first = if of_rank { bare.with_extension("log") } else { log.into() };
    first.with_extension("places")
}

/// A text with one path in the place of another, where that path ends.
fn replaced(text: &str, old: &str, new: &str) -> String {
    let mut pieces = text.split(old);
    let mut replaced = pieces.next().unwrap_or_default().to_string();
    for piece in pieces {
        let ends = !piece.starts_with(|c: char| c.is_alphanumeric() || "-_".contains(c));
        replaced += if ends { new } else { old };
        replaced += piece;
    }
    replaced
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_names_are_replaced() {
        let places = Places(vec![(".p/out/log".into(), "out/s/log".into())]);
        let said = |text: &str| places.shown(text);
        assert_eq!(said("see .p/out/log/a, /r/.p/out/log."), "see out/s/log/a, /r/out/s/log.");
        assert_eq!(said(".p/out/logs and .p/out/log"), ".p/out/logs and out/s/log");
        assert_eq!(said("nothing"), "nothing");
        let places = Places(vec![
            (".p/a/x".into(), "x".into()),
            ("/r/in".into(), "y".into()),
            (".p/a".into(), "z".into()),
        ]);
        assert_eq!(places.shown("of .p/a/x\nno path\n\n/r/in, .p/a/w"), "of x\nno path\n\ny, z/w");
    }

    #[test]
    fn all_logs_of_a_stage_have_the_places_of_all_its_attempts() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("score[step-1.5].log");
        let place = |name: &str| (format!(".p/{name}"), name.to_string());
        Places(vec![place("a"), place("b")]).keep(&log);
        Places(vec![place("c"), place("b")]).keep(&log);
        let all = Places(vec![place("c"), place("b"), place("a")]);
        for name in ["score[step-1.5].log", "score[step-1.5].events", "score[step-1.5].rank-12.log"] {
            assert_eq!(Places::beside(&folder.path().join(name)), all, "{name}");
        }
        assert_eq!(Places::beside(&folder.path().join("score[step-1.log")), Places::default());
    }
}
