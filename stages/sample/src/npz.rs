//! Writes numpy's `.npz`: a zip of `.npy` arrays, streamed, of any size.

use anyhow::{Context, Result};
use stage::BadInputExt;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::Path;
use zip::read::ZipArchive;
use zip::write::{SimpleFileOptions, ZipWriter};
use zip::{CompressionMethod, DateTime};

/// A file being written.
pub struct Npz {
    zip: ZipWriter<BufWriter<File>>,
}

impl Npz {
    /// Starts a file.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn create(path: &Path) -> Result<Self> {
        let file = File::create(path).with_context(|| format!("making {}", path.display()))?;
        Ok(Self { zip: ZipWriter::new(BufWriter::new(file)) })
    }

    /// Starts an array; its data follow by [`Npz::data`], row-major. `kind` is numpy's, such as `<i8`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn array(&mut self, name: &str, kind: &str, shape: &[usize]) -> Result<()> {
        // Stored, with the same time always, so that the same arrays give the same bytes; Zip64 for what may pass 4 GiB.
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Stored)
            .last_modified_time(DateTime::default())
            .large_file(true);
        self.zip.start_file(format!("{name}.npy"), options).with_context(|| format!("writing {name}"))?;
        let sides: String = shape.iter().map(|n| format!("{n}, ")).collect();
        let sides = if shape.len() == 1 { sides.trim_end() } else { sides.trim_end().trim_end_matches(',') };
        let mut header = format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': ({sides}), }}");
        // Magic, version and length take 10 bytes; the header ends in a newline at a multiple of 64.
        let padding = (64 - (10 + header.len() + 1) % 64) % 64;
        header.push_str(&" ".repeat(padding));
        header.push('\n');
        let length = u16::try_from(header.len())?;
        self.data(b"\x93NUMPY\x01\x00")?;
        self.data(&length.to_le_bytes())?;
        self.data(header.as_bytes())
    }

    /// Appends to the current array.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn data(&mut self, bytes: &[u8]) -> Result<()> {
        self.zip.write_all(bytes).context("writing the npz")
    }

    /// Appends all that a reader gives to the current array.
    ///
    /// # Errors
    /// When it cannot be read or written.
    pub fn copy(&mut self, bytes: &mut dyn Read) -> Result<()> {
        std::io::copy(bytes, &mut self.zip).map(drop).context("writing the npz")
    }

    /// Ends the file.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn finish(self) -> Result<()> {
        self.zip.finish().context("writing the npz")?.flush().context("writing the npz")
    }
}

/// Hands the data of an array of a file that [`Npz`] wrote to `read`, and returns its shape.
///
/// # Errors
/// Bad input when there is no such array; what `read` returns.
pub fn array(path: &Path, name: &str, read: impl FnOnce(&mut dyn Read) -> Result<()>) -> Result<Vec<usize>> {
    let context = || format!("reading {name} of {}", path.display());
    let file = BufReader::new(File::open(path).bad_input(context)?);
    let mut archive = ZipArchive::new(file).bad_input(context)?;
    let mut data = archive.by_name(&format!("{name}.npy")).bad_input(context)?;
    let mut start = [0; 10];
    data.read_exact(&mut start).bad_input(context)?;
    let mut header = vec![0; usize::from(u16::from_le_bytes([start[8], start[9]]))];
    data.read_exact(&mut header).bad_input(context)?;
    let header = String::from_utf8_lossy(&header).into_owned();
    let sides = header.split_once("'shape': (").and_then(|(_, rest)| rest.split_once(')'));
    let sides =
        sides.map_or("", |(sides, _)| sides).split(',').map(str::trim).filter(|side| !side.is_empty());
    let shape = sides.map(|side| side.parse::<usize>().bad_input(context)).collect::<Result<_>>()?;
    read(&mut data)?;
    Ok(shape)
}
