//! A file that comes from a server, going on where an earlier attempt was cut off; and work that waits for servers, which does
//! not keep anybody from stopping.

use crate::http::{Client, Fault, Follow, header};
use anyhow::{Context as _, Result, anyhow};
use rustix::fs::{FlockOperation, flock};
use stage::Context;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;
use url::Url;

/// How often one file is tried in a run; a cut connection goes on where it stopped.
pub const ATTEMPTS: u32 = 6;
/// How soon the wish to stop is heard.
const TICK: Duration = Duration::from_millis(50);

/// Lets a server recover, longer after every failure.
pub fn pause(attempt: u32) {
    std::thread::sleep(Duration::from_millis(100 << attempt));
}

/// Bytes that have come, of how many.
#[derive(Default)]
pub struct Counter {
    done: AtomicU64,
    total: AtomicU64,
}

impl Counter {
    /// So many are expected in all.
    pub fn expect(&self, bytes: u64) {
        self.total.store(bytes, Ordering::Relaxed);
    }

    /// So many have come.
    pub fn add(&self, bytes: u64) {
        self.done.fetch_add(bytes, Ordering::Relaxed);
    }

    /// So many have to come again.
    pub fn take_back(&self, bytes: u64) {
        self.done.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// Does work in a thread of its own and reports what `counter` says meanwhile. Asked to stop it returns at once; whatever the
/// thread is waiting for ends with the process.
///
/// # Errors
/// [`stage::Stopped`]; those of the work.
pub fn apart<T: Send + 'static>(
    context: &Context,
    counter: &Arc<Counter>,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let (sender, receiver) = channel();
    // Nobody listens after a stop.
    let worker = std::thread::Builder::new().name("transfer".into()).spawn(move || drop(sender.send(work())));
    worker.context("starting a thread")?;
    loop {
        context.check_stop()?;
        let result = receiver.recv_timeout(TICK);
        let (done, total) = (counter.done.load(Ordering::Relaxed), counter.total.load(Ordering::Relaxed));
        if done > 0 {
            context.progress(done as usize, total as usize, "bytes");
        }
        match result {
            Ok(result) => return result,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                return Err(anyhow!("stopped by the fault reported above"));
            }
        }
    }
}

/// The first part of a file, which grows; one process at a time writes it.
pub struct Partial {
    path: PathBuf,
    file: File,
    /// Bytes of it that the counter knows.
    counted: u64,
}

/// Why a transfer ended early.
pub enum Ended {
    /// The server's fault.
    Server(Fault),
    /// Another, of the disk for example.
    Here(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for Ended {
    fn from(error: E) -> Self {
        Self::Here(error.into())
    }
}

impl Partial {
    /// Opens what is there, or begins; waits for another process that is at it.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn open(path: &Path) -> Result<Self> {
        let context = || format!("opening {}", path.display());
        loop {
            let file = OpenOptions::new().create(true).append(true).open(path).with_context(context)?;
            flock(&file, FlockOperation::LockExclusive).with_context(context)?;
            // The one before may have put it in its place, or thrown it away.
            let (ours, there) = (file.metadata().with_context(context)?, fs::metadata(path));
            if there.is_ok_and(|there| (there.dev(), there.ino()) == (ours.dev(), ours.ino())) {
                return Ok(Self { path: path.into(), file, counted: 0 });
            }
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes that are there.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub fn len(&self) -> Result<u64> {
        Ok(self.file.metadata().with_context(|| format!("reading {}", self.path.display()))?.len())
    }

    /// Forgets what is there.
    ///
    /// # Errors
    /// When it cannot be cut.
    pub fn clear(&self) -> Result<()> {
        self.file.set_len(0).with_context(|| format!("clearing {}", self.path.display()))
    }

    /// Fetches the rest, or all where `same`, the server's name for the content that the first part is of, is no longer so.
    /// Without it the content cannot change. `begin` is told of an answer before its content comes, with the bytes that will be
    /// there in the end, where the server says so.
    ///
    /// # Errors
    /// Why it ended early; what has come stays.
    pub fn fetch(
        &mut self,
        client: &Client,
        url: &Url,
        same: Option<String>,
        counter: &Counter,
        begin: impl FnOnce(Option<&str>, Option<u64>) -> Result<()>,
    ) -> Result<(), Ended> {
        let start = self.len()?;
        let mut headers = vec![("Range", format!("bytes={start}-"))];
        headers.extend(same.map(|same| ("If-Range", same)));
        if start == 0 {
            headers.clear();
        }
        let mut response = match client.get(url, &headers, Follow::All) {
            Ok(response) => response,
            // There is nothing after what we have: its digest decides.
            Err(Fault::Status(416)) => return Ok(()),
            Err(fault) => return Err(Ended::Server(fault)),
        };
        let start = if response.status() == 206 { start } else { 0 };
        self.file.set_len(start).with_context(|| format!("clearing {}", self.path.display()))?;
        let total =
            header(&response, "content-length").and_then(|v| v.parse::<u64>().ok()).map(|rest| start + rest);
        begin(header(&response, "etag"), total)?;
        counter.add(start);
        counter.take_back(self.counted);
        self.counted = start;
        let mut body = response.body_mut().as_reader();
        let mut buffer = vec![0; 1 << 16];
        let cut = |what: String| Ended::Server(Fault::Connection(what));
        loop {
            let n = match body.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => n,
                Err(e) => return Err(cut(format!("cut off: {e}"))),
            };
            self.file.write_all(&buffer[..n]).with_context(|| format!("writing {}", self.path.display()))?;
            self.counted += n as u64;
            counter.add(n as u64);
        }
        match total {
            Some(total) if self.counted < total => {
                Err(cut(format!("cut off after {} of {total} bytes", self.counted)))
            }
            _ => Ok(()),
        }
    }
}
