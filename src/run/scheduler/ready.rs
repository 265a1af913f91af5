//! Tasks that wait for a slot, first come first served, except that what fits goes before what does not fit yet.

use super::TaskId;
use super::slots::{Held, Request, Slots};
use std::collections::{BTreeMap, VecDeque};

/// Tasks that ask for the same stand in one line, so that looking for the next asks each line once, however long it is.
#[derive(Debug, Default)]
pub struct Ready {
    /// Each task with the number that says when it came.
    lines: BTreeMap<Request, VecDeque<(u64, TaskId)>>,
    came: u64,
}

impl Ready {
    /// A task comes last.
    pub fn push(&mut self, request: Request, task: TaskId) {
        self.lines.entry(request).or_default().push_back((self.came, task));
        self.came += 1;
    }

    /// The first task that there is room for, with what it holds from now on.
    pub fn pop(&mut self, slots: &mut Slots) -> Option<(TaskId, Held)> {
        let mut heads: Vec<(u64, Request)> =
            self.lines.iter().filter_map(|(request, line)| Some((line.front()?.0, *request))).collect();
        heads.sort_unstable();
        for (_, request) in heads {
            let Some(held) = slots.take(&request) else { continue };
            let line = self.lines.get_mut(&request)?;
            let (_, task) = line.pop_front()?;
            if line.is_empty() {
                self.lines.remove(&request);
            }
            return Some((task, held));
        }
        None
    }

    /// Nobody waits any more.
    pub fn clear(&mut self) {
        self.lines.clear();
    }
}
