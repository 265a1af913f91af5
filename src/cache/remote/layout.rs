//! Where things lie in a cache.
//!
//! ```text
//! URL/
//!   v1/blobs/3f/…      the content of one file, by its BLAKE3
//!   v2/packs/3f/…      the contents of many small files, one behind the other
//!   v2/trees/3f/…      what a folder holds, and where in which pack
//!   v2/near/3f/…       a folder that holds a file, for folders that are much like it
//!   v2/results/3f/KEY  what an action gave, with a checksum; written after all that it names
//! ```
//!
//! A result in `v1/results` is older: its folders are in `v1/trees`, and each of their files is a blob.

use store::Key;
use store::digest::Digest;

/// How a result lies in the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Each file by itself. Only read.
    V1,
    /// Small files in packs.
    V2,
}

impl Format {
    fn folder(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::V2 => "v2",
        }
    }

    /// The folder of results.
    pub fn results(self) -> String {
        format!("{}/results", self.folder())
    }

    /// The record of a result.
    pub fn record(self, key: &Key) -> String {
        let key = key.to_string();
        format!("{}/{}/{key}", self.results(), &key[..2])
    }

    /// What is known of a folder.
    pub fn tree(self, digest: &Digest) -> String {
        at(&format!("{}/trees", self.folder()), &digest.hash)
    }
}

/// The content of a file.
pub fn blob(digest: &Digest) -> String {
    at("v1/blobs", &digest.hash)
}

/// The contents of many.
pub fn pack(name: &[u8; 32]) -> String {
    at("v2/packs", name)
}

/// A folder with this file.
pub fn near(hash: &[u8; 32]) -> String {
    at("v2/near", hash)
}

fn at(folder: &str, hash: &[u8; 32]) -> String {
    let hex = blake3::Hash::from_bytes(*hash).to_hex();
    format!("{folder}/{}/{}", &hex[..2], &hex[2..])
}
