//! Tensors by their names, each read when it is asked for.

use crate::finite::finite;
use crate::head::{Head, Place};
use anyhow::{Context, Result, bail};
use stage::{BadInputExt, bad_input};
use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::fs::File;
use std::sync::Arc;
use tch::Tensor;

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
    stored: Option<Stored>,
}

/// Where a tensor lies, and its file's name for errors.
#[derive(Clone)]
struct Stored {
    source: Arc<str>,
    file: Arc<File>,
    place: Place,
    /// Its name in the file.
    name: String,
}

impl Entry {
    fn here(tensor: Tensor) -> Self {
        Self { tensor: tensor.into(), stored: None }
    }

    fn size(&self) -> Vec<i64> {
        match (&self.stored, self.tensor.get()) {
            (Some(stored), _) => stored.place.shape.clone(),
            (None, tensor) => tensor.map(Tensor::size).unwrap_or_default(),
        }
    }

    fn tensor(&self) -> Result<&Tensor> {
        if let (None, Some(Stored { source, file, place, name })) = (self.tensor.get(), &self.stored) {
            let tensor = place.tensor(file).bad_input(|| format!("reading {source}: tensor {name}"))?;
            return Ok(self.tensor.get_or_init(|| tensor));
        }
        self.tensor.get().context("a tensor that is nowhere")
    }

    fn second(&self) -> Self {
        let tensor = self.tensor.get().map(Tensor::shallow_clone);
        Self { tensor: tensor.map(OnceCell::from).unwrap_or_default(), stored: self.stored.clone() }
    }
}

impl Weights {
    /// Tensors that come from elsewhere; `source` names them in errors.
    pub fn new(source: impl Into<String>, tensors: BTreeMap<String, Tensor>) -> Self {
        let entries = tensors.into_iter().map(|(name, tensor)| (name, Entry::here(tensor))).collect();
        Self { source: source.into(), entries, metadata: BTreeMap::new() }
    }

    /// Those of a file whose head was read.
    pub(crate) fn stored(source: String, file: File, head: Head) -> Self {
        let Head { metadata, places, .. } = head;
        let (file, shown): (Arc<File>, Arc<str>) = (Arc::new(file), source.as_str().into());
        let entry = |(name, place): (String, Place)| {
            let (source, file) = (Arc::clone(&shown), Arc::clone(&file));
            let stored = Some(Stored { source, file, place, name: name.clone() });
            (name, Entry { tensor: OnceCell::new(), stored })
        };
        Self { entries: places.into_iter().map(entry).collect(), source, metadata }
    }

    /// Where they come from, for errors.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// What [`write()`](crate::write()) was given, or what another program has written as `__metadata__`.
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
        self.entries.get(name).map(Entry::tensor).transpose()
    }

    /// Takes the tensor called `name`, which must have this shape.
    ///
    /// # Errors
    /// Bad input when it is missing, of another shape, or damaged; a failure when a number in it is none.
    pub fn take(&mut self, name: &str, shape: &[i64]) -> Result<Tensor> {
        let Some(entry) = self.entries.remove(name) else {
            let near = stage::nearest(name, self.names());
            let hint = near.map(|n| format!("; the nearest name is {n}")).unwrap_or_default();
            bad_input!("{}: no tensor {name}{hint}", self.source)
        };
        if entry.size() != shape {
            bad_input!("{}: tensor {name} has shape {:?}, wanted {shape:?}", self.source, entry.size())
        }
        let tensor = entry.tensor()?;
        if !finite(tensor)? {
            bail!("{}: tensor {name} holds numbers that are none (NaN or infinite)", self.source)
        }
        Ok(tensor.shallow_clone())
    }

    /// Puts a tensor under a name, in place of one that may be there.
    pub fn insert(&mut self, name: String, tensor: Tensor) {
        self.entries.insert(name, Entry::here(tensor));
    }

    /// Takes in all that others have, their names behind a prefix.
    pub fn join(&mut self, prefix: &str, others: Self) {
        let named = others.entries.into_iter().map(|(name, entry)| (format!("{prefix}{name}"), entry));
        self.entries.extend(named);
    }

    /// The same under other names, without those that get none.
    #[must_use]
    pub fn renamed(self, new: impl Fn(&str) -> Option<String>) -> Self {
        let entries = self.entries.into_iter().filter_map(|(old, entry)| Some((new(&old)?, entry)));
        Self { entries: entries.collect(), source: self.source, metadata: self.metadata }
    }

    /// The same tensors once more; those that have been read share their memory.
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
        let read = |(name, entry): (String, Entry)| {
            let tensor = entry.tensor()?.shallow_clone();
            Ok((name, tensor))
        };
        self.entries.into_iter().map(read).collect()
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
