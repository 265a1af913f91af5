//! The Hugging Face Hub: every file is held to the size and digest that the Hub states before it counts.

use crate::normalise::{Parquet, take};
use crate::source::part;
use crate::{ANY, ATTEMPTS, Args, disk, lay_out, pause};
use anyhow::{Context as _, Result};
use hf_hub::api::Progress;
use hf_hub::api::sync::{Api, ApiBuilder, ApiError, ApiRepo};
use hf_hub::{Cache, Repo, RepoType};
use sha1::Digest as _;
use stage::sha256;
use stage::{BadInput, Context, Staged, TryAgain, bad_input};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// One repository at one commit.
struct Hub {
    repo: ApiRepo,
    api: Api,
    cache: Cache,
    kind: RepoType,
    name: String,
    commit: String,
    files: Vec<String>,
}

/// One file as the Hub states it.
struct Stated {
    name: String,
    size: u64,
    /// SHA-256 of a file in LFS, else the id of the git blob (SHA-1).
    etag: String,
}

/// Fetches the Parquet files of a dataset and lays them out.
pub fn dataset(name: &str, images: &Path, args: &Args, context: &Context) -> Result<()> {
    let hub = Hub::open(name, RepoType::Dataset, &args.revision)?;
    let parquet: Vec<PathBuf> =
        hub.files.iter().filter(|f| f.ends_with(".parquet")).map(PathBuf::from).collect();
    if parquet.is_empty() {
        bad_input!(
            "dataset {name}: no Parquet files at revision {}; try --revision refs/convert/parquet",
            args.revision
        )
    }
    let mut names: Vec<String> = part(parquet, &args.split)
        .with_context(|| format!("dataset {name}"))?
        .iter()
        .map(|path| path.to_string_lossy().into_owned())
        .collect();
    names.sort();
    let paths = hub.fetch(&names, args.connections, images, context)?;
    let file = |(name, path): (&String, PathBuf)| Parquet { path, name: name.clone(), frozen: true };
    let files: Vec<Parquet> = names.iter().zip(paths).map(file).collect();
    lay_out(images, name, Some(hub.commit), args, context, |normaliser| normaliser.parquet(&files))
}

/// Fetches one file of a model.
pub fn file(model: &str, file: &str, weights: &Path, args: &Args, context: &Context) -> Result<()> {
    let hub = Hub::open(model, RepoType::Model, &args.revision)?;
    if !hub.files.iter().any(|f| f == file) {
        let near = stage::nearest(file, hub.files.iter().map(String::as_str));
        let hint = near.map(|n| format!("; did you mean {n}?")).unwrap_or_default();
        bad_input!("model {model}: no file {file}{hint}")
    }
    if weights.exists() {
        if !matches(weights, &hub.stated(file)?)? {
            bad_input!(
                "--weights {}: a file that is not {model}/{file} as the Hub has it; name another place, or move it away",
                weights.display()
            )
        }
        context.message(&format!("{} is there already", weights.display()));
        return Ok(());
    }
    let fetched = hub.fetch(&[file.to_string()], 1, weights, context)?;
    if let Some(wanted) = args.sha256.as_ref().filter(|wanted| *wanted != ANY) {
        let found = sha256(&fetched[0])?;
        if !found.eq_ignore_ascii_case(wanted) {
            bad_input!("model {model}: SHA-256 of {file} is {found}, --sha256 wants {wanted}")
        }
    }
    let staged = Staged::file(weights)?;
    take(&fetched[0], staged.path(), true)?;
    context.message(&format!("{model}/{file} at commit {}", hub.commit));
    staged.commit()
}

impl Hub {
    /// Asks the Hub which commit `revision` stands for, and what it holds.
    fn open(name: &str, kind: RepoType, revision: &str) -> Result<Self> {
        let cache = Cache::from_env();
        let mut builder = ApiBuilder::from_env().with_progress(false);
        // hf-hub itself reads the token that `hf auth login` leaves, not the variable.
        if let Ok(token) = std::env::var("HF_TOKEN") {
            builder = builder.with_token(Some(token).filter(|t| !t.is_empty()));
        }
        let api = builder.build().context("starting the Hub's client")?;
        let repo = api.repo(Repo::with_revision(name.into(), kind, revision.into()));
        let info = repo.info().map_err(|e| explain(&e, name, kind, revision, false))?;
        let pinned = api.repo(Repo::with_revision(name.into(), kind, info.sha.clone()));
        let files = info.siblings.into_iter().map(|s| s.rfilename).collect();
        Ok(Self { repo: pinned, api, cache, kind, name: name.into(), commit: info.sha, files })
    }

    /// Fetches files, several at once, each verified; gives their places in the Hub's cache.
    fn fetch(
        &self,
        names: &[String],
        connections: usize,
        target: &Path,
        context: &Context,
    ) -> Result<Vec<PathBuf>> {
        let stated = self.parallel(names, connections, context, |name| self.stated(name))?;
        let total: u64 = stated.iter().map(|s| s.size).sum();
        let missing = stated.iter().filter(|s| !self.blob(&s.etag).exists()).map(|s| s.size).sum();
        disk::check(self.cache.path(), missing)?;
        disk::check(target, missing)?;
        let done = AtomicUsize::new(0);
        self.parallel(&stated, connections, context, |file| {
            self.verified(file, &done, total as usize, context)
        })
    }

    /// `work` on every item, on a few threads; the first error stops the rest.
    fn parallel<T: Sync, R: Send>(
        &self,
        items: &[T],
        threads: usize,
        context: &Context,
        work: impl Fn(&T) -> Result<R> + Sync,
    ) -> Result<Vec<R>> {
        let next = AtomicUsize::new(0);
        let results = Mutex::new((Vec::new(), None));
        let lock = || results.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        std::thread::scope(|scope| {
            for _ in 0..threads.min(items.len()) {
                scope.spawn(|| {
                    while lock().1.is_none() {
                        let i = next.fetch_add(1, Ordering::Relaxed);
                        let Some(item) = items.get(i) else { break };
                        let result = context.check_stop().and_then(|()| work(item));
                        match (result, &mut *lock()) {
                            (Ok(value), (done, _)) => done.push((i, value)),
                            (Err(e), (_, first)) => *first = first.take().or(Some(e)),
                        }
                    }
                });
            }
        });
        let (mut done, error) = results.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(e) = error {
            return Err(e);
        }
        done.sort_by_key(|(i, _)| *i);
        Ok(done.into_iter().map(|(_, value)| value).collect())
    }

    fn stated(&self, name: &str) -> Result<Stated> {
        let metadata = self.retry(name, false, || self.api.metadata(&self.repo.url(name)))?;
        let etag = metadata.etag().trim_start_matches("W/").to_ascii_lowercase();
        if !etag.bytes().all(|b| b.is_ascii_hexdigit()) || ![40, 64].contains(&etag.len()) {
            bad_input!("{}/{name}: the Hub states no digest (`{etag}`)", self.name)
        }
        Ok(Stated { name: name.into(), size: metadata.size() as u64, etag })
    }

    /// Where the cache keeps content of this digest.
    fn blob(&self, etag: &str) -> PathBuf {
        self.cache
            .repo(Repo::with_revision(self.name.clone(), self.kind, self.commit.clone()))
            .blob_path(etag)
    }

    fn verified(
        &self,
        file: &Stated,
        done: &AtomicUsize,
        total: usize,
        context: &Context,
    ) -> Result<PathBuf> {
        let blob = self.blob(&file.etag);
        let before = blob.exists();
        for _ in 0..2 {
            if !blob.exists() {
                self.retry(&file.name, true, || {
                    // A partial file that is as long as the whole cannot be resumed; its digest decides below.
                    let partial = blob.with_extension("part");
                    if partial.metadata().is_ok_and(|m| m.len() >= file.size) {
                        std::fs::remove_file(&partial)?;
                    }
                    self.repo.download_with_progress(&file.name, Bar { done, total, context, at: 0 })
                })?;
            }
            if matches(&blob, file)? {
                if before {
                    done.fetch_add(file.size as usize, Ordering::Relaxed);
                }
                return Ok(blob);
            }
            std::fs::remove_file(&blob).with_context(|| format!("removing {}", blob.display()))?;
        }
        Err(TryAgain(format!(
            "{}/{}: what arrives is not what the Hub states ({} bytes, {}); it was thrown away, run again later",
            self.name, file.name, file.size, file.etag
        ))
        .into())
    }

    /// Tries until it works, with growing pauses, where trying may help. `granted` says that the Hub has shown the file's
    /// metadata already.
    fn retry<T>(
        &self,
        file: &str,
        granted: bool,
        mut work: impl FnMut() -> Result<T, ApiError>,
    ) -> Result<T> {
        let what = format!("{}/{file}", self.name);
        for attempt in 0..ATTEMPTS {
            match work() {
                Ok(value) => return Ok(value),
                Err(e) => {
                    let error = explain(&e, &what, self.kind, &self.commit, granted);
                    if stage::exit_code(&error) == 2 || attempt + 1 == ATTEMPTS {
                        return Err(error);
                    }
                }
            }
            pause(attempt);
        }
        Err(TryAgain(format!("{what}: given up")).into())
    }
}

/// Whether a file is what the Hub states.
fn matches(path: &Path, file: &Stated) -> Result<bool> {
    let size = std::fs::metadata(path).with_context(|| format!("reading {}", path.display()))?.len();
    if size != file.size {
        return Ok(false);
    }
    Ok(match file.etag.len() {
        64 => sha256(path)? == file.etag,
        _ => git_blob(path, size)? == file.etag,
    })
}

/// The id git gives a blob: SHA-1 of `blob SIZE\0` and the content.
fn git_blob(path: &Path, size: u64) -> Result<String> {
    let mut hasher = sha1::Sha1::new();
    hasher.update(format!("blob {size}\0"));
    hasher.update(std::fs::read(path)?);
    Ok(hasher.finalize().iter().map(|b| format!("{b:02x}")).collect())
}

/// A fault of the Hub in words: the caller's (exit code 2) or one that may pass (75).
fn explain(error: &ApiError, what: &str, kind: RepoType, revision: &str, granted: bool) -> anyhow::Error {
    let (noun, folder) =
        if matches!(kind, RepoType::Dataset) { ("dataset", "datasets/") } else { ("model", "") };
    let name = what.split('/').take(2).collect::<Vec<_>>().join("/");
    let status = match error {
        ApiError::RequestError(e) => match **e {
            ureq::Error::StatusCode(code) => Some(code),
            _ => None,
        },
        _ => None,
    };
    match status {
        // The Hub sends the reader on to its storage by a signed link that is good for a while.
        Some(code @ (401 | 403)) if granted => TryAgain(format!(
            "{noun} {what}: the Hub shows the file, but its storage answers {code}, as when a link has expired; run again to \
             go on where it stopped"
        ))
        .into(),
        Some(401 | 403) => BadInput(format!(
            "{noun} {what}: no access; if it is gated, accept its terms at https://huggingface.co/{folder}{name} and set \
             HF_TOKEN to a token of that account"
        ))
        .into(),
        Some(404) => BadInput(format!("{noun} {what}: not found at revision {revision}; check the name and --revision")).into(),
        _ => TryAgain(format!("{noun} {what}: {error}; run again to go on where it stopped")).into(),
    }
}

/// Adds what one file has received to the progress of all.
struct Bar<'a> {
    done: &'a AtomicUsize,
    total: usize,
    context: &'a Context,
    at: usize,
}

impl Progress for Bar<'_> {
    fn init(&mut self, _size: usize, _file: &str) {
        // Called again when a cut connection is resumed, followed by all that is there already.
        self.done.fetch_sub(self.at, Ordering::Relaxed);
        self.at = 0;
    }

    fn update(&mut self, bytes: usize) {
        self.at += bytes;
        let done = self.done.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.context.progress(done, self.total, "bytes");
    }

    fn finish(&mut self) {}
}

impl Drop for Bar<'_> {
    fn drop(&mut self) {
        // A failed attempt takes its bytes back; the next one counts what was kept.
        if self.at > 0 && std::thread::panicking() {
            self.done.fetch_sub(self.at, Ordering::Relaxed);
        }
    }
}
