//! A safetensors file: its header is read at once, a tensor when it is asked for; written from where the tensors lie.
//!
//! Nothing of the size of a tensor is held beside the tensor itself. What we write carries a checksum of each tensor and of our
//! metadata under `blake3` in the file's metadata; it is checked whenever a tensor is read. Files without are read as they are.

use crate::head::{self, Head, Place};
use crate::memory::{CHUNK, each_chunk, filled};
use anyhow::{Context, Result, ensure};
use safetensors::tensor::Dtype;
use stage::{BadInputExt, Staged};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Read, Seek, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use tch::Tensor;

impl Place {
    /// Reads the tensor.
    pub fn tensor(&self, file: &File) -> Result<Tensor> {
        let mut checksum = Checksum::new();
        let tensor = filled(self.kind, &self.shape, |into| {
            ensure!(into.len() == self.bytes, "its size is not its shape's");
            for (i, chunk) in into.chunks_mut(CHUNK).enumerate() {
                file.read_exact_at(chunk, self.start + (i * CHUNK) as u64)?;
                if self.checksum.is_some() {
                    checksum.add(chunk);
                }
            }
            Ok(())
        })?;
        self.compare(checksum)?;
        Ok(tensor)
    }

    /// Checks the tensor without keeping it.
    pub fn verify(&self, file: &File) -> Result<()> {
        let mut checksum = Checksum::new();
        let mut chunk = vec![0; CHUNK.min(self.bytes)];
        for at in (0..self.bytes).step_by(CHUNK) {
            let chunk = &mut chunk[..CHUNK.min(self.bytes - at)];
            file.read_exact_at(chunk, self.start + at as u64)?;
            checksum.add(chunk);
        }
        self.compare(checksum)
    }

    fn compare(&self, found: Checksum) -> Result<()> {
        let Some(wanted) = &self.checksum else { return Ok(()) };
        ensure!(found.end(self.dtype, &self.shape) == *wanted, "damaged: its checksum is another");
        Ok(())
    }
}

/// The checksum of a tensor: of its bytes and of what they mean.
struct Checksum(blake3::Hasher);

impl Checksum {
    fn new() -> Self {
        Self(blake3::Hasher::new())
    }

    fn add(&mut self, bytes: &[u8]) {
        self.0.update_rayon(bytes);
    }

    fn end(mut self, dtype: Dtype, shape: &[i64]) -> String {
        self.0.update(format!("{dtype:?} {shape:?}").as_bytes());
        self.0.finalize().to_hex().to_string()
    }
}

/// Writes tensors as a safetensors file, atomically; the same tensors and metadata give the same bytes.
///
/// # Errors
/// When a tensor has a kind that safetensors lacks, or the file cannot be written.
pub fn write<'a>(
    path: &Path,
    tensors: impl IntoIterator<Item = (String, &'a Tensor)>,
    metadata: &BTreeMap<String, String>,
) -> Result<()> {
    let mut all = Vec::new();
    for (name, tensor) in tensors {
        let dtype = head::dtype_of(tensor.kind()).with_context(|| format!("writing tensor {name}"))?;
        all.push((name, tensor, dtype));
    }
    // The format's own order: by alignment, so that every tensor begins at a multiple of its numbers' size.
    all.sort_by(|a, b| b.2.cmp(&a.2).then_with(|| a.0.cmp(&b.0)));
    let metadata = match metadata.is_empty() {
        true => None,
        false => Some(serde_json::to_string(metadata)?),
    };
    let mut checksums: BTreeMap<&str, String> = all
        .iter()
        .map(|(name, ..)| (name.as_str(), blake3::Hash::from_bytes([0; 32]).to_hex().to_string()))
        .collect();
    if let Some(text) = &metadata {
        checksums.insert(head::OF_METADATA, blake3::hash(text.as_bytes()).to_hex().to_string());
    }
    let context = || format!("writing {}", path.display());
    let staged = Staged::file(path)?;
    let mut out = BufWriter::with_capacity(1 << 16, File::create(staged.path()).with_context(context)?);
    // Checksums are known when all has been written; they are as long as what keeps their place.
    let length =
        out.write(&head::text(&all, metadata.as_deref(), &checksums)?).and_then(|n| out.flush().map(|()| n));
    let length = length.with_context(context)?;
    for (name, tensor, dtype) in &all {
        let mut checksum = Checksum::new();
        each_chunk(tensor, &mut |bytes| {
            checksum.add(bytes);
            Ok(out.write_all(bytes)?)
        })
        .with_context(|| format!("tensor {name}"))
        .with_context(context)?;
        checksums.insert(name, checksum.end(*dtype, &tensor.size()));
    }
    let head = head::text(&all, metadata.as_deref(), &checksums)?;
    ensure!(head.len() == length, "the head of {} has grown", path.display());
    out.rewind().and_then(|()| out.write_all(&head)).and_then(|()| out.flush()).with_context(context)?;
    drop(out);
    staged.commit()
}

/// What [`write()`] was given as metadata, from the head of a file alone.
///
/// # Errors
/// Bad input when the file is no safetensors file, or its head is damaged.
pub fn metadata(path: &Path) -> Result<BTreeMap<String, String>> {
    let context = || format!("reading {}", path.display());
    let file = File::open(path).bad_input(context)?;
    Ok(Head::read(&file).bad_input(context)?.metadata)
}

/// Checks every tensor of a file against its checksum. Gives what is wrong with it: it is cut short, or something has changed in
/// it. A file without checksums is only held to its length.
///
/// # Errors
/// Bad input when it cannot be opened.
pub fn verify(path: &Path) -> Result<Option<String>> {
    let file = File::open(path).bad_input(|| format!("reading {}", path.display()))?;
    let whole = Head::of_whole(&file).and_then(|head| {
        let mut with = head.places.iter().filter(|(_, place)| place.checksum.is_some());
        with.try_for_each(|(name, place)| place.verify(&file).with_context(|| format!("tensor {name}")))
    });
    Ok(whole.err().map(|fault| format!("{fault:#}")))
}

/// The first bytes of a file.
pub fn begin(file: &File) -> Result<Vec<u8>> {
    let mut start = Vec::new();
    file.take(64).read_to_end(&mut start)?;
    Ok(start)
}

#[cfg(test)]
mod tests;
