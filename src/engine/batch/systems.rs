//! The batch systems of a run: most have one, some have several.

use super::cluster::Commands;
use super::slurm::Slurm;
use super::submission::Of;
use super::system::System;
use std::cell::OnceCell;

/// Each system once.
#[derive(Default)]
pub struct Systems(Vec<Entry>);

struct Entry {
    of: Of,
    system: Box<dyn System>,
    array: OnceCell<u32>,
}

impl Systems {
    /// The place of a system, which it gets when it is first seen.
    pub fn place(&mut self, of: &Of) -> usize {
        if let Some(place) = self.0.iter().position(|entry| entry.of == *of) {
            return place;
        }
        let system: Box<dyn System> = match of {
            Of::Slurm => Box::new(Slurm),
            Of::Cluster(cluster) => Box::new(Commands(cluster.as_ref().clone())),
        };
        self.0.push(Entry { of: of.clone(), system, array: OnceCell::new() });
        self.0.len() - 1
    }

    /// The system at a place.
    pub fn at(&self, place: usize) -> &dyn System {
        &*self.0[place].system
    }

    /// How many tasks an array may have there; asked when it is first needed.
    pub fn array(&self, place: usize) -> u32 {
        let entry = &self.0[place];
        *entry.array.get_or_init(|| entry.system.largest_array())
    }

    /// All places.
    pub fn places(&self) -> std::ops::Range<usize> {
        0..self.0.len()
    }
}
