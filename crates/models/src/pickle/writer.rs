//! The zip archive of `torch.save`, written without Python: dictionaries of tensors inside one dictionary.

use anyhow::{Context, Result, bail};
use std::io::{Seek, Write};
use std::path::Path;
use tch::{Device, Kind, Tensor};
use zip::write::{SimpleFileOptions, ZipWriter};
use zip::{CompressionMethod, DateTime};

/// torch aligns values so that they can be mapped into memory.
const ALIGNMENT: u16 = 64;

/// One entry of the outer dictionary.
pub enum Section<'a> {
    /// A dictionary of tensors, in the order they are given.
    Tensors(Vec<(String, &'a Tensor)>),
    /// A text.
    Text(String),
}

/// Writes `{name: section}` as `torch.save` would, atomically; `torch.load(weights_only=True)` reads it. The same sections
/// give the same bytes.
///
/// # Errors
/// When a tensor has a kind that has no storage class, or the file cannot be written.
pub fn write(path: &Path, sections: &[(&str, Section)]) -> Result<()> {
    let mut pickle = Pickle::default();
    pickle.dictionary(sections)?;
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
        let values = tensor.to_device(Device::Cpu).contiguous();
        let mut bytes = vec![0u8; values.numel() * values.kind().elt_size_in_bytes()];
        values.f_copy_data_u8(&mut bytes, values.numel())?;
        let large = bytes.len() > u32::MAX as usize / 2;
        let aligned = options.with_alignment(ALIGNMENT).large_file(large);
        zip.start_file(format!("archive/data/{key}"), aligned)?;
        zip.write_all(&bytes)?;
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
    fn dictionary(&mut self, sections: &[(&str, Section<'a>)]) -> Result<()> {
        self.bytes.extend(b"\x80\x02}("); // protocol 2, empty dictionary, mark
        for (name, section) in sections {
            self.text(name)?;
            match section {
                Section::Text(text) => self.text(text)?,
                Section::Tensors(tensors) => {
                    self.global("collections", "OrderedDict");
                    self.bytes.extend(b")R("); // empty tuple, call, mark
                    for (name, tensor) in tensors {
                        self.text(name)?;
                        self.tensor(tensor).with_context(|| format!("tensor {name}"))?;
                    }
                    self.bytes.push(b'u');
                }
            }
        }
        self.bytes.extend(b"u."); // set items, stop
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
