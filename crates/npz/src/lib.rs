//! NumPy's `.npz`: a zip archive of `.npy` arrays, read piece by piece and written so that NumPy reads it.

mod header;
mod write;

pub use header::{Header, Type};
pub use write::Writer;

use anyhow::Result;
use archive::Archive;
use stage::{BadInputExt, bad_input};
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

/// Deflate cannot shrink more than 1032 : 1; a member that claims more is a lie, and nothing is allocated for it.
const GREATEST_RATIO: u64 = 1032;

/// No data set has more classes.
const GREATEST_LABEL: f64 = (1u64 << 32) as f64;

/// An open archive.
pub struct Npz {
    path: PathBuf,
    archive: Archive<BufReader<File>>,
}

/// One member, whose values are read in order.
pub struct Array<'a> {
    /// Shape and type.
    pub header: Header,
    /// Exactly the values' bytes.
    pub values: Box<dyn Read + 'a>,
    place: String,
}

/// Numbers of any type as f64, the last index running fastest.
#[derive(Clone, Debug, PartialEq)]
pub struct Numbers {
    /// Extent of every dimension.
    pub shape: Vec<usize>,
    /// The numbers.
    pub values: Vec<f64>,
}

impl Npz {
    /// Opens an archive and reads its directory.
    ///
    /// # Errors
    /// Bad input when it is missing or no zip archive.
    pub fn open(path: &Path) -> Result<Self> {
        let context = || format!("reading {}", path.display());
        stage::refuse_impostor(path)?;
        let file = BufReader::new(File::open(path).bad_input(context)?);
        let archive = archive::open(file).bad_input(context)?;
        Ok(Self { path: path.into(), archive })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether there is an array called `name`.
    pub fn has(&self, name: &str) -> bool {
        self.archive.index_for_name(&format!("{name}.npy")).is_some()
    }

    /// The names of all arrays, in the order in which they lie.
    pub fn names(&self) -> Vec<String> {
        self.archive.file_names().filter_map(|name| name.strip_suffix(".npy")).map(str::to_string).collect()
    }

    /// Whether there is a member of this name, array or not.
    pub fn holds(&self, member: &str) -> bool {
        self.archive.index_for_name(member).is_some()
    }

    /// Starts reading the array called `name`.
    ///
    /// # Errors
    /// Bad input when it is missing, encrypted, damaged, or of another size than its header says.
    pub fn array(&mut self, name: &str) -> Result<Array<'_>> {
        let place = format!("{}: {name}.npy", self.path.display());
        let Some(index) = self.archive.index_for_name(&format!("{name}.npy")) else {
            let names = self.archive.file_names().filter_map(|n| n.strip_suffix(".npy"));
            let names: Vec<&str> = names.take(8).collect();
            bad_input!("{}: no array {name}; it has {}", self.path.display(), names.join(", "))
        };
        let mut member = self.archive.by_index(index).bad_input(|| &place)?;
        let (size, packed) = (member.size(), member.compressed_size());
        let header = Header::read(&mut member).bad_input(|| &place)?;
        let expected = header.bytes().bad_input(|| &place)?;
        if expected.checked_add(header.length) != Some(size) {
            bad_input!("{place}: {size} bytes, but {} are announced: truncated or damaged", {
                expected.saturating_add(header.length)
            })
        }
        if size > packed.saturating_mul(GREATEST_RATIO).saturating_add(1 << 16) {
            bad_input!("{place}: claims {size} bytes from {packed}, which no compression gives")
        }
        Ok(Array { header, values: Box::new(member), place })
    }

    /// A whole array of numbers, whatever its type, byte order and memory order.
    ///
    /// # Errors
    /// As [`Npz::array`], and when it is of no number type.
    pub fn numbers(&mut self, name: &str) -> Result<Numbers> {
        let array = self.array(name)?;
        let (header, place) = (array.header.clone(), array.place.clone());
        let values = header.decode(&array.read_all()?).bad_input(|| &place)?;
        let values = if header.fortran { first_index_slowest(&values, &header.shape) } else { values };
        Ok(Numbers { shape: header.shape, values })
    }

    /// A member that is no array, such as a note in JSON; at most a megabyte.
    ///
    /// # Errors
    /// Bad input when it is damaged or too long.
    pub fn note(&mut self, name: &str) -> Result<Option<Vec<u8>>> {
        let place = format!("{}: {name}", self.path.display());
        let Some(index) = self.archive.index_for_name(name) else { return Ok(None) };
        let member = self.archive.by_index(index).bad_input(|| &place)?;
        let mut bytes = Vec::new();
        member.take(1 << 20).read_to_end(&mut bytes).bad_input(|| &place)?;
        Ok(Some(bytes))
    }
}

impl Array<'_> {
    /// The next `count` bytes of values.
    ///
    /// # Errors
    /// Bad input when the file ends before them or its checksum is wrong.
    pub fn read(&mut self, count: usize) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        (&mut self.values).take(count as u64).read_to_end(&mut bytes).bad_input(|| &self.place)?;
        if bytes.len() != count {
            bad_input!("{}: ends in the middle of its values", self.place)
        }
        Ok(bytes)
    }

    /// Passes over the next `count` bytes of values.
    ///
    /// # Errors
    /// As [`Array::read`].
    pub fn skip(&mut self, count: u64) -> Result<()> {
        let passed = std::io::copy(&mut (&mut self.values).take(count), &mut std::io::sink());
        if passed.bad_input(|| &self.place)? != count {
            bad_input!("{}: ends in the middle of its values", self.place)
        }
        Ok(())
    }

    /// Checks that the values have ended, and with them the archive's checksum.
    ///
    /// # Errors
    /// Bad input when they have not, or it is wrong.
    pub fn finish(mut self) -> Result<()> {
        let rest = self.values.read(&mut [0]).bad_input(|| &self.place)?;
        if rest != 0 {
            bad_input!("{}: more bytes than announced", self.place)
        }
        Ok(())
    }

    fn read_all(mut self) -> Result<Vec<u8>> {
        let count = usize::try_from(self.header.bytes()?)?;
        let bytes = self.read(count)?;
        self.finish()?;
        Ok(bytes)
    }
}

/// Puts numbers whose first index runs fastest in the other order.
fn first_index_slowest(values: &[f64], shape: &[usize]) -> Vec<f64> {
    let mut strides = vec![1; shape.len()];
    for axis in 1..shape.len() {
        strides[axis] = strides[axis - 1] * shape[axis - 1];
    }
    let mut index = vec![0; shape.len()];
    let mut at = 0;
    let mut turned = Vec::with_capacity(values.len());
    for _ in values {
        turned.push(values[at]);
        for axis in (0..shape.len()).rev() {
            (index[axis], at) = (index[axis] + 1, at + strides[axis]);
            if index[axis] < shape[axis] {
                break;
            }
            (index[axis], at) = (0, at - shape[axis] * strides[axis]);
        }
    }
    turned
}

/// The member that names the classes of `arr_1`, a list in JSON by their numbers.
const CLASS_NAMES: &str = "class_names.json";

/// Names the classes of `arr_1`, where they have names.
///
/// # Errors
/// When they cannot be written.
pub fn name_classes(writer: &mut Writer, names: &[String]) -> Result<()> {
    match names {
        [] => Ok(()),
        names => writer.note(CLASS_NAMES, &serde_json::to_vec(names)?),
    }
}

/// The names of the classes of `arr_1`, by their numbers; none where the archive has none.
///
/// # Errors
/// Bad input when they are no list of names.
pub fn class_names(npz: &mut Npz) -> Result<Vec<String>> {
    match npz.note(CLASS_NAMES)? {
        Some(text) => {
            serde_json::from_slice(&text).bad_input(|| format!("{}: {CLASS_NAMES}", npz.path.display()))
        }
        None => Ok(Vec::new()),
    }
}

/// Reads exactly the picture array `arr_0`.
///
/// # Errors
/// Bad input unless it is u8 in C order, `[N, H, W, 3]`, with at least one pixel a picture.
pub fn pictures(npz: &mut Npz) -> Result<(Array<'_>, [usize; 3])> {
    let array = npz.array("arr_0")?;
    let header = &array.header;
    if header.kind != Type::U8 {
        bad_input!("{}: of type {}, pictures are uint8 (|u1)", array.place, header.descr)
    }
    if header.fortran {
        bad_input!(
            "{}: in Fortran order, pictures are in C order; save np.ascontiguousarray of it",
            array.place
        )
    }
    match *header.shape.as_slice() {
        [n, h, w, 3] if h > 0 && w > 0 => Ok((array, [n, h, w])),
        ref other => bad_input!("{}: of shape {other:?}, pictures are [N, H, W, 3]", array.place),
    }
}

/// `arr_0`'s number of pictures and their size.
///
/// # Errors
/// As [`pictures`].
pub fn picture_shape(npz: &mut Npz) -> Result<[usize; 3]> {
    Ok(pictures(npz)?.1)
}

/// The labels `arr_1`, where there are any.
///
/// # Errors
/// Bad input when they are no whole numbers from 0 on, or not one for each picture.
pub fn labels(npz: &mut Npz, count: usize) -> Result<Option<Vec<i64>>> {
    if !npz.has("arr_1") {
        return Ok(None);
    }
    let labels = npz.numbers("arr_1")?;
    if labels.shape != [count] {
        bad_input!("{}: arr_1.npy: of shape {:?}, for {count} pictures", npz.path.display(), labels.shape)
    }
    let label = |(place, &value): (usize, &f64)| -> Result<i64> {
        match value {
            value if value.fract() == 0.0 && (0.0..=GREATEST_LABEL).contains(&value) => Ok(value as i64),
            value => bad_input!(
                "{}: arr_1.npy: {value} for picture {place} is no label; labels are whole numbers from 0",
                npz.path.display()
            ),
        }
    };
    labels.values.iter().enumerate().map(label).collect::<Result<_>>().map(Some)
}
