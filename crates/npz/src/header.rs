//! The header of a `.npy` array: magic, version, and a Python dictionary of type, order and shape.

use anyhow::{Context, Result, bail, ensure};
use std::io::Read;

/// Longest header read; NumPy's own limit is 10,000.
const LONGEST: usize = 1 << 16;

/// Element types that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// True or false, in a byte.
    Bool,
    /// Unsigned integers.
    U8,
    /// Of 2 bytes.
    U16,
    /// Of 4 bytes.
    U32,
    /// Of 8 bytes.
    U64,
    /// Signed integers.
    I8,
    /// Of 2 bytes.
    I16,
    /// Of 4 bytes.
    I32,
    /// Of 8 bytes.
    I64,
    /// Half precision.
    F16,
    /// Single precision.
    F32,
    /// Double precision.
    F64,
}

/// What stands before the values.
#[derive(Clone, Debug, PartialEq)]
pub struct Header {
    /// Element type.
    pub kind: Type,
    /// Element type in NumPy's words.
    pub descr: String,
    /// Whether the first index runs fastest.
    pub fortran: bool,
    /// Extent of every dimension; empty for a single number.
    pub shape: Vec<usize>,
    /// Bytes of the header itself.
    pub length: u64,
    big_endian: bool,
}

impl Header {
    /// Reads versions 1.0, 2.0 and 3.0.
    ///
    /// # Errors
    /// When it is none, or of a type that is not read here.
    pub fn read(input: &mut impl Read) -> Result<Self> {
        let mut start = [0; 8];
        input.read_exact(&mut start).context("ends in the middle of its header")?;
        ensure!(start[..6] == *b"\x93NUMPY", "not a .npy array");
        let (size_bytes, length) = match start[6] {
            1 => {
                let mut size = [0; 2];
                input.read_exact(&mut size).context("ends in the middle of its header")?;
                (2, usize::from(u16::from_le_bytes(size)))
            }
            2 | 3 => {
                let mut size = [0; 4];
                input.read_exact(&mut size).context("ends in the middle of its header")?;
                (4, u32::from_le_bytes(size) as usize)
            }
            other => bail!("version {other} of .npy is not known"),
        };
        ensure!(length <= LONGEST, "a header of {length} bytes");
        let mut text = vec![0; length];
        input.read_exact(&mut text).context("ends in the middle of its header")?;
        let text = String::from_utf8(text).context("its header is not text")?;
        let mut header = parse(&text).with_context(|| format!("its header is {:?}", text.trim_end()))?;
        header.length = (8 + size_bytes + length) as u64;
        Ok(header)
    }

    /// Bytes of the values.
    ///
    /// # Errors
    /// When the product of the shape overflows.
    pub fn bytes(&self) -> Result<u64> {
        let count = self.shape.iter().try_fold(1u64, |n, &d| n.checked_mul(d as u64));
        count
            .and_then(|n| n.checked_mul(self.kind.bytes() as u64))
            .with_context(|| format!("the shape {:?} is impossible", self.shape))
    }

    /// The values as f64.
    ///
    /// # Errors
    /// When there is a part of an element too many.
    pub fn decode(&self, bytes: &[u8]) -> Result<Vec<f64>> {
        let size = self.kind.bytes();
        ensure!(bytes.len().is_multiple_of(size), "{} bytes are no whole number of elements", bytes.len());
        let mut one = [0u8; 8];
        let values = bytes.chunks_exact(size).map(|chunk| {
            one[..size].copy_from_slice(chunk);
            if self.big_endian {
                one[..size].reverse();
            }
            let (two, four) = ([one[0], one[1]], [one[0], one[1], one[2], one[3]]);
            match self.kind {
                Type::Bool | Type::U8 => f64::from(one[0]),
                Type::U16 => f64::from(u16::from_le_bytes(two)),
                Type::U32 => f64::from(u32::from_le_bytes(four)),
                Type::U64 => u64::from_le_bytes(one) as f64,
                Type::I8 => f64::from(one[0].cast_signed()),
                Type::I16 => f64::from(i16::from_le_bytes(two)),
                Type::I32 => f64::from(i32::from_le_bytes(four)),
                Type::I64 => i64::from_le_bytes(one) as f64,
                Type::F16 => half::f16::from_le_bytes(two).to_f64(),
                Type::F32 => f64::from(f32::from_le_bytes(four)),
                Type::F64 => f64::from_le_bytes(one),
            }
        });
        Ok(values.collect())
    }
}

impl Type {
    /// Size of an element.
    pub fn bytes(self) -> usize {
        match self {
            Self::Bool | Self::U8 | Self::I8 => 1,
            Self::U16 | Self::I16 | Self::F16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::U64 | Self::I64 | Self::F64 => 8,
        }
    }
}

/// Reads `{'descr': '<f4', 'fortran_order': False, 'shape': (6, 8), }`.
fn parse(text: &str) -> Result<Header> {
    let value = |key: &str| -> Result<&str> {
        let quoted = [format!("'{key}'"), format!("\"{key}\"")];
        let after = quoted.iter().find_map(|q| text.split_once(q.as_str())).map(|(_, rest)| rest);
        let rest = after.with_context(|| format!("no key {key}"))?.trim_start();
        Ok(rest.strip_prefix(':').with_context(|| format!("no value of {key}"))?.trim_start())
    };
    let descr = value("descr")?;
    let quote = descr.chars().next().filter(|c| matches!(c, '\'' | '"'));
    let quote = quote.context("its elements are records, not numbers")?;
    let descr = descr[1..].split(quote).next().unwrap_or_default();
    let (order, code) = match descr.chars().next() {
        Some('<' | '|' | '=') => (false, &descr[1..]),
        Some('>') => (true, &descr[1..]),
        _ => (false, descr),
    };
    let kind = match code {
        "b1" | "?" => Type::Bool,
        "u1" | "B" => Type::U8,
        "u2" => Type::U16,
        "u4" => Type::U32,
        "u8" => Type::U64,
        "i1" => Type::I8,
        "i2" => Type::I16,
        "i4" => Type::I32,
        "i8" => Type::I64,
        "f2" => Type::F16,
        "f4" => Type::F32,
        "f8" => Type::F64,
        _ => bail!(
            "its type {descr:?} is none of bool, int8 to int64, uint8 to uint64, float16, float32, float64"
        ),
    };
    let order_value = value("fortran_order")?;
    let fortran = match order_value {
        v if v.starts_with("True") => true,
        v if v.starts_with("False") => false,
        _ => bail!("fortran_order is neither True nor False"),
    };
    let shape = value("shape")?;
    let inside = shape.strip_prefix('(').and_then(|s| s.split_once(')')).context("its shape is no tuple")?.0;
    let shape: Result<Vec<usize>, _> = inside
        .split(',')
        .map(str::trim)
        .filter(|s| !s.is_empty())
        .map(|s| s.trim_end_matches('L').parse())
        .collect();
    let shape = shape.context("its shape is no tuple of whole numbers")?;
    ensure!(shape.len() <= 32, "{} dimensions", shape.len());
    Ok(Header { kind, descr: descr.into(), fortran, shape, length: 0, big_endian: order })
}
