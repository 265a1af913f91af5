//! Outputs that may be dropped (`temp`): what still counts without its content, and when it is made again.

use crate::cache::results::{self, Outcome};
use crate::cache::runs::Fate;
use crate::error::Result;
use crate::run::state::{Progress, Runner};
use crate::session::Unit;
use std::collections::BTreeSet;

impl Runner<'_> {
    /// The result of a unit that counts. A step that is made again needs all of its contents.
    pub(super) fn find(&self, unit: &Unit) -> Result<Option<Outcome>> {
        if self.session.forced.contains(&unit.step) {
            return Ok(None);
        }
        match self.remade.contains(&unit.step) {
            true => Ok(results::lookup(&self.session.store, &unit.key)?),
            false => Ok(self.session.lookup(unit)?),
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
