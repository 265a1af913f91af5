//! Records of a stat cache as its file has them, found by device and inode. They are not taken apart before somebody asks.

use std::cell::Cell;
use std::cmp::Ordering as Order;
use std::sync::atomic::{AtomicBool, Ordering};

/// Bytes of a record. The first sixteen are its key.
pub(crate) const RECORD: usize = 81;

/// Device and inode.
pub(crate) type Key = (u64, u64);

thread_local! {
    /// The place behind the one that was found last, or where one that is not there would be. Files are mostly asked about
    /// in the order of their numbers, or in that of every so manieth.
    static NEXT: Cell<usize> = const { Cell::new(0) };
}

/// The key of a record.
pub(crate) fn key(record: &[u8; RECORD]) -> Key {
    let [device, inode] = [0, 8].map(|at| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&record[at..at + 8]);
        u64::from_le_bytes(bytes)
    });
    (device, inode)
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
        key(self.record(number))
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

    /// Looks where it would be if all inodes from the last one to it had records: it cannot be further away, and in a folder
    /// that was made at once it is there. Then in steps that double back from there, then between the last two.
    fn place(&self, key: &Key) -> Option<usize> {
        let compare = |place: usize| self.key(self.number(place)).cmp(key);
        let (mut low, mut high) = (0, self.len());
        let from = NEXT.get();
        if from < high {
            let last = self.key(self.number(from));
            let apart = if last.0 == key.0 { last.1.abs_diff(key.1) } else { u64::MAX };
            let apart = usize::try_from(apart).unwrap_or(usize::MAX);
            let ahead = match last.cmp(key) {
                Order::Equal => return Some(from),
                Order::Less => {
                    (low, high) = (from + 1, high.min(from.saturating_add(apart).saturating_add(1)));
                    true
                }
                Order::Greater => {
                    (low, high) = (from.saturating_sub(apart), from);
                    false
                }
            };
            let mut step = 1;
            while low < high {
                let room = step.min(high - low);
                let next = if ahead { high - room } else { low + room - 1 };
                match compare(next) {
                    Order::Equal => return Some(next),
                    Order::Less => low = next + 1,
                    Order::Greater => high = next,
                }
                // What is behind it is nearer than the last step.
                if ahead == (low == next + 1) {
                    break;
                }
                step *= 2;
            }
        }
        while low < high {
            let middle = low.midpoint(high);
            match compare(middle) {
                Order::Less => low = middle + 1,
                Order::Equal => return Some(middle),
                Order::Greater => high = middle,
            }
        }
        NEXT.set(low);
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
        for (count, apart) in [(0_u64, 7), (1, 7), (2, 7), (3, 7), (1000, 7), (1000, 1)] {
            let mut bytes = b"begin".to_vec();
            for i in 0..count {
                bytes.extend((i % 3).to_le_bytes());
                bytes.extend((i * apart).to_le_bytes());
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
            // Forwards and backwards, near and far, with what is not there between.
            for i in (0..count).map(|i| i * 389 % count).chain(0..count).chain((0..count).step_by(17)) {
                let found = kept.find(&(i % 3, i * apart)).unwrap();
                assert_eq!((kept.record(found)[20], kept.key(found)), (i as u8, (i % 3, i * apart)));
                let absent = (i % 3 + u64::from(apart == 1), i * apart + 1);
                assert_eq!(
                    kept.find(&absent).map(|found| kept.key(found)),
                    keys.binary_search(&absent).ok().map(|place| keys[place])
                );
            }
            assert_eq!((kept.find(&(9, 0)), kept.len()), (None, count as usize));
        }
    }
}
