//! Making an archive.

use crate::cache::archive::layout::{Contents, Sums};
use crate::cache::error::{Error, Result};
use crate::cache::results::ActionResult;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{BufWriter, Read, Write};
use std::path::Path;
use store::digest::{Digest, Kind};
use store::{IoContext, Key, Store, process, record};

/// zstd's own default: network weights hardly shrink, so time counts for more.
const LEVEL: i32 = 3;

/// Writes an archive, whole or not at all.
pub fn write(store: &Store, contents: &Contents, path: &Path) -> Result<Sums> {
    let mut blobs = BTreeMap::new();
    let mut trees = BTreeSet::new();
    for (label, outcome) in &contents.results {
        for (name, output) in &outcome.outputs {
            if !store.materialize(&output.digest)? {
                return Err(Error::Gone { output: name.clone(), label: label.clone() });
            }
            listed(store, &output.digest, &mut blobs, &mut trees)?;
        }
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let partial = path.with_file_name(format!(".{name}.{}.partial", process::thread()));
    let written = pack(store, contents, &blobs, &trees, &partial)
        .and_then(|()| Ok(fs::rename(&partial, path).at("placing", path)?));
    if written.is_err() {
        let _ = fs::remove_file(&partial);
    }
    written?;
    Ok(Sums { results: contents.results.len(), files: blobs.len(), bytes: blobs.values().sum() })
}

fn listed(
    store: &Store,
    digest: &Digest,
    blobs: &mut BTreeMap<Digest, u64>,
    trees: &mut BTreeSet<Digest>,
) -> Result<()> {
    if digest.kind != Kind::Tree {
        let place = store.place(digest);
        blobs.insert(*digest, fs::metadata(&place).at("reading", &place)?.len());
        return Ok(());
    }
    trees.insert(*digest);
    let manifest = store.manifest(digest).unwrap_or_default();
    blobs.extend(manifest.blobs());
    Ok(())
}

fn pack(
    store: &Store,
    contents: &Contents,
    blobs: &BTreeMap<Digest, u64>,
    trees: &BTreeSet<Digest>,
    path: &Path,
) -> Result<()> {
    let file = File::create(path).at("making", path)?;
    let packed = zstd::Encoder::new(BufWriter::new(file), LEVEL).at("writing", path)?;
    let mut tar = tar::Builder::new(packed);
    let mut add = |name: String, bytes: &[u8]| {
        tar.append_data(&mut header(bytes.len() as u64, false), &name, bytes).at("writing", path)
    };
    add("about.json".into(), &serde_json::to_vec_pretty(&contents.about).at("encoding", path)?)?;
    add("provenance.json".into(), &serde_json::to_vec_pretty(&contents.results).at("encoding", path)?)?;
    add("pipeline.lock".into(), &contents.lock)?;
    if let Some(report) = &contents.report {
        add("run".into(), &record::encode(report).at("encoding", path)?)?;
    }
    let by_key: BTreeMap<Key, &ActionResult> =
        contents.results.values().map(|o| (o.action.key(), o)).collect();
    for (key, outcome) in by_key {
        add(format!("results/{key}"), &record::encode(outcome).at("encoding", path)?)?;
    }
    for tree in trees {
        let list = store.manifest_path(tree);
        add(format!("trees/{}", tree.hex()), &fs::read(&list).at("reading", &list)?)?;
    }
    for (blob, bytes) in blobs {
        let place = store.place(blob);
        let file = File::open(&place).at("opening", &place)?;
        let program = blob.kind == Kind::Program;
        let name = format!("blobs/{}{}", blob.hex(), if program { ".x" } else { "" });
        tar.append_data(&mut header(*bytes, program), name, file.take(*bytes)).at("writing", path)?;
    }
    let mut buffer = tar.into_inner().and_then(zstd::Encoder::finish).at("writing", path)?;
    buffer.flush().at("writing", path)?;
    Ok(buffer.get_ref().sync_all().at("syncing", path)?)
}

/// Writes entries as they are, whatever they are called: what a fuzzer imports.
pub fn pack_for_fuzz(path: &Path, entries: impl Iterator<Item = (String, Vec<u8>)>) -> std::io::Result<()> {
    let mut tar = tar::Builder::new(zstd::Encoder::new(File::create(path)?, 1)?);
    for (name, bytes) in entries {
        let mut header = header(bytes.len() as u64, false);
        // By hand: the library itself refuses names that lead out.
        let field = &mut header.as_old_mut().name;
        let length = name.len().min(field.len());
        field[..length].copy_from_slice(&name.as_bytes()[..length]);
        header.set_cksum();
        tar.append(&header, bytes.as_slice())?;
    }
    tar.into_inner()?.finish()?.sync_all()
}

fn header(bytes: u64, program: bool) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes);
    header.set_mode(if program { 0o755 } else { 0o644 });
    header.set_mtime(0);
    header
}
