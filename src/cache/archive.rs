//! Results as one file: a tar, compressed by zstd, that holds contents, results and where they came from.
//!
//! ```text
//! about.json          version, study, run
//! provenance.json     every result in clear: action, outputs, when, how long
//! pipeline.lock       digests of all outputs, as `run --locked` reads them
//! run                 the record of the run, where one was exported
//! results/KEY         records with their checksums
//! trees/3f…           manifests of folders
//! blobs/3f…           file contents; `.x` when they may be executed
//! ```
//!
//! Entries stand in this order of folders by name, without times and owners, so that equal results make equal files.

use crate::cache::results::{self, Outcome};
use crate::cache::runs::Report;
use crate::error::{Error, Result};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use store::IoContext;
use store::digest::{Digest, Kind};
use store::manifest::{self, Item, Manifest};
use store::walk::Hashed;
use store::{Key, Store, link, record};

/// Version of the layout above.
pub const VERSION: u32 = 1;
/// zstd's own default: network weights hardly shrink, so time counts for more.
const LEVEL: i32 = 3;
/// No record or list of files is larger.
const LIST: u64 = 1 << 30;

/// What an archive says of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct About {
    /// Version of the layout.
    pub version: u32,
    pub study: String,
    /// The run, where one was exported.
    pub run: Option<String>,
}

/// What goes into an archive.
pub struct Cargo {
    pub about: About,
    /// Results by stage, or by entry of a mapped stage.
    pub results: BTreeMap<String, Outcome>,
    /// The text of a lock file.
    pub lock: Vec<u8>,
    pub report: Option<Report>,
}

/// Sums of an archive.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Sums {
    pub results: usize,
    pub files: usize,
    pub bytes: u64,
}

/// Writes an archive, whole or not at all.
pub fn write(store: &Store, cargo: &Cargo, path: &Path) -> Result<Sums> {
    let mut blobs = BTreeMap::new();
    let mut trees = BTreeSet::new();
    for (label, outcome) in &cargo.results {
        for (name, output) in &outcome.outputs {
            if !store.ready(&output.digest)? {
                return Err(Error::Run(format!("{name} of {label} is no longer in the store; run it again")));
            }
            contents(store, &output.digest, &mut blobs, &mut trees)?;
        }
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let partial = path.with_file_name(format!(".{name}.{}.partial", std::process::id()));
    let written = pack(store, cargo, &blobs, &trees, &partial)
        .and_then(|()| Ok(fs::rename(&partial, path).at("placing", path)?));
    if written.is_err() {
        let _ = fs::remove_file(&partial);
    }
    written?;
    Ok(Sums { results: cargo.results.len(), files: blobs.len(), bytes: blobs.values().sum() })
}

fn contents(
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
    blobs.extend(manifest.0.iter().filter_map(|entry| match entry.item {
        Item::File(blob, bytes) => Some((blob, bytes)),
        Item::Folder | Item::Link(_) => None,
    }));
    Ok(())
}

fn pack(
    store: &Store,
    cargo: &Cargo,
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
    add("about.json".into(), &serde_json::to_vec_pretty(&cargo.about).at("encoding", path)?)?;
    add("provenance.json".into(), &serde_json::to_vec_pretty(&cargo.results).at("encoding", path)?)?;
    add("pipeline.lock".into(), &cargo.lock)?;
    if let Some(report) = &cargo.report {
        add("run".into(), &record::encode(report).at("encoding", path)?)?;
    }
    let by_key: BTreeMap<Key, &Outcome> = cargo.results.values().map(|o| (o.action.key(), o)).collect();
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

fn header(bytes: u64, program: bool) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes);
    header.set_mode(if program { 0o755 } else { 0o644 });
    header.set_mtime(0);
    header
}

/// What an archive has, unpacked beside the store and not yet believed.
#[derive(Default)]
struct Unpacked {
    about: Option<About>,
    report: Option<Report>,
    results: BTreeMap<Key, Outcome>,
    trees: BTreeMap<Digest, Manifest>,
    blobs: BTreeMap<Digest, PathBuf>,
}

/// Brings the results of an archive into the store. Nothing of it counts before all of it was verified.
pub fn read(store: &Store, path: &Path) -> Result<(About, Sums)> {
    let landing = store.imported();
    store.fresh(&landing)?;
    let taken = unpack(path, &landing).and_then(|unpacked| take(store, path, unpacked));
    link::remove(&landing)?;
    taken
}

fn wrong(path: &Path, what: impl std::fmt::Display) -> Error {
    Error::Usage(format!("{}: {what}; nothing was imported", path.display()))
}

fn unpack(path: &Path, landing: &Path) -> Result<Unpacked> {
    let file = File::open(path).at("opening", path)?;
    let broken = |e: std::io::Error| wrong(path, format_args!("not an archive of results, or damaged ({e})"));
    let mut tar = tar::Archive::new(zstd::Decoder::with_buffer(BufReader::new(file)).map_err(broken)?);
    let mut unpacked = Unpacked::default();
    for entry in tar.entries().map_err(broken)? {
        let mut entry = entry.map_err(broken)?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let strange = || wrong(path, format_args!("`{name}` does not belong into an archive of results"));
        if !entry.header().entry_type().is_file() {
            return Err(strange());
        }
        if let Some(hex) = name.strip_prefix("blobs/") {
            let (hex, kind) = hex.strip_suffix(".x").map_or((hex, Kind::File), |hex| (hex, Kind::Program));
            let hash = blake3::Hash::from_hex(hex).map_err(|_| strange())?;
            let blob = Digest { kind, hash: *hash.as_bytes() };
            // The name is made anew from the digest, so that nothing can be written elsewhere.
            let place = landing.join(blob.to_string().replace(':', "-"));
            let mut file = File::create(&place).at("making", &place)?;
            std::io::copy(&mut entry, &mut file).map_err(broken)?;
            unpacked.blobs.insert(blob, place);
            continue;
        }
        let mut bytes = Vec::new();
        entry.take(LIST).read_to_end(&mut bytes).map_err(broken)?;
        let damaged = || wrong(path, format_args!("`{name}` is damaged"));
        match name.as_str() {
            "about.json" => unpacked.about = Some(serde_json::from_slice(&bytes).map_err(|_| damaged())?),
            "run" => unpacked.report = Some(record::parse(&bytes).ok_or_else(damaged)?),
            "provenance.json" | "pipeline.lock" => {}
            _ => {
                if let Some(key) = name.strip_prefix("results/") {
                    let key = key.parse().map_err(|_| strange())?;
                    let outcome = record::parse::<Outcome>(&bytes).filter(|o| o.action.key() == key);
                    unpacked.results.insert(key, outcome.ok_or_else(damaged)?);
                } else if let Some(hex) = name.strip_prefix("trees/") {
                    let tree = manifest::digest_of(&bytes);
                    let manifest = Manifest::decode(&bytes).filter(|_| tree.hex() == hex);
                    unpacked.trees.insert(tree, manifest.ok_or_else(damaged)?);
                } else {
                    return Err(strange());
                }
            }
        }
    }
    Ok(unpacked)
}

fn take(store: &Store, path: &Path, unpacked: Unpacked) -> Result<(About, Sums)> {
    let Unpacked { about, report, results, trees, blobs } = unpacked;
    let about = about.ok_or_else(|| wrong(path, "not an archive of results"))?;
    if about.version != VERSION {
        return Err(wrong(path, format_args!("made by another version ({}, not {VERSION})", about.version)));
    }
    if let Some(report) = &report {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
        if report.run.starts_with('.') || !report.run.chars().all(plain) {
            return Err(wrong(path, "the run has a name that no run has"));
        }
    }
    let missing = |what: &Digest| wrong(path, format_args!("it lacks {what}"));
    for output in results.values().flat_map(|o| o.outputs.values()) {
        match output.digest.kind {
            Kind::Tree => {
                let manifest = trees.get(&output.digest).ok_or_else(|| missing(&output.digest))?;
                let files = manifest.0.iter().filter_map(|e| match &e.item {
                    Item::File(blob, _) => Some(blob),
                    Item::Folder | Item::Link(_) => None,
                });
                if let Some(blob) = files.into_iter().find(|blob| !blobs.contains_key(blob)) {
                    return Err(missing(blob));
                }
            }
            _ if !blobs.contains_key(&output.digest) => return Err(missing(&output.digest)),
            _ => {}
        }
    }
    let bytes = blobs.values().map(|place| fs::metadata(place).map_or(0, |m| m.len())).sum();
    let whole = blobs.par_iter().map(|(blob, place)| Ok((!store.is_blob(place, blob)?).then_some(blob)));
    if let Some(blob) = whole.collect::<Result<Vec<_>>>()?.into_iter().flatten().next() {
        return Err(wrong(path, format_args!("the content of {blob} is damaged")));
    }
    let sums = Sums { results: results.len(), files: blobs.len(), bytes };
    // From here on everything is what it says.
    for (blob, place) in &blobs {
        store.take_file(place, blob)?;
    }
    for (tree, manifest) in &trees {
        store.keep_manifest(tree, manifest)?;
    }
    let taken = blobs.keys().map(|b| Hashed { digest: *b, bytes: 0, files: 1, manifest: None });
    store.sync(&taken.collect::<Vec<_>>())?;
    for (key, outcome) in &results {
        let Some(_held) = store.lock(key, || {}, || false)? else { continue };
        if !results::outcomes(store, key).contains(outcome) {
            results::record(store, key, outcome)?;
        }
    }
    if let Some(report) = &report {
        record::write(&store.run(&report.run), report, false)?;
    }
    Ok((about, sums))
}
