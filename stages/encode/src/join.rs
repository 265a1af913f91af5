//! Joins what the shards of an encoding made to the folder that one piece would have made.

use crate::journal::{self, journal_name};
use crate::outputs::LATENTS;
use crate::prefetcher::ShardWork;
use crate::shard::{ShardFile, name};
use crate::statistics::with_statistics;
use anyhow::{Result, ensure};
use shards::{LatentsMetadata, Manifest, Shard, write_manifest};
use stage::{Staged, bad_input, read_json, sharding};
use std::collections::BTreeMap;
use std::path::Path;

/// Links the files of all parts into `latents`, with one manifest.
///
/// # Errors
/// Bad input when the parts are of different encodings, or two have the same file.
pub fn join(parts: &Path, latents: &Path) -> Result<()> {
    let staged = Staged::folder(latents, &LATENTS)?;
    let mut about = None;
    let mut shards: Vec<Shard> = Vec::new();
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

/// Puts together what the processes of one encoding made of these shards: whole ones are linked, those of several are written
/// from the batches of each.
///
/// # Errors
/// When a batch is missing.
pub fn join_pieces(
    parts: &Path,
    latents: &Path,
    about: &LatentsMetadata,
    shards: &[ShardWork],
    sums: bool,
) -> Result<()> {
    let staged = Staged::folder(latents, &LATENTS)?;
    let parts = sharding::parts(parts)?;
    let mut whole: BTreeMap<String, (Shard, &Path)> = BTreeMap::new();
    for part in &parts {
        let manifest: Manifest = read_json(&part.join("manifest.json"))?;
        whole.extend(manifest.shards.into_iter().map(|shard| (shard.path.clone(), (shard, part.as_path()))));
    }
    let mut all = Vec::new();
    for ShardWork { shard, rows } in shards {
        let name = name(*shard);
        let path = staged.path().join(&name);
        if let Some((shard, part)) = whole.remove(&name) {
            sharding::link(&part.join(&name), &path)?;
            all.push(shard);
            continue;
        }
        let mut file = ShardFile::create(&path, about, sums)?;
        let mut found = 0;
        for journal in parts.iter().map(|part| part.join(journal_name(*shard))).filter(|path| path.exists()) {
            journal::read(&journal, about, &mut |batch| {
                found += batch.label.len();
                file.add(batch)
            })?;
        }
        ensure!(found == rows.len(), "{found} of the {} rows of {name} came from the processes", rows.len());
        all.push(file.finish()?);
    }
    write_manifest(staged.path(), &with_statistics(about, &all)?, all)?;
    staged.commit()
}
