//! Named tensors on disk: safetensors, read and written strictly, and what `torch.save` wrote.

mod file;
pub mod pickle;

use anyhow::{Context, Result};
use file::{Head, Place};
use stage::{BadInputExt, bad_input};
use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use tch::Tensor;

pub use file::{each_chunk, metadata, verify, write};

/// Named tensors that a network takes one by one; what is missing, misshapen or left over is refused by name. Those of a
/// safetensors file are read when they are asked for.
pub struct Weights {
    source: String,
    entries: BTreeMap<String, Entry>,
    metadata: BTreeMap<String, String>,
}

/// A tensor, and where it is to be read as long as nobody has asked for it.
struct Entry {
    tensor: OnceCell<Tensor>,
    stored: Option<(Arc<File>, Place)>,
}

impl Entry {
    fn here(tensor: Tensor) -> Self {
        Self { tensor: tensor.into(), stored: None }
    }

    fn size(&self) -> Vec<i64> {
        match (&self.stored, self.tensor.get()) {
            (Some((_, place)), _) => place.shape.clone(),
            (None, tensor) => tensor.map(Tensor::size).unwrap_or_default(),
        }
    }

    fn tensor(&self, name: &str, source: &str) -> Result<&Tensor> {
        if let (None, Some((file, place))) = (self.tensor.get(), &self.stored) {
            let tensor = place.tensor(file).bad_input(|| format!("reading {source}: tensor {name}"))?;
            return Ok(self.tensor.get_or_init(|| tensor));
        }
        self.tensor.get().with_context(|| format!("{source}: tensor {name} is nowhere"))
    }

    fn second(&self) -> Self {
        let tensor = OnceCell::new();
        if let Some(here) = self.tensor.get() {
            let _ = tensor.set(here.shallow_clone());
        }
        Self { tensor, stored: self.stored.clone() }
    }
}

impl Weights {
    /// Opens a safetensors file, whose tensors are read when they are asked for, or reads a file of `torch.save` (`.pth`,
    /// `.ckpt`). Tensors come onto the CPU.
    ///
    /// # Errors
    /// Bad input when the file is missing, truncated or neither of these.
    pub fn read(path: &Path) -> Result<Self> {
        let source = path.display().to_string();
        let context = || format!("reading {source}");
        let file = File::open(path).bad_input(context)?;
        if pickle::is_pickle(&file::begin(&file).bad_input(context)?) {
            return pickle::read(path);
        }
        let Head { metadata, places } = Head::read(&file).bad_input(context)?;
        let file = Arc::new(file);
        let stored = |(name, place)| {
            (name, Entry { tensor: OnceCell::new(), stored: Some((Arc::clone(&file), place)) })
        };
        Ok(Self { source: source.clone(), entries: places.into_iter().map(stored).collect(), metadata })
    }

    /// Tensors that come from elsewhere; `source` names them in errors.
    pub fn new(source: impl Into<String>, tensors: BTreeMap<String, Tensor>) -> Self {
        let entries = tensors.into_iter().map(|(name, tensor)| (name, Entry::here(tensor))).collect();
        Self { source: source.into(), entries, metadata: BTreeMap::new() }
    }

    /// Where they come from, for errors.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// What [`write`] was given, or what another program has written as `__metadata__`.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// The names that have not been taken yet, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// Whether there is a tensor of this name that has not been taken yet.
    pub fn has(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// The shape of a tensor that has not been taken yet.
    pub fn size(&self, name: &str) -> Option<Vec<i64>> {
        self.entries.get(name).map(Entry::size)
    }

    /// A tensor that has not been taken yet.
    ///
    /// # Errors
    /// Bad input when it cannot be read, or is damaged.
    pub fn get(&self, name: &str) -> Result<Option<&Tensor>> {
        self.entries.get(name).map(|entry| entry.tensor(name, &self.source)).transpose()
    }

    /// Takes the tensor called `name`, which must have this shape.
    ///
    /// # Errors
    /// Bad input when it is missing, of another shape, or damaged.
    pub fn take(&mut self, name: &str, shape: &[i64]) -> Result<Tensor> {
        let Some(entry) = self.entries.remove(name) else {
            let near = stage::nearest(name, self.names());
            let hint = near.map(|n| format!("; the nearest name is {n}")).unwrap_or_default();
            bad_input!("{}: no tensor {name}{hint}", self.source)
        };
        if entry.size() != shape {
            bad_input!("{}: tensor {name} has shape {:?}, wanted {shape:?}", self.source, entry.size())
        }
        entry.tensor(name, &self.source).map(Tensor::shallow_clone)
    }

    /// The same tensors once more, sharing their memory.
    pub fn shallow_clone(&self) -> Self {
        let entries = self.entries.iter().map(|(name, entry)| (name.clone(), entry.second()));
        Self { source: self.source.clone(), entries: entries.collect(), metadata: self.metadata.clone() }
    }

    /// Takes every tensor whose name starts with `prefix`, without it.
    pub fn split_off(&mut self, prefix: &str) -> Self {
        let names: Vec<String> = self.names().filter(|n| n.starts_with(prefix)).map(String::from).collect();
        let taken =
            names.into_iter().filter_map(|n| Some((n[prefix.len()..].to_string(), self.entries.remove(&n)?)));
        Self { source: self.source.clone(), entries: taken.collect(), metadata: self.metadata.clone() }
    }

    /// Everything that has not been taken.
    ///
    /// # Errors
    /// Bad input when a tensor cannot be read, or is damaged.
    pub fn into_tensors(self) -> Result<BTreeMap<String, Tensor>> {
        let Self { source, entries, .. } = self;
        let read = entries.into_iter().map(|(name, entry)| {
            let tensor = entry.tensor(&name, &source)?.shallow_clone();
            Ok((name, tensor))
        });
        read.collect()
    }

    /// Checks that nothing is left over.
    ///
    /// # Errors
    /// Bad input that names the first surplus tensors.
    pub fn finish(self) -> Result<()> {
        let left: Vec<&str> = self.names().take(3).collect();
        if !left.is_empty() {
            let more = self.entries.len() - left.len();
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            bad_input!("{}: surplus tensors {}{more}", self.source, left.join(", "))
        }
        Ok(())
    }
}
