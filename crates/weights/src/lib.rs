//! Named tensors on disk: safetensors, read and written strictly, and what `torch.save` wrote.

mod finite;
pub mod pickle;

pub use finite::finite;

use anyhow::{Context, Result, bail, ensure};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use stage::{BadInputExt, bad_input};
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use tch::{Kind, Tensor};

/// Named tensors that a network takes one by one; what is missing, misshapen or left over is refused by name.
pub struct Weights {
    source: String,
    tensors: BTreeMap<String, Tensor>,
    metadata: HashMap<String, String>,
}

impl Weights {
    /// Reads a safetensors file, or a file of `torch.save` (`.pth`, `.ckpt`), onto the CPU.
    ///
    /// # Errors
    /// Bad input when the file is missing, truncated or neither of these.
    pub fn read(path: &Path) -> Result<Self> {
        let source = path.display().to_string();
        let context = || format!("reading {source}");
        stage::refuse_impostor(path)?;
        let bytes = std::fs::read(path).bad_input(context)?;
        if pickle::is_pickle(&bytes) {
            return Ok(Self::new(source.clone(), pickle::parse(&bytes).bad_input(context)?));
        }
        check_length(&bytes).bad_input(context)?;
        let (_, header) = SafeTensors::read_metadata(&bytes).bad_input(context)?;
        let metadata = header.metadata().clone().unwrap_or_default();
        let file = SafeTensors::deserialize(&bytes).bad_input(context)?;
        let mut tensors = BTreeMap::new();
        for (name, view) in file.iter() {
            let kind = kind_of(view.dtype()).bad_input(|| format!("reading {source}: tensor {name}"))?;
            let shape: Vec<i64> = view.shape().iter().map(|&n| n as i64).collect();
            let tensor = Tensor::f_from_data_size(view.data(), &shape, kind).with_context(context)?;
            tensors.insert(name.to_string(), tensor);
        }
        Ok(Self { source, tensors, metadata })
    }

    /// Tensors that come from elsewhere; `source` names them in errors.
    pub fn new(source: impl Into<String>, tensors: BTreeMap<String, Tensor>) -> Self {
        Self { source: source.into(), tensors, metadata: HashMap::new() }
    }

    /// Where they come from, for errors.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The `__metadata__` of the file.
    pub fn metadata(&self) -> &HashMap<String, String> {
        &self.metadata
    }

    /// The names that have not been taken yet, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// A tensor that has not been taken yet.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.tensors.get(name)
    }

    /// Takes the tensor called `name`, which must have this shape.
    ///
    /// # Errors
    /// Bad input when it is missing or of another shape; a failure when a number in it is none.
    pub fn take(&mut self, name: &str, shape: &[i64]) -> Result<Tensor> {
        let Some(tensor) = self.tensors.remove(name) else {
            let near = stage::nearest(name, self.names());
            let hint = near.map(|n| format!("; the nearest name is {n}")).unwrap_or_default();
            bad_input!("{}: no tensor {name}{hint}", self.source)
        };
        if tensor.size() != shape {
            bad_input!("{}: tensor {name} has shape {:?}, wanted {shape:?}", self.source, tensor.size())
        }
        if !finite(&tensor)? {
            bail!("{}: tensor {name} holds numbers that are none (NaN or infinite)", self.source)
        }
        Ok(tensor)
    }

    /// Puts a tensor under a name, in place of one that may be there.
    pub fn insert(&mut self, name: String, tensor: Tensor) {
        self.tensors.insert(name, tensor);
    }

    /// The same tensors once more, sharing their memory.
    pub fn shallow_clone(&self) -> Self {
        let tensors = self.tensors.iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone()));
        Self { source: self.source.clone(), tensors: tensors.collect(), metadata: self.metadata.clone() }
    }

    /// Takes every tensor whose name starts with `prefix`, without it.
    pub fn split_off(&mut self, prefix: &str) -> Self {
        let names: Vec<String> = self.names().filter(|n| n.starts_with(prefix)).map(String::from).collect();
        let taken =
            names.into_iter().filter_map(|n| Some((n[prefix.len()..].to_string(), self.tensors.remove(&n)?)));
        Self { source: self.source.clone(), tensors: taken.collect(), metadata: self.metadata.clone() }
    }

    /// Everything that has not been taken.
    pub fn into_tensors(self) -> BTreeMap<String, Tensor> {
        self.tensors
    }

    /// Checks that nothing is left over.
    ///
    /// # Errors
    /// Bad input that names the first surplus tensors.
    pub fn finish(self) -> Result<()> {
        let left: Vec<&str> = self.names().take(3).collect();
        if !left.is_empty() {
            let more = self.tensors.len() - left.len();
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            bad_input!("{}: surplus tensors {}{more}", self.source, left.join(", "))
        }
        Ok(())
    }
}

/// Checks that a safetensors file, or what is to be one, is as long as it says.
fn check_length(bytes: &[u8]) -> Result<()> {
    let head = bytes.split_first_chunk::<8>().map(|(length, rest)| (u64::from_le_bytes(*length), rest));
    let (length, rest) = head.context("too short for a safetensors file")?;
    let Some(header) = usize::try_from(length).ok().and_then(|length| rest.get(..length)) else {
        // Eight other bytes than a length say a number that no header has.
        ensure!(
            length <= 100 << 20 && rest.starts_with(b"{"),
            "neither safetensors nor a file of torch.save"
        );
        bail!("cut short in its header; download it again");
    };
    let header: serde_json::Value = serde_json::from_slice(header).context("its header is no JSON")?;
    let ends =
        header.as_object().into_iter().flatten().filter_map(|(_, tensor)| tensor["data_offsets"][1].as_u64());
    let wanted = 8 + length + ends.max().unwrap_or(0);
    let there = bytes.len() as u64;
    ensure!(there >= wanted, "cut short: {there} of {wanted} bytes are there; download it again");
    Ok(())
}

/// Longest header of a safetensors file, as its own reader has it.
const LONGEST_HEADER: u64 = 100_000_000;

/// What [`write()`] was given as metadata, read from the head of a file alone.
///
/// # Errors
/// Bad input when the file is no safetensors file.
pub fn metadata(path: &Path) -> Result<BTreeMap<String, String>> {
    let context = || format!("reading {}", path.display());
    let mut file = File::open(path).bad_input(context)?;
    let mut length = [0; 8];
    file.read_exact(&mut length).bad_input(context)?;
    let length = u64::from_le_bytes(length);
    if length > LONGEST_HEADER {
        bad_input!("{}: no safetensors file", path.display())
    }
    let mut header = Vec::new();
    file.take(length).read_to_end(&mut header).bad_input(context)?;
    let header: serde_json::Value = serde_json::from_slice(&header).bad_input(context)?;
    match header["__metadata__"]["json"].as_str() {
        Some(text) => serde_json::from_str(text).bad_input(context),
        None => Ok(BTreeMap::new()),
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
    let mut data = BTreeMap::new();
    for (name, tensor) in tensors {
        let dtype = dtype_of(tensor.kind()).with_context(|| format!("writing tensor {name}"))?;
        let shape: Vec<usize> = tensor.size().iter().map(|&n| n as usize).collect();
        let tensor = tensor.to_device(tch::Device::Cpu).contiguous();
        let mut bytes = vec![0u8; tensor.numel() * tensor.kind().elt_size_in_bytes()];
        tensor
            .f_copy_data_u8(&mut bytes, tensor.numel())
            .with_context(|| format!("writing tensor {name}"))?;
        data.insert(name, (dtype, shape, bytes));
    }
    let views: Result<Vec<_>, _> = data
        .iter()
        .map(|(n, (d, s, b))| Ok::<_, safetensors::SafeTensorError>((n, TensorView::new(*d, s.clone(), b)?)))
        .collect();
    // One key at most: the crate keeps metadata in a hash map, whose order would change the bytes.
    let metadata = (!metadata.is_empty())
        .then(|| serde_json::to_string(metadata))
        .transpose()?
        .map(|json| HashMap::from([("json".to_string(), json)]));
    let bytes = safetensors::serialize(views?, metadata)?;
    stage::write_atomically(path, |out| Ok(out.write_all(&bytes)?))
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
        other => anyhow::bail!("of type {other:?}, which no network here uses"),
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
        other => anyhow::bail!("safetensors has no type for {other:?}"),
    })
}
