//! The speaking end of a cache: many objects side by side.

use crate::cache::error::{Error, Result};
use crate::cache::remote::error::Unusable;
use crate::cache::remote::line::{Line, REQUESTS, is_there};
use crate::cache::remote::location::Location;
use crate::cache::remote::moves::{Download, Upload, fetch, send};
use crate::cache::remote::progress::Progress;
use futures_util::StreamExt;
use object_store::ObjectStoreExt;
use object_store::path::Path as Place;
use std::future::Future;
use std::path::PathBuf;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

/// Objects that are waited for at the same time by one transfer.
const OPEN: usize = 2 * REQUESTS;
/// Threads that speak with the store.
const WORKERS: usize = 2;
/// Threads that read and write a cache in a folder; each keeps the memory of a part.
const FOLDER_THREADS: usize = 3;

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
            self.line.put(&place, bytes.into()).await
        })?;
        Ok(())
    }

    /// Which of some objects are there with their sizes.
    pub fn are_there(&self, objects: &[(String, u64)]) -> Result<Vec<bool>> {
        let questions = objects.iter().map(|(object, bytes)| {
            let (line, place, bytes) = (self.line.clone(), self.place(object), *bytes);
            async move { is_there(&line, &place, bytes).await }
        });
        self.runtime.block_on(futures_util::future::try_join_all(questions))
    }

    /// Whether there is any object in a folder.
    pub fn holds(&self, folder: &str) -> Result<bool> {
        let place = self.place(folder);
        self.runtime.block_on(async {
            let _turn = self.line.turn(0).await;
            let first = self.line.store.list(Some(&place)).next().await;
            Ok(first.transpose()?.is_some())
        })
    }

    /// Fetches what objects hold into files. Of objects that are missing or of another size there is no file, and none
    /// of a stretch that is not what it should be.
    pub fn download(&self, moves: Vec<Download>, progress: &dyn Progress) -> Result<()> {
        let moves = moves.into_iter().map(|one| (one.object().to_string(), one.bytes(), one));
        self.all(moves.collect(), progress, |line, place, one| async move {
            match fetch(line, place, one).await {
                Err(Error::Unusable(Unusable::Refused {
                    source: object_store::Error::NotFound { .. },
                    ..
                })) => Ok(()),
                fetched => fetched,
            }
        })
    }

    /// Sends objects, leaving out those that are there with their size, unless `again` says so.
    pub fn upload(
        &self,
        moves: Vec<Upload>,
        again: impl Fn(&str) -> bool,
        progress: &dyn Progress,
    ) -> Result<()> {
        let moves = moves.into_iter().map(|one| (one.object().to_string(), one.bytes(), one));
        self.all(moves.collect(), progress, |line, place, one| {
            let again = again(one.object());
            send(line, place, one, again)
        })
    }

    /// Does the same with every object, side by side as far as their requests may be.
    fn all<T, F, R>(&self, moves: Vec<(String, u64, T)>, progress: &dyn Progress, act: F) -> Result<()>
    where
        F: Fn(Line, Place, T) -> R,
        R: Future<Output = Result<()>> + Send + 'static,
    {
        let total = moves.iter().map(|(_, bytes, _)| bytes).sum();
        let mut done = 0;
        let mut open = moves.into_iter();
        self.runtime.block_on(async {
            let mut running = JoinSet::new();
            loop {
                while running.len() < OPEN
                    && let Some((object, bytes, next)) = open.next()
                {
                    if progress.stopped() {
                        return Err(Error::Stopped);
                    }
                    self.check(&object)?;
                    let moved = act(self.line.clone(), self.place(&object), next);
                    running.spawn(async move { moved.await.map(|()| bytes) });
                }
                let Some(ended) = running.join_next().await else { return Ok(()) };
                done += ended??;
                progress.moved(done, total);
            }
        })
    }
}
