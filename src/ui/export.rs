//! The page as files: for a repository's pages, or beside a paper.

use crate::error::{Error, Result};
use crate::ui::assets::ASSETS;
use crate::ui::content::{self, Form};
use crate::ui::known::Known;
use crate::ui::log::Part;
use crate::ui::site::Site;
use crate::ui::watcher::Watcher;
use crate::ui::{picture, plain, resources};
use serde_json::Value;
use std::collections::{BTreeSet, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use store::{IoContext, link};
use study::Choice;

/// The file by which a folder is known as ours.
const MARK: &str = ".pipeline-ui";
const MADE: &str = "made by pipeline ui --export\n";
/// Keys under which the page finds the names of other values, and files.
const NAMES: [&str; 7] = ["name", "content", "detail", "id", "rows", "picture", "raw"];
const FILES: [&str; 5] = ["raw", "url", "grid", "picture", "content"];

/// Writes the page of a study, with all that it leads to. Returns a line for people.
pub fn export(choice: Choice, folder: &Path) -> Result<String> {
    let earlier = is_ours(folder)?;
    let known = Known::read(&choice, false)?;
    let site = Arc::new(Site::new(choice, true, known));
    Watcher::new(Arc::clone(&site)).whole()?;
    let partial = beside(folder);
    link::remove(&partial)?;
    let written = write(&site, &partial);
    let placed = written.and_then(|count| {
        if earlier {
            link::remove(folder)?;
        } else if folder.exists() {
            fs::remove_dir(folder).at("replacing", folder)?;
        }
        fs::rename(&partial, folder).at("placing", folder)?;
        Ok(count)
    });
    if placed.is_err() {
        // What failed is told; what cannot be removed as well is named by it.
        let _ = link::remove(&partial);
    }
    let (values, files) = placed?;
    Ok(format!("{}: {values} values and {files} files; open index.html", folder.display()))
}

/// Whether there is an earlier page of ours in a folder; one with anything else is not touched.
fn is_ours(folder: &Path) -> Result<bool> {
    let Ok(meta) = fs::symlink_metadata(folder) else { return Ok(false) };
    let empty = || fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none());
    match () {
        () if !meta.is_dir() => Err(Error::NotAPage(folder.into())),
        () if fs::read_to_string(folder.join(MARK)).is_ok_and(|text| text == MADE) => Ok(true),
        () if empty() => Ok(false),
        () => Err(Error::NotAPage(folder.into())),
    }
}

fn beside(folder: &Path) -> PathBuf {
    let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    folder.with_file_name(format!(".{name}.{}.partial", store::process::thread()))
}

fn put(folder: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    let path = folder.join(name);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).at("making", parent)?;
    }
    Ok(fs::write(&path, bytes).at("writing", &path)?)
}

/// How many values and other files there are.
fn write(site: &Site, folder: &Path) -> Result<(usize, usize)> {
    put(folder, MARK, MADE.as_bytes())?;
    // GitHub leaves out names that begin with an underscore, unless there is this file.
    put(folder, ".nojekyll", b"")?;
    for (name, _, bytes) in ASSETS {
        match *name {
            "index.html" => {
                let page = String::from_utf8_lossy(bytes).replacen("<html", "<html data-static", 1);
                put(folder, name, page.as_bytes())?;
            }
            name => put(folder, name, bytes)?,
        }
    }
    put(folder, "plain.html", plain::page(site).as_bytes())?;
    let first = ["study", "table", "table-runs", "runs"].map(String::from);
    let mut open: VecDeque<String> = first.clone().into();
    let mut seen: BTreeSet<String> = first.into();
    let (mut values, mut files) = (0, 0);
    while let Some(name) = open.pop_front() {
        let is_file = name.starts_with("raw/") || name.starts_with("picture/");
        if is_file {
            files += usize::from(file(site, folder, &name)?);
            continue;
        }
        let Ok(value) = resources::answer(site, &name, Part::exported()) else { continue };
        follow(&value, &mut |next| {
            if seen.insert(next.to_string()) {
                open.push_back(next.into());
            }
        });
        // `<` begins nothing in a script, wherever it is put.
        let json = value.to_string().replace('<', "\\u003c");
        let json = json.replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029");
        let text = format!("pipelineData({}, {json});\n", Value::from(name.as_str()));
        put(folder, &format!("data/{name}.js"), text.as_bytes())?;
        values += 1;
    }
    Ok((values, files))
}

/// Finds the names in a value that lead to others.
fn follow(value: &Value, found: &mut impl FnMut(&str)) {
    let known = |text: &str| {
        let mut parts = text.split('/');
        let first = parts.next().unwrap_or_default();
        let plain = |part: &str| {
            !part.is_empty()
                && !part.starts_with('.')
                && part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.~".contains(c))
        };
        let kinds = ["step", "row", "run", "log", "content", "raw", "picture"];
        kinds.contains(&first) && text.len() > first.len() && parts.all(plain)
    };
    match value {
        Value::Object(values) => {
            for (key, value) in values {
                match value {
                    Value::String(text) if NAMES.contains(&key.as_str()) || FILES.contains(&key.as_str()) => {
                        if known(text) {
                            found(text);
                        }
                    }
                    Value::Array(texts) if key == "rows" => {
                        texts
                            .iter()
                            .filter_map(Value::as_str)
                            .filter(|text| known(text))
                            .for_each(&mut *found);
                        texts.iter().filter(|text| !text.is_string()).for_each(|value| follow(value, found));
                    }
                    value => follow(value, found),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| follow(value, found)),
        _ => {}
    }
}

/// Writes a content or a picture; whether there was one.
fn file(site: &Site, folder: &Path, name: &str) -> Result<bool> {
    let now = site.now();
    let store = &now.known.session.store;
    let Some((kind, file)) = name.split_once('/') else { return Ok(false) };
    let Some((hex, rest)) = file.split_once('.') else { return Ok(false) };
    let Some(digest) = content::find(store, hex) else { return Ok(false) };
    let path = store.place(&digest);
    let bytes = match (kind, rest) {
        ("raw", ending) if Form::of(&path).served().0 == ending => fs::read(&path).ok(),
        ("picture", "grid.png") => picture::sheet(&path),
        _ => None,
    };
    let Some(bytes) = bytes else { return Ok(false) };
    put(folder, name, &bytes)?;
    Ok(true)
}
