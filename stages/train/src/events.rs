//! The log in TensorBoard's form: a file of `Event` messages, one for each line of the log.
//!
//! A record is a length, the checksum of the length, the message and its checksum (TFRecord); checksums are CRC-32C, rotated
//! and moved by a constant. Only the fields that scalars need are declared.

use anyhow::{Context, Result};
use crc_fast::CrcAlgorithm;
use prost::Message;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// The name of the file; TensorBoard looks for `tfevents` in it.
pub const EVENTS: &str = "events.out.tfevents.train";

/// What the first event says.
const VERSION: &str = "brain.Event:2";

#[derive(Clone, PartialEq, Message)]
struct Event {
    /// Seconds since 1970.
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(string, optional, tag = "3")]
    file_version: Option<String>,
    #[prost(message, optional, tag = "5")]
    summary: Option<Summary>,
}

#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    value: Vec<Scalar>,
}

#[derive(Clone, PartialEq, Message)]
struct Scalar {
    #[prost(string, tag = "1")]
    tag: String,
    #[prost(float, tag = "2")]
    simple_value: f32,
}

/// The file.
pub struct Events {
    file: File,
}

impl Events {
    /// Goes on with a file that ought to have events of these steps. What it has beyond them goes; also gives of how many of
    /// them it has the events.
    ///
    /// # Errors
    /// When it cannot be read or written.
    pub fn resume(path: &Path, steps: &[usize]) -> Result<(Self, usize)> {
        let context = || format!("going on with {}", path.display());
        let bytes = if path.exists() { std::fs::read(path).with_context(context)? } else { Vec::new() };
        let (mut kept, mut done) = (0, None::<usize>);
        while let Some((event, length)) = next(&bytes[kept..]) {
            let same = match done {
                None => event.file_version.is_some(),
                Some(done) => steps.get(done).is_some_and(|step| event.step == *step as i64),
            };
            if !same {
                break;
            }
            kept += length;
            done = Some(done.map_or(0, |done| done + 1));
        }
        let mut file =
            OpenOptions::new().create(true).write(true).truncate(false).open(path).with_context(context)?;
        file.set_len(kept as u64).with_context(context)?;
        file.seek(SeekFrom::End(0)).with_context(context)?;
        let mut events = Self { file };
        if done.is_none() {
            events.put(0, |event| event.file_version = Some(VERSION.to_string()))?;
        }
        Ok((events, done.unwrap_or(0)))
    }

    /// Appends numbers with their names.
    ///
    /// # Errors
    /// When the disk is full.
    pub fn write<'a>(&mut self, step: usize, numbers: impl Iterator<Item = (&'a str, f64)>) -> Result<()> {
        let scalar = |(tag, value): (&str, f64)| Scalar { tag: tag.into(), simple_value: value as f32 };
        let value = numbers.map(scalar).collect();
        self.put(step, |event| event.summary = Some(Summary { value }))
    }

    fn put(&mut self, step: usize, fill: impl FnOnce(&mut Event)) -> Result<()> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut event = Event { wall_time: now.as_secs_f64(), step: step as i64, ..Event::default() };
        fill(&mut event);
        self.file.write_all(&record(&event.encode_to_vec())).context("writing the events")
    }
}

/// Whether a file begins as one of these does.
///
/// # Errors
/// When it cannot be read.
pub fn begins(path: &Path) -> Result<bool> {
    let mut start = Vec::new();
    let file = File::open(path).with_context(|| format!("reading {}", path.display()))?;
    file.take(64).read_to_end(&mut start).with_context(|| format!("reading {}", path.display()))?;
    let version = |(event, _): (Event, usize)| event.file_version.as_deref() == Some(VERSION);
    // A run that was killed at once has left nothing yet.
    Ok(start.is_empty() || next(&start).is_some_and(version))
}

fn record(message: &[u8]) -> Vec<u8> {
    let length = (message.len() as u64).to_le_bytes();
    let mut record = length.to_vec();
    record.extend(masked(&length).to_le_bytes());
    record.extend(message);
    record.extend(masked(message).to_le_bytes());
    record
}

/// The first event and the length of its record, if a whole one is there.
fn next(bytes: &[u8]) -> Option<(Event, usize)> {
    let (length, rest) = bytes.split_first_chunk::<8>()?;
    let (check, rest) = rest.split_first_chunk::<4>()?;
    let size = usize::try_from(u64::from_le_bytes(*length)).ok()?;
    let message = rest.get(..size)?;
    let tail = rest.get(size..)?.first_chunk::<4>()?;
    let whole = masked(length).to_le_bytes() == *check && masked(message).to_le_bytes() == *tail;
    whole.then(|| Some((Event::decode(message).ok()?, size + 16)))?
}

/// A checksum as TFRecord stores it.
fn masked(bytes: &[u8]) -> u32 {
    let crc = crc_fast::checksum(CrcAlgorithm::Crc32Iscsi, bytes) as u32;
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_as_tensorboard_writes_it() {
        // tensorboard 2.21's RecordWriter, given Event(wall_time=1, step=2, summary={mse: 0.5}).
        let event = Event {
            wall_time: 1.0,
            step: 2,
            summary: Some(Summary { value: vec![Scalar { tag: "mse".into(), simple_value: 0.5 }] }),
            ..Event::default()
        };
        let bytes = record(&event.encode_to_vec());
        let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, RECORD);
        assert_eq!(next(&bytes), Some((event, bytes.len())));
        for at in 0..bytes.len() {
            let mut other = bytes.clone();
            other[at] ^= 1;
            assert_eq!(next(&other), None, "byte {at}");
            assert_eq!(next(&bytes[..at]), None, "cut at {at}");
        }
    }

    const RECORD: &str = "19000000000000008bf1082809000000000000f03f10022a0c0a0a0a036d7365150000003f549aa15e";

    #[test]
    fn events_after_the_checkpoint_and_half_events_go() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(EVENTS);
        let numbers =
            |step| [("mse", step as f64), ("learning_rate", 1e-4), ("images_per_second", 9.0)].into_iter();
        let (mut events, _) = Events::resume(&path, &[]).unwrap();
        (1..=4).for_each(|i| events.write(i * 10, numbers(i * 10)).unwrap());
        events.file.write_all(&[29, 0, 0]).unwrap();
        assert!(begins(&path).unwrap());
        let (mut events, there) = Events::resume(&path, &[10, 20]).unwrap();
        assert_eq!(there, 2);
        events.write(30, numbers(30)).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let (mut steps, mut at) = (Vec::new(), 0);
        while let Some((event, length)) = next(&bytes[at..]) {
            steps.push(event.step);
            at += length;
        }
        assert_eq!((steps, at), (vec![0, 10, 20, 30], bytes.len()));
        let other = dir.path().join("other");
        std::fs::write(&other, "my own events").unwrap();
        assert!(!begins(&other).unwrap());
    }
}
