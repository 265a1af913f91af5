//! What a run learns of files: records of a stat cache, found by device and inode. Of a million of them little more is held
//! than their bytes.

use crate::kept::{Key, RECORD, key};
use hashbrown::HashTable;
use rayon::prelude::*;
use std::hash::{BuildHasher, RandomState};

/// Records by their keys.
#[derive(Default)]
pub(crate) struct Learned {
    records: Vec<[u8; RECORD]>,
    /// Their numbers.
    numbers: HashTable<u32>,
    hasher: RandomState,
    dirty: bool,
}

impl Learned {
    pub fn len(&self) -> usize {
        self.records.len()
    }

    pub fn get(&self, wanted: &Key) -> Option<&[u8; RECORD]> {
        let same = |number: &u32| key(&self.records[*number as usize]) == *wanted;
        let number = self.numbers.find(self.hasher.hash_one(wanted), same)?;
        Some(&self.records[*number as usize])
    }

    /// Takes a record, in the place of an older one.
    pub fn put(&mut self, record: &[u8; RECORD]) {
        let (wanted, records) = (key(record), &mut self.records);
        let hash = self.hasher.hash_one(wanted);
        self.dirty = true;
        if let Some(number) = self.numbers.find(hash, |number| key(&records[*number as usize]) == wanted) {
            records[*number as usize] = *record;
            return;
        }
        // Where numbers end nothing more is learned: it is read again the next time.
        let Ok(number) = u32::try_from(records.len()) else { return };
        records.push(*record);
        let hash_of = |number: &u32| self.hasher.hash_one(key(&records[*number as usize]));
        self.numbers.insert_unique(hash, number, hash_of);
    }

    /// Whether anything was put since this was asked last.
    pub fn take_dirty(&mut self) -> bool {
        std::mem::take(&mut self.dirty)
    }

    /// The records in the order of their keys.
    pub fn sorted(&self) -> impl Iterator<Item = &[u8; RECORD]> {
        let mut numbers: Vec<u32> = (0..self.records.len() as u32).collect();
        numbers.par_sort_unstable_by_key(|number| key(&self.records[*number as usize]));
        numbers.into_iter().map(|number| &self.records[number as usize])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(key: Key, content: u8) -> [u8; RECORD] {
        let mut record = [content; RECORD];
        record[..8].copy_from_slice(&key.0.to_le_bytes());
        record[8..16].copy_from_slice(&key.1.to_le_bytes());
        record
    }

    #[test]
    fn the_last_record_of_a_key_counts_and_all_come_in_order() {
        let mut learned = Learned::default();
        assert!(!learned.take_dirty() && learned.get(&(0, 0)).is_none());
        let keys: Vec<Key> = (0..5000).map(|i| (i % 3, i * 7919 % 5003)).collect();
        for (times, content) in [(5000, 1), (2500, 2)] {
            keys[..times].iter().for_each(|key| learned.put(&record(*key, content)));
        }
        assert!(learned.take_dirty() && !learned.take_dirty());
        for (i, key) in keys.iter().enumerate() {
            assert_eq!(learned.get(key), Some(&record(*key, if i < 2500 { 2 } else { 1 })));
        }
        assert_eq!((learned.get(&(3, 0)), learned.len()), (None, 5000));
        let mut sorted = keys;
        sorted.sort_unstable();
        assert!(learned.sorted().map(key).eq(sorted));
    }
}
