//! The state of one run.

use crate::cache::results::Outcome;
use crate::cache::runs::{Fate, Row};
use crate::engine::stop::Stop;
use crate::error::Result;
use crate::run::slots::{Held, Slots};
use crate::run::worker::Failure;
use crate::screen::Screen;
use crate::screen::events::Events;
use crate::session::{Known, Session, Unit};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// How a run goes about it.
#[derive(Clone, Debug, Default)]
pub struct RunOptions {
    /// Stages that run at the same time, at most.
    pub jobs: Option<usize>,
    /// Long stages run again without asking when only their program changed.
    pub yes: bool,
    /// After a failure, everything that does not need the failed stage still runs.
    pub keep_going: bool,
    /// GPUs are handed out from the highest number down, out of the way of a run beside.
    pub gpus_from_top: bool,
}

/// What a finished job says.
pub(super) enum Done {
    Ran(Box<(Unit, Held, Result<Outcome, Failure>)>),
    Moved(Box<(Transfer, Result<Option<Outcome>>)>),
}

/// The state of one run.
pub(super) struct Runner<'a> {
    pub(super) session: &'a Session,
    pub(super) options: &'a RunOptions,
    pub(super) run: String,
    pub(super) screen: Screen,
    pub(super) slots: Slots,
    pub(super) known: Vec<Option<Known>>,
    pub(super) progress: Vec<Progress>,
    pub(super) rows: Vec<Option<Row>>,
    /// Units whose key is known and which wait for a slot.
    pub(super) queue: Vec<Unit>,
    pub(super) running: BTreeMap<String, (Unit, Events)>,
    /// Between the store and the shared cache: what waits, and what is on its way.
    pub(super) transfers: Vec<Transfer>,
    pub(super) moving: BTreeMap<String, (Transfer, Events)>,
    /// Steps that are made again because their dropped outputs are needed.
    pub(super) remade: BTreeSet<usize>,
    pub(super) stop: Arc<Stop>,
}

/// How far the units of a step are.
#[derive(Default)]
pub(super) struct Progress {
    /// Whether its units are known.
    pub(super) begun: bool,
    pub(super) all: usize,
    pub(super) done: Vec<(Unit, Outcome)>,
    /// It is looked at anew as soon as none of its units is under way: what it runs or reads has changed.
    pub(super) anew: bool,
    /// How often that happened.
    pub(super) renewed: usize,
    /// How many of them ran, now or in another runner.
    pub(super) ran: usize,
    /// How many of them the shared cache had.
    pub(super) fetched: usize,
    pub(super) failed: Option<Fate>,
    /// Of the unit that ran last, or why one failed.
    pub(super) reason: String,
}

/// One result on its way.
#[derive(Clone, Debug)]
pub(super) enum Transfer {
    Fetch(Unit),
    Send(Unit, Box<Outcome>),
}
