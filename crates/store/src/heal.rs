//! What is missing in a store, and what of that can be made again from what is there.

use crate::digest::{Digest, Kind};
use crate::error::{IoContext, Result};
use crate::layout::Store;
use crate::link;
use crate::manifest::{Item, Manifest};
use std::fs;
use std::path::{Path, PathBuf};

impl Store {
    /// The places of what a content lacks; none where it is at hand. A list of files or a blob that is lost is made
    /// again first, as far as a folder of the store still has it.
    pub fn missing(&self, digest: &Digest) -> Result<Vec<PathBuf>> {
        let whole = self.materialize(digest)?;
        if digest.kind != Kind::Tree {
            return Ok(if whole { Vec::new() } else { vec![self.place(digest)] });
        }
        let Some(manifest) = self.manifest(digest) else { return Ok(vec![self.manifest_path(digest)]) };
        let healed = self.heal(&self.place(digest), &manifest)?;
        if whole || (healed > 0 && self.materialize(digest)?) {
            return Ok(Vec::new());
        }
        let mut lost = Vec::new();
        for (blob, _) in manifest.blobs() {
            let place = self.place(&blob);
            // One that is damaged stays where nothing can be moved.
            if fs::symlink_metadata(&place).is_err() || (self.is_closed() && !self.has(&blob)?) {
                lost.push(place);
            }
        }
        lost.sort();
        lost.dedup();
        Ok(lost)
    }

    /// Whether a content is gone for good, by what is there; nothing is read or made.
    pub fn lost(&self, digest: &Digest) -> bool {
        let gone = |path: &Path| fs::symlink_metadata(path).is_err();
        let place = self.place(digest);
        match digest.kind {
            Kind::Tree if gone(&place) => {
                self.listed(digest).is_none_or(|list| list.blobs().any(|(blob, _)| gone(&self.place(&blob))))
            }
            Kind::Tree => false,
            Kind::File | Kind::Program => gone(&place),
        }
    }

    /// Makes the blobs of a folder that are lost again from the folder itself, as far as it has them. Returns how many.
    pub fn heal(&self, folder: &Path, manifest: &Manifest) -> Result<usize> {
        let mut healed = 0;
        if self.is_closed() {
            return Ok(healed);
        }
        for entry in &manifest.0 {
            let Item::File(blob, _) = &entry.item else { continue };
            let (place, copy) = (self.place(blob), self.copied());
            if fs::symlink_metadata(place).is_ok() {
                continue;
            }
            link::remove(&copy)?;
            if let Some(parent) = copy.parent() {
                fs::create_dir_all(parent).at("making", parent)?;
            }
            if link::copy(&folder.join(&entry.path), &copy, None).is_err() {
                continue;
            }
            // What is not what the list says is no use.
            match self.ingest_blob(&copy, blob)? {
                true => healed += 1,
                false => link::remove(&copy)?,
            }
        }
        Ok(healed)
    }

    /// Removes the folders that were made of a content, which was found to be another one: they may be the same file.
    pub fn distrust(&self, blobs: &[Digest]) -> Result<()> {
        if blobs.is_empty() {
            return Ok(());
        }
        for path in self.list(crate::Area::Trees) {
            let Some(tree) = crate::verify::claimed(&path, Kind::Tree) else { continue };
            let made_of = |manifest: Manifest| manifest.blobs().any(|(blob, _)| blobs.contains(&blob));
            if self.listed(&tree).is_some_and(made_of) {
                link::remove(&self.place(&tree))?;
            }
        }
        Ok(())
    }
}
