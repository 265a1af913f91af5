//! A study with its store and programs at hand: what every command works on.

mod actions;
mod called;
pub mod cost;
mod error;
mod followed;
pub mod homes;
mod ignored;
mod inputs;
mod lineage;
pub mod lockfile;
pub mod metrics;
pub mod plan;
mod programs;
pub mod reasons;
mod selection;
pub mod stale;
pub mod survey;
mod task;

use crate::cache::facts::Facts;
use crate::cache::remote::Remote;
use crate::cache::runs::Asked;
use crate::stderr;
use selection::wanted;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};
use store::ignore::Ignore;
use store::lock::Lock;
use store::{IoContext, Produced, Store, lock};
use study::graph::Graph;
use study::{Choice, hidden};

pub use error::{Error, Result};
pub use task::{Called, Input, Instance, Made, Place, Program, StepOutputs, Task};

/// What the command line says beside the study.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Which study.
    pub choice: Choice,
    /// `stage.output=PATH`.
    pub with: Vec<String>,
    /// Stages to run although they are cached.
    pub force: Vec<String>,
    /// Stages asked for; none means all.
    pub stages: Vec<String>,
    /// A shared cache in the place of the study's.
    pub cache: Option<String>,
    /// No shared cache at all.
    pub offline: bool,
    /// Programs are asked nothing, and nothing of the store is mended: what is known of both is all there is.
    pub only_look: bool,
}

impl Options {
    fn asked(&self) -> Asked {
        // A record is read by others.
        let open = |texts: &[String]| texts.iter().map(|text| hidden(text).into_owned()).collect();
        let Choice { file, profile, variants, .. } = self.choice.clone();
        let (set, with) = (open(&self.choice.set), open(&self.with));
        Asked { file, profile, variants, set, with, stages: self.stages.clone() }
    }
}

/// A study with its store.
pub struct Session {
    /// Large studies are looked at again and again, and are the same most times.
    pub graph: Arc<Graph>,
    pub store: Store,
    /// Steps that the command is about: those asked for and all that they need.
    pub wanted: Vec<bool>,
    pub forced: HashSet<usize>,
    /// Contents put in the place of outputs, by step and output name.
    pub replaced: HashMap<usize, BTreeMap<String, Produced>>,
    /// What the command line calls those.
    pub given: HashMap<(usize, String), PathBuf>,
    /// Program and parameters of each step, once [`Session::find_programs`] has looked.
    pub programs: Vec<Option<Program>>,
    /// What programs say of their steps' arguments that may turn out to be wrong, by step.
    pub warnings: Vec<(usize, String)>,
    /// The cache that is shared with others.
    pub remote: Option<Remote>,
    /// What the command line asked for.
    pub asked: Asked,
    /// Whether the study says of any step which of its outputs are shown.
    shows: bool,
    /// See [`Options::only_look`].
    only_look: bool,
    /// Where this runs, once it was asked for.
    facts: OnceLock<Facts>,
    /// Contents that `--with` gave are named by nothing: no gc may run beside them.
    _held: Option<Lock>,
    /// What does not count in folders, by its lines.
    ignored: Mutex<HashMap<Vec<String>, Ignore>>,
}

impl Session {
    /// Reads the study, opens its store, and applies the options.
    pub fn open(options: &Options) -> Result<Self> {
        let graph = Arc::new(study::load_for(&options.choice, &options.stages)?);
        let store = Store::open(&graph.root, &graph.name)?;
        // Where nothing is written, nothing is taken away either.
        let held = match options.with.is_empty() || store.is_closed() {
            true => None,
            false => {
                let busy = || stderr::line("waiting for a gc of the store");
                lock::wait(&store.lock_of_store(), true, busy, || false)?
            }
        };
        let mut replaced: HashMap<usize, BTreeMap<String, Produced>> = HashMap::new();
        let mut given = HashMap::new();
        for text in &options.with {
            let (target, path) = text.split_once('=').ok_or_else(|| Error::With(text.clone()))?;
            let (steps, name) = graph.output(target)?;
            if !Path::new(path).exists() {
                return Err(Error::WithNothing { text: text.clone(), path: path.into() });
            }
            let typed = Path::new(path);
            let produced = store.import_copy(&typed.canonicalize().at("finding", typed)?)?;
            for step in steps {
                given.insert((step, name.clone()), typed.to_path_buf());
                replaced.entry(step).or_default().insert(name.clone(), produced.clone());
            }
        }
        let mut forced = HashSet::new();
        for name in &options.force {
            match name.as_str() {
                "*" => forced.extend(0..graph.steps.len()),
                _ => forced.extend(graph.find(name)?),
            }
        }
        let wanted = wanted(&graph, &options.stages, &replaced)?;
        let programs = vec![None; graph.steps.len()];
        let remote = match (&options.cache, &graph.cache) {
            _ if options.offline => None,
            (Some(given), _) => Some(Remote::new(given, Path::new(""))?),
            (None, Some(cache)) => {
                Some(Remote::new(cache, &graph.root).map_err(|e| Error::study(&cache.mark, e.to_string()))?)
            }
            (None, None) => None,
        };
        let ignored = Mutex::default();
        let (asked, facts) = (options.asked(), OnceLock::new());
        let _held = held;
        let only_look = options.only_look;
        let shows = graph.steps.iter().any(|step| !step.show.is_empty());
        Ok(Self {
            graph,
            shows,
            store,
            wanted,
            forced,
            replaced,
            given,
            programs,
            warnings: Vec::new(),
            remote,
            asked,
            only_look,
            facts,
            _held,
            ignored,
        })
    }

    /// The machine and the commit, as they are when somebody asks first.
    pub fn facts(&self) -> &Facts {
        self.facts.get_or_init(|| Facts::look(&self.graph.root))
    }

    /// A folder made of contents; see [`Store::gather`].
    fn gather_parts(&self, parts: &[(OsString, Produced)], optional: bool) -> Result<Produced> {
        match self.only_look {
            true => Ok(self.store.gathered(parts)?),
            false => Ok(self.store.gather(parts, optional)?),
        }
    }

    /// Sets which steps are wanted: these, with all that they need.
    pub fn want(&mut self, stages: &[String]) -> Result<()> {
        self.wanted = wanted(&self.graph, stages, &self.replaced)?;
        Ok(())
    }
}
