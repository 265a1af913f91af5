//! Writing arrays one after the other; the same values give the same bytes.

use anyhow::{Context, Result};
use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::Path;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

/// An archive under construction.
pub struct Writer {
    zip: ZipWriter<BufWriter<File>>,
}

impl Writer {
    /// Starts an archive.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn create(path: &Path) -> Result<Self> {
        let file = File::create(path).with_context(|| format!("making {}", path.display()))?;
        Ok(Self { zip: ZipWriter::new(BufWriter::new(file)) })
    }

    /// Starts the array `name`; its values follow through [`Writer::values`].
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn start(&mut self, name: &str, descr: &str, shape: &[usize]) -> Result<()> {
        let extents: Vec<String> = shape.iter().map(|n| format!("{n},")).collect();
        let extents = extents.join(" ");
        let extents = if shape.len() > 1 { extents.trim_end_matches(',') } else { &extents };
        let mut dictionary =
            format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({extents}), }}");
        // The values start at a multiple of 64 bytes.
        let padding = 64 - (10 + dictionary.len() + 1) % 64;
        dictionary.extend(std::iter::repeat_n(' ', padding % 64));
        dictionary.push('\n');
        self.zip.start_file(format!("{name}.npy"), options())?;
        self.zip.write_all(b"\x93NUMPY\x01\x00")?;
        self.zip.write_all(&u16::try_from(dictionary.len())?.to_le_bytes())?;
        Ok(self.zip.write_all(dictionary.as_bytes())?)
    }

    /// The next bytes of values of the array that was started.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn values(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.zip.write_all(bytes)?)
    }

    /// All that a reader gives, as the next values.
    ///
    /// # Errors
    /// When it cannot be read or written.
    pub fn copy(&mut self, values: &mut dyn Read) -> Result<()> {
        Ok(std::io::copy(values, &mut self.zip).map(drop)?)
    }

    /// A row of whole numbers.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn integers(&mut self, name: &str, values: &[i64]) -> Result<()> {
        self.start(name, "<i8", &[values.len()])?;
        self.values(&values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>())
    }

    /// A member that is no array.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn note(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        self.zip.start_file(name, options())?;
        Ok(self.zip.write_all(bytes)?)
    }

    /// Writes the directory.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn finish(self) -> Result<()> {
        Ok(self.zip.finish()?.flush()?)
    }
}

/// Stored, sizes in 64 bits as NumPy writes them, no time of day.
fn options() -> SimpleFileOptions {
    SimpleFileOptions::default()
        .compression_method(CompressionMethod::Stored)
        .last_modified_time(DateTime::default())
        .large_file(true)
}
