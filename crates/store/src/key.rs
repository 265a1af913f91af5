//! The name of an action.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// The BLAKE3 hash of everything that can change what an action gives; written as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key([u8; 32]);

/// A text that is no key.
#[derive(Debug, PartialEq, thiserror::Error)]
#[error("`{0}` is no key of an action")]
pub struct NoKey(String);

impl Key {
    /// The key with this hash.
    pub fn new(hash: blake3::Hash) -> Self {
        Self(*hash.as_bytes())
    }

    /// The hash itself.
    pub fn bytes(&self) -> [u8; 32] {
        self.0
    }

    /// As much of it as people need to tell actions apart: 12 digits.
    pub fn short(&self) -> String {
        self.digits(12)
    }

    /// The first digits.
    pub(crate) fn digits(&self, count: usize) -> String {
        let mut digits = self.to_string();
        digits.truncate(count);
        digits
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&blake3::Hash::from_bytes(self.0).to_hex())
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({self})")
    }
}

impl FromStr for Key {
    type Err = NoKey;
    fn from_str(text: &str) -> Result<Self, NoKey> {
        // Capitals would give one action two names.
        let hash =
            blake3::Hash::from_hex(text).ok().filter(|_| !text.bytes().any(|b| b.is_ascii_uppercase()));
        hash.map(Self::new).ok_or_else(|| NoKey(text.chars().take(80).collect()))
    }
}

impl Serialize for Key {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        <std::borrow::Cow<'de, str>>::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_64_digits_and_nothing_else_is_one() {
        let key = Key::new(blake3::hash(b"x"));
        assert_eq!(key.to_string().parse(), Ok(key));
        assert_eq!(serde_json::from_str::<Key>(&serde_json::to_string(&key).unwrap()).unwrap(), key);
        assert_eq!(key.short(), key.to_string()[..12]);
        let long = "a".repeat(65);
        let capital = "A".repeat(64);
        for text in ["", "x", "../../x", &long[..63], &long, &capital, "é"] {
            assert!(text.parse::<Key>().is_err(), "{text}");
            assert!(serde_json::from_value::<Key>(text.into()).is_err(), "{text}");
        }
    }
}
