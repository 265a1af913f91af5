//! What moves between files and an object store: whole files, large ones in parts, and small ones together.

use crate::cache::error::Result;
use crate::cache::remote::layout;
use crate::cache::remote::line::{Line, is_there};
use crate::cache::remote::pack::Pack;
use bytes::Bytes;
use futures_util::StreamExt;
use memmap2::Mmap;
use object_store::path::Path as Place;
use object_store::{GetOptions, GetResultPayload, ObjectStore, ObjectStoreExt, PutPayload};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use store::IoContext;
use tokio::task::JoinSet;

/// Larger objects are moved in parts of this size, which all stores take.
const PART: u64 = 8 << 20;
/// Parts of one object that are on their way at the same time.
const PARTS: usize = 6;
/// A large object comes in ranges of this size, which are written as they come.
const RANGE: u64 = 64 << 20;
/// What of a range is in memory at a time, at the most.
const UNWRITTEN: u64 = 1 << 20;
/// S3 takes 10,000 parts; a very large object has larger ones.
const MOST_PARTS: u64 = 9_000;
/// What is up to this size is sent without asking whether it is there: the question is as large.
const UNASKED: u64 = 1 << 10;

/// A file and the object it is, or is to become.
#[derive(Clone, Debug)]
pub struct Move {
    pub object: String,
    pub file: PathBuf,
    pub bytes: u64,
}

/// A stretch of a pack, and the files that are made of it.
#[derive(Clone, Debug)]
pub struct Stretch {
    pub object: String,
    /// The size of the object.
    pub whole: u64,
    pub range: Range<u64>,
    pub pieces: Vec<Piece>,
}

/// One file of a stretch.
#[derive(Clone, Debug)]
pub struct Piece {
    /// Where it lies in the pack.
    pub range: Range<u64>,
    pub hash: [u8; 32],
    pub file: PathBuf,
}

/// What is fetched.
#[derive(Clone, Debug)]
pub enum Download {
    File(Move),
    Stretch(Stretch),
}

impl Download {
    pub fn object(&self) -> &str {
        match self {
            Self::File(one) => &one.object,
            Self::Stretch(one) => &one.object,
        }
    }

    pub fn bytes(&self) -> u64 {
        match self {
            Self::File(one) => one.bytes,
            Self::Stretch(one) => one.range.end - one.range.start,
        }
    }
}

/// What is sent.
#[derive(Clone, Debug)]
pub enum Upload {
    File(Move),
    /// Small files, with their places in the order of the pack.
    Pack {
        object: String,
        pack: Pack,
        files: Vec<PathBuf>,
    },
}

impl Upload {
    /// A pack of files that stand where `place` says.
    pub fn pack(pack: Pack, place: impl Fn(&store::digest::Digest) -> PathBuf) -> Self {
        let files = pack.files.iter().map(|(digest, _)| place(digest)).collect();
        Self::Pack { object: layout::pack(&pack.name), pack, files }
    }

    pub fn object(&self) -> &str {
        match self {
            Self::File(one) => &one.object,
            Self::Pack { object, .. } => object,
        }
    }

    pub fn bytes(&self) -> u64 {
        match self {
            Self::File(one) => one.bytes,
            Self::Pack { pack, .. } => pack.bytes,
        }
    }
}

/// Sends an object, unless it is there with its size.
pub async fn send(line: Line, place: Place, one: Upload, again: bool) -> Result<()> {
    let bytes = one.bytes();
    if bytes > UNASKED && !again && is_there(&line, &place, bytes).await? {
        return Ok(());
    }
    match one {
        Upload::File(one) if bytes > PART => send_parts(line, place, &one).await,
        Upload::File(one) => {
            let _turn = line.turn(bytes).await;
            let bytes = std::fs::read(&one.file).at("reading", &one.file)?;
            line.put(&place, bytes.into()).await?;
            Ok(())
        }
        Upload::Pack { pack, files, .. } => {
            let _turn = line.turn(bytes).await;
            let bytes = tokio::task::spawn_blocking(move || join(&pack, &files)).await??;
            line.put(&place, bytes.into()).await?;
            Ok(())
        }
    }
}

/// The bytes of a pack.
fn join(pack: &Pack, files: &[PathBuf]) -> Result<Vec<u8>> {
    let mut all = Vec::with_capacity(pack.bytes as usize);
    for ((digest, _), file) in pack.files.iter().zip(files) {
        let bytes = std::fs::read(file).at("reading", file)?;
        // One file of another length would move all behind it.
        if *blake3::hash(&bytes).as_bytes() != digest.hash {
            return Err(store::Error::Changed(file.clone()).into());
        }
        all.extend(bytes);
    }
    Ok(all)
}

/// Fetches an object, or a stretch of it.
pub async fn fetch(line: Line, place: Place, one: Download) -> Result<()> {
    match one {
        Download::File(one) if one.bytes > PART => fetch_parts(line, place, &one).await,
        Download::File(one) => {
            let _turn = line.turn(one.bytes).await;
            let found = line.store.get(&place).await?;
            if found.meta.size == one.bytes {
                let bytes = found.bytes().await?;
                std::fs::write(&one.file, &bytes).at("writing", &one.file)?;
            }
            Ok(())
        }
        Download::Stretch(stretch) => fetch_stretch(line, place, stretch).await,
    }
}

async fn fetch_stretch(line: Line, place: Place, stretch: Stretch) -> Result<()> {
    let range = stretch.range.clone();
    let turn = line.turn(range.end - range.start).await;
    let bytes = match line.store.get_range(&place, range).await {
        Ok(bytes) => bytes,
        // How a store says that there are not so many bytes differs.
        Err(e) => {
            drop(turn);
            return if is_there(&line, &place, stretch.whole).await? { Err(e.into()) } else { Ok(()) };
        }
    };
    tokio::task::spawn_blocking(move || {
        for piece in &stretch.pieces {
            let start = (piece.range.start - stretch.range.start) as usize;
            let length = (piece.range.end - piece.range.start) as usize;
            let content = bytes.get(start..start + length);
            if let Some(content) = content.filter(|bytes| *blake3::hash(bytes).as_bytes() == piece.hash) {
                std::fs::write(&piece.file, content).at("writing", &piece.file)?;
            }
        }
        drop(turn);
        Ok(())
    })
    .await?
}

async fn fetch_parts(line: Line, place: Place, one: &Move) -> Result<()> {
    let size = {
        let _turn = line.turn(0).await;
        line.store.head(&place).await?.size
    };
    if size != one.bytes {
        return Ok(());
    }
    File::create(&one.file).at("making", &one.file)?;
    let mut running = JoinSet::new();
    let mut at = 0;
    loop {
        while running.len() < PARTS && at < one.bytes {
            let range = at..(at + RANGE).min(one.bytes);
            at = range.end;
            running.spawn(fetch_range(line.clone(), place.clone(), one.file.clone(), range));
        }
        let Some(ended) = running.join_next().await else { return Ok(()) };
        ended??;
    }
}

/// Fetches a range of a large object to its place in a file. Where it is cut off after much of it, the rest is asked for.
async fn fetch_range(line: Line, place: Place, path: PathBuf, range: Range<u64>) -> Result<()> {
    let _turn = line.turn(UNWRITTEN).await;
    let mut at = range.start;
    loop {
        let before = at;
        let came = fetch_from(&line, &place, &path, &mut at, range.end).await;
        if came.is_ok() || at - before < PART {
            return came;
        }
    }
}

/// Fetches what lies between `at` and `end`, and moves `at` on with what came.
async fn fetch_from(line: &Line, place: &Place, path: &Path, at: &mut u64, end: u64) -> Result<()> {
    let options = GetOptions { range: Some((*at..end).into()), ..GetOptions::default() };
    let found = line.store.get_opts(place, options).await?;
    let mut file = File::options().write(true).open(path).at("opening", path)?;
    match found.payload {
        GetResultPayload::File(mut from, _) => {
            let start = *at;
            let copied = tokio::task::spawn_blocking(move || {
                from.seek(SeekFrom::Start(start))?;
                file.seek(SeekFrom::Start(start))?;
                std::io::copy(&mut from.take(end - start), &mut file)
            });
            *at += copied.await?.at("writing", path)?;
        }
        GetResultPayload::Stream(mut pieces) => {
            while let Some(piece) = pieces.next().await {
                let piece = piece?;
                file.write_all_at(&piece, *at).at("writing", path)?;
                *at += piece.len() as u64;
            }
        }
    }
    Ok(())
}

/// Sends a large file in parts; the object appears when all have arrived.
async fn send_parts(line: Line, place: Place, one: &Move) -> Result<()> {
    let part = PART.max((one.bytes / MOST_PARTS).next_multiple_of(1 << 20));
    let file = File::open(&one.file).at("opening", &one.file)?;
    let mut upload = match line.store.put_multipart(&place).await {
        Err(object_store::Error::NotImplemented { .. } | object_store::Error::NotSupported { .. }) => {
            return send_whole(line, place, &file, one).await;
        }
        upload => upload?,
    };
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

/// Sends a large file in one piece, to a server that takes no parts. It is mapped, not read.
async fn send_whole(line: Line, place: Place, file: &File, one: &Move) -> Result<()> {
    let _turn = line.turn(one.bytes).await;
    // SAFETY: a content of the store is read-only and replaced by renames alone; who writes to it all the same, or cuts it
    // off, spoils what is sent, which no one believes, or ends this process by a signal.
    let mapped = unsafe { Mmap::map(file) }.at("mapping", &one.file)?;
    line.put(&place, Bytes::from_owner(mapped).into()).await?;
    Ok(())
}
