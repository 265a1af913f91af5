//! A file of weights from a URL, resumed where it was cut off, and held to a stated SHA-256.

use crate::Args;
use anyhow::{Context as _, Result};
use shards::pictures::sha256;
use stage::{Context, Staged, TryAgain, bad_input};
use std::io::{Read, Write};
use std::path::Path;

/// Fetches `url` to `weights`.
pub fn download(url: &str, weights: &Path, args: &Args, context: &Context) -> Result<()> {
    let Some(wanted) = &args.sha256 else {
        bad_input!("--url needs --sha256: a file from the web counts only when its content is known")
    };
    let partial = context.state()?.join("weights.part");
    fetch(url, &partial, context)?;
    let found = sha256(&partial)?;
    if !found.eq_ignore_ascii_case(wanted) {
        std::fs::remove_file(&partial).with_context(|| format!("removing {}", partial.display()))?;
        bad_input!("{url}: SHA-256 {found}, wanted {wanted}; the file was thrown away")
    }
    let staged = Staged::file(weights)?;
    std::fs::copy(&partial, staged.path()).with_context(|| format!("copying to {}", weights.display()))?;
    staged.commit()
}

fn fetch(url: &str, partial: &Path, context: &Context) -> Result<()> {
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(partial)?;
    let start = file.metadata()?.len();
    let mut request = ureq::get(url);
    if start > 0 {
        request = request.header("Range", format!("bytes={start}-"));
    }
    let response = match request.call() {
        Ok(response) => response,
        // There is nothing after what we have: the digest decides.
        Err(ureq::Error::StatusCode(416)) => return Ok(()),
        Err(ureq::Error::StatusCode(code @ (404 | 401 | 403 | 410))) => {
            bad_input!("{url}: the server answers {code}; check --url")
        }
        Err(e) => return Err(TryAgain(format!("{url}: {e}; run again to go on")).into()),
    };
    let resumed = response.status() == 206;
    if !resumed {
        file.set_len(0)?;
    }
    let start = if resumed { start } else { 0 };
    let length = response.headers().get("content-length").and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    let total = length.map_or(0, |n| n + start) as usize;
    let mut body = response.into_body().into_reader();
    let mut buffer = vec![0; 1 << 16];
    let mut done = start as usize;
    loop {
        context.check_stop()?;
        let n = match body.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => n,
            Err(e) => return Err(TryAgain(format!("{url}: cut off: {e}; run again to go on")).into()),
        };
        file.write_all(&buffer[..n]).with_context(|| format!("writing {}", partial.display()))?;
        done += n;
        context.progress(done, total, "bytes");
    }
    if done < total {
        return Err(
            TryAgain(format!("{url}: cut off after {done} of {total} bytes; run again to go on")).into()
        );
    }
    Ok(())
}
