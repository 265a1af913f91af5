//! What is in a content of the store: told by its bytes, whatever it is called.

use crate::ui::parts::content;
use crate::ui::site::Site;
use crate::ui::{parquet, picture, tensors};
use npz::{Header, Npz};
use serde_json::{Value, json};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use store::digest::{Digest, Kind};
use store::manifest::{Item, Manifest};
use store::{Store, name};

/// So many bytes tell what a file is.
const HEAD: u64 = 8 << 10;
/// JSON up to this size is shown as a value, and a text's beginning of this size.
const JSON: u64 = 1 << 20;
const TEXT: u64 = 64 << 10;
/// So many lines of JSON are shown, and so many entries of a folder.
const LINES: usize = 200;
const ENTRIES: usize = 500;
/// In files fewer are.
const EXPORTED: usize = 64;
/// What is larger is not written to files as it is.
const LARGEST: u64 = 8 << 20;

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Png,
    Jpeg,
    Gif,
    Webp,
    Npz,
    Parquet,
    Safetensors,
    Html,
    Json,
    JsonLines,
    Text,
    Binary,
}

impl Form {
    /// Of a file, by its first bytes.
    pub fn of(path: &Path) -> Self {
        let mut head = Vec::new();
        let read = store::contents::open(path).and_then(|file| file.take(HEAD).read_to_end(&mut head));
        if read.is_ok() { Self::of_bytes(&head) } else { Self::Binary }
    }

    fn of_bytes(head: &[u8]) -> Self {
        match head {
            [0x89, b'P', b'N', b'G', ..] => return Self::Png,
            [0xff, 0xd8, 0xff, ..] => return Self::Jpeg,
            [b'G', b'I', b'F', b'8', ..] => return Self::Gif,
            [b'P', b'K', 3, 4, ..] => return Self::Npz,
            [b'P', b'A', b'R', b'1', ..] => return Self::Parquet,
            _ if head.starts_with(b"RIFF") && head[4..].get(4..8) == Some(b"WEBP") => return Self::Webp,
            [_, _, _, _, 0, 0, 0, 0, b'{', ..] => return Self::Safetensors,
            _ => {}
        }
        // The last character may be cut.
        let valid = match std::str::from_utf8(head) {
            Ok(text) => text,
            Err(e) if e.valid_up_to() + 4 > head.len() => {
                std::str::from_utf8(&head[..e.valid_up_to()]).unwrap_or_default()
            }
            Err(_) => return Self::Binary,
        };
        if valid.contains('\0') {
            return Self::Binary;
        }
        let text = valid.trim_start();
        let begins = |tag: &str| text.get(..tag.len()).is_some_and(|start| start.eq_ignore_ascii_case(tag));
        if begins("<!doctype html") || begins("<html") {
            return Self::Html;
        }
        let object = |line: &str| line.starts_with('{') && serde_json::from_str::<Value>(line).is_ok();
        match text.split_once('\n') {
            Some((first, rest)) if object(first.trim()) && !rest.trim().is_empty() => Self::JsonLines,
            _ if text.starts_with(['{', '[']) => Self::Json,
            _ => Self::Text,
        }
    }

    /// The ending under which it is given to a browser, and its type there.
    pub fn served(self) -> (&'static str, &'static str) {
        match self {
            Self::Png => ("png", "image/png"),
            Self::Jpeg => ("jpg", "image/jpeg"),
            Self::Gif => ("gif", "image/gif"),
            Self::Webp => ("webp", "image/webp"),
            Self::Html => ("html", "text/html; charset=utf-8"),
            Self::Json | Self::JsonLines | Self::Text => ("txt", "text/plain; charset=utf-8"),
            Self::Npz => ("npz", "application/octet-stream"),
            Self::Parquet => ("parquet", "application/octet-stream"),
            Self::Safetensors => ("safetensors", "application/octet-stream"),
            Self::Binary => ("bin", "application/octet-stream"),
        }
    }

    /// Whether a browser shows it as a picture.
    pub fn is_image(self) -> bool {
        matches!(self, Self::Png | Self::Jpeg | Self::Gif | Self::Webp)
    }
}

/// The content of these digits, where the store has one.
pub fn find(store: &Store, hex: &str) -> Option<Digest> {
    let hash = *blake3::Hash::from_hex(hex).ok().filter(|_| hex.len() == 64)?.as_bytes();
    let of = |kind| Digest { kind, hash };
    let file = [Kind::File, Kind::Program].into_iter().map(of).find(|digest| {
        // A blob is a file of the store's own; a link would lead elsewhere.
        std::fs::symlink_metadata(store.place(digest)).is_ok_and(|meta| meta.is_file())
    });
    file.or_else(|| Some(of(Kind::Tree)).filter(|digest| store.manifest_path(digest).is_file()))
}

/// Where a file lies as it is, from the page.
pub fn raw(digest: &Digest, form: Form) -> String {
    format!("raw/{}.{}", digest.hex(), form.served().0)
}

/// What is in a content.
pub fn describe(site: &Site, digest: &Digest) -> Value {
    let now = site.now();
    let store = &now.known.session.store;
    if digest.kind == Kind::Tree {
        let Some(manifest) = store.listed(digest) else { return missing(digest) };
        let (bytes, files) = (manifest.bytes(), manifest.files());
        return json!({
            "digest": digest, "kind": "tree", "bytes": bytes, "files": files, "raw": null,
            "what": folder(site, store, &manifest),
        });
    }
    let path = store.place(digest);
    let Ok(meta) = std::fs::metadata(&path) else { return missing(digest) };
    let form = Form::of(&path);
    let kind = if digest.kind == Kind::Program { "program" } else { "file" };
    let whole = !site.export || meta.len() <= LARGEST;
    json!({
        "digest": digest, "kind": kind, "bytes": meta.len(), "files": 1,
        "raw": whole.then(|| raw(digest, form)),
        "what": file(site, digest, &path, form, meta.len()),
    })
}

fn missing(digest: &Digest) -> Value {
    json!({ "digest": digest, "kind": "file", "bytes": 0, "files": 0, "raw": null, "what": {"type": "missing"} })
}

fn folder(site: &Site, store: &Store, manifest: &Manifest) -> Value {
    let most = if site.export { EXPORTED } else { ENTRIES };
    let files = || manifest.0.iter().filter(|entry| !matches!(entry.item, Item::Folder));
    // What holds everything comes before what is one of many.
    let archive = |path: &Path| path.extension().is_some_and(|ending| ending == "npz" || ending == "html");
    let first = files().filter(|entry| archive(&entry.path));
    let rest = files().filter(|entry| !archive(&entry.path));
    let entries = first.chain(rest).take(most).map(|entry| {
        let path = name::text(entry.path.as_os_str());
        match &entry.item {
            Item::File(digest, bytes) => {
                let form = Form::of(&store.place(digest));
                let picture = form.is_image().then(|| raw(digest, form));
                json!({ "path": path, "bytes": bytes, "content": content(digest), "picture": picture })
            }
            _ => json!({ "path": path, "bytes": 0, "content": null, "picture": null }),
        }
    });
    let entries: Vec<Value> = entries.collect();
    let more = files().count().saturating_sub(entries.len());
    json!({ "type": "folder", "entries": entries, "more": more })
}

fn file(site: &Site, digest: &Digest, path: &Path, form: Form, size: u64) -> Value {
    let binary = || json!({ "type": "binary" });
    match form {
        Form::Png | Form::Jpeg | Form::Gif | Form::Webp => {
            json!({ "type": "image", "url": raw(digest, form) })
        }
        Form::Npz => arrays(site, digest, path).unwrap_or_else(binary),
        Form::Parquet => parquet::describe(path),
        Form::Safetensors => tensors::safetensors(path).unwrap_or_else(binary),
        Form::Html => json!({ "type": "html", "url": raw(digest, form) }),
        Form::Json => match (size <= JSON).then(|| std::fs::read(path).ok()).flatten() {
            Some(bytes) => match serde_json::from_slice::<Value>(&bytes) {
                Ok(value) => json!({ "type": "json", "value": value }),
                Err(_) => text(path, size),
            },
            None => text(path, size),
        },
        Form::JsonLines => {
            let (lines, more) = lines(path);
            let series: Vec<Value> = site.curves.of(digest, path).iter().map(|curve| json!(curve)).collect();
            json!({ "type": "json-lines", "lines": lines, "more": more, "series": series })
        }
        Form::Text => text(path, size),
        Form::Binary => binary(),
    }
}

fn text(path: &Path, size: u64) -> Value {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(TEXT).read_to_end(&mut bytes));
    let text = if read.is_ok() { String::from_utf8_lossy(&bytes).into_owned() } else { String::new() };
    json!({ "type": "text", "text": text, "more": size > TEXT })
}

/// The first lines, and whether there are more.
fn lines(path: &Path) -> (Vec<Value>, bool) {
    let Ok(file) = File::open(path) else { return (Vec::new(), false) };
    let mut reader = BufReader::new(file.take(JSON));
    let (mut found, mut line) = (Vec::new(), String::new());
    while found.len() < LINES {
        line.clear();
        match reader.read_line(&mut line) {
            Ok(0) | Err(_) => return (found, false),
            Ok(_) => found.extend(serde_json::from_str::<Value>(line.trim())),
        }
    }
    let more = reader.fill_buf().is_ok_and(|rest| !rest.is_empty());
    (found, more)
}

fn arrays(site: &Site, digest: &Digest, path: &Path) -> Option<Value> {
    let mut archive = Npz::open(path).ok()?;
    let pictures = picture::shape(path).filter(|_| archive.has("arr_0"));
    let mut arrays = Vec::new();
    for name in archive.names() {
        let Ok(array) = archive.array(&name) else { continue };
        let Header { shape, descr, .. } = array.header.clone();
        let shown = pictures.filter(|_| name == "arr_0");
        let single = shown.filter(|_| !site.export).map(|_| format!("picture/{}.{{}}.png", digest.hex()));
        arrays.push(json!({
            "name": name,
            "shape": shape,
            "dtype": word(&descr),
            "grid": shown.map(|_| format!("picture/{}.grid.png", digest.hex())),
            "picture": single,
            "count": shape.first().copied().unwrap_or(1),
        }));
    }
    Some(json!({ "type": "npz", "arrays": arrays }))
}

/// NumPy's word for one of its own abbreviations: `uint8` of `|u1`.
fn word(descr: &str) -> String {
    let (kind, bytes) =
        descr.trim_start_matches(['|', '<', '>', '=']).split_at_checked(1).unwrap_or_default();
    let bits = bytes.parse::<usize>().map(|bytes| bytes * 8);
    match (kind, bits) {
        ("u", Ok(bits)) => format!("uint{bits}"),
        ("i", Ok(bits)) => format!("int{bits}"),
        ("f", Ok(bits)) => format!("float{bits}"),
        ("b", _) => "bool".into(),
        _ => descr.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_what_its_bytes_say() {
        let forms: [(&[u8], Form); 14] = [
            (b"\x89PNG\r\n", Form::Png),
            (b"\xff\xd8\xff\xe0", Form::Jpeg),
            (b"GIF89a", Form::Gif),
            (b"RIFF....WEBPVP8", Form::Webp),
            (b"PK\x03\x04", Form::Npz),
            (b"PAR1", Form::Parquet),
            (b"\x10\0\0\0\0\0\0\0{\"a\"", Form::Safetensors),
            (b" <!DOCTYPE html><html>", Form::Html),
            (b"{\"a\": 1}\n", Form::Json),
            (b"{\"a\": 1}\n{\"a\": 2}\n", Form::JsonLines),
            (b"{\n  \"a\": 1\n}", Form::Json),
            (b"plain <!doctype html>", Form::Text),
            (b"", Form::Text),
            (b"a\0b", Form::Binary),
        ];
        for (bytes, form) in forms {
            assert_eq!(Form::of_bytes(bytes), form, "{bytes:?}");
        }
        assert_eq!(
            Form::of_bytes("a\u{e9}".as_bytes().split_last().unwrap().1),
            Form::Text,
            "a cut character"
        );
    }

    #[test]
    fn only_digits_name_a_content() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), "s").unwrap();
        let out = folder.path().join("out");
        std::fs::write(&out, "x").unwrap();
        let digest = store.ingest(&out).unwrap().digest;
        assert_eq!(find(&store, &digest.hex()), Some(digest));
        for hex in ["", "..", "../../format", &digest.hex()[1..], &"0".repeat(64), &"é".repeat(32)] {
            assert_eq!(find(&store, hex), None, "{hex}");
        }
    }
}
