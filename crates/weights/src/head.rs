//! The header of a safetensors file: which tensors are where, and what is said beside them.

use anyhow::{Context, Result, bail, ensure};
use safetensors::tensor::{Dtype, Metadata};
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use tch::{Kind, Tensor};

/// Longest head, as the format's own reader has it.
const LONGEST_HEAD: u64 = 100_000_000;
/// The key of our metadata, as JSON.
const METADATA: &str = "json";
/// The key of the checksums, as JSON; among them that of our metadata, under a name that no tensor can have.
const CHECKSUMS: &str = "blake3";
pub const OF_METADATA: &str = "__metadata__";

/// Where a tensor lies.
#[derive(Clone, Debug)]
pub struct Place {
    pub kind: Kind,
    pub shape: Vec<i64>,
    pub dtype: Dtype,
    /// Where it begins in the file.
    pub start: u64,
    pub bytes: usize,
    /// What its checksum has to be; none in a file that has no checksums.
    pub checksum: Option<String>,
}

/// What the head of a file says.
pub struct Head {
    /// What [`write()`] was given, or what another program has written there.
    pub metadata: BTreeMap<String, String>,
    /// The tensors by name.
    pub places: BTreeMap<String, Place>,
    /// Bytes of the whole file.
    end: u64,
}

impl Head {
    /// Reads the header, whatever is behind it.
    pub fn read(file: &File) -> Result<Self> {
        let size = file.metadata()?.len();
        let mut length = [0; 8];
        file.read_exact_at(&mut length, 0).context("too short for a safetensors file")?;
        let length = u64::from_le_bytes(length);
        let mut first = [0];
        // Eight other bytes than a length say a number that no head has.
        let begun = file.read_at(&mut first, 8)? == 1 && first == *b"{";
        ensure!(length <= LONGEST_HEAD && begun, "neither safetensors nor a file of torch.save");
        let begin = 8 + length;
        ensure!(begin <= size, "cut short in its header; download it again");
        let mut head = vec![0; length as usize];
        file.read_exact_at(&mut head, 8)?;
        let parsed: Metadata = serde_json::from_slice(&head).context("its header is damaged")?;
        let end = begin + covered(&parsed)?;
        let mut metadata: BTreeMap<String, String> =
            parsed.metadata().iter().flatten().map(|(k, v)| (k.clone(), v.clone())).collect();
        let checksums: Option<BTreeMap<String, String>> =
            metadata.get(CHECKSUMS).and_then(|text| serde_json::from_str(text).ok());
        if checksums.is_some() {
            metadata.remove(CHECKSUMS);
        }
        let text = metadata.remove(METADATA);
        if let Some(checksums) = &checksums {
            let found = text.as_ref().map(|text| blake3::hash(text.as_bytes()).to_hex().to_string());
            ensure!(checksums.get(OF_METADATA) == found.as_ref(), "its metadata is damaged");
        }
        if let Some(text) = text {
            match serde_json::from_str(&text) {
                Ok(ours) => {
                    // Ours stands alone, or beside checksums: what is beside it was their name.
                    ensure!(metadata.is_empty(), "its metadata is damaged");
                    metadata = ours;
                }
                // Whatever another program calls by the same name.
                Err(_) => drop(metadata.insert(METADATA.into(), text)),
            }
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
        Ok(Self { metadata, places, end })
    }

    /// The same of a file that is as long as its header says.
    pub fn of_whole(file: &File) -> Result<Self> {
        let (head, size) = (Self::read(file)?, file.metadata()?.len());
        let end = head.end;
        ensure!(size >= end, "cut short: {size} of {end} bytes are there; download it again");
        ensure!(size == end, "{size} bytes, of which its header knows {end}");
        Ok(head)
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

/// The length and the text of the header, its entries in the order of the tensors.
pub fn text(
    tensors: &[(String, &Tensor, Dtype)],
    metadata: Option<&str>,
    checksums: &BTreeMap<&str, String>,
) -> Result<Vec<u8>> {
    let checksums = serde_json::to_string(checksums)?;
    let texts = metadata.map(|text| (METADATA, text)).into_iter().chain([(CHECKSUMS, checksums.as_str())]);
    let mut entries =
        vec![format!("\"{OF_METADATA}\":{}", serde_json::to_string(&BTreeMap::from_iter(texts))?)];
    let mut start = 0;
    for (name, tensor, dtype) in tensors {
        let end = start + tensor.numel() * tensor.kind().elt_size_in_bytes();
        let [name, dtype] = [serde_json::to_string(name)?, serde_json::to_string(dtype)?];
        let shape = tensor.size();
        entries.push(format!(
            "{name}:{{\"dtype\":{dtype},\"shape\":{shape:?},\"data_offsets\":[{start},{end}]}}"
        ));
        start = end;
    }
    let mut text = format!("{{{}}}", entries.join(",")).into_bytes();
    text.resize(text.len().next_multiple_of(8), b' ');
    Ok([&(text.len() as u64).to_le_bytes()[..], &text].concat())
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

pub fn dtype_of(kind: Kind) -> Result<Dtype> {
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
