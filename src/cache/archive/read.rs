//! Taking an archive in. Whoever made it is an enemy until it is proven: names, order, sizes and digests are checked
//! before anything of it touches the store.

use crate::cache::archive::layout::{About, Sums, VERSION};
use crate::cache::archive::refusal::{Entry, Refusal};
use crate::cache::error::{Error, Result};
use crate::cache::results::{self, ActionResult};
use crate::cache::runs::Report;
use rayon::prelude::*;
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use store::digest::{Digest, Kind};
use store::manifest::Manifest;
use store::walk::Hashed;
use store::{IoContext, Key, Store, link, record};

/// No list of files is larger, nor all lists and records together.
const LIST: u64 = 1 << 30;
/// No record is larger.
const RECORD: u64 = 16 << 20;

/// What an archive has, unpacked beside the store and not yet believed.
#[derive(Default)]
struct Unpacked {
    about: Option<About>,
    report: Option<Report>,
    results: BTreeMap<Key, ActionResult>,
    trees: BTreeMap<Digest, Manifest>,
    /// Every content that the results name, with its size, once all lists were read.
    listed: Option<BTreeMap<Digest, u64>>,
    blobs: BTreeMap<Digest, PathBuf>,
}

/// Brings the results of an archive into the store. Nothing of it counts before all of it was verified.
pub fn read(store: &Store, path: &Path) -> Result<(About, Sums)> {
    let landing = store.imported();
    store.fresh(&landing)?;
    let taken = unpack(path, &landing).and_then(|unpacked| ingest(store, path, unpacked));
    link::remove(&landing)?;
    taken
}

fn wrong(path: &Path, why: Refusal) -> Error {
    Error::Refused { path: path.into(), why }
}

/// The folders of an archive in their order; what stands elsewhere is in the way of reading it in one go.
const ORDER: [&str; 7] =
    ["about.json", "provenance.json", "pipeline.lock", "run", "results/", "trees/", "blobs/"];

fn unpack(path: &Path, landing: &Path) -> Result<Unpacked> {
    let file = File::open(path).at("opening", path)?;
    let broken = |e: std::io::Error| wrong(path, Refusal::Broken(e));
    let mut tar = tar::Archive::new(zstd::Decoder::with_buffer(BufReader::new(file)).map_err(broken)?);
    let mut unpacked = Unpacked::default();
    let (mut last, mut memory) = (0, 0);
    // Raw: no name of ours is long, and the headers for long ones are read whole, however large they say they are.
    for entry in tar.entries().map_err(broken)?.raw(true) {
        let mut entry = entry.map_err(broken)?;
        let size = entry.size();
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let refused = |why: Entry| wrong(path, Refusal::Entry { name: name.clone(), why });
        let strange = || refused(Entry::Strange);
        let damaged = || refused(Entry::Damaged);
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
            if listed.ok_or_else(|| refused(Entry::Unnamed))? != &size {
                return Err(refused(Entry::Size));
            }
            // The name is made anew from the digest, so that nothing can be written elsewhere.
            let place = landing.join(blob.to_string().replace(':', "-"));
            if unpacked.blobs.insert(blob, place.clone()).is_some() {
                return Err(refused(Entry::Twice));
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
            return Err(refused(Entry::TooLarge));
        }
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).map_err(broken)?;
        let new = match ORDER[rank] {
            "about.json" => {
                unpacked.about.replace(serde_json::from_slice(&bytes).map_err(|_| damaged())?).is_none()
            }
            "run" => unpacked.report.replace(parsed(&bytes).map_err(refused)?).is_none(),
            "results/" => {
                let key = rest.parse().map_err(|_| damaged())?;
                let outcome: ActionResult = parsed(&bytes).map_err(refused)?;
                if outcome.action.key() != key {
                    return Err(damaged());
                }
                unpacked.results.insert(key, outcome).is_none()
            }
            _ => {
                let tree = digest(rest, Kind::Tree).ok_or_else(strange)?;
                let manifest = Manifest::parse(&bytes, &tree).map_err(|why| refused(Entry::Wrong(why)))?;
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

/// A record, or why it is none.
fn parsed<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Entry> {
    let json = record::whole(bytes).ok_or(Entry::Damaged)?;
    serde_json::from_slice(json).map_err(|_| Entry::Wrong("it says what no record says".into()))
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
    fn list(&self) -> Result<BTreeMap<Digest, u64>, Refusal> {
        let about = self.about.as_ref().ok_or(Refusal::NoArchive)?;
        if about.version != VERSION {
            return Err(Refusal::Version { found: about.version, known: VERSION });
        }
        let mut listed = BTreeMap::new();
        let mut add = |blob: Digest, size: u64| match listed.insert(blob, size) {
            Some(other) if other != size => Err(Refusal::Disagreement(blob)),
            _ => Ok(()),
        };
        let mut named = BTreeSet::new();
        for (key, outcome) in &self.results {
            let sums = |tree: &Digest| self.trees.get(tree).map(|m| (m.bytes(), m.files()));
            outcome.check(key, sums).map_err(|why| Refusal::Result { key: *key, why })?;
            for output in outcome.outputs.values() {
                match self.trees.get(&output.digest) {
                    Some(manifest) if named.insert(output.digest) => {
                        for (blob, size) in manifest.blobs() {
                            add(blob, size)?;
                        }
                    }
                    Some(_) => {}
                    None => add(output.digest, output.bytes)?,
                }
            }
        }
        if let Some(tree) = self.trees.keys().find(|tree| !named.contains(tree)) {
            return Err(Refusal::Unnamed(*tree));
        }
        self.report.as_ref().map_or(Ok(()), |report| self.check_report(about, report))?;
        Ok(listed)
    }

    /// A run's record is about the results that come with it, and its names are names.
    fn check_report(&self, about: &About, report: &Report) -> Result<(), Refusal> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
        if report.run.starts_with('.')
            || !report.run.chars().all(plain)
            || about.run.as_ref() != Some(&report.run)
        {
            return Err(Refusal::RunName);
        }
        for row in &report.stages {
            let stage = row.stage.split('@').next().unwrap_or_default();
            let odd = |c: char| c == '/' || c.is_control();
            if row.stage.starts_with('.') || row.stage.contains(odd) || report.study.contains(odd) {
                return Err(Refusal::StageName);
            }
            if !row.keys.iter().all(|key| self.results.get(key).is_some_and(|o| o.action.stage == stage)) {
                return Err(Refusal::Missing(stage.into()));
            }
        }
        Ok(())
    }
}

fn ingest(store: &Store, path: &Path, unpacked: Unpacked) -> Result<(About, Sums)> {
    let Unpacked { about, report, results, trees, listed, blobs } = unpacked;
    let about = about.ok_or_else(|| wrong(path, Refusal::NoArchive))?;
    if about.study.chars().chain(about.run.iter().flat_map(|run| run.chars())).any(char::is_control) {
        return Err(wrong(path, Refusal::StudyName));
    }
    if let Some(blob) = listed.iter().flatten().map(|(blob, _)| blob).find(|blob| !blobs.contains_key(blob)) {
        return Err(wrong(path, Refusal::Lacks(*blob)));
    }
    let bytes = listed.iter().flatten().map(|(_, size)| size).sum();
    let whole = blobs.par_iter().map(|(blob, place)| Ok((!store.is_blob(place, blob)?).then_some(blob)));
    if let Some(blob) = whole.collect::<Result<Vec<_>>>()?.into_iter().flatten().next() {
        return Err(wrong(path, Refusal::Content(*blob)));
    }
    let sums = Sums { results: results.len(), files: blobs.len(), bytes };
    // From here on everything is what it says.
    for (blob, place) in &blobs {
        store.ingest_file(place, blob)?;
    }
    for (tree, manifest) in &trees {
        store.keep_manifest(tree, manifest)?;
    }
    let taken = blobs.keys().map(|b| Hashed { digest: *b, bytes: 0, files: 1, manifest: None });
    store.sync(&taken.collect::<Vec<_>>())?;
    for (key, outcome) in &results {
        let Some(_held) = store.lock(key, || {}, || false)? else { continue };
        if !results::all(store, key).contains(outcome) {
            results::record(store, key, outcome)?;
        }
    }
    if let Some(report) = &report {
        record::write(&store.run(&report.run), report, false)?;
    }
    Ok((about, sums))
}
