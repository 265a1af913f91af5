//! Joins what the shards of an encoding made to the folder that one piece would have made.

use crate::statistics::with_statistics;
use anyhow::Result;
use shards::{LatentsMetadata, Manifest, write_manifest};
use stage::{Staged, bad_input, read_json, sharding};
use std::path::Path;

/// Links the files of all parts into `latents`, with one manifest.
///
/// # Errors
/// Bad input when the parts are of different encodings, or two have the same file.
pub fn join(parts: &Path, latents: &Path) -> Result<()> {
    let staged = Staged::folder(latents)?;
    let mut about = None;
    let mut shards: Vec<shards::Shard> = Vec::new();
    for part in sharding::parts(parts)? {
        let manifest: Manifest = read_json(&part.join("manifest.json"))?;
        // Statistics of the pictures are of all parts together.
        let own = manifest.shards.iter().any(|shard| shard.sums.is_some());
        let channels = manifest.latents.channels.filter(|_| !own);
        let latents = LatentsMetadata { channels, ..manifest.latents };
        if *about.get_or_insert_with(|| latents.clone()) != latents {
            bad_input!("{} holds other latents than the parts before it", part.display())
        }
        for shard in manifest.shards {
            if shards.last().is_some_and(|last| last.path >= shard.path) {
                bad_input!("{}: {} does not follow the parts before it", part.display(), shard.path)
            }
            sharding::link(&part.join(&shard.path), &staged.path().join(&shard.path))?;
            shards.push(shard);
        }
    }
    let Some(about) = about else { bad_input!("{}: no parts", parts.display()) };
    write_manifest(staged.path(), &with_statistics(&about, &shards)?, shards)?;
    staged.commit()
}
