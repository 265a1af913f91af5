//! The links of the documentation: each leads to a file that is there, and to a heading that the file has.

use std::fs;
use std::path::{Component, Path, PathBuf};

/// Every Markdown file of the documentation, from the root.
pub fn pages(root: &Path) -> Vec<PathBuf> {
    let mut pages = Vec::new();
    let mut open = vec![root.join("docs")];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|e| e == "md") {
                pages.push(path);
            }
        }
    }
    let top = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path());
    pages.extend(top.filter(|path| path.extension().is_some_and(|e| e == "md")));
    pages.sort();
    pages
}

/// The text without what stands in blocks and spans of code.
fn prose(text: &str) -> String {
    let mut inside = false;
    let mut prose = String::new();
    for line in text.lines() {
        let fence = line.trim_start().starts_with("```");
        inside ^= fence;
        if !inside && !fence {
            // Every other piece between back quotes is code.
            prose.extend(line.split('`').step_by(2));
            prose.push('\n');
        }
    }
    prose
}

/// What links of a page point to.
fn links(text: &str) -> Vec<String> {
    let prose = prose(text);
    let targets = prose.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let targets = targets.filter(|to| !to.contains("://") && !to.starts_with("mailto:"));
    targets.map(String::from).collect()
}

/// The names of a page's headings, as GitHub and mdBook make them.
fn headings(text: &str) -> Vec<String> {
    let mut inside = false;
    let mut names: Vec<String> = Vec::new();
    for line in text.lines() {
        inside ^= line.trim_start().starts_with("```");
        let Some(title) = line.strip_prefix('#').filter(|_| !inside) else { continue };
        let title = title.trim_start_matches('#').trim().to_lowercase();
        let kept = title.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        let name: String = kept.map(|c| if c == ' ' { '-' } else { c }).collect();
        let again = names.iter().filter(|known| **known == name).count();
        names.push(if again == 0 { name } else { format!("{name}-{again}") });
    }
    names
}

/// The same path without `..`.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(plain.pop()),
            other => plain.push(other),
        }
    }
    plain
}

/// The pages that the summary names.
fn listed(docs: &Path) -> Vec<PathBuf> {
    let summary = fs::read_to_string(docs.join("SUMMARY.md")).unwrap();
    links(&summary).iter().map(|link| docs.join(link)).collect()
}

/// Every link that leads nowhere, or out of the book from a page of it.
pub fn broken(root: &Path) -> Vec<String> {
    let mut broken = Vec::new();
    let listed = listed(&root.join("docs"));
    for page in pages(root) {
        let text = fs::read_to_string(&page).unwrap();
        for link in links(&text) {
            let (file, heading) = link.split_once('#').unwrap_or((&link, ""));
            let to = if file.is_empty() { page.clone() } else { plain(&page.with_file_name("").join(file)) };
            let at = page.strip_prefix(root).unwrap().display();
            if !to.exists() {
                broken.push(format!("{at}: no such file: {link}"));
            } else if listed.contains(&page) && file.ends_with(".md") && !listed.contains(&to) {
                broken.push(format!("{at}: the book has no such page: {link}"));
            } else if !heading.is_empty()
                && !headings(&fs::read_to_string(&to).unwrap()).contains(&heading.to_string())
            {
                broken.push(format!("{at}: no such heading: {link}"));
            }
        }
    }
    broken
}

/// Pages that the summary does not name.
pub fn unlisted(root: &Path) -> Vec<String> {
    let docs = root.join("docs");
    let listed = listed(&docs);
    // What goes into an archive is its own.
    let book = pages(root)
        .into_iter()
        .filter(|page| page.starts_with(&docs) && !page.starts_with(docs.join("release")));
    let missing = book.filter(|page| !page.ends_with("SUMMARY.md") && !listed.contains(page));
    missing.map(|page| page.display().to_string()).collect()
}

#[test]
fn a_link_in_code_is_none_and_headings_are_called_as_they_are_shown() {
    assert_eq!(links("[a](b.md) `[c](d.md)`\n```\n[e](f.md)\n```\n[g](https://h)"), ["b.md"]);
    assert_eq!(headings("# `run`, and why\n```\n# no\n```\n## A\n## A"), ["run-and-why", "a", "a-1"]);
}
