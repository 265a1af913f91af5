//! Whether what lies in the store is what its name says, believing no cache.

use crate::contents;
use crate::digest::{Digest, Kind};
use crate::error::{IoContext, Result};
use crate::manifest;
use std::fs;
use std::path::Path;

/// Whether a file among the blobs is what its name says.
pub fn blob_is_whole(path: &Path) -> Result<bool> {
    let meta = fs::metadata(path).at("reading", path)?;
    let hash = contents::hash(path, &meta)?;
    Ok(claimed(path, Kind::File).is_some_and(|d| d.hash == *hash.as_bytes()))
}

/// Whether a manifest is what its name says.
pub fn tree_is_whole(path: &Path) -> Result<bool> {
    let bytes = fs::read(path).at("reading", path)?;
    Ok(claimed(path, Kind::Tree) == Some(manifest::digest_of(&bytes)))
}

/// The digest that a path in the store claims, from its last two parts.
pub fn claimed(path: &Path, kind: Kind) -> Option<Digest> {
    let name = path.file_name()?.to_str()?;
    let folder = path.parent()?.file_name()?.to_str()?;
    let (name, kind) = match name.strip_suffix(".x") {
        Some(name) => (name, Kind::Program),
        None => (name, kind),
    };
    let hash = blake3::Hash::from_hex(format!("{folder}{name}")).ok()?;
    Some(Digest { kind, hash: *hash.as_bytes() })
}
