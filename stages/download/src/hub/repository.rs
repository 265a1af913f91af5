//! A repository of the Hub at one commit, and its files, each fetched and verified.

use super::faults::{Refused, explain};
use crate::arguments::Args;
use crate::cache::{self, Cache, Kind};
use crate::disk;
use crate::http::{Client, Fault, Follow, address, header};
use crate::transfer::{ATTEMPTS, Counter, Ended, Partial, apart, pause};
use anyhow::{Context as _, Result};
use sha1::Digest as _;
use stage::{BadInput, BadInputExt, Context, TryAgain, bad_input, sha256};
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use ureq::Body;
use ureq::http::Response;
use url::Url;

/// Where the Hub is, unless HF_ENDPOINT says otherwise.
const ENDPOINT: &str = "https://huggingface.co";
/// Longest list of files.
const LONGEST: u64 = 512 << 20;

/// One repository at one commit.
pub struct Hub {
    client: Client,
    cache: Cache,
    endpoint: Url,
    kind: Kind,
    name: String,
    /// The commit that the revision stood for.
    pub commit: String,
    /// The names of its files.
    pub files: Vec<String>,
}

/// One file as the Hub states it.
#[derive(Clone)]
pub struct Stated {
    name: String,
    size: u64,
    /// SHA-256 of a file in LFS, else the id of the git blob (SHA-1).
    etag: String,
}

/// The variable of this name, where it says something.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().map(|value| value.trim().to_string()).filter(|value| !value.is_empty())
}

/// The folder that the Hub's clients share.
fn home() -> Result<PathBuf> {
    match (variable("HF_HOME"), std::env::home_dir()) {
        (Some(home), _) => Ok(home.into()),
        (None, Some(home)) => Ok(home.join(".cache/huggingface")),
        (None, None) => bad_input!("there is no home folder; set HF_HOME"),
    }
}

impl Hub {
    /// Asks the Hub which commit a revision stands for, and what it holds.
    pub fn open(name: &str, kind: Kind, args: &Args, context: &Context) -> Result<Arc<Self>> {
        let home = home()?;
        let cache = Cache::of(&home, kind, name)?;
        let endpoint = variable("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.into());
        let endpoint = address(&endpoint).bad_input(|| "HF_ENDPOINT")?;
        // What `hf auth login` leaves, unless the variable says otherwise, be it nothing.
        let token = match std::env::var("HF_TOKEN") {
            Ok(_) => variable("HF_TOKEN"),
            Err(_) => fs::read_to_string(home.join("token")).ok().map(|token| token.trim().to_string()),
        };
        let client = Client::new().with_token(&endpoint, token.filter(|token| !token.is_empty()));
        let (name, revision) = (name.to_string(), args.revision.clone());
        apart(context, &Arc::default(), move || {
            let folder = format!("{}s", kind.noun());
            let url = page(
                &endpoint,
                ["api", &folder].into_iter().chain(name.split('/')).chain(["revision", &revision]),
            )?;
            let refused = |fault: &Fault| explain(fault, &name, kind, &revision, false);
            let mut answer = client.get(&url, &[], Follow::All).map_err(|fault| refused(&fault))?;
            let info = info(&mut answer).map_err(|e| refused(&Fault::Connection(format!("{e:#}"))))?;
            let (commit, files) = info;
            let commit = cache::commit(&commit).with_context(|| format!("{} {name}", kind.noun()))?;
            Ok(Arc::new(Self { client, cache, endpoint, kind, name, commit, files }))
        })
    }

    /// The address of a file.
    fn url(&self, file: &str) -> Result<Url> {
        let kind = (self.kind == Kind::Dataset).then_some("datasets");
        let parts = kind.into_iter().chain(self.name.split('/')).chain(["resolve", &self.commit]);
        page(&self.endpoint, parts.chain(file.split('/')))
    }

    /// Fetches files, several at once, each verified; gives their places in the Hub's cache.
    pub fn fetch(
        self: &Arc<Self>,
        names: &[String],
        connections: usize,
        target: &Path,
        context: &Context,
    ) -> Result<Vec<PathBuf>> {
        for name in names {
            cache::inside(name).with_context(|| format!("{} {}", self.kind.noun(), self.name))?;
        }
        let (hub, names, target) = (Arc::clone(self), names.to_vec(), target.to_path_buf());
        let counter = Arc::new(Counter::default());
        apart(context, &counter.clone(), move || {
            let stated = parallel(&names, connections, |name| hub.stated(name))?;
            let missing = stated.iter().filter(|s| !hub.cache.blob(&s.etag).exists()).map(|s| s.size).sum();
            disk::check(hub.cache.root(), missing)?;
            disk::check(&target, missing)?;
            counter.expect(stated.iter().map(|s| s.size).sum());
            hub.cache.prepare()?;
            parallel(&stated, connections, |file| hub.verified(file, &counter))
        })
    }

    /// Whether what stands at `path` is what the Hub states of a file.
    pub fn is_file(self: &Arc<Self>, name: &str, path: &Path, context: &Context) -> Result<bool> {
        let (hub, name, path) = (Arc::clone(self), name.to_string(), path.to_path_buf());
        apart(context, &Arc::default(), move || matches(&path, &hub.stated(&name)?))
    }

    /// What the Hub says of a file.
    fn stated(&self, name: &str) -> Result<Stated> {
        let url = self.url(name)?;
        let first = [("Range", "bytes=0-0".to_string())];
        self.retry(name, false, || {
            let answer = self.client.get(&url, &first, Follow::SameServer)?;
            let etag = header(&answer, "x-linked-etag").or(header(&answer, "etag")).unwrap_or_default();
            let etag = etag.trim_start_matches("W/").trim_matches('"').to_ascii_lowercase();
            if !etag.bytes().all(|b| b.is_ascii_hexdigit()) || ![40, 64].contains(&etag.len()) {
                return Err(
                    BadInput(format!("{}/{name}: the Hub states no digest (`{etag}`)", self.name)).into()
                );
            }
            let size = match size(&answer) {
                // Its storage, which is asked without the token.
                None if answer.status().is_redirection() => {
                    size(&self.client.get(&url, &first, Follow::All)?)
                }
                size => size,
            };
            match size {
                Some(size) => Ok(Stated { name: name.into(), size, etag }),
                None => Err(BadInput(format!("{}/{name}: the Hub states no size", self.name)).into()),
            }
        })
    }

    fn verified(&self, file: &Stated, counter: &Counter) -> Result<PathBuf> {
        let blob = self.cache.blob(&file.etag);
        let mut fetched = false;
        for _ in 0..2 {
            if !blob.exists() {
                let mut partial = Partial::open(&blob.with_extension("part"))?;
                if !blob.exists() {
                    self.whole(file, &mut partial, counter)?;
                    fetched = true;
                    if !matches(partial.path(), file)? {
                        counter.take_back(file.size.min(partial.len()?));
                        fs::remove_file(partial.path())
                            .with_context(|| format!("removing {}", partial.path().display()))?;
                        continue;
                    }
                    let moved = fs::rename(partial.path(), &blob);
                    moved.with_context(|| {
                        format!("moving {} to {}", partial.path().display(), blob.display())
                    })?;
                    self.cache.link(&self.commit, &file.name, &file.etag)?;
                    return Ok(blob);
                }
            }
            if matches(&blob, file)? {
                if !fetched {
                    counter.add(file.size);
                }
                return Ok(blob);
            }
            fs::remove_file(&blob).with_context(|| format!("removing {}", blob.display()))?;
        }
        Err(TryAgain(format!(
            "{}/{}: what arrives is not what the Hub states ({} bytes, {}); it was thrown away, run again later",
            self.name, file.name, file.size, file.etag
        ))
        .into())
    }

    /// Fetches what is missing of a file.
    fn whole(&self, file: &Stated, partial: &mut Partial, counter: &Counter) -> Result<()> {
        let url = self.url(&file.name)?;
        self.retry(&file.name, true, || {
            // A partial file that is as long as the whole cannot be resumed; its digest decides.
            if partial.len()? >= file.size {
                partial.clear()?;
            }
            match partial.fetch(&self.client, &url, None, counter, |_, _| Ok(())) {
                Ok(()) => Ok(()),
                Err(Ended::Server(fault)) => Err(fault.into()),
                Err(Ended::Here(e)) => Err(Refused::Here(e)),
            }
        })
    }

    /// Tries until it works, with growing pauses, where trying may help. `granted` says that the Hub has shown the file's
    /// metadata already.
    fn retry<T>(&self, file: &str, granted: bool, mut work: impl FnMut() -> Result<T, Refused>) -> Result<T> {
        let what = format!("{}/{file}", self.name);
        for attempt in 0..ATTEMPTS {
            match work() {
                Ok(value) => return Ok(value),
                Err(Refused::Here(e)) => return Err(e),
                Err(Refused::Server(fault)) => {
                    let error = explain(&fault, &what, self.kind, &self.commit, granted);
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

/// `work` on every item, on a few threads; the first error stops the rest.
fn parallel<T: Sync, R: Send>(
    items: &[T],
    threads: usize,
    work: impl Fn(&T) -> Result<R> + Sync,
) -> Result<Vec<R>> {
    let next = AtomicUsize::new(0);
    let results = Mutex::new((Vec::new(), None));
    let lock = || results.lock().unwrap_or_else(PoisonError::into_inner);
    std::thread::scope(|scope| {
        for _ in 0..threads.min(items.len()) {
            scope.spawn(|| {
                while lock().1.is_none() {
                    let i = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(i) else { break };
                    match (work(item), &mut *lock()) {
                        (Ok(value), (done, _)) => done.push((i, value)),
                        (Err(e), (_, first)) => *first = first.take().or(Some(e)),
                    }
                }
            });
        }
    });
    let (mut done, error) = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Some(e) = error {
        return Err(e);
    }
    done.sort_by_key(|(i, _)| *i);
    Ok(done.into_iter().map(|(_, value)| value).collect())
}

/// An address below the Hub's, each part of the path for itself.
fn page<'a>(endpoint: &Url, parts: impl IntoIterator<Item = &'a str>) -> Result<Url> {
    let mut url = endpoint.clone();
    match url.path_segments_mut() {
        Ok(mut path) => path.pop_if_empty().extend(parts),
        Err(()) => bad_input!("HF_ENDPOINT {endpoint}: not the address of a Hub"),
    };
    Ok(url)
}

/// The commit and the files of a repository.
fn info(answer: &mut Response<Body>) -> Result<(String, Vec<String>)> {
    let body = answer.body_mut().with_config().limit(LONGEST).read_to_vec()?;
    let json: serde_json::Value = serde_json::from_slice(&body).context("the answer is no JSON")?;
    let commit = json["sha"].as_str().context("the answer names no commit")?;
    let files = json["siblings"].as_array().context("the answer lists no files")?;
    let names = files.iter().filter_map(|file| Some(file["rfilename"].as_str()?.to_string()));
    Ok((commit.into(), names.collect()))
}

/// The size of a whole file, of which the answer may hold a part.
fn size(answer: &Response<Body>) -> Option<u64> {
    let linked = header(answer, "x-linked-size").and_then(|size| size.parse().ok());
    let range = header(answer, "content-range").and_then(|range| range.rsplit('/').next()?.parse().ok());
    let whole = || header(answer, "content-length").and_then(|size| size.parse().ok());
    linked.or(range).or_else(|| if answer.status() == 200 { whole() } else { None })
}

/// Whether a file is what the Hub states.
fn matches(path: &Path, file: &Stated) -> Result<bool> {
    let context = || format!("reading {}", path.display());
    let size = fs::metadata(path).with_context(context)?.len();
    if size != file.size {
        return Ok(false);
    }
    Ok(match file.etag.len() {
        64 => sha256(path)? == file.etag,
        _ => git_blob(path, size).with_context(context)? == file.etag,
    })
}

/// The id git gives a blob: SHA-1 of `blob SIZE\0` and the content.
fn git_blob(path: &Path, size: u64) -> Result<String> {
    let mut hasher = sha1::Sha1::new();
    hasher.update(format!("blob {size}\0"));
    let (mut file, mut buffer) = (File::open(path)?, vec![0; 1 << 20]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finalize().iter().map(|b| format!("{b:02x}")).collect()),
            n => hasher.update(&buffer[..n]),
        }
    }
}
