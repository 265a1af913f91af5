//! A Hub on the loopback device that misbehaves on purpose. What a file suffers is the beginning of its name:
//!
//! | name | fault |
//! |---|---|
//! | `cut-` | the first three bodies end in the middle, with the connection |
//! | `busy-` | the first two bodies are 503 |
//! | `down-` | every body is 503 |
//! | `forbidden-` | metadata is fine, every body is 403 |
//! | `expired-` | metadata is fine, the first two bodies are 403 |
//! | `once-` | the first body has wrong bytes of the right length |
//! | `wrong-` | every body has wrong bytes |
//! | `short-` | chunked, half the bytes, a clean end |
//! | `moved-` | redirected to another path |
//! | `away-` | redirected to another server, its storage |
//! | `stalled-` | half of every body, and then silence |
//! | `slow-` | a few bytes at a time |
//! | `vast-` | said to be larger than any disk |

use sha1::Digest as _;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
/// The token that opens gated repositories.
pub const TOKEN: &str = "hf_good";

#[derive(Default)]
struct State {
    /// `datasets/org/name` or `org/name` to its files.
    repositories: BTreeMap<String, BTreeMap<String, Vec<u8>>>,
    /// Bodies begun, by file.
    bodies: BTreeMap<String, usize>,
    /// Repositories that want [`TOKEN`].
    gated: BTreeSet<String>,
    /// Where `away-` leads.
    storage: Option<String>,
    /// What the commit is said to be.
    commit: Option<String>,
    /// Requests that came with a token, and those among them to where others were redirected.
    authorised: usize,
    authorised_at_storage: usize,
    /// Bytes of bodies sent.
    sent: usize,
    /// Bodies being sent now, and the most there ever were.
    open: usize,
    most: usize,
}

/// What a request asks for: a part, where `same` is the digest of what it is a part of.
struct Range {
    bytes: Option<(usize, Option<usize>)>,
    same: Option<String>,
}

/// The double; it ends with the test's process.
#[derive(Clone)]
pub struct Hub {
    pub endpoint: String,
    state: Arc<Mutex<State>>,
}

impl Hub {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let hub = Self { endpoint, state: Arc::default() };
        let serving = hub.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let hub = serving.clone();
                // A client that was killed is no fault of the Hub's.
                std::thread::spawn(move || hub.serve(stream).ok());
            }
        });
        hub
    }

    /// Adds a file.
    pub fn add(&self, repository: &str, file: &str, content: Vec<u8>) {
        let mut state = self.state.lock().unwrap();
        state.repositories.entry(repository.into()).or_default().insert(file.into(), content);
    }

    /// Lets only those in who have [`TOKEN`].
    pub fn gate(&self, repository: &str) {
        self.state.lock().unwrap().gated.insert(repository.into());
    }

    /// Keeps content of the name `away-` on another server.
    pub fn store_at(&self, storage: &Hub) {
        self.state.lock().unwrap().storage = Some(storage.endpoint.clone());
    }

    /// Says that this is the commit.
    pub fn claim_commit(&self, commit: &str) {
        self.state.lock().unwrap().commit = Some(commit.into());
    }

    /// Requests so far that came with a token.
    pub fn authorised(&self) -> usize {
        self.state.lock().unwrap().authorised
    }

    /// Those among them that were redirected before.
    pub fn authorised_at_storage(&self) -> usize {
        self.state.lock().unwrap().authorised_at_storage
    }

    /// Bytes of bodies sent so far.
    pub fn sent(&self) -> usize {
        self.state.lock().unwrap().sent
    }

    /// The most bodies that were ever sent at the same time.
    pub fn most(&self) -> usize {
        self.state.lock().unwrap().most
    }

    fn serve(&self, stream: TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut out = stream;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let path = line.split(' ').nth(1).unwrap_or_default().replace("%2F", "/");
            let (mut range, mut same, mut authorised) = (None, None, false);
            loop {
                let mut header = String::new();
                reader.read_line(&mut header)?;
                let lower = header.trim().to_ascii_lowercase();
                if lower.is_empty() {
                    break;
                }
                if let Some(bytes) = lower.strip_prefix("range: bytes=") {
                    let (from, to) = bytes.split_once('-').unwrap_or((bytes, ""));
                    range = Some((from.parse::<usize>().unwrap_or(0), to.parse::<usize>().ok()));
                }
                if let Some(etag) = lower.strip_prefix("if-range: ") {
                    same = Some(etag.to_string());
                }
                authorised |= header.trim().ends_with(&format!("Bearer {TOKEN}"));
            }
            {
                let mut state = self.state.lock().unwrap();
                state.authorised += usize::from(authorised);
                state.authorised_at_storage += usize::from(authorised && path.starts_with("/cdn"));
            }
            if !self.answer(&mut out, &path, Range { bytes: range, same }, authorised)? {
                return Ok(());
            }
        }
    }

    /// False when the connection is over.
    fn answer(
        &self,
        out: &mut TcpStream,
        path: &str,
        range: Range,
        authorised: bool,
    ) -> std::io::Result<bool> {
        let state = self.state.lock().unwrap();
        let found = state.repositories.iter().find_map(|(repository, files)| {
            let api = if repository.starts_with("datasets/") {
                format!("/api/{repository}/revision/")
            } else {
                format!("/api/models/{repository}/revision/")
            };
            if let Some(revision) = path.strip_prefix(&api) {
                return Some((repository.clone(), revision.to_string(), None));
            }
            let rest = path.trim_start_matches("/cdn").strip_prefix(&format!("/{repository}/resolve/"))?;
            let (revision, file) = rest.split_once('/')?;
            let content = files.get(file)?.clone();
            Some((repository.clone(), revision.to_string(), Some((file.to_string(), content))))
        });
        let Some((repository, revision, file)) = found else {
            drop(state);
            return respond(out, "404 Not Found", &[], b"not here");
        };
        // What a gated repository holds may be seen by all, as on the Hub; links to its storage are open.
        if state.gated.contains(&repository) && !authorised && file.is_some() && !path.starts_with("/cdn") {
            drop(state);
            return respond(out, "401 Unauthorized", &[], b"restricted");
        }
        let known = ["main", COMMIT, "refs/convert/parquet"];
        if !known.contains(&revision.as_str()) {
            drop(state);
            return respond(out, "404 Not Found", &[], b"no such revision");
        }
        let Some((file, content)) = file else {
            let names: Vec<_> = state.repositories[&repository]
                .keys()
                .map(|name| serde_json::json!({"rfilename": name}))
                .collect();
            let commit = state.commit.clone().unwrap_or_else(|| COMMIT.into());
            drop(state);
            let body = serde_json::json!({"sha": commit, "siblings": names}).to_string();
            return respond(out, "200 OK", &[], body.as_bytes());
        };
        drop(state);
        self.body(out, path, &file, &content, range)
    }

    fn body(
        &self,
        out: &mut TcpStream,
        path: &str,
        file: &str,
        content: &[u8],
        range: Range,
    ) -> std::io::Result<bool> {
        let name = file.rsplit('/').next().unwrap_or(file);
        let fault = name.split_once('-').map_or("", |(fault, _)| fault);
        let all = content.len();
        let etag = format!("\"{}\"", digest(name, content));
        let range = range.bytes.filter(|_| range.same.is_none_or(|same| same == etag));
        let (from, to) = range.unwrap_or((0, None));
        let to = to.map_or(all, |to| all.min(to + 1));
        let stated = if fault == "vast" { 1 << 60 } else { all };
        let status = if range.is_some() { "206 Partial Content" } else { "200 OK" };
        let headers = [
            format!("ETag: {etag}"),
            format!("X-Repo-Commit: {COMMIT}"),
            format!("Content-Range: bytes {from}-{}/{stated}", to.saturating_sub(1)),
        ];
        if fault == "moved" && !path.starts_with("/cdn") && range != Some((0, Some(0))) {
            return respond(out, "302 Found", &[format!("Location: {}/cdn{path}", self.endpoint)], b"");
        }
        let storage = self.state.lock().unwrap().storage.clone();
        if let Some(storage) = storage.filter(|_| fault == "away" && !path.starts_with("/cdn")) {
            let linked = [format!("X-Linked-Etag: {etag}"), format!("Location: {storage}/cdn{path}")];
            return respond(out, "302 Found", &linked, b"");
        }
        if range == Some((0, Some(0))) {
            return respond(out, "206 Partial Content", &headers, &content[..1.min(all)]);
        }
        if from >= all {
            return respond(out, "416 Range Not Satisfiable", &headers, b"");
        }
        let before = {
            let mut state = self.state.lock().unwrap();
            state.sent += to - from;
            let count = state.bodies.entry(file.into()).or_default();
            *count += 1;
            *count - 1
        };
        let mut part = content[from..to].to_vec();
        match fault {
            "forbidden" => return respond(out, "403 Forbidden", &[], b"signature expired"),
            "down" => return respond(out, "503 Service Unavailable", &[], b"later"),
            "expired" if before < 2 => return respond(out, "403 Forbidden", &[], b"signature expired"),
            "busy" if before < 2 => return respond(out, "503 Service Unavailable", &[], b"later"),
            "wrong" => part[0] ^= 1,
            "once" if before == 0 => part[0] ^= 1,
            "short" => {
                let half = &part[..part.len() / 2];
                write!(out, "HTTP/1.1 206 Partial Content\r\n{}\r\n", headers.join("\r\n"))?;
                write!(out, "Transfer-Encoding: chunked\r\n\r\n{:x}\r\n", half.len())?;
                out.write_all(half)?;
                out.write_all(b"\r\n0\r\n\r\n")?;
                return Ok(true);
            }
            _ => {}
        }
        head(out, status, &headers, part.len() + stated - all)?;
        match fault {
            "stalled" => {
                out.write_all(&part[..part.len() / 2])?;
                out.flush()?;
                // Longer than any test.
                std::thread::sleep(Duration::from_secs(600));
            }
            "cut" if before < 3 => {
                out.write_all(&part[..part.len() / 2])?;
                out.flush()?;
                return Ok(false);
            }
            "slow" => {
                {
                    let mut state = self.state.lock().unwrap();
                    state.open += 1;
                    state.most = state.most.max(state.open);
                }
                for bytes in part.chunks(part.len().div_ceil(40)) {
                    out.write_all(bytes)?;
                    out.flush()?;
                    std::thread::sleep(Duration::from_millis(10));
                }
                self.state.lock().unwrap().open -= 1;
            }
            _ => out.write_all(&part)?,
        }
        Ok(true)
    }
}

/// SHA-256 for what would be in LFS, the git blob id for a small text file.
fn digest(name: &str, content: &[u8]) -> String {
    if name.ends_with(".parquet") || name.ends_with(".safetensors") {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        return stage::sha256(file.path()).unwrap();
    }
    let mut hasher = sha1::Sha1::new();
    hasher.update(format!("blob {}\0", content.len()));
    hasher.update(content);
    hasher.finalize().iter().map(|b| format!("{b:02x}")).collect()
}

fn head(out: &mut TcpStream, status: &str, headers: &[String], length: usize) -> std::io::Result<()> {
    let headers: String = headers.iter().map(|h| format!("{h}\r\n")).collect();
    write!(out, "HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\n\r\n")
}

fn respond(out: &mut TcpStream, status: &str, headers: &[String], body: &[u8]) -> std::io::Result<bool> {
    head(out, status, headers, body.len())?;
    out.write_all(body)?;
    Ok(true)
}
