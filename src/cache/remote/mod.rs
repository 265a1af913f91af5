//! A cache that a team shares, in a folder or an object store: looked up before a stage runs, filled after it has.
//!
//! Nothing that comes from there is believed before it was hashed.

mod client;
pub mod error;
mod fetch;
pub(crate) mod index;
mod layout;
mod line;
mod location;
mod moves;
mod pack;
mod progress;
mod send;
mod side_by_side;

pub use progress::{Progress, Quiet};
pub use side_by_side::{MOST, side_by_side};

use crate::cache::error::Result;
use crate::cache::remote::client::Client;
use crate::cache::remote::error::{NoPlace, Unusable};
use crate::cache::remote::layout::Format;
use crate::cache::remote::location::Location;
use std::collections::HashSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use store::Key;
use study::hidden;

/// No record of a result is larger.
const RECORD: u64 = 16 << 20;
/// No list of files is larger; it has room for millions.
const LIST: u64 = 1 << 30;

/// A shared cache.
pub struct Remote {
    /// As it was given, without credentials.
    pub name: String,
    location: Location,
    client: OnceLock<Client>,
    /// It failed once; a run does not wait for it again.
    unreachable: AtomicBool,
    /// It refused to take something.
    read_only: AtomicBool,
    /// Objects that were not what their names say; they are written over.
    damaged: Mutex<HashSet<String>>,
    /// It holds results in the older format.
    has_old: OnceLock<bool>,
}

impl Remote {
    /// Reads where the cache is; contacts nobody.
    pub fn new(name: &str, base: &Path) -> Result<Self, NoPlace> {
        Ok(Self {
            name: hidden(name).into_owned(),
            location: Location::parse(name, base)?,
            client: OnceLock::new(),
            unreachable: AtomicBool::new(false),
            read_only: AtomicBool::new(false),
            damaged: Mutex::default(),
            has_old: OnceLock::new(),
        })
    }

    fn client(&self) -> Result<&Client> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let client = Client::open(&self.location)?;
        Ok(self.client.get_or_init(|| client))
    }

    /// The record of a result, and how it lies there.
    fn record(&self, key: &Key) -> Result<Option<(Format, Vec<u8>)>> {
        let client = self.client()?;
        for format in [Format::V2, Format::V1] {
            if (format == Format::V2 || self.has_old())
                && let Some(bytes) = client.read(&format.record(key), RECORD)?
            {
                return Ok(Some((format, bytes)));
            }
        }
        Ok(None)
    }

    /// Whether older runners have filled it as well.
    fn has_old(&self) -> bool {
        let holds = |client: &Client| client.holds(&Format::V1.results());
        // A server that lists nothing is asked for each.
        *self.has_old.get_or_init(|| self.client().and_then(holds).unwrap_or(true))
    }

    /// Says that an object is not what it should be, and treats the result as absent.
    fn refuse<T>(&self, record: &str, object: &str, progress: &dyn Progress) -> Result<Option<T>> {
        progress.say(&format!("the cache {} has a damaged or missing {object}; not used", self.name));
        self.lock().extend([object.to_string(), record.to_string()]);
        Ok(None)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashSet<String>> {
        self.damaged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it is worth asking.
    pub fn answers(&self) -> bool {
        !self.unreachable.load(Ordering::Relaxed)
    }

    /// Whether it is worth sending.
    pub fn takes(&self) -> bool {
        self.answers() && !self.read_only.load(Ordering::Relaxed)
    }

    /// Notes that it failed. Returns the warning, the first time.
    pub fn failed(&self, error: &Unusable, sending: bool) -> Option<String> {
        let flag = if sending { &self.read_only } else { &self.unreachable };
        let what = if sending { "takes nothing" } else { "does not answer" };
        (!flag.swap(true, Ordering::Relaxed))
            .then(|| format!("warning: the cache {} {what} ({error}); going on without it", self.name))
    }
}
