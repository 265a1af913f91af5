//! Features in the state folder, a file for each batch: what a killed run goes on from, and what processes that share the work
//! hand to the first.
//!
//! A file is there whole or not at all, carries checksums, and says by a digest what it was made from: the pictures as they were
//! decoded, their classes, the networks and the resize. One that is damaged or of something else is made again.

use super::Rows;
use crate::network::Network;
use crate::pictures::Batch;
use anyhow::{Context as _, Result, ensure};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use tch::Tensor;
use weights::Weights;

/// Key of the digest in a file's metadata.
const MADE_FROM: &str = "made-from";

/// The parts of one set of pictures.
pub(crate) struct Parts {
    folder: PathBuf,
    networks: String,
}

impl Parts {
    /// In the state folder, of a set of this name.
    pub(crate) fn of(state: &Path, name: &str, network: &Network) -> Result<Self> {
        let folder = state.join(name);
        fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        let dinov2 = network.dinov2.as_ref().map_or("none", |dinov2| &dinov2.sha256);
        let (version, inception) = (env!("CARGO_PKG_VERSION"), &network.sha256);
        Ok(Self { folder, networks: format!("{version} {inception} {dinov2} {}", network.resize) })
    }

    /// The digest of all that the features of a batch are made from.
    pub(crate) fn digest(&self, batch: &Batch) -> String {
        let mut hasher = blake3::Hasher::new();
        let about = format!("{}\n{} {:?} {:?}\n", self.networks, batch.count, batch.size, batch.labels);
        hasher.update(about.as_bytes()).update_rayon(&batch.bytes);
        hasher.finalize().to_hex().to_string()
    }

    /// What is kept of the batch that begins with picture `first`, if it was made from what `digest` says.
    pub(crate) fn find(&self, first: usize, digest: &str) -> Option<Rows> {
        let (made_from, rows) = self.open(first).ok()?;
        (made_from == digest).then_some(rows)
    }

    /// The features of the batch that begins with picture `first`, which are there.
    ///
    /// # Errors
    /// When they are not, or damaged.
    pub(crate) fn read(&self, first: usize) -> Result<Rows> {
        Ok(self.open(first)?.1)
    }

    fn open(&self, first: usize) -> Result<(String, Rows)> {
        let mut all = Weights::read(&self.path(first))?;
        let made_from = all.metadata().get(MADE_FROM).context("not made by this program")?.clone();
        let mut take = |name: &str| -> Result<Option<Tensor>> {
            let Some(shape) = all.size(name) else { return Ok(None) };
            all.take(name, &shape).map(Some)
        };
        let labels = take("labels")?.map(|labels| Vec::<i64>::try_from(&labels)).transpose()?;
        let dinov2 = take("dinov2")?;
        let mut needed = |name| take(name)?.with_context(|| format!("no features {name}"));
        let (pool, spatial, logits) = (needed("pool")?, needed("spatial")?, needed("logits")?);
        Ok((made_from, Rows { first, pool, spatial, logits, dinov2, labels }))
    }

    /// Keeps the features of a batch.
    pub(crate) fn keep(&self, digest: &str, rows: &Rows) -> Result<()> {
        let mut tensors = vec![("pool", &rows.pool), ("spatial", &rows.spatial), ("logits", &rows.logits)];
        tensors.extend(rows.dinov2.as_ref().map(|dinov2| ("dinov2", dinov2)));
        let labels = rows.labels.as_ref().map(|labels| Tensor::f_from_slice(labels)).transpose()?;
        tensors.extend(labels.as_ref().map(|labels| ("labels", labels)));
        let note = BTreeMap::from([(MADE_FROM.to_string(), digest.to_string())]);
        let tensors = tensors.into_iter().map(|(name, tensor)| (name.to_string(), tensor));
        weights::write(&self.path(rows.first), tensors, &note)
    }

    /// Puts down some pictures of a batch for the process that joins the parts.
    pub(crate) fn keep_pictures(&self, first: usize, bytes: &[u8]) -> Result<()> {
        let path = self.pictures(first);
        fs::write(&path, bytes).with_context(|| format!("writing {}", path.display()))
    }

    /// Reads them: `count` of them, each of `size`.
    pub(crate) fn read_pictures(
        &self,
        first: usize,
        count: usize,
        [height, width]: [usize; 2],
    ) -> Result<Vec<u8>> {
        let path = self.pictures(first);
        let bytes = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        ensure!(bytes.len() == count * height * width * 3, "{} is cut short", path.display());
        Ok(bytes)
    }

    fn path(&self, first: usize) -> PathBuf {
        self.folder.join(format!("{first:08}.safetensors"))
    }

    fn pictures(&self, first: usize) -> PathBuf {
        self.folder.join(format!("{first:08}.rgb"))
    }
}

impl Rows {
    /// The same numbers under another handle.
    pub(super) fn shared(&self) -> Self {
        Self {
            first: self.first,
            pool: self.pool.shallow_clone(),
            spatial: self.spatial.shallow_clone(),
            logits: self.logits.shallow_clone(),
            dinov2: self.dinov2.as_ref().map(Tensor::shallow_clone),
            labels: self.labels.clone(),
        }
    }
}
