//! Words of a command line that hold credentials, which no file of the store is to have: a file has names in their place,
//! and the environment of the process that needs them has the words.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::OnceLock;
use store::process;
use study::hidden;

/// The variable that has the words, by their names.
pub const VARIABLE: &str = "PIPELINE_PRIVATE_WORDS";
/// How long a name is.
const DIGITS: usize = 16;

/// The words of a command line as a file may have them.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Words {
    /// For people: credentials are hidden.
    pub shown: Vec<String>,
    /// The names of the words that hold some, by their places.
    #[serde(default)]
    private: BTreeMap<usize, String>,
}

/// The words that hold credentials, by their names.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Private(BTreeMap<String, String>);

impl Words {
    /// Those of a command line, and what is not to be written down.
    pub fn of(words: &[String]) -> (Self, Private) {
        let (mut kept, mut private) = (Self::default(), Private::default());
        for (place, word) in words.iter().enumerate() {
            let shown = hidden(word);
            if shown != *word {
                let name = name(word);
                kept.private.insert(place, name.clone());
                private.0.insert(name, word.clone());
            }
            kept.shown.push(shown.into_owned());
        }
        (kept, private)
    }

    /// The command line itself; `None` where the environment does not have all of its words.
    pub fn whole(&self) -> Option<Vec<String>> {
        let mut words = self.shown.clone();
        if !self.private.is_empty() {
            let private = Private::of_environment();
            for (place, name) in &self.private {
                *words.get_mut(*place)? = private.0.get(name)?.clone();
            }
        }
        Some(words)
    }
}

impl Private {
    fn of_environment() -> Self {
        let text = std::env::var(VARIABLE).unwrap_or_default();
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// Adds those of another command line.
    pub fn add(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// How many bytes there are.
    pub fn size(&self) -> usize {
        self.0.values().map(String::len).sum()
    }

    /// The value of the variable, where there is something to hide.
    pub fn value(&self) -> Option<String> {
        if self.0.is_empty() { None } else { serde_json::to_string(self).ok() }
    }
}

/// A name that tells nothing of the word: whoever tried words until one has this name would need a number that is in no file.
fn name(word: &str) -> String {
    static SECRET: OnceLock<[u8; 32]> = OnceLock::new();
    let secret = SECRET.get_or_init(process::random);
    blake3::keyed_hash(secret, word.as_bytes()).to_hex()[..DIGITS].to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_with_credentials_is_a_name() {
        let words =
            ["fetch", "https://me:hunter2@host/x", "plain", "https://me:hunter2@host/x"].map(String::from);
        let (kept, private) = Words::of(&words);
        let text = serde_json::to_string(&kept).unwrap();
        assert!(!text.contains("hunter2") && text.contains("https://***@host/x"), "{text}");
        assert_eq!((kept.private.len(), private.0.len()), (2, 1));
        assert!(private.value().unwrap().contains("hunter2"));
        // Without the environment there is no command line.
        assert_eq!(kept.whole(), None);
        let (kept, private) = Words::of(&words[2..3]);
        assert_eq!((kept.whole().unwrap(), private.value()), (vec!["plain".to_string()], None));
    }
}
