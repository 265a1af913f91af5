//! Records of a stat cache as its file has them, found by device and inode. They are not taken apart before somebody asks.

use std::sync::atomic::{AtomicBool, Ordering};

/// Bytes of a record. The first sixteen are its key.
pub(crate) const RECORD: usize = 81;

/// Device and inode.
pub(crate) type Key = (u64, u64);

/// The records of a file.
#[derive(Default)]
pub(crate) struct Kept {
    bytes: Vec<u8>,
    /// Where the first begins.
    start: usize,
    /// Numbers of records plus one, by a hash of their keys; 0 is nothing.
    slots: Vec<u32>,
    /// Which of them the present run has asked for.
    used: Vec<AtomicBool>,
}

impl Kept {
    /// `bytes` have so many records from `start` on.
    pub fn new(bytes: Vec<u8>, start: usize, records: usize) -> Self {
        let slots = vec![0; (2 * records).next_power_of_two()];
        let mut kept =
            Self { bytes, start, slots, used: (0..records).map(|_| AtomicBool::new(false)).collect() };
        for number in 0..records {
            let mut slot = kept.slot(&kept.key(number));
            while kept.slots[slot] != 0 {
                slot = (slot + 1) % kept.slots.len();
            }
            kept.slots[slot] = number as u32 + 1;
        }
        kept
    }

    pub fn len(&self) -> usize {
        self.used.len()
    }

    pub fn record(&self, number: usize) -> &[u8; RECORD] {
        &self.bytes[self.start..].as_chunks().0[number]
    }

    pub fn key(&self, number: usize) -> Key {
        let [device, inode] = [0, 8].map(|at| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&self.record(number)[at..at + 8]);
            u64::from_le_bytes(bytes)
        });
        (device, inode)
    }

    /// Inodes follow each other, and so do their places; what lies between is filled by other devices.
    fn slot(&self, (device, inode): &Key) -> usize {
        let mixed = (inode ^ device.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> 32) as usize % self.slots.len()
    }

    /// The number of the record with this key.
    pub fn find(&self, key: &Key) -> Option<usize> {
        if self.used.is_empty() {
            return None;
        }
        let mut slot = self.slot(key);
        // At least half of the slots are empty.
        while self.slots[slot] != 0 {
            let number = self.slots[slot] as usize - 1;
            if self.key(number) == *key {
                return Some(number);
            }
            slot = (slot + 1) % self.slots.len();
        }
        None
    }

    pub fn used(&self, number: usize) -> bool {
        self.used[number].load(Ordering::Relaxed)
    }

    pub fn set_used(&self, number: usize) {
        self.used[number].store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_record_is_found_and_nothing_else() {
        for count in [0_u64, 1, 2, 3, 1000] {
            let mut bytes = b"begin".to_vec();
            for i in 0..count {
                bytes.extend((i % 3).to_le_bytes());
                bytes.extend((i * 7).to_le_bytes());
                bytes.extend([i as u8; RECORD - 16]);
            }
            bytes.extend(b"end");
            let kept = Kept::new(bytes, 5, count as usize);
            for i in 0..count {
                let found = kept.find(&(i % 3, i * 7)).unwrap();
                assert_eq!((kept.record(found)[20], kept.key(found)), (i as u8, (i % 3, i * 7)));
                assert_eq!(kept.find(&(i % 3, i * 7 + 1)), None);
            }
            assert_eq!((kept.find(&(9, 0)), kept.len()), (None, count as usize));
        }
    }
}
