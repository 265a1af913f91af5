//! A safetensors file: its head is read at once, a tensor when it is asked for; written from where the tensors lie.
//!
//! Nothing of the size of a tensor is held beside the tensor itself. What we write carries a checksum of each tensor and of our
//! metadata under `blake3` in the file's metadata; it is checked whenever a tensor is read. Files without are read as they are.

use anyhow::{Context, Result, bail, ensure};
use safetensors::tensor::{Dtype, Metadata};
use stage::{BadInputExt, Staged};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Read, Seek, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use tch::{Device, Kind, Tensor};

/// Bytes that are copied, or hashed, at once.
const CHUNK: usize = 4 << 20;
/// Longest head, as the format's own reader has it.
const LONGEST_HEAD: u64 = 100_000_000;
/// The key of our metadata, as JSON.
const METADATA: &str = "json";
/// The key of the checksums, as JSON; among them that of our metadata, under a name that no tensor can have.
const CHECKSUMS: &str = "blake3";
const OF_METADATA: &str = "__metadata__";

/// Where a tensor lies.
#[derive(Clone, Debug)]
pub struct Place {
    pub kind: Kind,
    pub shape: Vec<i64>,
    dtype: Dtype,
    start: u64,
    bytes: usize,
    /// What its checksum has to be; none in a file that has no checksums.
    checksum: Option<String>,
}

/// What the head of a file says.
pub struct Head {
    /// What [`write`] was given, or what another program has written there.
    pub metadata: BTreeMap<String, String>,
    /// The tensors by name.
    pub places: BTreeMap<String, Place>,
}

impl Head {
    /// Reads the head and checks that the file is as long as it says.
    pub fn read(file: &File) -> Result<Self> {
        let size = file.metadata()?.len();
        let mut length = [0; 8];
        file.read_exact_at(&mut length, 0).context("too short for a safetensors file")?;
        let length = u64::from_le_bytes(length);
        ensure!(length <= LONGEST_HEAD && length + 8 <= size, "no safetensors file, or cut short");
        let mut head = vec![0; length as usize];
        file.read_exact_at(&mut head, 8)?;
        let parsed: Metadata = serde_json::from_slice(&head).context("its head")?;
        let begin = 8 + length;
        let end = begin + covered(&parsed)?;
        ensure!(end == size, "{size} bytes, wanted {end}: cut short or damaged");
        let mut metadata: BTreeMap<String, String> =
            parsed.metadata().iter().flatten().map(|(k, v)| (k.clone(), v.clone())).collect();
        let checksums: Option<BTreeMap<String, String>> =
            metadata.remove(CHECKSUMS).map(|text| serde_json::from_str(&text)).transpose()?;
        let text = metadata.remove(METADATA);
        if let Some(checksums) = &checksums {
            let found = text.as_ref().map(|text| blake3::hash(text.as_bytes()).to_hex().to_string());
            ensure!(checksums.get(OF_METADATA) == found.as_ref(), "its metadata is damaged");
        }
        if let Some(text) = text {
            // Ours stands alone, or beside checksums: what is beside it was their name.
            ensure!(metadata.is_empty(), "its metadata is damaged");
            metadata = serde_json::from_str(&text)?;
        }
        let mut places = BTreeMap::new();
        for (name, info) in parsed.tensors() {
            let (start, stop) = info.data_offsets;
            let checksum = match &checksums {
                None => None,
                Some(checksums) => {
                    Some(checksums.get(&name).with_context(|| format!("tensor {name}: no checksum"))?.clone())
                }
            };
            let place = Place {
                kind: kind_of(info.dtype).with_context(|| format!("tensor {name}"))?,
                shape: info.shape.iter().map(|&n| n as i64).collect(),
                dtype: info.dtype,
                start: begin + start as u64,
                bytes: stop - start,
                checksum,
            };
            places.insert(name, place);
        }
        Ok(Self { metadata, places })
    }
}

/// Bytes of all tensors, which lie one behind the other and are as large as their shapes.
fn covered(head: &Metadata) -> Result<u64> {
    let tensors = head.tensors();
    let mut all: Vec<_> = tensors.iter().map(|(name, info)| (info.data_offsets, name, info)).collect();
    all.sort_by_key(|(offsets, name, _)| (*offsets, *name));
    let mut end = 0;
    for ((from, to), name, info) in all {
        ensure!(from == end && to >= from, "tensor {name} does not lie behind the one before it");
        let numbers = info.shape.iter().try_fold(1usize, |all, n| all.checked_mul(*n));
        let bits = numbers.and_then(|numbers| numbers.checked_mul(info.dtype.bitsize()));
        ensure!(
            bits.is_some() && bits == (to - from).checked_mul(8),
            "tensor {name} is not as large as its shape"
        );
        end = to;
    }
    Ok(end as u64)
}

impl Place {
    /// Reads the tensor.
    pub fn tensor(&self, file: &File) -> Result<Tensor> {
        let tensor = Tensor::f_zeros(&self.shape, (self.kind, Device::Cpu))?;
        if self.bytes == 0 {
            return Ok(tensor);
        }
        ensure!(
            tensor.numel() * tensor.kind().elt_size_in_bytes() == self.bytes,
            "its size is not its shape's"
        );
        // SAFETY: a fresh tensor of so many bytes in a row, on the CPU, that nobody else knows of yet.
        let into = unsafe { std::slice::from_raw_parts_mut(tensor.data_ptr().cast::<u8>(), self.bytes) };
        let mut checksum = Checksum::new();
        for (i, chunk) in into.chunks_mut(CHUNK).enumerate() {
            file.read_exact_at(chunk, self.start + (i * CHUNK) as u64)?;
            if self.checksum.is_some() {
                checksum.add(chunk);
            }
        }
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
        let dtype = dtype_of(tensor.kind()).with_context(|| format!("writing tensor {name}"))?;
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
        checksums.insert(OF_METADATA, blake3::hash(text.as_bytes()).to_hex().to_string());
    }
    let context = || format!("writing {}", path.display());
    let staged = Staged::file(path)?;
    let mut out = BufWriter::with_capacity(1 << 16, File::create(staged.path()).with_context(context)?);
    // Checksums are known when all has been written; they are as long as what keeps their place.
    let length =
        out.write(&head(&all, metadata.as_deref(), &checksums)?).and_then(|n| out.flush().map(|()| n));
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
    let head = head(&all, metadata.as_deref(), &checksums)?;
    ensure!(head.len() == length, "the head of {} has grown", path.display());
    out.rewind().and_then(|()| out.write_all(&head)).and_then(|()| out.flush()).with_context(context)?;
    drop(out);
    staged.commit()
}

/// The length and the text of the head.
fn head(
    tensors: &[(String, &Tensor, Dtype)],
    metadata: Option<&str>,
    checksums: &BTreeMap<&str, String>,
) -> Result<Vec<u8>> {
    let mut file = serde_json::Map::new();
    let mut texts = serde_json::Map::new();
    if let Some(text) = metadata {
        texts.insert(METADATA.into(), text.into());
    }
    texts.insert(CHECKSUMS.into(), serde_json::to_string(checksums)?.into());
    file.insert(OF_METADATA.into(), texts.into());
    let mut start = 0;
    for (name, tensor, dtype) in tensors {
        let end = start + tensor.numel() * tensor.kind().elt_size_in_bytes();
        let info = serde_json::json!({"dtype": dtype, "shape": tensor.size(), "data_offsets": [start, end]});
        file.insert(name.clone(), info);
        start = end;
    }
    let mut text = serde_json::to_vec(&file)?;
    text.resize(text.len().next_multiple_of(8), b' ');
    Ok([&(text.len() as u64).to_le_bytes()[..], &text].concat())
}

/// The bytes of a tensor, row-major, a piece at a time, from where they lie.
///
/// # Errors
/// When libtorch fails, or what `give` returns.
pub fn each_chunk(tensor: &Tensor, give: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
    // The same memory where it lies in a row already.
    let flat = tensor.detach().f_contiguous()?.f_view([-1])?;
    let size = flat.kind().elt_size_in_bytes();
    let (count, step) = (flat.numel(), CHUNK / size);
    for start in (0..count).step_by(step) {
        let part = flat.f_narrow(0, start as i64, step.min(count - start) as i64)?;
        let part = part.f_to_device(Device::Cpu)?.f_contiguous()?;
        // SAFETY: numbers in a row on the CPU, which `part` keeps alive; nobody writes to them meanwhile.
        let bytes = unsafe { std::slice::from_raw_parts(part.data_ptr().cast::<u8>(), part.numel() * size) };
        give(bytes)?;
    }
    Ok(())
}

/// What [`write`] was given as metadata, from the head of a file alone.
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
    let whole = Head::read(&file).and_then(|head| {
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

fn kind_of(dtype: Dtype) -> Result<Kind> {
    Ok(match dtype {
        Dtype::F16 => Kind::Half,
        Dtype::BF16 => Kind::BFloat16,
        Dtype::F32 => Kind::Float,
        Dtype::F64 => Kind::Double,
        Dtype::U8 => Kind::Uint8,
        Dtype::I8 => Kind::Int8,
        Dtype::I16 => Kind::Int16,
        Dtype::I32 => Kind::Int,
        Dtype::I64 => Kind::Int64,
        Dtype::BOOL => Kind::Bool,
        other => bail!("of type {other:?}, which no network here uses"),
    })
}

fn dtype_of(kind: Kind) -> Result<Dtype> {
    Ok(match kind {
        Kind::Half => Dtype::F16,
        Kind::BFloat16 => Dtype::BF16,
        Kind::Float => Dtype::F32,
        Kind::Double => Dtype::F64,
        Kind::Uint8 => Dtype::U8,
        Kind::Int8 => Dtype::I8,
        Kind::Int16 => Dtype::I16,
        Kind::Int => Dtype::I32,
        Kind::Int64 => Dtype::I64,
        Kind::Bool => Dtype::BOOL,
        other => bail!("safetensors has no type for {other:?}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Weights;
    use safetensors::SafeTensors;

    fn tensors() -> BTreeMap<String, Tensor> {
        let long = Tensor::arange(3_000_000, (Kind::Float, Device::Cpu)).view([1000, 3000]);
        BTreeMap::from([
            ("transposed".to_string(), long.narrow(0, 0, 7).tr()),
            ("long".to_string(), long),
            ("half".to_string(), Tensor::from_slice(&[1f32, -2.5, 0.1]).to_kind(Kind::Half)),
            ("scalar".to_string(), Tensor::from(3i64)),
            ("none".to_string(), Tensor::zeros([0, 4], (Kind::Double, Device::Cpu))),
        ])
    }

    fn written(path: &Path, metadata: &[(&str, &str)]) {
        let metadata = metadata.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        write(path, tensors().iter().map(|(n, t)| (n.clone(), t)), &metadata).unwrap();
    }

    #[test]
    fn what_is_written_is_read_by_us_and_by_the_format_s_own_reader() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        written(&path, &[("checkpoint", "{}"), ("made-by", "x")]);
        let weights = Weights::read(&path).unwrap();
        assert_eq!(weights.metadata()["made-by"], "x");
        let (bytes, read) = (std::fs::read(&path).unwrap(), weights.into_tensors().unwrap());
        let theirs = SafeTensors::deserialize(&bytes).unwrap();
        for (name, tensor) in tensors() {
            assert_eq!((read[&name].size(), read[&name].kind()), (tensor.size(), tensor.kind()), "{name}");
            assert!(read[&name].equal(&tensor), "{name}");
            let mut ours: Vec<u8> = Vec::new();
            each_chunk(&tensor, &mut |bytes| {
                ours.extend(bytes);
                Ok(())
            })
            .unwrap();
            assert!(theirs.tensor(&name).unwrap().data() == ours, "{name}");
        }
        let again = dir.path().join("b");
        written(&again, &[("checkpoint", "{}"), ("made-by", "x")]);
        assert!(std::fs::read(&again).unwrap() == bytes);
        assert_eq!(verify(&path).unwrap(), None);
    }

    #[test]
    fn a_file_of_the_format_s_own_writer_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let data: Vec<u8> = [1f32, 2.0].iter().flat_map(|x| x.to_le_bytes()).collect();
        let view = safetensors::tensor::TensorView::new(Dtype::F32, vec![2], &data).unwrap();
        let text = r#"{"checkpoint":"x"}"#.to_string();
        let metadata = std::collections::HashMap::from([("json".to_string(), text)]);
        std::fs::write(&path, safetensors::serialize([("t", view)], Some(metadata)).unwrap()).unwrap();
        assert_eq!(metadata_of(&path)["checkpoint"], "x");
        let mut weights = Weights::read(&path).unwrap();
        assert_eq!(Vec::<f32>::try_from(weights.take("t", &[2]).unwrap()).unwrap(), [1.0, 2.0]);
        assert_eq!(verify(&path).unwrap(), None);
    }

    fn metadata_of(path: &Path) -> BTreeMap<String, String> {
        metadata(path).unwrap()
    }

    #[test]
    fn a_flipped_byte_anywhere_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let small = BTreeMap::from([
            ("b".to_string(), Tensor::from_slice(&[1f32, 2.0])),
            ("c".into(), Tensor::from(7i32)),
        ]);
        let metadata = BTreeMap::from([("checkpoint".to_string(), "{\"step\":6}".to_string())]);
        write(&path, small.iter().map(|(n, t)| (n.clone(), t)), &metadata).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let end = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let spaces = bytes[..end].iter().rev().take_while(|b| **b == b' ').count();
        for at in 0..bytes.len() {
            for flip in [1u8, 0x0f, 0x80] {
                let mut other = bytes.clone();
                other[at] ^= flip;
                std::fs::write(&path, &other).unwrap();
                let fault = verify(&path).unwrap();
                // What stands behind the last brace means nothing, as long as it is blank.
                let blank = (end - spaces..end).contains(&at) && other[at].is_ascii_whitespace();
                assert!(
                    fault.is_some() || blank,
                    "byte {at} ^ {flip}: {}",
                    String::from_utf8_lossy(&other[8..end])
                );
            }
        }
        for length in 0..bytes.len() {
            std::fs::write(&path, &bytes[..length]).unwrap();
            assert!(verify(&path).unwrap().is_some(), "cut to {length}");
        }
    }
}
