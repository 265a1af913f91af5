//! Files that are not what their name says: what stands where a file of data should be, and how to come by the file itself.

use crate::error::BadInput;
use anyhow::Result;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Enough of a file to know it by.
const START: usize = 512;

/// Refuses a file that holds a pointer of Git LFS, a web page, a server's error message, or nothing at all. A file that cannot be
/// read is left to whoever reads it next.
///
/// # Errors
/// Bad input that says what the file is and how to get the one that is wanted.
pub fn refuse_impostor(path: &Path) -> Result<()> {
    let mut start = Vec::new();
    let read = File::open(path).and_then(|file| file.take(START as u64).read_to_end(&mut start));
    if let (Ok(_), true, Some(what)) = (read, path.is_file(), impostor(&start)) {
        return Err(BadInput(format!("{}: {what}", path.display())).into());
    }
    Ok(())
}

/// What a file is that begins like this, and the way out; `None` where it may be what it should be.
fn impostor(start: &[u8]) -> Option<&'static str> {
    if start.is_empty() {
        return Some("an empty file; fetch it again");
    }
    let text =
        String::from_utf8_lossy(start).trim_start_matches(['\u{feff}', ' ', '\t', '\r', '\n']).to_lowercase();
    let begins = |words: &[&str]| words.iter().any(|word| text.starts_with(word));
    if begins(&["version https://git-lfs.github.com/spec/"]) {
        Some(
            "a pointer of Git LFS that stands for the file, not the file itself; fetch it with `git lfs pull` in its \
             repository, or download it by itself",
        )
    } else if begins(&["<!doctype html", "<html", "<head", "<body", "<script"]) {
        Some(
            "a web page, not the file; its address leads to a page about it or to a login: download it by the address of \
             the file itself (on the Hub `resolve` instead of `blob`), and log in where it asks for that",
        )
    } else if begins(&["<?xml", "<error", "{\"error", "{\"message", "{\"detail"]) {
        Some("a server's error message, not the file; download it again")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impostors_are_told_apart() {
        for (start, word) in [
            ("", "empty"),
            ("version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 123\n", "git lfs pull"),
            ("\n  <!DOCTYPE html>\n<html lang=\"en\">", "web page"),
            ("<HTML><head>", "web page"),
            ("<?xml version=\"1.0\"?><Error><Code>AccessDenied", "error message"),
            ("{\"error\":\"Repository not found\"}", "error message"),
        ] {
            assert!(impostor(start.as_bytes()).is_some_and(|what| what.contains(word)), "{start}");
        }
        for data in [
            &b"PK\x03\x04"[..],
            b"\x80\x02}q\x00",
            b"\x10\0\0\0\0\0\0\0{\"a\":{}}",
            b"version 2 of something",
        ] {
            assert_eq!(impostor(data), None);
        }
    }

    #[test]
    fn a_file_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "<html>").unwrap();
        let error = refuse_impostor(file.path()).unwrap_err();
        assert_eq!(crate::exit_code(&error), 2);
        assert!(error.to_string().starts_with(&file.path().display().to_string()));
        refuse_impostor(Path::new("absent")).unwrap();
    }
}
