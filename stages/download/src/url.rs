//! A file of weights from a URL, resumed where it was cut off, and held to a stated SHA-256.

use crate::{ANY, ATTEMPTS, Args, disk, pause};
use anyhow::{Context as _, Result};
use stage::sha256;
use stage::{Context, Staged, TryAgain, bad_input};
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

/// Fetches `url` to `weights`.
pub fn download(url: &str, weights: &Path, args: &Args, context: &Context) -> Result<()> {
    let Some(wanted) = &args.sha256 else {
        bad_input!(
            "--url needs --sha256: a file from the web counts only when its content is known (`any` takes what comes)"
        )
    };
    if weights.exists() {
        // The contract has held it to --sha256.
        context.message(&format!("{} is there already", weights.display()));
        return Ok(());
    }
    let partial = Partial::new(context.state()?);
    for attempt in 0..ATTEMPTS {
        match fetch(url, &partial, weights, context) {
            Err(e) if stage::exit_code(&e) == 75 && attempt + 1 < ATTEMPTS => pause(attempt),
            result => {
                result?;
                break;
            }
        }
    }
    let found = sha256(&partial.body)?;
    if wanted != ANY && !found.eq_ignore_ascii_case(wanted) {
        partial.remove()?;
        bad_input!("{url}: SHA-256 {found}, wanted {wanted}; the file was thrown away")
    }
    context.message(&format!("{url}: SHA-256 {found}"));
    let staged = Staged::file(weights)?;
    fs::copy(&partial.body, staged.path()).with_context(|| format!("copying to {}", weights.display()))?;
    staged.commit()?;
    partial.remove()
}

/// What an interrupted run left: the first part of the file, and the server's name for the content it is a part of.
struct Partial {
    body: PathBuf,
    etag: PathBuf,
}

impl Partial {
    fn new(state: &Path) -> Self {
        Self { body: state.join("weights.part"), etag: state.join("weights.etag") }
    }

    fn remove(&self) -> Result<()> {
        for path in [&self.body, &self.etag] {
            if path.exists() {
                fs::remove_file(path).with_context(|| format!("removing {}", path.display()))?;
            }
        }
        Ok(())
    }
}

fn fetch(url: &str, partial: &Partial, weights: &Path, context: &Context) -> Result<()> {
    let mut file = fs::OpenOptions::new().create(true).append(true).open(&partial.body)?;
    let start = file.metadata()?.len();
    let mut request = ureq::get(url);
    // The rest is asked for only where the server can say that it is the rest of the same content.
    if let Some(etag) = fs::read_to_string(&partial.etag).ok().filter(|_| start > 0) {
        request = request.header("Range", format!("bytes={start}-")).header("If-Range", etag);
    }
    let again = |what: String| TryAgain(format!("{url}: {what}; run again to go on"));
    let response = match request.call() {
        Ok(response) => response,
        // There is nothing after what we have: its digest decides.
        Err(ureq::Error::StatusCode(416)) => return Ok(()),
        Err(ureq::Error::StatusCode(code @ (404 | 401 | 403 | 410))) => {
            bad_input!("{url}: the server answers {code}; check --url")
        }
        Err(e) => return Err(again(e.to_string()).into()),
    };
    let header = |name: &str| response.headers().get(name).and_then(|v| v.to_str().ok());
    let start = if response.status() == 206 { start } else { 0 };
    file.set_len(start)?;
    match header("etag").filter(|etag| !etag.starts_with("W/")) {
        Some(etag) => fs::write(&partial.etag, etag)?,
        None if partial.etag.exists() => fs::remove_file(&partial.etag)?,
        None => {}
    }
    let rest = header("content-length").and_then(|v| v.parse::<u64>().ok());
    disk::check(&partial.body, rest.unwrap_or(0))?;
    disk::check(weights, rest.map_or(0, |rest| start + rest))?;
    let total = rest.map_or(0, |rest| start + rest) as usize;
    let mut body = response.into_body().into_reader();
    let mut buffer = vec![0; 1 << 16];
    let mut done = start as usize;
    loop {
        context.check_stop()?;
        let n = match body.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => n,
            Err(e) => return Err(again(format!("cut off: {e}")).into()),
        };
        file.write_all(&buffer[..n]).with_context(|| format!("writing {}", partial.body.display()))?;
        done += n;
        context.progress(done, total, "bytes");
    }
    if done < total {
        return Err(again(format!("cut off after {done} of {total} bytes")).into());
    }
    Ok(())
}
