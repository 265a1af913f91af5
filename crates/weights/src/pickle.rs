//! PyTorch's `.pth`: a dictionary of tensors, read without Python and without running anything.
//!
//! Both formats of `torch.save` are read: the zip archive of 1.6 and later, and the row of pickles before it (the FID
//! Inception of pytorch-fid). A pickle may name any function to call; only the few that rebuild tensors are known here.
//! Everything else stays unmade, and is refused by its name where a tensor should be.

mod machine;
mod writer;

pub use machine::{Setting, Shapes};
pub use writer::{Item, write};

use crate::memory;
use crate::named::Weights;
use anyhow::{Context, Result, bail, ensure};
use archive::Archive;
use machine::{Machine, Storage, View};

use stage::BadInputExt;
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufReader, Cursor, Read, Seek, SeekFrom};
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
    let tensors = open(path, |file| tensors(file, Machine::tensors))?;
    Ok(Weights::new(path.display().to_string(), tensors))
}

/// What is wanted of a file's dictionary.
#[derive(Default)]
pub struct Wanted<'a> {
    /// Keys of dictionaries of tensors; "" for the tensors of the dictionary itself.
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
    let (mut numbers, mut note) = (BTreeMap::new(), None);
    let views = |machine: &Machine| {
        let mut views = machine.sections(wanted.states)?;
        let tree = machine.tree(wanted.tree)?;
        views.extend(tree.views);
        numbers = tree.numbers;
        note = machine.text_under(wanted.note).map(String::from);
        Ok(views)
    };
    let found = open(path, |file| tensors(file, views))?;
    Ok(Found { tensors: Weights::new(path.display().to_string(), found), numbers, note })
}

/// What a file has, of which no tensor is read.
pub struct Outline {
    /// The shapes of the tensors.
    pub shapes: Shapes,
    /// Texts and numbers below the keys that were asked for, by the keys that lead to them.
    pub settings: Vec<(String, Setting)>,
}

/// Reads what a file's dictionary has, and the settings under some of its keys.
///
/// # Errors
/// As [`read`].
pub fn outline(path: &Path, settings: &[&str]) -> Result<Outline> {
    open(path, |mut file| {
        let machine = if is_archive(&mut file)? {
            Archived::open(file)?.machine
        } else {
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            Row::open(&bytes)?.machine
        };
        let found = settings.iter().flat_map(|key| machine.settings(key)).collect();
        Ok(Outline { shapes: machine.outline()?, settings: found })
    })
}

/// The text under a key of a file's dictionary.
///
/// # Errors
/// Bad input when it cannot be read.
pub fn note(path: &Path, key: &str) -> Result<Option<String>> {
    open(path, |file| {
        let mut note = None;
        // No tensor is wanted, and none is found: that is no fault here.
        let _ = tensors(file, |machine: &Machine| {
            note = machine.text_under(key).map(String::from);
            Ok(Views::new())
        });
        Ok(note)
    })
}

/// Whether these are the first bytes of either format.
pub fn is_pickle(start: &[u8]) -> bool {
    let [0x80, 2..=5, first @ ..] = start else { return start.starts_with(b"PK\x03\x04") };
    // Newer protocols put a pickle into a frame.
    let first = first.strip_prefix(&[0x95]).and_then(|frame| frame.get(8..)).unwrap_or(first);
    first.strip_prefix(b"\x8a\x0a").is_some_and(|number| number.starts_with(&MAGIC))
}

/// Reads the bytes of a file.
///
/// # Errors
/// As [`read`].
pub fn parse(bytes: &[u8]) -> Result<BTreeMap<String, Tensor>> {
    tensors(Cursor::new(bytes), Machine::tensors)
}

fn open<T>(path: &Path, work: impl FnOnce(BufReader<File>) -> Result<T>) -> Result<T> {
    let context = || format!("reading {}", path.display());
    stage::refuse_impostor(path)?;
    let file = File::open(path).bad_input(context)?;
    work(BufReader::new(file)).bad_input(context)
}

/// By its first bytes, to which it goes back.
fn is_archive(file: &mut (impl Read + Seek)) -> Result<bool> {
    let mut start = Vec::new();
    file.by_ref().take(2).read_to_end(&mut start)?;
    file.seek(SeekFrom::Start(0))?;
    Ok(start == b"PK")
}

type Views = BTreeMap<String, View>;

fn tensors(
    mut file: impl Read + Seek,
    wanted: impl FnOnce(&Machine) -> Result<Views>,
) -> Result<BTreeMap<String, Tensor>> {
    if is_archive(&mut file)? {
        return Archived::open(file)?.tensors(wanted);
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Row::open(&bytes)?.tensors(bytes.len(), wanted)
}

/// A zip archive: `NAME/data.pkl` and `NAME/data/KEY`.
struct Archived<R> {
    zip: Archive<R>,
    folder: String,
    pickle: Vec<u8>,
    machine: Machine,
    size: u64,
}

impl<R: Read + Seek> Archived<R> {
    fn open(mut file: R) -> Result<Self> {
        let size = file.seek(SeekFrom::End(0))?;
        file.seek(SeekFrom::Start(0))?;
        let mut zip = archive::open(file)?;
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
        let mut pickle = Vec::new();
        // torch stores without compression; so the file itself bounds what is read.
        zip.by_name(&name)?.take(size).read_to_end(&mut pickle)?;
        let (machine, _) = Machine::run(&pickle).with_context(|| name.clone())?;
        Ok(Self { zip, folder, pickle, machine, size })
    }

    fn tensors(mut self, wanted: impl FnOnce(&Machine) -> Result<Views>) -> Result<BTreeMap<String, Tensor>> {
        let views = wanted(&self.machine)?;
        let mut left = self.size.saturating_sub(self.pickle.len() as u64);
        let mut storages = HashMap::new();
        for view in views.values() {
            let storage = self.machine.storage(view);
            if storages.contains_key(&storage.key) || storage.inside.is_some() {
                continue;
            }
            let member = format!("{}data/{}", self.folder, storage.key);
            let wanted = storage.bytes()?;
            ensure!(wanted <= left, "{member}: {wanted} bytes, more than the file has");
            left -= wanted;
            let mut entry = self.zip.by_name(&member).with_context(|| member.clone())?;
            ensure!(entry.size() >= wanted, "{member}: {} bytes, wanted {wanted}", entry.size());
            let values = memory::filled(storage.kind, &[storage.count], |into| Ok(entry.read_exact(into)?));
            storages.insert(storage.key.clone(), values.with_context(|| format!("{member} is cut short"))?);
        }
        let content = |storage: &Storage| match storage.inside {
            Some(inside) => self.machine.inside(inside, &self.pickle).map(Values::Bytes),
            None => storages.get(&storage.key).map(|values| Values::Read(values.shallow_clone())),
        };
        build(&self.machine, &views, self.size, content)
    }
}

/// A row of pickles: magic number, version, system, dictionary, keys, and then the values of every key.
struct Row<'a> {
    machine: Machine,
    pickle: &'a [u8],
    keys: Machine,
    values: &'a [u8],
}

impl<'a> Row<'a> {
    fn open(bytes: &'a [u8]) -> Result<Self> {
        ensure!(is_pickle(bytes), "neither safetensors, a TensorFlow graph nor a file of torch.save");
        let mut rest = bytes;
        for what in ["the magic number", "the version", "the system"] {
            let (_, used) = Machine::run(rest).context(what)?;
            rest = &rest[used..];
        }
        let (machine, used) = Machine::run(rest).context("the dictionary")?;
        let (pickle, rest) = rest.split_at(used);
        let (keys, used) = Machine::run(rest).context("the keys")?;
        Ok(Self { machine, pickle, keys, values: &rest[used..] })
    }

    fn tensors(
        self,
        file_size: usize,
        wanted: impl FnOnce(&Machine) -> Result<Views>,
    ) -> Result<BTreeMap<String, Tensor>> {
        let Self { machine, pickle, keys, values: mut rest } = self;
        let views = wanted(&machine)?;
        let sizes: HashMap<&str, &Storage> = machine.storages().iter().map(|s| (s.key.as_str(), s)).collect();
        let mut contents: HashMap<String, &[u8]> = HashMap::new();
        for key in keys.list_of_text()? {
            let storage =
                sizes.get(key.as_str()).with_context(|| format!("storage {key} is in no tensor"))?;
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
        let content = |storage: &Storage| match storage.inside {
            Some(inside) => machine.inside(inside, pickle).map(Values::Bytes),
            None => contents.get(&storage.key).map(|content| Values::Bytes(Cow::Borrowed(*content))),
        };
        build(&machine, &views, file_size as u64, content)
    }
}

/// The values of a storage.
enum Values<'a> {
    Bytes(Cow<'a, [u8]>),
    /// Read into memory that a tensor can have.
    Read(Tensor),
}

fn build<'a>(
    machine: &Machine,
    views: &Views,
    file_size: u64,
    content: impl Fn(&Storage) -> Option<Values<'a>>,
) -> Result<BTreeMap<String, Tensor>> {
    if views.is_empty() {
        bail!("no tensors in it")
    }
    let mut users: HashMap<&str, usize> = HashMap::new();
    for view in views.values() {
        *users.entry(&machine.storage(view).key).or_default() += 1;
    }
    let mut tensors = BTreeMap::new();
    let mut left = MOST_SHARED.saturating_mul(file_size);
    for (name, view) in views {
        let storage = machine.storage(view);
        let wanted = view.check(storage).with_context(|| format!("tensor {name}"))?;
        ensure!(
            wanted <= left,
            "tensor {name}: the tensors together have more than {MOST_SHARED} times the bytes of the file"
        );
        left -= wanted;
        let values = content(storage).with_context(|| format!("tensor {name}: its values are missing"))?;
        let (flat, own) = match values {
            Values::Bytes(bytes) => {
                let there = bytes.len();
                ensure!(there as u64 == storage.bytes()?, "tensor {name}: {there} bytes of values");
                (Tensor::f_from_data_size(&bytes, &[storage.count], storage.kind)?, true)
            }
            Values::Read(flat) => (flat, users.get(storage.key.as_str()) == Some(&1)),
        };
        let strided = flat.f_as_strided(&view.size, &view.stride, view.offset)?;
        // No two tensors share numbers here, and none keeps more of them than it has.
        let own = own && strided.numel() == flat.numel();
        let tensor = if own || !strided.is_contiguous() { strided.f_contiguous()? } else { strided.copy() };
        tensors.insert(name.clone(), tensor);
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
