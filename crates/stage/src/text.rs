//! Text files, which are UTF-8: where one is not, the place is told.

use crate::BadInputExt;
use anyhow::Result;
use std::fs;
use std::path::Path;

/// Why bytes are no text, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct NoText {
    /// From 1.
    pub line: u32,
    /// What stands there, and the way out.
    pub what: String,
}

/// Bytes as text.
///
/// # Errors
/// Where they are no UTF-8.
pub fn text(bytes: Vec<u8>) -> Result<String, NoText> {
    let e = match String::from_utf8(bytes) {
        Ok(text) => return Ok(text),
        Err(e) => e,
    };
    let (bytes, at) = (e.as_bytes(), e.utf8_error().valid_up_to());
    if let [0xff, 0xfe, ..] | [0xfe, 0xff, ..] = bytes {
        return Err(NoText { line: 1, what: "this is UTF-16; save it as UTF-8".into() });
    }
    let start = bytes[..at].iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let line = bytes[..at].iter().filter(|byte| **byte == b'\n').count() as u32 + 1;
    let what = format!("byte {} (0x{:02x}) is no UTF-8; save the file as UTF-8", at - start + 1, bytes[at]);
    Err(NoText { line, what })
}

/// Reads a text file; whatever is wrong with it is the caller's (exit code 2).
///
/// # Errors
/// When it cannot be read, or is no UTF-8.
pub fn read_text(path: &Path) -> Result<String> {
    let context = || format!("reading {}", path.display());
    text(fs::read(path).bad_input(context)?).bad_input(context)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_is_told() {
        assert_eq!(text("a: é\n".into()).as_deref(), Ok("a: é\n"));
        let wrong = |bytes: &[u8]| text(bytes.to_vec()).unwrap_err().to_string();
        assert_eq!(
            wrong(b"name: a\nb: caf\xe9\n"),
            "line 2: byte 7 (0xe9) is no UTF-8; save the file as UTF-8"
        );
        assert_eq!(wrong(b"\xc3"), "line 1: byte 1 (0xc3) is no UTF-8; save the file as UTF-8");
        assert_eq!(wrong(b"\xff\xfea\0"), "line 1: this is UTF-16; save it as UTF-8");
    }
}
