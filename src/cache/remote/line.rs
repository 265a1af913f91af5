//! The line to an object store, and how much is on it at a time.

use crate::cache::error::Result;
use object_store::path::Path as Place;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Requests that are on their way at the same time, whoever makes them.
pub const REQUESTS: usize = 64;
/// Bytes of all of them together, which are in memory.
const BYTES: u64 = 64 << 20;
/// So often the folders above an object may be made by others while they are made for it.
const RACES: usize = 8;
/// What bytes are counted in.
const PAGE: u64 = 4 << 10;

/// The object store, and how much may be asked of it at a time.
#[derive(Clone)]
pub struct Line {
    pub store: Arc<dyn ObjectStore>,
    requests: Arc<Semaphore>,
    pages: Arc<Semaphore>,
}

impl Line {
    pub fn new(store: Arc<dyn ObjectStore>) -> Self {
        let pages = Semaphore::new(pages(BYTES) as usize);
        Self { store, requests: Arc::new(Semaphore::new(REQUESTS)), pages: Arc::new(pages) }
    }

    /// Writes an object in one step.
    pub async fn put(&self, place: &Place, bytes: PutPayload) -> object_store::Result<()> {
        let mut races = 0;
        loop {
            match self.store.put(place, bytes.clone()).await {
                // A WebDAV has folders, which are made for an object. Another object of the same folder was first.
                Err(e) if races < RACES && e.to_string().contains("MKCOL") => races += 1,
                put => return put.map(drop),
            }
        }
    }

    /// Waits until one more request with so many bytes may be made; it may until the permits are dropped.
    pub async fn turn(&self, bytes: u64) -> [Option<OwnedSemaphorePermit>; 2] {
        let pages = Arc::clone(&self.pages).acquire_many_owned(pages(bytes.min(BYTES))).await;
        // Nobody closes them.
        [pages.ok(), Arc::clone(&self.requests).acquire_owned().await.ok()]
    }
}

fn pages(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(PAGE)).unwrap_or(u32::MAX)
}

/// Whether an object of this size is there.
pub async fn is_there(line: &Line, place: &Place, bytes: u64) -> Result<bool> {
    let _turn = line.turn(0).await;
    match line.store.head(place).await {
        Ok(there) => Ok(there.size == bytes),
        Err(object_store::Error::NotFound { .. }) => Ok(false),
        Err(e) => Err(e.into()),
    }
}
