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
use store::manifest::{Item, Manifest};
use store::walk::Hashed;
use store::{Key, Store, link, record};

/// Version of the layout above.
pub const VERSION: u32 = 1;
/// zstd's own default: network weights hardly shrink, so time counts for more.
const LEVEL: i32 = 3;
/// No list of files is larger, nor all lists and records together.
const LIST: u64 = 1 << 30;
/// No record is larger.
const RECORD: u64 = 16 << 20;

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

/// What an archive has, unpacked beside the store and not yet believed.
#[derive(Default)]
struct Unpacked {
    about: Option<About>,
    report: Option<Report>,
    results: BTreeMap<Key, Outcome>,
    trees: BTreeMap<Digest, Manifest>,
    /// Every content that the results name, with its size, once all lists were read.
    listed: Option<BTreeMap<Digest, u64>>,
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

/// The folders of an archive in their order; what stands elsewhere is in the way of reading it in one go.
const ORDER: [&str; 7] =
    ["about.json", "provenance.json", "pipeline.lock", "run", "results/", "trees/", "blobs/"];

fn unpack(path: &Path, landing: &Path) -> Result<Unpacked> {
    let file = File::open(path).at("opening", path)?;
    let broken = |e: std::io::Error| wrong(path, format_args!("not an archive of results, or damaged ({e})"));
    let mut tar = tar::Archive::new(zstd::Decoder::with_buffer(BufReader::new(file)).map_err(broken)?);
    let mut unpacked = Unpacked::default();
    let (mut last, mut memory) = (0, 0);
    // Raw: no name of ours is long, and the headers for long ones are read whole, however large they say they are.
    for entry in tar.entries().map_err(broken)?.raw(true) {
        let mut entry = entry.map_err(broken)?;
        let size = entry.size();
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let refused = |why: &str| wrong(path, format_args!("`{}` {why}", name.escape_debug()));
        let strange = || refused("does not belong into an archive of results");
        let damaged = || refused("is damaged");
        let rank = ORDER.iter().position(|known| match known.strip_suffix('/') {
            Some(_) => name.starts_with(known),
            None => name == *known,
        });
        let rank = rank.filter(|_| entry.header().entry_type().is_file()).ok_or_else(strange)?;
        let rest = &name[ORDER[rank].len()..];
        if rank == 6 {
            let (hex, kind) = rest.strip_suffix(".x").map_or((rest, Kind::File), |hex| (hex, Kind::Program));
            let blob = digest(hex, kind).ok_or_else(strange)?;
            ordered(rank, &mut last).then_some(()).ok_or_else(strange)?;
            if unpacked.listed.is_none() {
                unpacked.listed = Some(unpacked.list().map_err(|why| wrong(path, why))?);
            }
            let listed = unpacked.listed.as_ref().and_then(|listed| listed.get(&blob));
            if listed.ok_or_else(|| refused("is named by no result"))? != &size {
                return Err(refused("has another size than its list says"));
            }
            // The name is made anew from the digest, so that nothing can be written elsewhere.
            let place = landing.join(blob.to_string().replace(':', "-"));
            if unpacked.blobs.insert(blob, place.clone()).is_some() {
                return Err(refused("is there twice"));
            }
            let mut file = File::create_new(&place).at("making", &place)?;
            if std::io::copy(&mut entry, &mut file).map_err(broken)? != size {
                return Err(damaged());
            }
            continue;
        }
        if matches!(ORDER[rank], "provenance.json" | "pipeline.lock") {
            ordered(rank, &mut last).then_some(()).ok_or_else(strange)?;
            continue;
        }
        let limit = if rank == 5 { LIST } else { RECORD };
        memory += size.min(LIST);
        if size > limit || memory > LIST {
            return Err(refused("is larger than any list or record"));
        }
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).map_err(broken)?;
        let new = match ORDER[rank] {
            "about.json" => {
                unpacked.about.replace(serde_json::from_slice(&bytes).map_err(|_| damaged())?).is_none()
            }
            "run" => unpacked.report.replace(record::parse(&bytes).ok_or_else(damaged)?).is_none(),
            "results/" => {
                let key = rest.parse().map_err(|_| strange())?;
                let outcome = record::parse::<Outcome>(&bytes).filter(|o| o.action.key() == key);
                unpacked.results.insert(key, outcome.ok_or_else(damaged)?).is_none()
            }
            _ => {
                let tree = digest(rest, Kind::Tree).ok_or_else(strange)?;
                let manifest =
                    Manifest::parse(&bytes, &tree).map_err(|why| refused(&format!("is damaged: {why}")))?;
                unpacked.trees.insert(tree, manifest).is_none()
            }
        };
        if !new || !ordered(rank, &mut last) {
            return Err(strange());
        }
    }
    if unpacked.listed.is_none() {
        unpacked.listed = Some(unpacked.list().map_err(|why| wrong(path, why))?);
    }
    Ok(unpacked)
}

fn digest(hex: &str, kind: Kind) -> Option<Digest> {
    let hash = blake3::Hash::from_hex(hex).ok()?;
    Some(Digest { kind, hash: *hash.as_bytes() }).filter(|digest| digest.hex() == hex)
}

fn ordered(rank: usize, last: &mut usize) -> bool {
    let good = rank >= *last;
    *last = rank.max(*last);
    good
}

impl Unpacked {
    /// Every content that the results name, with its size. Whatever one record says, the others and the lists say too.
    fn list(&self) -> std::result::Result<BTreeMap<Digest, u64>, String> {
        let about = self.about.as_ref().ok_or("not an archive of results")?;
        if about.version != VERSION {
            return Err(format!("made by another version ({}, not {VERSION})", about.version));
        }
        let mut listed = BTreeMap::new();
        let mut add = |blob: Digest, size: u64| match listed.insert(blob, size) {
            Some(other) if other != size => Err(format!("its lists do not agree on the size of {blob}")),
            _ => Ok(()),
        };
        let mut named = BTreeSet::new();
        for (key, outcome) in &self.results {
            let sums = |tree: &Digest| self.trees.get(tree).map(|m| (m.bytes(), m.files()));
            outcome.check(key, sums).map_err(|why| format!("results/{key}: {why}"))?;
            for output in outcome.outputs.values() {
                match self.trees.get(&output.digest) {
                    Some(manifest) if named.insert(output.digest) => {
                        for entry in &manifest.0 {
                            if let Item::File(blob, size) = entry.item {
                                add(blob, size)?;
                            }
                        }
                    }
                    Some(_) => {}
                    None => add(output.digest, output.bytes)?,
                }
            }
        }
        if let Some(tree) = self.trees.keys().find(|tree| !named.contains(tree)) {
            return Err(format!("{tree} is named by no result"));
        }
        self.report.as_ref().map_or(Ok(()), |report| self.check_report(about, report))?;
        Ok(listed)
    }

    /// A run's record is about the results that come with it, and its names are names.
    fn check_report(&self, about: &About, report: &Report) -> std::result::Result<(), String> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
        if report.run.starts_with('.')
            || !report.run.chars().all(plain)
            || about.run.as_ref() != Some(&report.run)
        {
            return Err("the run has a name that no run has".into());
        }
        for row in &report.stages {
            let stage = row.stage.split('@').next().unwrap_or_default();
            let odd = |c: char| c == '/' || c.is_control();
            if row.stage.starts_with('.') || row.stage.contains(odd) || report.study.contains(odd) {
                return Err("the run has a stage with a name that no stage has".into());
            }
            if !row.keys.iter().all(|key| self.results.get(key).is_some_and(|o| o.action.stage == stage)) {
                return Err(format!("the run names results of stage {stage} that it does not bring"));
            }
        }
        Ok(())
    }
}

fn take(store: &Store, path: &Path, unpacked: Unpacked) -> Result<(About, Sums)> {
    let Unpacked { about, report, results, trees, listed, blobs } = unpacked;
    let about = about.ok_or_else(|| wrong(path, "not an archive of results"))?;
    if about.study.chars().chain(about.run.iter().flat_map(|run| run.chars())).any(char::is_control) {
        return Err(wrong(path, "its study has a name that no study has"));
    }
    if let Some(blob) = listed.iter().flatten().map(|(blob, _)| blob).find(|blob| !blobs.contains_key(blob)) {
        return Err(wrong(path, format_args!("it lacks {blob}")));
    }
    let bytes = listed.iter().flatten().map(|(_, size)| size).sum();
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
