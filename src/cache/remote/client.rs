//! Moving objects between files and an object store, several at a time, with little memory.

use crate::cache::error::{Error, Result};
use crate::cache::remote::error::Unusable;
use crate::cache::remote::location::Location;
use crate::cache::remote::progress::Progress;
use object_store::path::Path as Place;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};
use std::collections::VecDeque;
use std::fs::File;
use std::future::Future;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use store::IoContext;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

/// Larger objects are moved in parts of this size, which all stores take.
const PART: u64 = 8 << 20;
/// Parts of one object that are on their way at the same time.
const PARTS: usize = 3;
/// S3 takes 10,000 parts; a very large object has larger ones.
const MOST_PARTS: u64 = 9_000;
/// Small objects are moved this many at a time.
const MANY: usize = 24;
/// What is small.
const SMALL: u64 = 1 << 20;

/// A file and the object it is, or is to become.
#[derive(Clone, Debug)]
pub struct Move {
    pub object: String,
    pub file: PathBuf,
    pub bytes: u64,
}

/// The speaking end of a cache.
pub struct Client {
    store: Arc<dyn ObjectStore>,
    /// Where the cache is a folder.
    folder: Option<PathBuf>,
    base: Place,
    runtime: Runtime,
}

impl Client {
    /// Connects to nothing yet.
    pub fn open(location: &Location) -> Result<Self> {
        let (store, base) = location.open()?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            // Each thread that reads a folder keeps the memory of a part.
            .max_blocking_threads(PARTS)
            .build();
        let runtime = runtime.map_err(Unusable::Start)?;
        let folder = match location {
            Location::Folder(folder) => Some(folder.clone()),
            Location::Address(_) => None,
        };
        Ok(Self { store, folder, base, runtime })
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
        let (store, place) = (Arc::clone(&self.store), self.place(object));
        self.runtime.block_on(async move {
            let found = match store.get(&place).await {
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
        self.runtime.block_on(self.store.put(&place, bytes.into()))?;
        Ok(())
    }

    /// Fetches objects into files. Objects that are missing or of another size are left out of the files.
    pub fn download(&self, moves: Vec<Move>, progress: &dyn Progress) -> Result<()> {
        self.all(moves, progress, |store, place, one| async move {
            match fetch(store, place, &one).await {
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
        self.all(moves, progress, |store, place, one| {
            let again = again(&one.object);
            async move {
                match store.head(&place).await {
                    Ok(there) if there.size == one.bytes && !again => return Ok(()),
                    Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
                    Err(e) => return Err(e.into()),
                }
                if one.bytes <= PART {
                    let bytes = std::fs::read(&one.file).at("reading", &one.file)?;
                    store.put(&place, bytes.into()).await?;
                    return Ok(());
                }
                send_parts(store, place, &one).await
            }
        })
    }

    /// Does the same with every object: small ones side by side, large ones one after another.
    fn all<F, R>(&self, moves: Vec<Move>, progress: &dyn Progress, act: F) -> Result<()>
    where
        F: Fn(Arc<dyn ObjectStore>, Place, Move) -> R,
        R: Future<Output = Result<()>> + Send + 'static,
    {
        let total = moves.iter().map(|m| m.bytes).sum();
        let mut done = 0;
        let (small, large): (Vec<Move>, Vec<Move>) = moves.into_iter().partition(|m| m.bytes <= SMALL);
        self.runtime.block_on(async {
            for (moves, width) in [(small, MANY), (large, 1)] {
                let mut open: VecDeque<Move> = moves.into();
                let mut running = JoinSet::new();
                loop {
                    while running.len() < width
                        && let Some(next) = open.pop_front()
                    {
                        if progress.stopped() {
                            return Err(Error::Stopped);
                        }
                        self.check(&next.object)?;
                        let (place, bytes) = (self.place(&next.object), next.bytes);
                        let moved = act(Arc::clone(&self.store), place, next);
                        running.spawn(async move { moved.await.map(|()| bytes) });
                    }
                    let Some(ended) = running.join_next().await else { break };
                    done += ended??;
                    progress.moved(done, total);
                }
            }
            Ok(())
        })
    }
}

type Fetched = object_store::Result<store::Result<()>>;

async fn fetch(store: Arc<dyn ObjectStore>, place: Place, one: &Move) -> Fetched {
    if one.bytes <= PART {
        let found = store.get(&place).await?;
        if found.meta.size != one.bytes {
            return Ok(Ok(()));
        }
        let bytes = found.bytes().await?;
        return Ok(std::fs::write(&one.file, &bytes).at("writing", &one.file));
    }
    if store.head(&place).await?.size != one.bytes {
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
            let (store, place) = (Arc::clone(&store), place.clone());
            running
                .spawn(async move { store.get_range(&place, range.clone()).await.map(|b| (range.start, b)) });
        }
        let Some(ended) = running.join_next().await else { return Ok(Ok(())) };
        let (start, bytes) = ended??;
        if let Err(e) = file.write_all_at(&bytes, start).at("writing", &one.file) {
            return Ok(Err(e));
        }
    }
}

/// Sends a large file in parts; the object appears when all have arrived.
async fn send_parts(store: Arc<dyn ObjectStore>, place: Place, one: &Move) -> Result<()> {
    let part = PART.max((one.bytes / MOST_PARTS).next_multiple_of(1 << 20));
    let file = File::open(&one.file).at("opening", &one.file)?;
    let mut upload = store.put_multipart(&place).await?;
    let sent = async {
        let mut running = JoinSet::new();
        let mut at = 0;
        loop {
            while running.len() < PARTS && at < one.bytes {
                let mut bytes = vec![0; part.min(one.bytes - at) as usize];
                file.read_exact_at(&mut bytes, at).at("reading", &one.file)?;
                at += bytes.len() as u64;
                running.spawn(upload.put_part(PutPayload::from(bytes)));
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
