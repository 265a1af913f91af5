//! Every reader of bytes from outside, given any bytes: what the fuzz targets in `fuzz/` and the tests call.
//!
//! A reader may refuse; it must not panic, hang, or accept what it would not write.

use crate::cache::archive;
use crate::cache::remote::index::Index;
use crate::cache::results::{ActionResult, Last};
use crate::cache::runs::Report;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Component, Path};
use store::digest::Digest;
use store::manifest::{self, Item, Manifest};
use store::{Store, link, record, statcache};
use study::file::Command;
use study::{Bytes, Time};
use study::{Choice, template};

/// Reads a study. What stands before a line `=====` extends what stands behind it.
///
/// # Panics
/// When a mistake is told on more than one line.
pub fn study(folder: &Path, bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (over, base) = text.split_once("\n=====\n").unwrap_or((&text, ""));
    let file = folder.join("study.yaml");
    for (name, text) in [("study.yaml", over), ("base.yaml", base)] {
        if std::fs::write(folder.join(name), text).is_err() {
            return;
        }
    }
    for variants in [Vec::new(), vec!["*".to_string()]] {
        for set in [Vec::new(), vec!["vars.x=1".to_string(), "a.n=2".into()]] {
            let profile = (!set.is_empty()).then(|| "p".to_string());
            let choice =
                Choice { file: file.clone(), profile, variants: variants.clone(), set, engine: None };
            if let Err(e) = study::load(&choice) {
                assert!(e.to_string().lines().count() <= 1, "{e}");
            }
        }
    }
}

/// Reads a command with its places, and the small notations.
///
/// # Panics
/// When a command that was accepted has no words.
pub fn interpolation(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes).into_owned();
    if let Ok(words) = template::parse(&Command::Line(text.clone())) {
        assert!(!words.is_empty());
        let filled = words.iter().map(|word| word.fill(|_, _| "value"));
        assert!(filled.count() == words.len());
    }
    // Only a refusal is possible beside a result; both are fine.
    let _ = template::parse(&Command::Words(text.split('\n').map(str::to_string).collect()));
    let _ = (text.parse::<Bytes>(), text.parse::<Time>());
    if let Ok(digest) = text.parse::<Digest>() {
        assert_eq!(digest.to_string().parse(), Ok(digest));
    }
}

/// Reads what the store keeps: manifests, the stat cache, results, run records.
///
/// # Panics
/// When a manifest that was accepted is written otherwise than it was read, or a cache holds more than its bytes can.
pub fn records(bytes: &[u8]) {
    if let Some(manifest) = Manifest::decode(bytes) {
        assert_eq!(manifest.encode(), bytes);
    }
    // From outside: a list that is accepted makes a folder, and nothing outside of it.
    if let Ok(manifest) = Manifest::parse(bytes, &manifest::digest_of(bytes)) {
        assert_eq!(manifest.check(), Ok(()));
        let inside = |path: &Path| path.components().all(|c| matches!(c, Component::Normal(_)));
        assert!(manifest.0.iter().all(|entry| inside(&entry.path)));
    }
    // With a right checksum, as a damaged one is refused before anything is looked at.
    let mut sealed = bytes.to_vec();
    sealed.extend(blake3::hash(bytes).as_bytes());
    let listed = bytes.get(16..24).and_then(|length| {
        let length = u64::from_le_bytes(length.try_into().ok()?);
        bytes.get(24..)?.get(..usize::try_from(length).ok()?)
    });
    // From a shared cache: what is believed is what we would write.
    if let Some(listed) = listed
        && let Ok((manifest, index)) = Index::parse(&sealed, &manifest::digest_of(listed))
    {
        assert_eq!(index.encode(&manifest), sealed);
    }
    for bytes in [bytes, &sealed] {
        assert!(statcache::count(bytes).is_none_or(|files| files * 81 < bytes.len()));
    }
    let mut text = bytes.to_vec();
    text.extend(format!("\n{}\n", blake3::hash(bytes).to_hex()).into_bytes());
    for text in [bytes, &text] {
        if let Some(outcome) = record::parse::<ActionResult>(text) {
            assert_eq!(outcome.action.key().to_string().len(), 64);
        }
        let _ = (record::parse::<Last>(text), record::parse::<Report>(text));
        let _ = record::parse::<stage::Spec>(text);
    }
    let _ = serde_json::from_slice::<stage::Event>(bytes);
}

/// Reads the list of a folder that comes from elsewhere, and makes the folder in a store below `folder`; its files all have the
/// content that is there. Returns whether the list was accepted.
///
/// # Panics
/// When an accepted list is written otherwise than it was read, when the folder is another than the list says, or when one of
/// its links, or anything else, is outside of it.
pub fn manifest(folder: &Path, bytes: &[u8]) -> bool {
    let Ok(mut manifest) = Manifest::parse(bytes, &manifest::digest_of(bytes)) else { return false };
    assert_eq!(manifest.encode(), bytes);
    let Ok(store) = Store::open(folder, "fuzz") else { return false };
    let Ok(content) = store.put(b"x") else { return false };
    for entry in &mut manifest.0 {
        if let Item::File(digest, size) = &mut entry.item {
            (*digest, *size) = (content, 1);
        }
    }
    let digest = manifest.digest();
    let made = store.keep_manifest(&digest, &manifest).and_then(|()| store.materialize(&digest));
    let view = store.place(&digest);
    // A name that this file system does not take is an error, and leaves nothing.
    assert_eq!(made.unwrap_or(false), view.is_dir());
    if view.is_dir() {
        assert_eq!(store.listed(&digest).as_ref(), Some(&manifest));
        let real = view.canonicalize().unwrap_or_default();
        for entry in &manifest.0 {
            let place = view.join(&entry.path);
            let target = place.canonicalize().unwrap_or_else(|_| real.clone());
            match entry.item {
                Item::Folder => assert!(place.is_dir() && !place.is_symlink()),
                Item::File(..) => assert_eq!(std::fs::read(&place).ok().as_deref(), Some(&b"x"[..])),
                Item::Link(_) => {
                    let blob = store.place(&content).canonicalize().unwrap_or_default();
                    assert!(place.is_symlink() && (target.starts_with(&real) || target == blob));
                }
            }
        }
    }
    let beside: BTreeSet<_> = names(folder);
    assert_eq!(beside, [".pipeline".into()].into());
    let _ = (link::remove(&view), std::fs::remove_file(store.manifest_path(&digest)));
    true
}

fn names(path: &Path) -> BTreeSet<OsString> {
    std::fs::read_dir(path).map(|d| d.flatten().map(|e| e.file_name()).collect()).unwrap_or_default()
}

/// Imports an archive into a store below `folder`. Its entries are separated by lines `=====`; each is a name and, after a
/// line's end, a content. A `?` at the end of a name stands for what the content makes it: a digest, or the key of a record that
/// gets its checksum. Behind a line `tar` stand the bytes of a tar as they are, behind `zst` those of the whole file. Returns
/// whether it was taken.
///
/// # Panics
/// When something is written beside the store, or a refused archive leaves something in it.
pub fn archive(folder: &Path, bytes: &[u8]) -> bool {
    let file = folder.join("fuzz.tar.zst");
    let Ok(store) = Store::open(folder, "fuzz") else { return false };
    let packed = match (bytes.strip_prefix(b"tar\n"), bytes.strip_prefix(b"zst\n")) {
        (Some(tar), _) => zstd::encode_all(tar, 1).and_then(|packed| std::fs::write(&file, packed)),
        (_, Some(whole)) => std::fs::write(&file, whole),
        _ => archive::pack_for_fuzz(&file, entries(bytes)),
    };
    if packed.is_err() {
        return false;
    }
    let taken = archive::read(&store, &file).is_ok();
    assert_eq!(names(folder), [".pipeline", "fuzz.tar.zst"].map(Into::into).into());
    assert!(names(&store.path.join("attempts")).is_empty());
    assert!(
        taken || ["blobs", "trees", "results", "runs"].iter().all(|f| names(&store.path.join(f)).is_empty())
    );
    let _ = std::fs::remove_dir_all(&store.path);
    taken
}

/// The entries that the bytes stand for.
fn entries(mut bytes: &[u8]) -> impl Iterator<Item = (String, Vec<u8>)> {
    const BETWEEN: &[u8] = b"\n=====\n";
    std::iter::from_fn(move || {
        let end = bytes.windows(BETWEEN.len()).position(|window| window == BETWEEN);
        let one = &bytes[..end.unwrap_or(bytes.len())];
        bytes = end.map_or(&[], |end| &bytes[end + BETWEEN.len()..]);
        (!one.is_empty()).then(|| entry(one))
    })
}

fn entry(bytes: &[u8]) -> (String, Vec<u8>) {
    let end = bytes.iter().position(|b| *b == b'\n').unwrap_or(bytes.len());
    let name = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let bytes = bytes.get(end + 1..).unwrap_or_default();
    let Some(kind) = name.strip_suffix('?') else { return (name, bytes.into()) };
    let sealed = [bytes, format!("\n{}\n", blake3::hash(bytes).to_hex()).as_bytes()].concat();
    match kind {
        "trees/" => (kind.to_string() + &manifest::digest_of(bytes).hex(), bytes.into()),
        "results/" => {
            let key = record::parse::<ActionResult>(&sealed)
                .map(|o| o.action.key().to_string())
                .unwrap_or_default();
            (kind.to_string() + &key, sealed)
        }
        "run" => (kind.into(), sealed),
        _ => (format!("{kind}{}", blake3::hash(bytes).to_hex()), bytes.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_corpus_is_read_without_a_panic() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
        let folder = tempfile::tempdir().unwrap();
        let files = |name: &str| -> Vec<Vec<u8>> {
            let entries = std::fs::read_dir(corpus.join(name)).unwrap();
            let files: Vec<_> = entries.map(|e| std::fs::read(e.unwrap().path()).unwrap()).collect();
            assert!(files.len() > 1, "{name} has {} files", files.len());
            files
        };
        files("study").iter().for_each(|bytes| study(folder.path(), bytes));
        files("interpolation").iter().for_each(|bytes| interpolation(bytes));
        let beside = tempfile::tempdir().unwrap();
        let accepted = files("manifest").iter().filter(|bytes| manifest(beside.path(), bytes)).count();
        assert_eq!(accepted, 2, "a folder and one of links are accepted, one whose link leads out is not");
        let beside = tempfile::tempdir().unwrap();
        let taken = files("archive").iter().filter(|bytes| super::archive(beside.path(), bytes)).count();
        assert_eq!(taken, 2, "a file and a folder are taken, what is strange is not");
        files("records").iter().for_each(|bytes| records(bytes));
    }
}
