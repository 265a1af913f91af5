//! What `--describe` prints: every argument of a stage with its role, type, range, default and unit.

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

/// One stage program and all its arguments, in the order they are declared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spec {
    /// Name of the program.
    pub name: String,
    /// What it does, in a sentence or two.
    pub about: String,
    /// Its arguments.
    pub arguments: Vec<Arg>,
    /// Whether it answers `--check`: given parameters, and of the other arguments those that are `judged`, it prints the
    /// parameters in force as one JSON object of texts, or fails with what is wrong with them. What may only turn out to be wrong
    /// it says on its standard error, in lines that begin with `warning: `.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub check: bool,
}

/// One argument, given as `--name value`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Arg {
    /// Name of the flag and of the key in `pipeline.yaml`.
    pub name: String,
    /// Whether it is an input, a parameter, a tuning knob or an output.
    pub role: Role,
    /// Type and range.
    #[serde(flatten)]
    pub kind: Kind,
    /// Whether it must be given.
    pub required: bool,
    /// Its value when it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<Json>,
    /// Whether `--check` is given it too: an input where it lies in the study already, a tuning value where it is written. Of the
    /// parameters `--check` is given all that are written.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub judged: bool,
    /// What a number counts, where it counts something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// What it is for.
    pub help: String,
}

/// What an argument is to the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// A file or folder that is read; its content is hashed.
    Input,
    /// A value that changes the result; it is hashed.
    Param,
    /// A value that changes only how fast the result comes; it is not hashed.
    Tuning,
    /// A file or folder that is written.
    Output,
}

/// The type of an argument, with its inclusive range.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Kind {
    /// A file or folder.
    Path,
    /// Any text.
    Text,
    /// `true` or `false`; the bare flag means `true`.
    Flag,
    /// A whole number.
    Integer {
        /// Least value.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        min: Option<i64>,
        /// Greatest value.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        max: Option<i64>,
    },
    /// A real number, always finite.
    Number {
        /// Least value.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        min: Option<f64>,
        /// Greatest value.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        max: Option<f64>,
    },
    /// One of a few words.
    Choice {
        /// The words.
        values: Vec<String>,
        /// What each means; empty where a program does not say it.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        meanings: Vec<String>,
    },
    /// Several values of one type, separated by commas.
    List {
        /// Their type.
        of: Box<Kind>,
    },
}

impl Spec {
    /// The argument called `name`.
    pub fn argument(&self, name: &str) -> Option<&Arg> {
        self.arguments.iter().find(|a| a.name == name)
    }

    /// The arguments of one role, in order.
    pub fn of(&self, role: Role) -> impl Iterator<Item = &Arg> {
        self.arguments.iter().filter(move |a| a.role == role)
    }
}

impl Kind {
    /// Whether `text`, as it stands on a command line, is a value of this type.
    ///
    /// # Errors
    /// One line that says what is wrong and what would be right.
    pub fn check(&self, text: &str) -> Result<(), String> {
        match self {
            Kind::Path if text.is_empty() => Err("an empty path".into()),
            Kind::Path | Kind::Text => Ok(()),
            Kind::Flag => match text {
                "true" | "false" => Ok(()),
                _ => Err(format!("`{text}` is neither true nor false")),
            },
            Kind::Integer { min, max } => {
                let n: i64 = text.parse().map_err(|_| format!("`{text}` is not a whole number"))?;
                within(&n, min.as_ref(), max.as_ref())
            }
            Kind::Number { min, max } => {
                let x: f64 = text.parse().map_err(|_| format!("`{text}` is not a number"))?;
                if !x.is_finite() {
                    return Err(format!("`{text}` is not a finite number"));
                }
                within(&x, min.as_ref(), max.as_ref())
            }
            Kind::Choice { values, .. } if values.iter().any(|v| v == text) => Ok(()),
            Kind::Choice { values, .. } => {
                let near = nearest(text, values.iter().map(String::as_str));
                let hint = near.map(|n| format!("; did you mean `{n}`?")).unwrap_or_default();
                Err(format!("`{text}` is none of {}{hint}", values.join(", ")))
            }
            Kind::List { of } => {
                if text.is_empty() {
                    return Ok(());
                }
                text.split(',').try_for_each(|part| of.check(part.trim()))
            }
        }
    }

    /// What each word of a choice means, if it says it.
    pub fn meanings(&self) -> impl Iterator<Item = (&str, &str)> {
        let (values, meanings) = match self {
            Kind::Choice { values, meanings } => (values.as_slice(), meanings.as_slice()),
            _ => (&[][..], &[][..]),
        };
        values.iter().map(String::as_str).zip(meanings.iter().map(String::as_str))
    }

    /// A short name for help texts: `N`, `X`, `PATH`, …
    pub fn placeholder(&self) -> String {
        match self {
            Kind::Path => "PATH".into(),
            Kind::Text => "TEXT".into(),
            Kind::Flag => "BOOL".into(),
            Kind::Integer { .. } => "N".into(),
            Kind::Number { .. } => "X".into(),
            Kind::Choice { .. } => "NAME".into(),
            Kind::List { of } => format!("{},…", of.placeholder()),
        }
    }

    /// The range in words, if there is one: `8 to 2048`.
    pub fn range(&self) -> Option<String> {
        fn words<T: std::fmt::Display>(min: &Option<T>, max: &Option<T>) -> Option<String> {
            match (min, max) {
                (Some(a), Some(b)) => Some(format!("{a} to {b}")),
                (Some(a), None) => Some(format!("at least {a}")),
                (None, Some(b)) => Some(format!("at most {b}")),
                (None, None) => None,
            }
        }
        match self {
            Kind::Integer { min, max } => words(min, max),
            Kind::Number { min, max } => words(min, max),
            Kind::Choice { values, .. } => Some(values.join(", ")),
            Kind::List { of } => of.range(),
            Kind::Path | Kind::Text | Kind::Flag => None,
        }
    }
}

fn within<T: PartialOrd + std::fmt::Display>(x: &T, min: Option<&T>, max: Option<&T>) -> Result<(), String> {
    match (min, max) {
        (Some(a), _) if x < a => Err(format!("{x} is less than {a}")),
        (_, Some(b)) if x > b => Err(format!("{x} is more than {b}")),
        _ => Ok(()),
    }
}

/// The candidate that a person who typed `word` most likely meant, if any is near enough.
///
/// Nearness is the optimal string alignment distance (insertions, deletions, substitutions and swaps of neighbours), at most a
/// third of the word's length and at least one.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (word.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|c| (strsim::osa_distance(word, c), c))
        .filter(|(d, c)| *d <= limit || (!word.is_empty() && c.starts_with(word)))
        .min_by_key(|(d, _)| *d)
        .map(|(_, c)| c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_inclusive_and_named() {
        let kind = Kind::Integer { min: Some(1), max: Some(4) };
        assert_eq!(kind.check("1"), Ok(()));
        assert_eq!(kind.check("4"), Ok(()));
        assert_eq!(kind.check("5").unwrap_err(), "5 is more than 4");
        assert_eq!(kind.check("x").unwrap_err(), "`x` is not a whole number");
        assert!(Kind::Number { min: None, max: None }.check("NaN").is_err());
        let list = Kind::List { of: Box::new(kind) };
        assert_eq!(list.check("1, 2"), Ok(()));
        assert!(list.check("1,9").is_err());
    }

    #[test]
    fn nearest_finds_typos_and_prefixes_only() {
        let names = ["iterations", "batch-size", "seed"];
        assert_eq!(nearest("itertions", names), Some("iterations"));
        assert_eq!(nearest("batch", names), Some("batch-size"));
        assert_eq!(nearest("sede", names), Some("seed"));
        assert_eq!(nearest("colour", names), None);
    }

    #[test]
    fn json_round_trip() {
        let arg = Arg {
            name: "image-size".into(),
            role: Role::Param,
            kind: Kind::Integer { min: Some(8), max: None },
            required: false,
            default: Some(256.into()),
            judged: false,
            unit: Some("pixels".into()),
            help: "Side.".into(),
        };
        let text = serde_json::to_string(&arg).unwrap();
        assert!(text.contains(r#""type":"integer","min":8"#), "{text}");
        assert_eq!(serde_json::from_str::<Arg>(&text).unwrap(), arg);
    }
}
