//! A cache that a team shares, in a folder or an object store: looked up before a stage runs, filled after it has.
//!
//! ```text
//! URL/v1/
//!   blobs/3f/…        file contents by BLAKE3
//!   trees/3f/…        manifests of folders
//!   results/3f/KEY    what an action gave, with a checksum; written after all that it names
//! ```
//!
//! Nothing that comes from there is believed before it was hashed.

mod client;
pub mod error;
mod location;
mod progress;
mod side_by_side;

pub use progress::{Progress, Quiet};
pub use side_by_side::{MOST, side_by_side};

use crate::cache::error::Result;
use crate::cache::remote::client::{Client, Move};
use crate::cache::remote::error::{NoPlace, Unusable};
use crate::cache::remote::location::Location;
use crate::cache::results::{self, ActionResult};
use rayon::prelude::*;
use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use store::IoContext;
use store::digest::{Digest, Kind};
use store::manifest::Manifest;
use store::walk::Hashed;
use store::{Key, Store, link, record};
use study::hidden;

/// Version of the layout above.
const VERSION: &str = "v1";
/// No record of a result is larger.
const RECORD: u64 = 16 << 20;
/// No list of files is larger; it has room for millions.
const LIST: u64 = 1 << 30;

/// A shared cache.
pub struct Remote {
    /// As it was given, without credentials.
    pub name: String,
    location: Location,
    client: OnceLock<Client>,
    /// It failed once; a run does not wait for it again.
    unreachable: AtomicBool,
    /// It refused to take something.
    read_only: AtomicBool,
    /// Objects that were not what their names say; they are written over.
    damaged: Mutex<HashSet<String>>,
}

impl Remote {
    /// Reads where the cache is; contacts nobody.
    pub fn new(name: &str, base: &Path) -> Result<Self, NoPlace> {
        Ok(Self {
            name: hidden(name).into_owned(),
            location: Location::parse(name, base)?,
            client: OnceLock::new(),
            unreachable: AtomicBool::new(false),
            read_only: AtomicBool::new(false),
            damaged: Mutex::default(),
        })
    }

    fn client(&self) -> Result<&Client> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let client = Client::open(&self.location)?;
        Ok(self.client.get_or_init(|| client))
    }

    /// What an action gave elsewhere, if the cache has it: its record and the lists of files of its outputs, which
    /// are kept in the store.
    pub fn look(&self, store: &Store, key: &Key, progress: &dyn Progress) -> Result<Option<ActionResult>> {
        let client = self.client()?;
        let object = record_object(key);
        let Some(bytes) = client.read(&object, RECORD)? else { return Ok(None) };
        let Some(outcome) = record::parse::<ActionResult>(&bytes) else {
            return self.refuse(key, &object, progress);
        };
        let mut lists = BTreeMap::new();
        for tree in outcome.outputs.values().map(|o| o.digest).filter(|digest| digest.kind == Kind::Tree) {
            let known = store.manifest(&tree).filter(|manifest| manifest.check().is_ok());
            let manifest = match known {
                Some(manifest) => manifest,
                None => {
                    let object = tree_object(&tree);
                    let Some(bytes) = client.read(&object, LIST)? else { return Ok(None) };
                    let Ok(manifest) = Manifest::parse(&bytes, &tree) else {
                        return self.refuse(key, &object, progress);
                    };
                    manifest
                }
            };
            lists.insert(tree, manifest);
        }
        if outcome.check(key, |tree| lists.get(tree).map(|m| (m.bytes(), m.files()))).is_err() {
            return self.refuse(key, &object, progress);
        }
        for (tree, manifest) in &lists {
            store.keep_manifest(tree, manifest)?;
        }
        Ok(Some(outcome))
    }

    /// Brings what an action gave elsewhere into the store. Needs the action's lock.
    pub fn fetch(&self, store: &Store, key: &Key, progress: &dyn Progress) -> Result<Option<ActionResult>> {
        let Some(outcome) = self.look(store, key, progress)? else { return Ok(None) };
        let landing = store.fetched(key);
        store.fresh(&landing)?;
        let mut missing = Vec::new();
        for (digest, bytes) in contents(store, &outcome)? {
            if !store.has(&digest)? {
                let file = landing.join(digest.to_string().replace(':', "-"));
                missing.push((digest, Move { object: blob_object(&digest), file, bytes }));
            }
        }
        let downloaded =
            self.client()?.download(missing.iter().map(|(_, one)| one.clone()).collect(), progress);
        if downloaded.is_err() {
            link::remove(&landing)?;
        }
        downloaded?;
        let taken = missing.par_iter().with_min_len(64).map(|(digest, one)| {
            let whole = one.file.exists() && store.ingest_blob(&one.file, digest)?;
            Ok((!whole).then_some(&one.object))
        });
        let bad: Vec<&String> = taken.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect();
        link::remove(&landing)?;
        if let Some(object) = bad.first() {
            self.lock().extend(bad.iter().map(|object| object.to_string()));
            return self.refuse(key, object, progress);
        }
        let taken =
            missing.iter().map(|(digest, _)| Hashed { digest: *digest, bytes: 0, files: 1, manifest: None });
        let taken: Vec<_> = taken.collect();
        for output in outcome.outputs.values() {
            if !store.materialize(&output.digest)? {
                return self.refuse(key, &record_object(key), progress);
            }
        }
        store.sync(&taken)?;
        results::record(store, key, &outcome)?;
        Ok(Some(outcome))
    }

    /// Sends what an action gave, unless the cache has it. Returns whether it has it now from here.
    pub fn send(
        &self,
        store: &Store,
        key: &Key,
        outcome: &ActionResult,
        progress: &dyn Progress,
    ) -> Result<bool> {
        let client = self.client()?;
        let object = record_object(key);
        let there = client.read(&object, RECORD)?.and_then(|bytes| record::parse::<ActionResult>(&bytes));
        // The first result of an action is everybody's; a broken one is written over.
        if there.is_some_and(|there| there.action.key() == *key) && !self.lock().contains(&object) {
            return Ok(false);
        }
        let moves = contents(store, outcome)?.into_iter().map(|(digest, bytes)| Move {
            object: blob_object(&digest),
            file: store.place(&digest),
            bytes,
        });
        let again = |object: &str| self.lock().contains(object);
        client.upload(moves.collect(), again, progress)?;
        for output in outcome.outputs.values().filter(|o| o.digest.kind == Kind::Tree) {
            let path = store.manifest_path(&output.digest);
            client.write(&tree_object(&output.digest), std::fs::read(&path).at("reading", &path)?)?;
        }
        let encoded = record::encode(outcome).at("encoding the record of", &store.path)?;
        client.write(&object, encoded)?;
        self.lock().remove(&object);
        Ok(true)
    }

    /// Says that an object is not what it should be, and treats the result as absent.
    fn refuse(&self, key: &Key, object: &str, progress: &dyn Progress) -> Result<Option<ActionResult>> {
        progress.say(&format!("the cache {} has a damaged or missing {object}; not used", self.name));
        self.lock().extend([object.to_string(), record_object(key)]);
        Ok(None)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashSet<String>> {
        self.damaged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it is worth asking.
    pub fn answers(&self) -> bool {
        !self.unreachable.load(Ordering::Relaxed)
    }

    /// Whether it is worth sending.
    pub fn takes(&self) -> bool {
        self.answers() && !self.read_only.load(Ordering::Relaxed)
    }

    /// Notes that it failed. Returns the warning, the first time.
    pub fn failed(&self, error: &Unusable, sending: bool) -> Option<String> {
        let flag = if sending { &self.read_only } else { &self.unreachable };
        let what = if sending { "takes nothing" } else { "does not answer" };
        (!flag.swap(true, Ordering::Relaxed))
            .then(|| format!("warning: the cache {} {what} ({error}); going on without it", self.name))
    }
}

/// Every blob of a result, with its size.
fn contents(store: &Store, outcome: &ActionResult) -> Result<BTreeMap<Digest, u64>> {
    let mut all = BTreeMap::new();
    for output in outcome.outputs.values() {
        if output.digest.kind != Kind::Tree {
            all.insert(output.digest, output.bytes);
            continue;
        }
        let manifest = store.manifest(&output.digest).ok_or(store::Error::NoManifest(output.digest))?;
        all.extend(manifest.blobs());
    }
    Ok(all)
}

fn blob_object(digest: &Digest) -> String {
    let hex = digest.hex();
    format!("{VERSION}/blobs/{}/{}", &hex[..2], &hex[2..])
}

fn tree_object(digest: &Digest) -> String {
    let hex = digest.hex();
    format!("{VERSION}/trees/{}/{}", &hex[..2], &hex[2..])
}

fn record_object(key: &Key) -> String {
    let key = key.to_string();
    format!("{VERSION}/results/{}/{key}", &key[..2])
}
