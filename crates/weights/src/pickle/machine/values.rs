//! What a pickle speaks of: values, the objects and tensors among them, and how the plain ones are written.

use super::input::Input;
use anyhow::{Context, Result, ensure};
use tch::Kind;

/// One value. Containers are indices into the machine's arenas, so nothing is nested and nothing is copied.
#[derive(Clone, Copy, Debug)]
pub enum Value {
    Mark,
    None,
    Bool(bool),
    Integer(i64),
    Float(f64),
    /// Where they are in the pickle.
    Bytes(usize),
    Text(usize),
    /// A text that stands for bytes.
    Latin1(usize),
    Global(usize),
    Tuple(usize),
    List(usize),
    Dict(usize),
    Storage(usize),
    Tensor(usize),
    /// What a function would have made that is not run.
    Object(usize),
}

/// What is known of an object that is not made.
#[derive(Clone, Debug)]
pub(super) struct Object {
    /// The function that would have made it.
    pub name: usize,
    pub arguments: Value,
    /// What would have been put into it then.
    pub state: Option<Value>,
    pub items: Vec<(Value, Value)>,
    /// What it is nevertheless.
    pub made: Option<Value>,
}

/// A row of numbers that tensors look at.
#[derive(Clone, Debug)]
pub struct Storage {
    pub key: String,
    pub kind: Kind,
    pub count: i64,
    /// Where they stand in the pickle itself.
    pub inside: Option<Value>,
}

/// Where in a storage a tensor is.
#[derive(Clone, Debug)]
pub struct View {
    pub(super) storage: usize,
    pub offset: i64,
    pub size: Vec<i64>,
    pub stride: Vec<i64>,
}

impl Storage {
    pub fn bytes(&self) -> Result<u64> {
        let size = self.kind.elt_size_in_bytes() as u64;
        let count = u64::try_from(self.count).context("a storage of negative size")?;
        count.checked_mul(size).context("a storage of impossible size")
    }
}

impl View {
    /// Its size in bytes, if it stays inside its storage, without repeating elements.
    pub fn check(&self, storage: &Storage) -> Result<u64> {
        let count = || -> Option<u64> {
            let (mut last, mut count) = (self.offset, 1i64);
            for (&size, &stride) in self.size.iter().zip(&self.stride) {
                if size < 0 || stride < 0 {
                    return None;
                }
                last = last.checked_add((size - 1).max(0).checked_mul(stride)?)?;
                count = count.checked_mul(size)?;
            }
            let fits = self.offset >= 0 && count <= storage.count && (count == 0 || last < storage.count);
            u64::try_from(count).ok().filter(|_| fits)
        };
        ensure!(self.size.len() == self.stride.len(), "{:?} and {:?} do not fit", self.size, self.stride);
        let leaves = || format!("{:?} with strides {:?} leaves its storage", self.size, self.stride);
        Ok(count().with_context(leaves)? * storage.kind.elt_size_in_bytes() as u64)
    }
}

/// A value that stands for itself.
pub(super) fn literal(code: u8, input: &mut Input) -> Result<Option<Value>> {
    Ok(Some(match code {
        b'(' => Value::Mark,
        b'N' => Value::None,
        0x88 | 0x89 => Value::Bool(code == 0x88),
        b'J' => Value::Integer(i64::from(input.i32()?)),
        b'K' => Value::Integer(i64::from(input.byte()?)),
        b'M' => Value::Integer(i64::from(u16::from_le_bytes(input.array()?))),
        0x8a => {
            let length = input.short()?;
            Value::Integer(long(input.take(length)?))
        }
        0x8b => {
            let length = input.length()?;
            Value::Integer(long(input.take(length)?))
        }
        b'G' => Value::Float(f64::from_be_bytes(input.array()?)),
        _ => return Ok(None),
    }))
}

/// A little-endian two's complement number; what is longer than 64 bits is cut, none of ours is.
fn long(bytes: &[u8]) -> i64 {
    let negative = bytes.last().is_some_and(|b| b & 0x80 != 0);
    let mut full = [if negative { 0xff } else { 0 }; 8];
    full.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    i64::from_le_bytes(full)
}
