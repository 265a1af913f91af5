//! PyTorch's `.pth`: a dictionary of tensors, read without Python and without running anything.
//!
//! Both formats of `torch.save` are read: the zip archive of 1.6 and later, and the row of pickles before it (the FID
//! Inception of pytorch-fid). A pickle may name any function to call; only the few that rebuild tensors are known here.
//! Everything else stays unmade, and is refused by its name where a tensor should be.

mod machine;
mod writer;

pub use writer::{Item, write};

use crate::Weights;
use anyhow::{Context, Result, bail, ensure};
use machine::{Machine, Storage, View};
use stage::BadInputExt;
use std::collections::{BTreeMap, HashMap};
use std::io::{Cursor, Read};
use std::path::Path;
use tch::{Kind, Tensor};

/// Tensors together may be this many times the file; some share their numbers with others (tied weights).
const MOST_SHARED: u64 = 4;
/// First number of the older format.
const MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];

/// Reads a file; a `state_dict` inside a larger dictionary is found.
///
/// # Errors
/// Bad input when it is damaged, holds no tensors, or calls anything but what rebuilds tensors.
pub fn read(path: &Path) -> Result<Weights> {
    let source = path.display().to_string();
    let bytes = std::fs::read(path).bad_input(|| format!("reading {source}"))?;
    let tensors = parse(&bytes).bad_input(|| format!("reading {source}"))?;
    Ok(Weights::new(source, tensors))
}

/// What is wanted of a file's dictionary.
#[derive(Default)]
pub struct Wanted<'a> {
    /// Keys of dictionaries of tensors.
    pub states: &'a [&'a str],
    /// Key of a dictionary with more dictionaries, lists and tuples in it, whose tensors and numbers are wanted.
    pub tree: &'a str,
    /// Key of a text.
    pub note: &'a str,
}

/// What was found.
pub struct Found {
    /// A state's tensors as `KEY.NAME`, a tree's as `KEY.` and the keys and places on the way, `opt.state.0.exp_avg`. A file of
    /// bare tensors has them under their own names.
    pub tensors: Weights,
    /// The tree's numbers, named alike.
    pub numbers: BTreeMap<String, f64>,
    /// The text.
    pub note: Option<String>,
}

/// Reads parts of a file's dictionary; those that it lacks are left out.
///
/// # Errors
/// As [`read`].
pub fn find(path: &Path, wanted: &Wanted) -> Result<Found> {
    let source = path.display().to_string();
    let bytes = std::fs::read(path).bad_input(|| format!("reading {source}"))?;
    let (mut numbers, mut note) = (BTreeMap::new(), None);
    let views = |machine: &Machine| {
        let mut views = machine.sections(wanted.states)?;
        let tree = machine.tree(wanted.tree)?;
        views.extend(tree.views);
        numbers = tree.numbers;
        note = machine.text_under(wanted.note).map(String::from);
        Ok(views)
    };
    let tensors = parse_wanted(&bytes, views).bad_input(|| format!("reading {source}"))?;
    Ok(Found { tensors: Weights::new(source, tensors), numbers, note })
}

/// The text under a key of a file's dictionary.
///
/// # Errors
/// Bad input when it cannot be read.
pub fn note(path: &Path, key: &str) -> Result<Option<String>> {
    let bytes = std::fs::read(path).bad_input(|| format!("reading {}", path.display()))?;
    let mut note = None;
    // No tensor is wanted, and none is found: that is no fault here.
    let _ = parse_wanted(&bytes, |machine| {
        note = machine.text_under(key).map(String::from);
        Ok(Views::new())
    });
    Ok(note)
}

/// Whether these are the first bytes of either format.
pub fn is_pickle(start: &[u8]) -> bool {
    start.starts_with(b"PK\x03\x04")
        || (start.starts_with(b"\x80\x02\x8a\x0a") && start[4..].starts_with(&MAGIC))
}

/// Reads the bytes of a file.
///
/// # Errors
/// As [`read`].
pub fn parse(bytes: &[u8]) -> Result<BTreeMap<String, Tensor>> {
    parse_wanted(bytes, Machine::tensors)
}

type Views = BTreeMap<String, View>;

fn parse_wanted(
    bytes: &[u8],
    wanted: impl FnOnce(&Machine) -> Result<Views>,
) -> Result<BTreeMap<String, Tensor>> {
    if bytes.starts_with(b"PK") { archive(bytes, wanted) } else { row_of_pickles(bytes, wanted) }
}

/// `NAME/data.pkl` and `NAME/data/KEY`.
fn archive(bytes: &[u8], wanted: impl FnOnce(&Machine) -> Result<Views>) -> Result<BTreeMap<String, Tensor>> {
    let mut zip = archive::open(Cursor::new(bytes))?;
    let name = zip.file_names().find(|n| *n == "data.pkl" || n.ends_with("/data.pkl")).map(String::from);
    let name = name.context("an archive without data.pkl")?;
    let folder = name.trim_end_matches("data.pkl").to_string();
    let order = match zip.by_name(&format!("{folder}byteorder")) {
        Ok(mut member) => {
            let mut order = [0; 6];
            member.read_exact(&mut order).context("byteorder")?;
            order
        }
        Err(_) => *b"little",
    };
    ensure!(order == *b"little", "stored in big-endian order");
    // torch stores without compression; so the file itself bounds what is read.
    let mut left = bytes.len() as u64;
    let mut pickle = Vec::new();
    zip.by_name(&name)?.take(left).read_to_end(&mut pickle)?;
    left -= pickle.len() as u64;
    let (machine, _) = Machine::run(&pickle).with_context(|| name.clone())?;
    let views = wanted(&machine)?;
    let mut storages = HashMap::new();
    for view in views.values() {
        let storage = machine.storage(view);
        if storages.contains_key(&storage.key) {
            continue;
        }
        let member = format!("{folder}data/{}", storage.key);
        let wanted = storage.bytes()?;
        ensure!(wanted <= left, "{member}: {wanted} bytes, more than the file has");
        left -= wanted;
        let mut content = Vec::new();
        zip.by_name(&member).with_context(|| member.clone())?.take(wanted).read_to_end(&mut content)?;
        ensure!(content.len() as u64 == wanted, "{member}: {} bytes, wanted {wanted}", content.len());
        storages.insert(storage.key.clone(), content);
    }
    let content = |storage: &Storage| storages.get(&storage.key).map(Vec::as_slice);
    build(&machine, &views, bytes.len(), content)
}

/// Magic number, version, system, dictionary, keys, and then the values of every key.
fn row_of_pickles(
    bytes: &[u8],
    wanted: impl FnOnce(&Machine) -> Result<Views>,
) -> Result<BTreeMap<String, Tensor>> {
    ensure!(is_pickle(bytes), "neither safetensors, a TensorFlow graph nor a file of torch.save");
    let mut rest = bytes;
    for what in ["the magic number", "the version", "the system"] {
        let (_, used) = Machine::run(rest).context(what)?;
        rest = &rest[used..];
    }
    let (machine, used) = Machine::run(rest).context("the dictionary")?;
    rest = &rest[used..];
    let (keys, used) = Machine::run(rest).context("the keys")?;
    rest = &rest[used..];
    let views = wanted(&machine)?;
    let sizes: HashMap<&str, &Storage> = machine.storages().iter().map(|s| (s.key.as_str(), s)).collect();
    let mut contents: HashMap<String, &[u8]> = HashMap::new();
    for key in keys.list_of_text()? {
        let storage = sizes.get(key.as_str()).with_context(|| format!("storage {key} is in no tensor"))?;
        let (count, values) =
            rest.split_first_chunk::<8>().with_context(|| format!("storage {key} is missing"))?;
        let count = i64::from_le_bytes(*count);
        ensure!(count == storage.count, "storage {key} has {count} elements, wanted {}", storage.count);
        let length = usize::try_from(storage.bytes()?)?;
        ensure!(values.len() >= length, "storage {key} is cut short");
        let (content, after) = values.split_at(length);
        contents.insert(key, content);
        rest = after;
    }
    build(&machine, &views, bytes.len(), |storage| contents.get(&storage.key).copied())
}

fn build<'a>(
    machine: &Machine,
    views: &Views,
    file_size: usize,
    content: impl Fn(&Storage) -> Option<&'a [u8]>,
) -> Result<BTreeMap<String, Tensor>> {
    if views.is_empty() {
        bail!("no tensors in it")
    }
    let mut tensors = BTreeMap::new();
    let mut left = MOST_SHARED.saturating_mul(file_size as u64);
    for (name, view) in views {
        let storage = machine.storage(view);
        let wanted = view.check(storage).with_context(|| format!("tensor {name}"))?;
        ensure!(
            wanted <= left,
            "tensor {name}: the tensors together have more than {MOST_SHARED} times the bytes of the file"
        );
        left -= wanted;
        let bytes = content(storage).with_context(|| format!("tensor {name}: its values are missing"))?;
        let flat = Tensor::f_from_data_size(bytes, &[storage.count], storage.kind)?;
        let strided = flat.f_as_strided(&view.size, &view.stride, view.offset)?;
        tensors.insert(name.clone(), strided.f_contiguous()?);
    }
    Ok(tensors)
}

/// The element type of a storage class: `FloatStorage` and its kin.
fn storage_kind(class: &str) -> Result<Kind> {
    Ok(match class.strip_prefix("torch.").unwrap_or(class) {
        "FloatStorage" => Kind::Float,
        "DoubleStorage" => Kind::Double,
        "HalfStorage" => Kind::Half,
        "BFloat16Storage" => Kind::BFloat16,
        "LongStorage" => Kind::Int64,
        "IntStorage" => Kind::Int,
        "ByteStorage" => Kind::Uint8,
        "BoolStorage" => Kind::Bool,
        other => bail!("storage of type {other}"),
    })
}
