//! Enums of words.

use crate::nearest;

/// An enum whose variants are words; implemented by [`choice!`](crate::choice).
pub trait Choice: Sized + Copy + 'static {
    /// Every variant with its word.
    const ALL: &'static [(&'static str, Self)];

    /// Reads a word.
    ///
    /// # Errors
    /// The words there are, and the nearest.
    fn from_word(word: &str) -> Result<Self, String> {
        let found = Self::ALL.iter().find(|(w, _)| *w == word);
        found.map(|(_, v)| *v).ok_or_else(|| {
            let near = nearest(word, Self::ALL.iter().map(|(w, _)| *w));
            let words = Self::ALL.iter().map(|(w, _)| *w).collect::<Vec<_>>().join(", ");
            let hint = near.map(|n| format!("; did you mean `{n}`?")).unwrap_or_default();
            format!("`{word}` is none of {words}{hint}")
        })
    }
}

/// Declares an enum of words that can be an argument and a field of JSON. The comment on each says to `--help` and `--describe`
/// what it means.
///
/// ```
/// stage::choice! {
///     /// Noise schedule.
///     pub enum Schedule {
///         /// Of improved DDPM.
///         Cosine = "cosine",
///         /// Of DDPM.
///         Linear = "linear",
///     }
/// }
/// assert_eq!(Schedule::Cosine.to_string(), "cosine");
/// ```
#[macro_export]
macro_rules! choice {
    ($(#[$meta:meta])* $vis:vis enum $name:ident { $($(#[doc = $meaning:literal])+ $variant:ident = $word:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        $vis enum $name { $($(#[doc = $meaning])+ $variant,)+ }

        impl $crate::Choice for $name {
            const ALL: &'static [(&'static str, Self)] = &[$(($word, Self::$variant),)+];
        }
        impl $crate::Value for $name {
            fn kind() -> $crate::Kind {
                $crate::Kind::Choice {
                    values: vec![$($word.to_string(),)+],
                    meanings: vec![$($crate::paragraphs(&[$($meaning),+]),)+],
                }
            }
            fn parse(text: &str) -> Result<Self, String> { <Self as $crate::Choice>::from_word(text) }
            fn json(&self) -> $crate::serde_json::Value { self.to_string().into() }
        }
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(match self { $(Self::$variant => $word,)+ })
            }
        }
        impl $crate::serde::Serialize for $name {
            fn serialize<S: $crate::serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> { s.collect_str(self) }
        }
        impl<'de> $crate::serde::Deserialize<'de> for $name {
            fn deserialize<D: $crate::serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let word = <std::borrow::Cow<'de, str>>::deserialize(d)?;
                <Self as $crate::Choice>::from_word(&word).map_err($crate::serde::de::Error::custom)
            }
        }
    };
}
