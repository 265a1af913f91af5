//! The study as it is, and what the store has of it, looked up without running or changing anything.

use crate::cache::results::{self, ActionResult};
use crate::error::Result;
use crate::session::reasons::reasons;
use crate::session::survey::{Surveyed, survey};
use crate::session::{Error, Options, Session, Task};
use crate::table::rows::{Row, every_variant, of_found};
use crate::text::counted;
use crate::ui::slug::slug;
use crate::ui::state::{Is, State};
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use study::Choice;
use study::graph::Step;

/// See the module.
pub struct Known {
    pub session: Session,
    /// What there is of each step; empty until somebody has looked.
    found: Vec<Surveyed>,
    /// Where each step stands by itself, whatever runs.
    pub states: Vec<State>,
    /// Why each has to run.
    pub why: Vec<Vec<String>>,
    /// Why not all could be looked up.
    pub error: Option<String>,
    by_slug: HashMap<String, usize>,
    by_id: HashMap<String, usize>,
    /// Once somebody has asked.
    rows: OnceLock<Vec<Row>>,
}

impl Known {
    /// The study file alone: every variant, and with `base` also the study as it stands.
    pub fn read(choice: &Choice, base: bool) -> Result<Self> {
        let every = every_variant(choice.clone());
        let mut choice = every.clone();
        if base && every.variants == ["*"] {
            choice.variants.insert(0, String::new());
        }
        let session =
            Session::open(&Options { choice, offline: true, only_look: true, ..Options::default() })?;
        let ids = || session.graph.steps.iter().enumerate();
        let by_slug = ids().map(|(i, step)| (slug(&step.id), i)).collect();
        let by_id = ids().map(|(i, step)| (step.id.clone(), i)).collect();
        let count = session.graph.steps.len();
        let (states, why) = (vec![State::default(); count], vec![Vec::new(); count]);
        Ok(Self {
            session,
            found: Vec::new(),
            states,
            why,
            error: None,
            by_slug,
            by_id,
            rows: OnceLock::new(),
        })
    }

    /// The same, with what the store has of each step. Of a study with variants it is also shown as it stands where it ever
    /// ran so, or with `base`. Where it is as it was, it is kept in one place with what is known of it already.
    pub fn look(choice: &Choice, base: bool, earlier: &Self) -> Result<Self> {
        let mut known = Self::read(choice, base)?;
        if !base && known.others_ran() {
            // Never two of them at a time: they are large.
            drop(known);
            known = Self::read(choice, true)?;
            if !known.ran_as_it_stands() {
                drop(known);
                known = Self::read(choice, false)?;
            }
        }
        let programs = known.session.find_built_programs();
        if known.session.graph == earlier.session.graph {
            known.session.graph = Arc::clone(&earlier.session.graph);
        }
        let found = programs.and_then(|()| {
            let session = &known.session;
            survey::<Error>(session, |task| {
                let outputs = &session.graph.steps[task.step].outputs;
                let optional = |name: &str| outputs.iter().any(|o| o.temp && o.name == name);
                let result = results::look(&session.store, &task.key, optional);
                Ok(result.map(|result| result.of(&task.action)))
            })
        });
        match found {
            Ok(found) => {
                known.found = found;
                // They were needed for what comes after their step; the tasks have them too.
                known
                    .found
                    .iter_mut()
                    .filter_map(|found| found.known.as_mut())
                    .for_each(|made| made.actions = Vec::new());
            }
            // The study is shown all the same.
            Err(e) => known.error = Some(study::hidden(&e.to_string()).into_owned()),
        }
        for i in 0..known.found.len() {
            (known.states[i], known.why[i]) = known.stand(i);
        }
        known.session.store.stats.save();
        Ok(known)
    }

    /// Whether it has variants, and something was made that may be of none of them.
    fn others_ran(&self) -> bool {
        let (steps, store) = (&self.session.graph.steps, &self.session.store);
        let own: HashSet<PathBuf> = steps.iter().map(|step| store.last(&step.id)).collect();
        let entries = || std::fs::read_dir(store.own_last()).into_iter().flatten().flatten();
        let variant = |path: &Path| path.file_name().is_some_and(|name| name.to_string_lossy().contains('@'));
        let other = |path: PathBuf| !variant(&path) && !own.contains(&path);
        steps.iter().any(|step| !of_no_variant(step)) && entries().any(|entry| other(entry.path()))
    }

    /// Whether anything of it as it stands was ever made that no variant has.
    fn ran_as_it_stands(&self) -> bool {
        let own = self.session.graph.steps.iter().filter(|step| of_no_variant(step));
        own.into_iter().any(|step| self.session.store.last(&step.id).is_file())
    }

    /// The step whose page has this name.
    pub fn of_slug(&self, slug: &str) -> Option<usize> {
        self.by_slug.get(slug).copied()
    }

    /// The step that a run calls so.
    pub fn of_id(&self, id: &str) -> Option<usize> {
        self.by_id.get(id).copied()
    }

    /// Whether anybody has looked.
    pub fn looked(&self) -> bool {
        !self.found.is_empty() || self.error.is_some() || self.session.graph.steps.is_empty()
    }

    /// The tasks of a step with what they gave.
    pub fn tasks(&self, i: usize) -> &[(Task, Option<ActionResult>)] {
        self.found.get(i).and_then(|found| found.tasks.as_deref()).unwrap_or_default()
    }

    /// What there is of each step.
    pub fn found(&self) -> &[Surveyed] {
        &self.found
    }

    /// A row for each variant.
    pub fn rows(&self) -> &[Row] {
        self.rows.get_or_init(|| match self.found.is_empty() {
            true => Vec::new(),
            false => of_found(&self.session, &self.found, None),
        })
    }

    /// Where a step stands, and why it has to run.
    fn stand(&self, i: usize) -> (State, Vec<String>) {
        let (step, found) = (&self.session.graph.steps[i], &self.found[i]);
        let mut state = State::default();
        let tasks = self.tasks(i);
        let done = || tasks.iter().filter_map(|(_, result)| result.as_ref());
        if done().next().is_some() {
            state.seconds = Some(done().map(|result| result.seconds).sum());
            state.run = done().max_by_key(|result| result.finished).map(|result| result.run.clone());
            let device = |result: &ActionResult| result.ran.as_ref()?.reported.get("device").cloned();
            state.devices = done().find_map(device).into_iter().collect();
        }
        if step.mapped() && found.tasks.is_some() {
            state.tasks = Some([tasks.len(), done().count(), 0, 0]);
        }
        let mut why = Vec::new();
        state.is = match () {
            () if self.session.replaced.contains_key(&i) => Is::Replaced,
            () if found.known.is_some() => Is::Cached,
            () if found.tasks.is_some() => {
                let first = tasks.iter().find(|(_, result)| result.is_none());
                why = first.map(|(task, _)| reasons(&self.session, task)).unwrap_or_default();
                if step.mapped() {
                    let part = if step.shards.is_some() { "shard" } else { "entry" };
                    let missing = tasks.len() - done().count();
                    why.insert(0, format!("{missing} of {}", counted(tasks.len(), part)));
                }
                Is::ToRun
            }
            () => Is::Waiting,
        };
        state.reason = match state.is {
            Is::Waiting => self.waits(i),
            _ => why.join(", "),
        };
        (state, why)
    }

    fn waits(&self, i: usize) -> String {
        let mut on: Vec<&str> = Vec::new();
        for need in self.session.graph.steps[i].needs().filter(|need| self.found[*need].known.is_none()) {
            let id = self.session.graph.steps[need].id.as_str();
            if !on.contains(&id) {
                on.push(id);
            }
        }
        match on.as_slice() {
            [] => "for its program, which was not built or asked yet".into(),
            [first, .., _] if on.len() > 6 => format!("for {first} and {} more", on.len() - 1),
            some => format!("for {}", some.join(", ")),
        }
    }
}

fn of_no_variant(step: &Step) -> bool {
    step.variants.iter().all(String::is_empty)
}
