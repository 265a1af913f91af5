//! An open store, and where things stand in it.

use crate::digest::Digest;
use crate::error::{Error, IoContext, Result};
use crate::key::Key;
use crate::lock::{self, Lock};
use crate::manifest::Manifest;
use crate::{link, name, process, record, statcache};
use rustix::fs::{Access, AtFlags, CWD, accessat};
use rustix::io::Errno;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What the store of a study is called, in the study's root.
const FOLDER: &str = ".pipeline";

/// Version of the layout that the crate tells of.
const FORMAT: &str = "1";

/// The beginning of the names of folders of outputs; what follows sorts by time.
const OUTPUTS: &str = "out.";

/// A folder of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Area {
    /// File contents.
    Blobs,
    /// Manifests of folders.
    Trees,
    /// Folders made of links to blobs.
    Views,
    /// What actions gave.
    Results,
    /// The newest success of each stage.
    Last,
    /// Working folders.
    Attempts,
    /// What interrupted actions can go on from.
    State,
    /// Files whose locks are taken.
    Locks,
    /// What stages wrote to their standard output and error, by run.
    Logs,
    /// Records of runs.
    Runs,
    /// What programs say of themselves.
    Descriptions,
    /// What programs were built from.
    Builds,
    /// What was not what its name says.
    Damaged,
    /// What stages wrote that could not be taken in.
    Refused,
}

impl Area {
    /// Its name, and how many folders lie above its things.
    fn place(self) -> (&'static str, usize) {
        match self {
            Self::Blobs => ("blobs", 1),
            Self::Trees => ("trees", 1),
            Self::Views => ("views", 0),
            Self::Results => ("results", 2),
            Self::Last => ("last", 1),
            Self::Attempts => ("attempts", 0),
            Self::State => ("state", 0),
            Self::Locks => ("locks", 0),
            Self::Logs => ("logs", 0),
            Self::Runs => ("runs", 0),
            Self::Descriptions => ("describe", 0),
            Self::Builds => ("builds", 0),
            Self::Damaged => ("damaged", 0),
            Self::Refused => ("refused", 0),
        }
    }
}

/// Why nothing is written to a store.
enum Why {
    /// There is none.
    Nothing,
    /// This may not be made or written.
    NotOurs(PathBuf, Errno),
}

/// Why a store that is there may not be written.
fn not_ours(path: &Path) -> Option<Why> {
    let refused = match accessat(CWD, path, Access::WRITE_OK, AtFlags::EACCESS) {
        // Containers of old refuse calls that they do not know. Then it is asked of the user whose process it is.
        Err(Errno::PERM) => accessat(CWD, path, Access::WRITE_OK, AtFlags::empty()).err()?,
        asked => asked.err()?,
    };
    Some(Why::NotOurs(path.into(), refused))
}

/// An open store.
pub struct Store {
    /// `.pipeline`, absolute.
    pub path: PathBuf,
    /// What is known of files by their `stat`.
    pub stats: statcache::StatCache,
    /// Name of the study that is worked on; several may share a store.
    pub study: String,
    /// Why nothing is written there: there is no store, or something may not be written. What would only be remembered is not, then.
    closed: Option<Why>,
    /// Lists of files that could not be written.
    pub(crate) unwritten: Mutex<HashMap<Digest, Manifest>>,
}

impl Store {
    /// Opens the store of a study whose root is `root`, making it when there is none. Where it may not be made or written, it
    /// can be read; see [`writable`](Self::writable).
    pub fn open(root: &Path, study: &str) -> Result<Self> {
        let path = root.join(FOLDER);
        let closed = match Self::version(&path)? {
            true => not_ours(&path),
            false => match make(&path) {
                Err(Error::Io { verb, path, source }) => match Errno::from_io_error(&source) {
                    Some(e @ (Errno::ACCESS | Errno::PERM | Errno::ROFS)) => Some(Why::NotOurs(path, e)),
                    _ => return Err(Error::Io { verb, path, source }),
                },
                made => made.map(|()| None)?,
            },
        };
        Ok(Self::at(path, study, closed))
    }

    /// Opens it to read what is there; nothing is made.
    pub fn look(root: &Path, study: &str) -> Result<Self> {
        let path = root.join(FOLDER);
        let closed = match Self::version(&path)? {
            true => not_ours(&path),
            false => Some(Why::Nothing),
        };
        Ok(Self::at(path, study, closed))
    }

    /// Whether there is a store, which then is of our version.
    fn version(path: &Path) -> Result<bool> {
        let format = path.join("format");
        match fs::read_to_string(&format) {
            Ok(text) if text.trim() == FORMAT => Ok(true),
            Ok(text) => Err(Error::Format { path: path.into(), found: text.trim().into(), known: FORMAT }),
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(false),
            Err(e) => Err(e).at("reading", &format),
        }
    }

    fn at(path: PathBuf, study: &str, closed: Option<Why>) -> Self {
        let stats = statcache::StatCache::open(path.join("statcache"));
        Self { path, stats, study: study.into(), closed, unwritten: Mutex::default() }
    }

    /// Refuses a store that there is not, or to which nothing can be written.
    pub fn writable(&self) -> Result<()> {
        match &self.closed {
            None => Ok(()),
            Some(Why::Nothing) => Err(Error::NoStore(self.path.clone())),
            Some(Why::NotOurs(path, e)) => Err(Error::Closed { path: path.clone(), source: (*e).into() }),
        }
    }

    /// Whether there is one.
    pub fn is_there(&self) -> bool {
        !matches!(self.closed, Some(Why::Nothing))
    }

    /// Whether it can only be read.
    pub fn is_closed(&self) -> bool {
        self.closed.is_some()
    }

    /// Whether there is no room left: a stage may then fail without a word, as its log is there too.
    pub fn full(&self) -> bool {
        rustix::fs::statvfs(&self.path).is_ok_and(|disk| disk.f_bavail * disk.f_frsize < 1 << 16)
    }

    /// Everything that lies in a folder of the store, at the depth where its things are.
    pub fn list(&self, area: Area) -> Vec<PathBuf> {
        let (name, depth) = area.place();
        entries(&self.path.join(name), depth)
    }

    /// A path as the store's user knows it: from `.pipeline` on.
    pub fn shown<'a>(&self, path: &'a Path) -> &'a Path {
        path.strip_prefix(&self.path).unwrap_or(path)
    }

    /// A folder of the store.
    pub(crate) fn folder(&self, area: Area) -> PathBuf {
        self.path.join(area.place().0)
    }

    pub(crate) fn blob(&self, hex: &str, ending: &str) -> PathBuf {
        self.folder(Area::Blobs).join(&hex[..2]).join(format!("{}{ending}", &hex[2..]))
    }

    pub(crate) fn tree(&self, hex: &str) -> PathBuf {
        self.folder(Area::Trees).join(&hex[..2]).join(&hex[2..])
    }

    pub(crate) fn view(&self, hex: &str) -> PathBuf {
        self.folder(Area::Views).join(&hex[..32])
    }

    pub(crate) fn damaged(&self) -> PathBuf {
        self.folder(Area::Damaged)
    }

    /// The folder of the results of an action.
    pub fn results(&self, key: &Key) -> PathBuf {
        self.folder(Area::Results).join(key.digits(2)).join(key.to_string())
    }

    /// Where the newest success of a stage is noted.
    pub fn last(&self, label: &str) -> PathBuf {
        self.own_last().join(format!("{}.json", name::label(label)))
    }

    /// Where those of the study that is worked on are.
    pub fn own_last(&self) -> PathBuf {
        self.folder(Area::Last).join(&self.study)
    }

    /// The working folder of an action that runs.
    pub fn attempt(&self, key: &Key) -> PathBuf {
        self.folder(Area::Attempts).join(key.digits(32))
    }

    /// A folder for the outputs of the next attempt at an action, under a name that none before it had: a process that
    /// outlived an earlier one writes where nobody looks.
    pub fn next_outputs(attempt: &Path) -> PathBuf {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos() as u64);
        attempt.join(format!("{OUTPUTS}{now:016x}"))
    }

    /// When such a folder was made, after the beginning of 1970.
    pub fn began(outputs: &Path) -> Option<Duration> {
        let time = outputs.file_name()?.to_str()?.strip_prefix(OUTPUTS)?;
        u64::from_str_radix(time, 16).ok().map(Duration::from_nanos)
    }

    /// The folder of the outputs of the attempt that runs, or ran last.
    pub fn newest_outputs(attempt: &Path) -> PathBuf {
        let ours = |path: &PathBuf| {
            path.file_name().and_then(OsStr::to_str).is_some_and(|name| name.starts_with(OUTPUTS))
        };
        let newest = entries(attempt, 0).into_iter().filter(ours).max();
        newest.unwrap_or_else(|| attempt.join(OUTPUTS))
    }

    /// What an interrupted action can go on from.
    pub fn state(&self, key: &Key) -> PathBuf {
        self.folder(Area::State).join(key.digits(32))
    }

    /// How long the attempts ran that it would go on from.
    pub fn spent(&self, key: &Key) -> PathBuf {
        self.folder(Area::State).join(format!("{}.spent", key.digits(32)))
    }

    /// What of an action's output is followed while it runs.
    pub fn watched(&self, key: &Key, output: &str) -> PathBuf {
        self.folder(Area::Attempts).join(format!("watch-{}-{output}", key.digits(32)))
    }

    /// Where what a shared cache has of an action arrives.
    pub fn fetched(&self, key: &Key) -> PathBuf {
        self.folder(Area::Attempts).join(format!("fetch-{}", key.digits(32)))
    }

    /// Where the files of an archive arrive in this process.
    pub fn imported(&self) -> PathBuf {
        self.folder(Area::Attempts).join(format!("import.{}", process::token()))
    }

    pub(crate) fn copied(&self) -> PathBuf {
        self.folder(Area::Attempts).join(format!("copy.{}", process::thread()))
    }

    /// The log of a stage, or of `build`, in a run.
    pub fn log(&self, run: &str, label: &str) -> PathBuf {
        self.folder(Area::Logs).join(run).join(format!("{}.log", name::label(label)))
    }

    /// What happened in a run, beside its logs. No log of a stage has this ending.
    pub fn journal(&self, run: &str) -> PathBuf {
        self.folder(Area::Logs).join(run).join("run.jsonl")
    }

    /// The folder of the logs of a run.
    pub fn logs(&self, run: &str) -> PathBuf {
        self.folder(Area::Logs).join(run)
    }

    /// The folder of the records of runs.
    pub fn runs(&self) -> PathBuf {
        self.folder(Area::Runs)
    }

    /// Where what a task wrote in a run lies when it could not be taken in.
    pub fn refused(&self, run: &str, label: &str) -> PathBuf {
        self.folder(Area::Refused).join(name::label(&format!("{run}-{label}")))
    }

    /// The record of a run.
    pub fn run(&self, run: &str) -> PathBuf {
        self.folder(Area::Runs).join(format!("{run}.json"))
    }

    /// What a program says of itself when it is called by a name.
    pub fn description(&self, program: &Digest, name: &str) -> PathBuf {
        self.folder(Area::Descriptions).join(format!("{}-{name}", program.hex()))
    }

    /// What the programs were built from, the last time.
    pub fn built(&self) -> PathBuf {
        self.folder(Area::Builds).join("last")
    }

    /// The lock of the whole store: shared by runs, held alone by `gc`.
    pub fn lock_of_store(&self) -> PathBuf {
        self.folder(Area::Locks).join("store")
    }

    /// The lock of whoever makes the programs.
    pub fn lock_of_build(&self) -> PathBuf {
        self.folder(Area::Locks).join("build")
    }

    /// The lock of a stage's folder in `out/`.
    pub fn lock_of_out(&self, variant: &str, stage: &str) -> PathBuf {
        self.folder(Area::Locks).join(name::label(&format!("out-{variant}-{stage}")))
    }

    /// The lock of whoever follows an output.
    pub fn lock_of_watch(&self, key: &Key, output: &str) -> PathBuf {
        self.folder(Area::Locks).join(format!("watch-{}-{output}", key.digits(32)))
    }

    /// The lock of the run that waits for jobs of a cluster.
    pub fn lock_of_jobs(&self, run: &str) -> PathBuf {
        self.folder(Area::Locks).join(format!("jobs-{run}"))
    }

    /// When a batch system was last asked about jobs.
    pub fn asked(&self) -> PathBuf {
        self.folder(Area::Locks).join("asked")
    }

    /// The lock of an action.
    pub fn lock_of(&self, key: &Key) -> PathBuf {
        self.folder(Area::Locks).join(key.to_string())
    }

    /// Waits for the right to run an action. `None` when asked to stop while waiting.
    pub fn lock(&self, key: &Key, waiting: impl FnOnce(), stop: impl Fn() -> bool) -> Result<Option<Lock>> {
        lock::wait(&self.lock_of(key), false, waiting, stop)
    }

    /// Makes an empty folder, whatever stood there.
    pub fn fresh(&self, path: &Path) -> Result<()> {
        link::remove(path)?;
        fs::create_dir_all(path).at("making", path)
    }
}

/// Makes an empty store.
fn make(path: &Path) -> Result<()> {
    fs::create_dir_all(path).at("making", path)?;
    record::write_bytes(&path.join(".gitignore"), b"*\n", false)?;
    let tag = b"Signature: 8a477f597d28d172789f06886806bc55\n";
    record::write_bytes(&path.join("CACHEDIR.TAG"), tag, false)?;
    record::write_bytes(&path.join("format"), FORMAT.as_bytes(), false)
}

/// What lies `depth` folders below `folder`.
fn entries(folder: &Path, depth: usize) -> Vec<PathBuf> {
    let found = fs::read_dir(folder).map(|d| d.flatten().map(|e| e.path()).collect::<Vec<_>>());
    let found = found.unwrap_or_default();
    match depth {
        0 => found,
        _ => found.iter().flat_map(|e| entries(e, depth - 1)).collect(),
    }
}
