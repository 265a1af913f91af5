//! Names of files as texts, and texts as names of files.

use std::ffi::{OsStr, OsString};
use std::fmt::Write;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

/// The longest name that a file can have, in bytes.
pub const LONGEST: usize = 255;
/// Names of our own files are kept this much shorter than they could be: they get beginnings and endings.
const ROOM: usize = 200;
/// An ending up to this long is kept when a name is shortened: it may say what the file is.
const ENDING: usize = 16;

/// A name as text, so that no two names have the same: what is not UTF-8, a control character or a backslash stands as
/// `\xNN`, byte by byte.
pub fn text(name: &OsStr) -> String {
    let mut text = String::with_capacity(name.len());
    let escaped = |text: &mut String, bytes: &[u8]| {
        for byte in bytes {
            // Nothing can go wrong with a text in memory.
            let _ = write!(text, "\\x{byte:02x}");
        }
    };
    for chunk in name.as_bytes().utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => escaped(&mut text, b"\\"),
                c if c.is_control() => escaped(&mut text, c.encode_utf8(&mut [0; 4]).as_bytes()),
                c => text.push(c),
            }
        }
        escaped(&mut text, chunk.invalid());
    }
    text
}

/// A name of at most `room` bytes: the same where it fits, else its beginning, a digest of the whole, and its ending.
pub fn fit(name: &OsStr, room: usize) -> OsString {
    let bytes = name.as_bytes();
    if bytes.len() <= room {
        return name.to_os_string();
    }
    let digest = format!("~{}", &blake3::hash(bytes).to_hex()[..16]);
    let ending = Path::new(name).extension().map(OsStr::as_bytes).filter(|ending| ending.len() <= ENDING);
    let ending = ending.map(|ending| [b".", ending].concat()).unwrap_or_default();
    let mut end = room.saturating_sub(digest.len() + ending.len());
    // Not in the middle of a character, where there are characters.
    if let Some(text) = name.to_str() {
        end = (0..=end).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    }
    OsString::from_vec([&bytes[..end], digest.as_bytes(), &ending].concat())
}

/// The same for a text that becomes a part of a name of ours.
pub fn label(text: &str) -> String {
    // What is UTF-8 is cut where a character ends.
    fit(OsStr::new(text), ROOM).to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_names_have_one_text() {
        let names: [&[u8]; 10] = [
            b"plain",
            b"caf\xe9",
            b"caf\xe8",
            "caf\u{e9}".as_bytes(),
            b"caf\\xe9",
            b"a\nb",
            b"a\\x0ab",
            b"a\x1b[31mb",
            b"\xff\xfe",
            b"\xff",
        ];
        let texts: Vec<String> = names.iter().map(|name| text(OsStr::from_bytes(name))).collect();
        assert_eq!(
            texts,
            [
                "plain",
                "caf\\xe9",
                "caf\\xe8",
                "caf\u{e9}",
                "caf\\x5cxe9",
                "a\\x0ab",
                "a\\x5cx0ab",
                "a\\x1b[31mb",
                "\\xff\\xfe",
                "\\xff"
            ]
        );
    }

    #[test]
    fn a_long_name_is_cut_and_stays_distinct() {
        let long = |c: &str, n: usize, end: &str| OsString::from(format!("{}{end}", c.repeat(n)));
        assert_eq!(fit(&long("x", 255, ""), 255), long("x", 255, ""));
        for name in [
            long("x", 300, ""),
            long("\u{e9}", 200, ".json"),
            long("x", 300, "y"),
            OsString::from_vec(vec![0xe9; 300]),
        ] {
            let fitted = fit(&name, 255);
            assert!(fitted.len() <= 255 && fitted.len() > 240, "{fitted:?}");
            assert_eq!(fitted.to_str().is_some(), name.to_str().is_some());
        }
        assert!(fit(&long("\u{e9}", 200, ".json"), 255).to_str().unwrap().ends_with(".json"));
        assert_ne!(fit(&long("x", 300, "a"), 255), fit(&long("x", 300, "b"), 255));
        assert!(label(&format!("m[{}]", "x".repeat(255))).len() <= ROOM);
    }
}
