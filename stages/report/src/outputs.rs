//! What `report` leaves behind, by which it knows an earlier output of its own.
//!
//! `report.html` ends in a comment with the digest of each file and of the page itself: a report that somebody has edited is
//! not replaced.

use anyhow::Result;
use stage::Layout;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// `--report`.
pub const REPORT: Layout = Layout {
    files: &[
        "report.md",
        "report.html",
        "comparison.md",
        "comparison.html",
        "comparison.tex",
        "comparison.csv",
        "*.parquet",
        "figures/*.svg",
        "figures/*.png",
        "figures/*.pdf",
    ],
    check: first_other,
};

const PAGE: &str = "report.html";
const BEGIN: &str = "<!-- made by report: ";
const END: &str = " -->\n";

/// The page with a comment that names it and the files beside it by their BLAKE3.
///
/// # Errors
/// When the names are no JSON.
pub fn marked(page: &str, files: &BTreeMap<String, Vec<u8>>) -> Result<String> {
    let mut digests: BTreeMap<&str, String> =
        files.iter().map(|(name, bytes)| (name.as_str(), digest(bytes))).collect();
    digests.insert(PAGE, digest(page.as_bytes()));
    Ok(format!("{page}{BEGIN}{}{END}", serde_json::to_string(&digests)?))
}

fn digest(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}

/// The first file that is not as the page says.
fn first_other(folder: &Path) -> Result<Option<PathBuf>> {
    let page = fs::read_to_string(folder.join(PAGE)).unwrap_or_default();
    let Some((text, mark)) = page.rsplit_once(BEGIN) else {
        return if is_unmarked(&page) { first_unmarked(folder, &page) } else { Ok(Some(PAGE.into())) };
    };
    let mark = mark.strip_suffix(END).and_then(|mark| serde_json::from_str(mark).ok());
    let digests: BTreeMap<String, String> = match mark {
        Some(digests) => digests,
        None => return Ok(Some(PAGE.into())),
    };
    for path in files(folder)? {
        let bytes = if path == Path::new(PAGE) { text.into() } else { fs::read(folder.join(&path))? };
        if path.to_str().and_then(|name| digests.get(name)) != Some(&digest(&bytes)) {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

/// Whether this is a page of the time before pages were marked.
fn is_unmarked(page: &str) -> bool {
    page.starts_with("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n")
        && page.contains("</h1>\n<p class=\"lead\">")
        && page.ends_with("</main>\n</body>\n</html>\n")
}

/// The first file beside such a page that it did not come with.
fn first_unmarked(folder: &Path, page: &str) -> Result<Option<PathBuf>> {
    const ALWAYS: [&str; 11] = [
        "report.md",
        "report.html",
        "gating.parquet",
        "paths.parquet",
        "affinity.parquet",
        "figures/samples.png",
        "figures/gating-learned.png",
        "figures/gating-prior.png",
        "figures/gate-probabilities.png",
        "figures/paths.png",
        "figures/affinity.png",
    ];
    let drawn = |name: &str| {
        let figure = name.strip_prefix("figures/").and_then(|name| name.strip_suffix(".svg"));
        figure.is_some_and(|figure| page.contains(&format!("<figure id=\"{figure}\"")))
    };
    let ours = |path: &PathBuf| path.to_str().is_some_and(|name| ALWAYS.contains(&name) || drawn(name));
    Ok(files(folder)?.into_iter().find(|path| !ours(path)))
}

/// The files of a report, in order.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for below in ["", "figures"] {
        let place = folder.join(below);
        for entry in if place.is_dir() { fs::read_dir(&place)?.collect() } else { Vec::new() } {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                files.push(Path::new(below).join(entry.file_name()));
            }
        }
    }
    files.sort();
    Ok(files)
}
