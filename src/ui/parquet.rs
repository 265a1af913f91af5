//! What the footer of a Parquet file says: its columns and how many rows there are. Pages are not read: the runner has no need
//! of a reader of Parquet's own.

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

/// A footer is no longer.
const FOOTER: u64 = 32 << 20;
/// So deep values nest at most.
const DEPTH: usize = 16;
/// So many columns are listed.
const COLUMNS: usize = 1000;

/// The file's columns, rows and row groups.
pub fn describe(path: &Path) -> Option<Value> {
    let mut file = File::open(path).ok()?;
    let size = file.metadata().ok()?.len();
    let mut end = [0; 8];
    file.seek(SeekFrom::Start(size.checked_sub(8)?)).ok()?;
    file.read_exact(&mut end).ok()?;
    let length = u64::from(u32::from_le_bytes(end[..4].try_into().ok()?));
    if &end[4..] != b"PAR1" || length > FOOTER {
        return None;
    }
    file.seek(SeekFrom::Start((size - 8).checked_sub(length)?)).ok()?;
    let mut footer = Vec::new();
    file.take(length).read_to_end(&mut footer).ok()?;
    let footer = Compact { bytes: &footer }.fields(0)?;
    let (Field::List(schema), Field::Number(rows)) = (footer.get(&2)?, footer.get(&3)?) else { return None };
    let groups = footer.get(&4).map_or(0, |groups| if let Field::List(all) = groups { all.len() } else { 0 });
    let mut columns = Vec::new();
    // How many children each folder of columns above still has, and its name.
    let mut above: Vec<(i64, String)> = Vec::new();
    for element in schema.iter().take(COLUMNS) {
        let Field::Struct(element) = element else { return None };
        let name = match element.get(&4)? {
            Field::Text(name) => String::from_utf8_lossy(name).into_owned(),
            _ => return None,
        };
        let children = element.get(&5).map_or(0, Field::number);
        // The first is the whole.
        let full: Vec<&str> =
            above.iter().skip(1).map(|(_, name)| name.as_str()).chain([name.as_str()]).collect();
        if children == 0 {
            columns.push(json!({ "name": full.join("."), "type": kind(element) }));
        }
        if let Some(last) = above.last_mut() {
            last.0 -= 1;
        }
        if children > 0 {
            above.push((children, name));
        }
        while above.last().is_some_and(|(left, _)| *left <= 0) {
            above.pop();
        }
    }
    Some(json!({ "type": "parquet", "rows": rows, "groups": groups, "columns": columns, "head": null }))
}

/// A column's type, in words.
fn kind(element: &BTreeMap<i16, Field>) -> String {
    let number = |field: i16| element.get(&field).map(Field::number);
    let plain = match number(1) {
        Some(0) => "boolean",
        Some(1) => "int32",
        Some(2) => "int64",
        Some(3) => "int96",
        Some(4) => "float",
        Some(5) => "double",
        Some(6) if number(6) == Some(0) => "text",
        Some(6) => "bytes",
        Some(7) => return format!("{} bytes", number(2).unwrap_or_default()),
        _ => "unknown",
    };
    match number(3) {
        Some(1) => format!("{plain}, may be missing"),
        Some(2) => format!("{plain}, repeated"),
        _ => plain.into(),
    }
}

/// A value of Thrift's compact protocol.
enum Field {
    Number(i64),
    Text(Vec<u8>),
    List(Vec<Field>),
    Struct(BTreeMap<i16, Field>),
    Other,
}

impl Field {
    fn number(&self) -> i64 {
        if let Self::Number(number) = self { *number } else { 0 }
    }
}

impl serde::Serialize for Field {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i64(self.number())
    }
}

struct Compact<'a> {
    bytes: &'a [u8],
}

impl<'a> Compact<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.bytes.split_first()?;
        self.bytes = rest;
        Some(*first)
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.bytes.split_at_checked(count)?;
        self.bytes = rest;
        Some(taken)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn zigzag(&mut self) -> Option<i64> {
        let value = self.varint()?;
        Some((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
    }

    fn fields(&mut self, depth: usize) -> Option<BTreeMap<i16, Field>> {
        let (mut fields, mut id) = (BTreeMap::new(), 0i16);
        loop {
            let head = self.byte()?;
            if head == 0 {
                return Some(fields);
            }
            id = match head >> 4 {
                0 => self.zigzag()?.try_into().ok()?,
                step => id.checked_add(i16::from(step))?,
            };
            let value = match head & 0xf {
                truth @ (1 | 2) => Field::Number(i64::from(truth == 1)),
                kind => self.value(kind, depth)?,
            };
            fields.insert(id, value);
        }
    }

    fn value(&mut self, kind: u8, depth: usize) -> Option<Field> {
        if depth > DEPTH {
            return None;
        }
        Some(match kind {
            1..=3 => Field::Number(i64::from(self.byte()?)),
            4..=6 => Field::Number(self.zigzag()?),
            7 => self.take(8).map(|_| Field::Other)?,
            8 => {
                let length = self.varint()?.try_into().ok()?;
                Field::Text(self.take(length)?.to_vec())
            }
            9 | 10 => {
                let head = self.byte()?;
                let count = match head >> 4 {
                    15 => self.varint()?,
                    count => count.into(),
                };
                // Each takes a byte at least; what claims more is damaged.
                let count: usize = count.try_into().ok().filter(|count| *count <= self.bytes.len())?;
                Field::List((0..count).map(|_| self.value(head & 0xf, depth + 1)).collect::<Option<_>>()?)
            }
            11 => {
                let count: usize =
                    self.varint()?.try_into().ok().filter(|count| *count <= self.bytes.len())?;
                let kinds = if count > 0 { self.byte()? } else { 0 };
                for _ in 0..count {
                    self.value(kinds >> 4, depth + 1)?;
                    self.value(kinds & 0xf, depth + 1)?;
                }
                Field::Other
            }
            12 => Field::Struct(self.fields(depth + 1)?),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_footer_is_read_and_a_damaged_one_is_none() {
        // A schema of two columns, one of which may be missing, and a footer of three rows in one group without columns.
        let mut footer: Vec<u8> = vec![0x15, 2, 0x19, 0x3c];
        // The whole: name, two children.
        footer.extend([0x48, 1, b's', 0x15, 4, 0]);
        // int64, required, `x`.
        footer.extend([0x15, 4, 0x25, 0, 0x18, 1, b'x', 0]);
        // bytes, optional, `y`, UTF-8.
        footer.extend([0x15, 12, 0x25, 2, 0x18, 1, b'y', 0x25, 0, 0]);
        footer.extend([0x16, 6, 0x19, 0x1c, 0, 0]);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.parquet");
        let write = |footer: &[u8]| {
            let mut bytes = b"PAR1".to_vec();
            bytes.extend(footer);
            bytes.extend((footer.len() as u32).to_le_bytes());
            bytes.extend(b"PAR1");
            std::fs::write(&path, bytes).unwrap();
        };
        write(&footer);
        let value = describe(&path).unwrap();
        assert_eq!((&value["rows"], &value["groups"]), (&json!(3), &json!(1)));
        assert_eq!(value["columns"][1], json!({"name": "y", "type": "text, may be missing"}));
        for cut in 0..footer.len() {
            write(&footer[..cut]);
            let _ = describe(&path);
            let mut flipped = footer.clone();
            flipped[cut] ^= 0xff;
            write(&flipped);
            let _ = describe(&path);
        }
        std::fs::write(&path, b"PAR1").unwrap();
        assert_eq!(describe(&path), None);
    }
}
