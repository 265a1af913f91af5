//! Small JSON records with a checksum: written whole or not at all, and a damaged one reads as absent.

use crate::error::{IoContext, Result};
use crate::link;
use serde::{Serialize, de::DeserializeOwned};
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

/// Writes a record: one line of JSON, one line of BLAKE3. `durable` waits for the disk.
pub fn write(path: &Path, value: &impl Serialize, durable: bool) -> Result<()> {
    write_bytes(path, &encode(value).at("encoding", path)?, durable)
}

/// The bytes of a record.
pub fn encode(value: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    let mut text = serde_json::to_vec(value)?;
    let check = blake3::hash(&text).to_hex();
    text.push(b'\n');
    text.extend(check.as_bytes());
    text.push(b'\n');
    Ok(text)
}

/// Writes a file whole or not at all.
pub fn write_bytes(path: &Path, bytes: &[u8], durable: bool) -> Result<()> {
    write_by(path, durable, |file| file.write_all(bytes))
}

/// Writes a file whole or not at all; `fill` writes its bytes.
pub(crate) fn write_by(
    path: &Path,
    durable: bool,
    fill: impl FnOnce(&mut File) -> std::io::Result<()>,
) -> Result<()> {
    let parent = path.parent().unwrap_or(Path::new("."));
    let partial = link::partial(path);
    let written = (|| {
        fs::create_dir_all(parent)?;
        let mut file = File::create(&partial)?;
        fill(&mut file)?;
        if durable {
            file.sync_all()?;
        }
        fs::rename(&partial, path)?;
        if durable {
            File::open(parent)?.sync_all()?;
        }
        Ok::<_, std::io::Error>(())
    })();
    if written.is_err() {
        let _ = fs::remove_file(&partial);
    }
    written.at("writing", path)
}

/// Reads a record; `None` when it is missing, damaged or of another shape.
pub fn read<T: DeserializeOwned>(path: &Path) -> Option<T> {
    parse(&fs::read(path).ok()?)
}

/// The value in the bytes of a record.
pub fn parse<T: DeserializeOwned>(text: &[u8]) -> Option<T> {
    serde_json::from_slice(whole(text)?).ok()
}

/// The JSON in the bytes of a record whose checksum is right.
pub fn whole(text: &[u8]) -> Option<&[u8]> {
    let (json, check) = text.strip_suffix(b"\n")?.split_last_chunk::<64>()?;
    let json = json.strip_suffix(b"\n")?;
    (blake3::hash(json).to_hex().as_bytes() == check).then_some(json)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_flipped_bit_makes_it_absent() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sub/r.json");
        write(&path, &vec![1, 2, 3], true).unwrap();
        assert_eq!(read::<Vec<u8>>(&path), Some(vec![1, 2, 3]));
        let good = fs::read(&path).unwrap();
        for i in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[i / 8] ^= 1 << (i % 8);
            fs::write(&path, bad).unwrap();
            assert_eq!(read::<Vec<u8>>(&path), None, "bit {i}");
        }
        assert_eq!(fs::read_dir(dir.path().join("sub")).unwrap().count(), 1);
    }
}
