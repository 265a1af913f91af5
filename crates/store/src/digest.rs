//! Names of contents: a file, a program (a file that may be executed), or a tree of both.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// What a digest names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// The BLAKE3 hash of a file's content.
    File,
    /// The same, of a file that may be executed.
    Program,
    /// The hash of a [`Manifest`](super::manifest::Manifest).
    Tree,
}

/// A content's name: `3f…`, `program:3f…` or `tree:3f…` with 64 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest {
    /// Of what.
    pub kind: Kind,
    /// BLAKE3.
    pub hash: [u8; 32],
}

impl Digest {
    /// That of a file with this hash.
    pub fn file(hash: blake3::Hash, executable: bool) -> Self {
        Self { kind: if executable { Kind::Program } else { Kind::File }, hash: *hash.as_bytes() }
    }

    /// The 64 hexadecimal digits.
    pub fn hex(&self) -> String {
        blake3::Hash::from_bytes(self.hash).to_hex().to_string()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefix = match self.kind {
            Kind::File => "",
            Kind::Program => "program:",
            Kind::Tree => "tree:",
        };
        write!(f, "{prefix}{}", self.hex())
    }
}

impl FromStr for Digest {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, hex) = match text.split_once(':') {
            None => (Kind::File, text),
            Some(("program", hex)) => (Kind::Program, hex),
            Some(("tree", hex)) => (Kind::Tree, hex),
            Some(_) => return Err(format!("`{text}` is no digest")),
        };
        let hash = blake3::Hash::from_hex(hex).map_err(|e| format!("`{text}` is no digest: {e}"))?;
        Ok(Self { kind, hash: *hash.as_bytes() })
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        <std::borrow::Cow<'de, str>>::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trip() {
        for kind in [Kind::File, Kind::Program, Kind::Tree] {
            let digest = Digest { kind, hash: [7; 32] };
            assert_eq!(digest.to_string().parse::<Digest>().unwrap(), digest);
        }
        assert!("forest:00".parse::<Digest>().is_err() && "0".parse::<Digest>().is_err());
    }
}
