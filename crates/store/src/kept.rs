//! Records of a stat cache as its file has them, found by device and inode. They are not taken apart before somebody asks.

use std::cell::Cell;
use std::cmp::Ordering as Order;
use std::sync::atomic::{AtomicBool, Ordering};

/// Bytes of a record. The first sixteen are its key.
pub(crate) const RECORD: usize = 81;

/// Device and inode.
pub(crate) type Key = (u64, u64);

thread_local! {
    /// The place behind the one that was found last. Files are mostly asked about in the order of their numbers.
    static NEXT: Cell<usize> = const { Cell::new(0) };
}

/// The records of a file.
#[derive(Default)]
pub(crate) struct Kept {
    bytes: Vec<u8>,
    /// Where the first begins.
    start: usize,
    /// Numbers of records in the order of their keys; empty where they lie in it, as they do since caches are written so.
    order: Vec<u32>,
    /// Which of them the present run has asked for.
    used: Vec<AtomicBool>,
}

impl Kept {
    /// `bytes` have so many records from `start` on.
    pub fn new(bytes: Vec<u8>, start: usize, records: usize) -> Self {
        let used = (0..records).map(|_| AtomicBool::new(false)).collect();
        let mut kept = Self { bytes, start, order: Vec::new(), used };
        if !(0..records).map(|number| kept.key(number)).is_sorted() {
            let mut order: Vec<u32> = (0..records as u32).collect();
            order.sort_unstable_by_key(|number| kept.key(*number as usize));
            kept.order = order;
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

    /// The numbers of all records, in the order of their keys.
    pub fn numbers(&self) -> impl Iterator<Item = usize> {
        (0..self.len()).map(|place| self.number(place))
    }

    fn number(&self, place: usize) -> usize {
        self.order.get(place).map_or(place, |number| *number as usize)
    }

    /// The number of the record with this key.
    pub fn find(&self, key: &Key) -> Option<usize> {
        let place = self.place(key)?;
        NEXT.set(place + 1);
        Some(self.number(place))
    }

    fn place(&self, key: &Key) -> Option<usize> {
        let compare = |place: usize| self.key(self.number(place)).cmp(key);
        let next = NEXT.get();
        if next < self.len() && compare(next).is_eq() {
            return Some(next);
        }
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low.midpoint(high);
            match compare(middle) {
                Order::Less => low = middle + 1,
                Order::Equal => return Some(middle),
                Order::Greater => high = middle,
            }
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
            // As caches were written before, in any order.
            let kept = Kept::new(bytes, 5, count as usize);
            let keys: Vec<Key> = kept.numbers().map(|number| kept.key(number)).collect();
            assert!(keys.is_sorted() && keys.len() == count as usize);
            // Those that follow each other, then those that do not.
            for key in keys.iter().chain(keys.iter().rev()) {
                assert_eq!(kept.find(key).map(|found| kept.key(found)), Some(*key));
            }
            for i in 0..count {
                let found = kept.find(&(i % 3, i * 7)).unwrap();
                assert_eq!((kept.record(found)[20], kept.key(found)), (i as u8, (i % 3, i * 7)));
                assert_eq!(kept.find(&(i % 3, i * 7 + 1)), None);
            }
            assert_eq!((kept.find(&(9, 0)), kept.len()), (None, count as usize));
        }
    }
}
