//! Opens a zip archive after its directory has been found to be one: the decoder takes memory for as many members as an archive
//! claims to have, before it looks for them.

use anyhow::{Context, Result, ensure};
use std::io::{self, Read, Seek, SeekFrom};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use zip::ZipArchive;

/// An archive whose directory was checked.
pub type Archive<R> = ZipArchive<Reader<R>>;

/// A file whose first bytes read as zeros while the decoder looks for the directory: where it finds fault with the one that was
/// checked, it must not go on to something further ahead that looks like another.
pub struct Reader<R> {
    file: R,
    at: u64,
    hidden: Arc<AtomicU64>,
}

impl<R: Read> Read for Reader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        let hidden = self.hidden.load(Relaxed).saturating_sub(self.at).min(count as u64);
        buffer[..hidden as usize].fill(0);
        self.at += count as u64;
        Ok(count)
    }
}

impl<R: Seek> Seek for Reader<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.at = self.file.seek(to)?;
        Ok(self.at)
    }
}

/// Bytes of the record at the very end, of the one that says where its 64-bit sibling is, and of that.
const END: u64 = 22;
const LOCATOR: u64 = 20;
const END_64: u64 = 56;
/// Bytes of a member in the directory, without its name.
const ENTRY: u64 = 46;

/// Opens an archive as NumPy and torch write them: one directory at the end, without a comment behind it.
///
/// # Errors
/// When it is cut short, no zip archive, or its directory does not hold the members it claims.
pub fn open<R: Read + Seek>(mut reader: R) -> Result<Archive<R>> {
    let size = reader.seek(SeekFrom::End(0))?;
    let last = size.checked_sub(END).context("too short for a zip archive")?;
    let end = record::<22, R>(&mut reader, last)?;
    ensure!(
        end.starts_with(b"PK\x05\x06"),
        "no directory of a zip archive at its end; it is none, or cut short: download it again"
    );
    ensure!(short(&end, 20) == 0, "a comment behind its directory");
    ensure!(short(&end, 8) == short(&end, 10), "it is in several parts");
    let mut count = u64::from(short(&end, 10));
    let (mut length, mut start, mut stop) = (u64::from(word(&end, 12)), u64::from(word(&end, 16)), last);
    if let Some(at) = last.checked_sub(LOCATOR) {
        let locator = record::<20, R>(&mut reader, at)?;
        if locator.starts_with(b"PK\x06\x07") {
            stop = long(&locator, 8);
            ensure!(stop.checked_add(END_64) == Some(at), "its 64-bit directory record is elsewhere");
            let end = record::<56, R>(&mut reader, stop)?;
            ensure!(end.starts_with(b"PK\x06\x06"), "no 64-bit directory record where it should be");
            ensure!(long(&end, 24) == long(&end, 32), "it is in several parts");
            (count, length, start) = (long(&end, 32), long(&end, 40), long(&end, 48));
        }
    }
    ensure!(start.checked_add(length) == Some(stop), "its directory is not where it says");
    ensure!(count <= length / ENTRY, "{count} members claimed, in a directory of {length} bytes");
    let mut at = start;
    for member in 0..count {
        ensure!(at + ENTRY <= stop, "its directory ends at member {member} of {count}");
        let entry = record::<46, R>(&mut reader, at)?;
        ensure!(entry.starts_with(b"PK\x01\x02"), "member {member} of its directory is none");
        at += ENTRY + [28, 30, 32].map(|field| u64::from(short(&entry, field))).iter().sum::<u64>();
    }
    ensure!(at == stop, "its directory holds more than {count} members");
    // Nor in the names and fields of the directory itself.
    reader.seek(SeekFrom::Start(start))?;
    let mut directory = Vec::new();
    reader.by_ref().take(last - start).read_to_end(&mut directory)?;
    ensure!(!directory.windows(4).any(|w| w == b"PK\x05\x06"), "a directory within its directory");
    reader.seek(SeekFrom::Start(0))?;
    let hidden = Arc::new(AtomicU64::new(start));
    let archive = ZipArchive::new(Reader { file: reader, at: 0, hidden: hidden.clone() })?;
    hidden.store(0, Relaxed);
    Ok(archive)
}

fn record<const N: usize, R: Read + Seek>(reader: &mut R, at: u64) -> Result<[u8; N]> {
    let mut bytes = [0; N];
    reader.seek(SeekFrom::Start(at))?;
    reader.read_exact(&mut bytes).context("a record of its directory is cut short")?;
    Ok(bytes)
}

fn short(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from(short(bytes, at)) | u32::from(short(bytes, at + 2)) << 16
}

fn long(bytes: &[u8], at: usize) -> u64 {
    u64::from(word(bytes, at)) | u64::from(word(bytes, at + 4)) << 32
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Cursor, Write};
    use zip::write::SimpleFileOptions;

    fn archive() -> Vec<u8> {
        let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
        for name in ["a", "b"] {
            zip.start_file(name, SimpleFileOptions::default()).unwrap();
            zip.write_all(b"something").unwrap();
        }
        zip.finish().unwrap().into_inner()
    }

    #[test]
    fn members_that_are_not_there_take_no_memory() {
        let whole = archive();
        assert_eq!(open(Cursor::new(&whole)).unwrap().len(), 2);
        let end = whole.len() - 22;
        let refused = |bytes: Vec<u8>| open(Cursor::new(bytes)).err().unwrap().to_string();
        for (at, value) in
            [(end + 8, 0xffu8), (end + 10, 0xff), (end + 10, 1), (end + 12, 0xff), (end + 16, 1), (end, 0)]
        {
            let mut bytes = whole.clone();
            bytes[at] = value;
            refused(bytes);
        }
        // 2^40 members of a 64-bit directory, which would be terabytes.
        let mut bytes = whole[..end].to_vec();
        let at = bytes.len() as u64;
        bytes.extend(b"PK\x06\x06");
        bytes.extend(44u64.to_le_bytes());
        bytes.extend([45, 0, 45, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        for number in [1u64 << 40, 1 << 40, at, 0] {
            bytes.extend(number.to_le_bytes());
        }
        bytes.extend(b"PK\x06\x07\0\0\0\0");
        bytes.extend(at.to_le_bytes());
        bytes.extend([1, 0, 0, 0]);
        bytes.extend(b"PK\x05\x06\0\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\0\0");
        let text = refused(bytes);
        assert!(text.contains("1099511627776 members claimed"), "{text}");
    }

    #[test]
    fn what_is_hidden_reads_as_zeros_and_then_as_it_is() {
        let hidden = Arc::new(AtomicU64::new(4));
        let mut reader = Reader { file: Cursor::new(b"abcdef"), at: 0, hidden: hidden.clone() };
        let mut read = |from| {
            let mut bytes = Vec::new();
            reader.seek(SeekFrom::Start(from)).unwrap();
            reader.read_to_end(&mut bytes).unwrap();
            bytes
        };
        assert_eq!((read(0), read(3)), (b"\0\0\0\0ef".to_vec(), b"\0ef".to_vec()));
        hidden.store(0, Relaxed);
        assert_eq!(read(1), b"bcdef");
    }
}
