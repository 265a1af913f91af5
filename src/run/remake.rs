//! Outputs that may be dropped (`temp`): what still counts without its content, and when it is made again.

use crate::cache::results::{self, Outcome};
use crate::error::Result;
use crate::run::report::Fate;
use crate::run::schedule::{Progress, Runner};
use crate::session::{Session, Unit};
use std::collections::BTreeSet;
use study::graph::Source;

impl Session {
    /// The newest result of a unit whose outputs are at hand, except those that may be dropped.
    pub fn lookup(&self, unit: &Unit) -> Result<Option<Outcome>> {
        let outputs = &self.graph.steps[unit.step].outputs;
        results::lookup_except(&self.store, &unit.key, |name| {
            outputs.iter().any(|o| o.temp && o.name == name)
        })
    }

    /// The steps whose outputs a unit reads and whose contents were dropped.
    pub fn dropped(&self, unit: &Unit) -> Result<BTreeSet<usize>> {
        let mut dropped = BTreeSet::new();
        for input in &self.graph.steps[unit.step].inputs {
            if let Source::Output(from, output) = input.source
                && self.graph.steps[from].outputs[output].temp
                && !self.store.ready(&unit.action.inputs[&input.name])?
            {
                dropped.insert(from);
            }
        }
        Ok(dropped)
    }
}

impl Runner<'_> {
    /// The result of a unit that counts. A step that is made again needs all of its contents.
    pub(super) fn find(&self, unit: &Unit) -> Result<Option<Outcome>> {
        if self.session.forced.contains(&unit.step) {
            return Ok(None);
        }
        match self.remade.contains(&unit.step) {
            true => results::lookup(&self.session.store, &unit.key),
            false => self.session.lookup(unit),
        }
    }

    /// Takes steps up again, because a step that has to run reads what was dropped of them.
    pub(super) fn remake(&mut self, steps: BTreeSet<usize>) {
        for i in steps {
            let (id, fate) = (&self.session.graph.steps[i].id, self.rows[i].take().map(|r| r.fate));
            if fate == Some(Fate::Cached) {
                self.screen.say(&format!("{id}: its dropped outputs are needed again"));
            }
            self.remade.insert(i);
            self.progress[i] = Progress::default();
            self.known[i] = None;
        }
    }
}
