//! The zip archive of `torch.save`, written without Python: tensors and plain values in nested dictionaries.

use crate::memory::each_chunk;
use anyhow::{Context, Result, bail};
use std::io::{Seek, Write};
use std::path::Path;
use tch::{Kind, Tensor};
use zip::write::{SimpleFileOptions, ZipWriter};
use zip::{CompressionMethod, DateTime};

/// torch aligns values so that they can be mapped into memory.
const ALIGNMENT: u16 = 64;

/// What a file holds.
pub enum Item<'a> {
    /// Python's `None`.
    None,
    /// A truth value.
    Bool(bool),
    /// A whole number.
    Integer(i64),
    /// A number.
    Float(f64),
    /// A text.
    Text(String),
    /// A tensor.
    Tensor(&'a Tensor),
    /// A tuple.
    Tuple(Vec<Self>),
    /// A list.
    List(Vec<Self>),
    /// A dictionary, in the order that is given.
    Dict(Vec<(Self, Self)>),
    /// A state dict, in the order that is given.
    State(Vec<(String, &'a Tensor)>),
}

impl<'a> Item<'a> {
    /// A dictionary under texts.
    pub fn named<'n>(entries: impl IntoIterator<Item = (&'n str, Self)>) -> Self {
        Self::Dict(entries.into_iter().map(|(name, item)| (Self::Text(name.into()), item)).collect())
    }
}

/// Writes an item as `torch.save` would, atomically; `torch.load(weights_only=True)` reads it. The same item gives the same
/// bytes.
///
/// # Errors
/// When a tensor has a kind that has no storage class, or the file cannot be written.
pub fn write(path: &Path, item: &Item) -> Result<()> {
    let mut pickle = Pickle::default();
    pickle.whole(item)?;
    let staged = stage::Staged::file(path)?;
    let context = || format!("writing {}", path.display());
    let file = std::fs::File::create(staged.path()).with_context(context)?;
    let mut zip = ZipWriter::new(std::io::BufWriter::new(file));
    archive(&mut zip, &pickle).with_context(context)?;
    zip.finish().with_context(context)?.flush().with_context(context)?;
    staged.commit()
}

fn archive(zip: &mut ZipWriter<impl Write + Seek>, pickle: &Pickle) -> Result<()> {
    // Stored, with the same time always, so that the same tensors give the same bytes.
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Stored)
        .last_modified_time(DateTime::default());
    zip.start_file("archive/data.pkl", options)?;
    zip.write_all(&pickle.bytes)?;
    zip.start_file("archive/byteorder", options)?;
    zip.write_all(b"little")?;
    for (key, tensor) in pickle.tensors.iter().enumerate() {
        let large = tensor.numel() * tensor.kind().elt_size_in_bytes() > u32::MAX as usize / 2;
        let aligned = options.with_alignment(ALIGNMENT).large_file(large);
        zip.start_file(format!("archive/data/{key}"), aligned)?;
        each_chunk(tensor, &mut |bytes| Ok(zip.write_all(bytes)?))?;
    }
    zip.start_file("archive/version", options)?;
    Ok(zip.write_all(b"3\n")?)
}

/// A pickle of protocol 2, and the tensors whose values go beside it.
#[derive(Default)]
struct Pickle<'a> {
    bytes: Vec<u8>,
    tensors: Vec<&'a Tensor>,
}

impl<'a> Pickle<'a> {
    fn whole(&mut self, item: &Item<'a>) -> Result<()> {
        self.bytes.extend(b"\x80\x02"); // protocol 2
        self.item(item)?;
        self.bytes.push(b'.'); // stop
        Ok(())
    }

    fn item(&mut self, item: &Item<'a>) -> Result<()> {
        match item {
            Item::None => self.bytes.push(b'N'),
            Item::Bool(value) => self.bytes.push(if *value { 0x88 } else { 0x89 }),
            Item::Integer(value) => self.integer(*value),
            Item::Float(value) => {
                self.bytes.push(b'G');
                self.bytes.extend(value.to_be_bytes());
            }
            Item::Text(text) => self.text(text)?,
            Item::Tensor(tensor) => self.tensor(tensor)?,
            Item::Tuple(items) => {
                self.bytes.push(b'(');
                items.iter().try_for_each(|item| self.item(item))?;
                self.bytes.push(b't');
            }
            Item::List(items) => {
                self.bytes.extend(b"]("); // empty list, mark
                items.iter().try_for_each(|item| self.item(item))?;
                self.bytes.push(b'e'); // append
            }
            Item::Dict(entries) => {
                self.bytes.extend(b"}("); // empty dictionary, mark
                for (key, item) in entries {
                    self.item(key)?;
                    self.item(item)?;
                }
                self.bytes.push(b'u'); // set items
            }
            Item::State(tensors) => {
                self.global("collections", "OrderedDict");
                self.bytes.extend(b")R("); // empty tuple, call, mark
                for (name, tensor) in tensors {
                    self.text(name)?;
                    self.tensor(tensor).with_context(|| format!("tensor {name}"))?;
                }
                self.bytes.push(b'u');
            }
        }
        Ok(())
    }

    /// `_rebuild_tensor_v2(storage, 0, size, stride, False, OrderedDict())`, the storage a persistent object.
    fn tensor(&mut self, tensor: &'a Tensor) -> Result<()> {
        let size = tensor.size();
        let mut stride = vec![1; size.len()];
        for i in (1..size.len()).rev() {
            stride[i - 1] = stride[i] * size[i].max(1);
        }
        self.global("torch._utils", "_rebuild_tensor_v2");
        self.bytes.extend(b"((");
        self.text("storage")?;
        self.global("torch", storage_class(tensor.kind())?);
        self.text(&self.tensors.len().to_string())?;
        self.text("cpu")?;
        self.integer(tensor.numel() as i64);
        self.bytes.extend(b"tQ"); // tuple, persistent object
        self.integer(0);
        for numbers in [&size, &stride] {
            self.bytes.push(b'(');
            numbers.iter().for_each(|&n| self.integer(n));
            self.bytes.push(b't');
        }
        self.bytes.push(0x89); // False
        self.global("collections", "OrderedDict");
        self.bytes.extend(b")RtR");
        self.tensors.push(tensor);
        Ok(())
    }

    fn global(&mut self, module: &str, name: &str) {
        self.bytes.extend(format!("c{module}\n{name}\n").bytes());
    }

    fn text(&mut self, text: &str) -> Result<()> {
        self.bytes.push(b'X');
        self.bytes.extend(u32::try_from(text.len())?.to_le_bytes());
        self.bytes.extend(text.bytes());
        Ok(())
    }

    fn integer(&mut self, value: i64) {
        match i32::try_from(value) {
            Ok(small) => {
                self.bytes.push(b'J');
                self.bytes.extend(small.to_le_bytes());
            }
            Err(_) => {
                self.bytes.extend([0x8a, 8]);
                self.bytes.extend(value.to_le_bytes());
            }
        }
    }
}

/// The storage class of an element type; [`super::storage_kind`] the other way.
fn storage_class(kind: Kind) -> Result<&'static str> {
    Ok(match kind {
        Kind::Float => "FloatStorage",
        Kind::Double => "DoubleStorage",
        Kind::Half => "HalfStorage",
        Kind::BFloat16 => "BFloat16Storage",
        Kind::Int64 => "LongStorage",
        Kind::Int => "IntStorage",
        Kind::Uint8 => "ByteStorage",
        Kind::Bool => "BoolStorage",
        other => bail!("no storage class for {other:?}"),
    })
}
