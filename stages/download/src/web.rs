//! A file of weights from a URL, resumed where it was cut off, and held to a stated SHA-256.

use crate::arguments::{ANY, Args};
use crate::disk;
use crate::http::{Client, Fault, address};
use crate::normalise::take;
use crate::transfer::{ATTEMPTS, Counter, Ended, Partial, apart, pause};
use anyhow::{Context as _, Result};
use stage::{BadInputExt, Context, Staged, TryAgain, bad_input, sha256};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use url::Url;

/// Fetches `url` to `weights`.
pub fn download(url: &str, weights: &Path, args: &Args, context: &Context) -> Result<()> {
    let wanted = args.sha256.as_deref().unwrap_or_default();
    if weights.exists() {
        // The contract has held it to --sha256.
        context.message(&format!("{} is there already", weights.display()));
        return Ok(());
    }
    let address = address(url).bad_input(|| "--url")?;
    let state = context.state()?;
    let (body, etag) = (state.join("weights.part"), state.join("weights.etag"));
    let counter = Arc::new(Counter::default());
    let found = {
        let (body, etag, weights, counter) =
            (body.clone(), etag.clone(), weights.to_path_buf(), Arc::clone(&counter));
        apart(context, &counter.clone(), move || {
            let file = Remote { url: address, body, etag, weights };
            file.fetch(&counter)?;
            sha256(&file.body)
        })?
    };
    let remove = || -> Result<()> {
        for path in [&body, &etag].into_iter().filter(|path| path.exists()) {
            fs::remove_file(path).with_context(|| format!("removing {}", path.display()))?;
        }
        Ok(())
    };
    if wanted != ANY && !found.eq_ignore_ascii_case(wanted) {
        remove()?;
        bad_input!("{url}: SHA-256 {found}, wanted {wanted}; the file was thrown away")
    }
    context.message(&format!("{url}: SHA-256 {found}"));
    let staged = Staged::file(weights)?;
    take(&body, staged.path(), false, context)?;
    staged.commit()?;
    remove()
}

/// A file on the web and what an interrupted run left of it: its first part, and the server's name for the content that it is
/// a part of.
struct Remote {
    url: Url,
    body: PathBuf,
    etag: PathBuf,
    weights: PathBuf,
}

impl Remote {
    fn fetch(&self, counter: &Counter) -> Result<()> {
        let client = Client::new();
        let mut partial = Partial::open(&self.body)?;
        for attempt in 0..ATTEMPTS {
            match self.attempt(&client, &mut partial, counter) {
                Err(e) if stage::exit_code(&e) == 75 && attempt + 1 < ATTEMPTS => pause(attempt),
                result => return result,
            }
        }
        Ok(())
    }

    fn attempt(&self, client: &Client, partial: &mut Partial, counter: &Counter) -> Result<()> {
        let url = &self.url;
        // The rest is asked for only where the server can say that it is the rest of the same content.
        let same = fs::read_to_string(&self.etag).ok();
        if same.is_none() {
            partial.clear()?;
        }
        let there = partial.len()?;
        let begin = |etag: Option<&str>, total: Option<u64>| -> Result<()> {
            match etag.filter(|etag| !etag.starts_with("W/")) {
                Some(etag) => fs::write(&self.etag, etag)?,
                None if self.etag.exists() => fs::remove_file(&self.etag)?,
                None => {}
            }
            counter.expect(total.unwrap_or(0));
            disk::check(&self.body, total.unwrap_or(0).saturating_sub(there))?;
            disk::check(&self.weights, total.unwrap_or(0))
        };
        match partial.fetch(client, url, same, counter, begin) {
            Ok(()) => Ok(()),
            Err(Ended::Here(e)) => Err(e),
            Err(Ended::Server(Fault::Status(code @ (404 | 401 | 403 | 410)))) => {
                bad_input!("{url}: the server answers {code}; check --url")
            }
            Err(Ended::Server(fault)) => Err(TryAgain(format!("{url}: {fault}; run again to go on")).into()),
        }
    }
}
