//! Moving objects between files and an object store, several at a time, with little memory.

use crate::cache::error::{Error, Result};
use crate::cache::remote::error::Unusable;
use crate::cache::remote::location::Location;
use crate::cache::remote::progress::Progress;
use object_store::path::Path as Place;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};
use std::fs::File;
use std::future::Future;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use store::IoContext;
use tokio::runtime::Runtime;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

/// Larger objects are moved in parts of this size, which all stores take.
const PART: u64 = 8 << 20;
/// Parts of one object that are on their way at the same time.
const PARTS: usize = 6;
/// S3 takes 10,000 parts; a very large object has larger ones.
const MOST_PARTS: u64 = 9_000;
/// Requests that are on their way at the same time, whoever makes them.
const REQUESTS: usize = 64;
/// Bytes of all of them together, which are in memory.
const BYTES: u64 = 64 << 20;
/// What bytes are counted in.
const PAGE: u64 = 4 << 10;
/// Objects that are waited for at the same time by one transfer.
const OPEN: usize = 2 * REQUESTS;
/// A file up to this size is sent without asking whether it is there: the question is as large.
const UNASKED: u64 = 1 << 10;
/// Threads that speak with the store.
const WORKERS: usize = 2;
/// Threads that read and write a cache in a folder; each keeps the memory of a part.
const FOLDER_THREADS: usize = 3;

/// A file and the object it is, or is to become.
#[derive(Clone, Debug)]
pub struct Move {
    pub object: String,
    pub file: PathBuf,
    pub bytes: u64,
}

/// The object store, and how much may be asked of it at a time.
#[derive(Clone)]
struct Line {
    store: Arc<dyn ObjectStore>,
    requests: Arc<Semaphore>,
    pages: Arc<Semaphore>,
}

impl Line {
    fn new(store: Arc<dyn ObjectStore>) -> Self {
        let pages = Semaphore::new(pages(BYTES) as usize);
        Self { store, requests: Arc::new(Semaphore::new(REQUESTS)), pages: Arc::new(pages) }
    }

    /// Waits until one more request with so many bytes may be made; it may until the permits are dropped.
    async fn turn(&self, bytes: u64) -> [Option<OwnedSemaphorePermit>; 2] {
        let pages = Arc::clone(&self.pages).acquire_many_owned(pages(bytes.min(BYTES))).await;
        // Nobody closes them.
        [pages.ok(), Arc::clone(&self.requests).acquire_owned().await.ok()]
    }
}

fn pages(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(PAGE)).unwrap_or(u32::MAX)
}

/// The speaking end of a cache, for any number of threads.
pub struct Client {
    line: Line,
    /// Where the cache is a folder.
    folder: Option<PathBuf>,
    base: Place,
    runtime: Runtime,
}

impl Client {
    /// Connects to nothing yet.
    pub fn open(location: &Location) -> Result<Self> {
        let (store, base) = location.open()?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(WORKERS)
            .enable_all()
            .max_blocking_threads(FOLDER_THREADS)
            .build();
        let runtime = runtime.map_err(Unusable::Start)?;
        let folder = match location {
            Location::Folder(folder) => Some(folder.clone()),
            Location::Address(_) => None,
        };
        Ok(Self { line: Line::new(store), folder, base, runtime })
    }

    /// Refuses what no object can be: a named pipe in the place of one would be waited for without an end.
    fn check(&self, object: &str) -> Result<()> {
        let Some(path) = self.folder.as_ref().map(|folder| folder.join(object)) else { return Ok(()) };
        match std::fs::metadata(&path) {
            Ok(meta) if !meta.is_file() => Err(Unusable::NoObject(path).into()),
            _ => Ok(()),
        }
    }

    fn place(&self, object: &str) -> Place {
        object.split('/').fold(self.base.clone(), |place, part| place.join(part))
    }

    /// A whole object of at most `limit` bytes; `None` when there is none.
    pub fn read(&self, object: &str, limit: u64) -> Result<Option<Vec<u8>>> {
        self.check(object)?;
        let (line, place) = (self.line.clone(), self.place(object));
        self.runtime.block_on(async move {
            let _turn = line.turn(0).await;
            let found = match line.store.get(&place).await {
                Err(object_store::Error::NotFound { .. }) => return Ok(None),
                found => found?,
            };
            if found.meta.size > limit {
                return Ok(Some(Vec::new()));
            }
            Ok(Some(found.bytes().await?.to_vec()))
        })
    }

    /// Writes an object from memory, in one step.
    pub fn write(&self, object: &str, bytes: Vec<u8>) -> Result<()> {
        let place = self.place(object);
        self.runtime.block_on(async {
            let _turn = self.line.turn(bytes.len() as u64).await;
            self.line.store.put(&place, bytes.into()).await
        })?;
        Ok(())
    }

    /// Fetches objects into files. Objects that are missing or of another size are left out of the files.
    pub fn download(&self, moves: Vec<Move>, progress: &dyn Progress) -> Result<()> {
        self.all(moves, progress, |line, place, one| async move {
            match fetch(line, place, &one).await {
                Err(object_store::Error::NotFound { .. }) => Ok(()),
                fetched => Ok(fetched??),
            }
        })
    }

    /// Sends files, leaving out those whose objects are there with their size, unless `again` says so.
    pub fn upload(
        &self,
        moves: Vec<Move>,
        again: impl Fn(&str) -> bool,
        progress: &dyn Progress,
    ) -> Result<()> {
        self.all(moves, progress, |line, place, one| {
            let again = again(&one.object);
            async move {
                if one.bytes > UNASKED && !again && is_there(&line, &place, one.bytes).await? {
                    return Ok(());
                }
                if one.bytes > PART {
                    return send_parts(line, place, &one).await;
                }
                let _turn = line.turn(one.bytes).await;
                let bytes = std::fs::read(&one.file).at("reading", &one.file)?;
                line.store.put(&place, bytes.into()).await?;
                Ok(())
            }
        })
    }

    /// Does the same with every object, side by side as far as their requests may be.
    fn all<F, R>(&self, moves: Vec<Move>, progress: &dyn Progress, act: F) -> Result<()>
    where
        F: Fn(Line, Place, Move) -> R,
        R: Future<Output = Result<()>> + Send + 'static,
    {
        let total = moves.iter().map(|m| m.bytes).sum();
        let mut done = 0;
        let mut open = moves.into_iter();
        self.runtime.block_on(async {
            let mut running = JoinSet::new();
            loop {
                while running.len() < OPEN
                    && let Some(next) = open.next()
                {
                    if progress.stopped() {
                        return Err(Error::Stopped);
                    }
                    self.check(&next.object)?;
                    let (place, bytes) = (self.place(&next.object), next.bytes);
                    let moved = act(self.line.clone(), place, next);
                    running.spawn(async move { moved.await.map(|()| bytes) });
                }
                let Some(ended) = running.join_next().await else { return Ok(()) };
                done += ended??;
                progress.moved(done, total);
            }
        })
    }
}

/// Whether an object of this size is there.
async fn is_there(line: &Line, place: &Place, bytes: u64) -> Result<bool> {
    let _turn = line.turn(0).await;
    match line.store.head(place).await {
        Ok(there) => Ok(there.size == bytes),
        Err(object_store::Error::NotFound { .. }) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

type Fetched = object_store::Result<store::Result<()>>;

async fn fetch(line: Line, place: Place, one: &Move) -> Fetched {
    if one.bytes <= PART {
        let _turn = line.turn(one.bytes).await;
        let found = line.store.get(&place).await?;
        if found.meta.size != one.bytes {
            return Ok(Ok(()));
        }
        let bytes = found.bytes().await?;
        return Ok(std::fs::write(&one.file, &bytes).at("writing", &one.file));
    }
    let size = {
        let _turn = line.turn(0).await;
        line.store.head(&place).await?.size
    };
    if size != one.bytes {
        return Ok(Ok(()));
    }
    let file = match File::create(&one.file).at("making", &one.file) {
        Ok(file) => file,
        Err(e) => return Ok(Err(e)),
    };
    let mut running = JoinSet::new();
    let mut at = 0;
    loop {
        while running.len() < PARTS && at < one.bytes {
            let range = at..(at + PART).min(one.bytes);
            at = range.end;
            let (line, place) = (line.clone(), place.clone());
            running.spawn(async move {
                let turn = line.turn(range.end - range.start).await;
                line.store.get_range(&place, range.clone()).await.map(|bytes| (range.start, bytes, turn))
            });
        }
        let Some(ended) = running.join_next().await else { return Ok(Ok(())) };
        // The turn lasts until the bytes are written.
        let (start, bytes, _turn) = ended??;
        if let Err(e) = file.write_all_at(&bytes, start).at("writing", &one.file) {
            return Ok(Err(e));
        }
    }
}

/// Sends a large file in parts; the object appears when all have arrived.
async fn send_parts(line: Line, place: Place, one: &Move) -> Result<()> {
    let part = PART.max((one.bytes / MOST_PARTS).next_multiple_of(1 << 20));
    let file = File::open(&one.file).at("opening", &one.file)?;
    let mut upload = line.store.put_multipart(&place).await?;
    let sent = async {
        let mut running = JoinSet::new();
        let mut at = 0;
        loop {
            while running.len() < PARTS && at < one.bytes {
                let size = part.min(one.bytes - at);
                let turn = line.turn(size).await;
                let mut bytes = vec![0; size as usize];
                file.read_exact_at(&mut bytes, at).at("reading", &one.file)?;
                at += size;
                let sent = upload.put_part(PutPayload::from(bytes));
                running.spawn(async move { sent.await.map(|()| drop(turn)) });
            }
            let Some(ended) = running.join_next().await else { return Ok(()) };
            ended??;
        }
    };
    let sent: Result<()> = sent.await;
    match sent {
        Ok(()) => {
            upload.complete().await?;
            Ok(())
        }
        Err(e) => {
            // What arrived of it is of no use; where it cannot be taken away either, the store's own rules do it.
            let _ = upload.abort().await;
            Err(e)
        }
    }
}
