//! What is in a Parquet file: its columns and its first rows, read by the `parquet` crate in a process of its own.
//!
//! A file of a study is anybody's, and a damaged or hostile one can make any reader ask for all memory there is, loop, or end its
//! process. So the runner starts itself with [`WORD`] for each file; that process bounds its own memory and time before it opens
//! the file, and what it tells until it ends is what the page shows.

use half::f16;
use parquet::basic::{ConvertedType, LogicalType, Repetition, Type as Physical};
use parquet::file::metadata::FileMetaData;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;
use parquet::record::reader::RowIter;
use parquet::schema::types::Type;
use rustix::process::{Resource, Rlimit, setrlimit};
use serde_json::{Map, Value, json};
use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

/// The hidden first argument that makes the runner a reader of one Parquet file.
pub const WORD: &str = "__parquet";
/// So much memory and time a reader has.
const MEMORY: u64 = 256 << 20;
const SECONDS: u64 = 10;
/// No more of what a reader tells is taken.
const TOLD: u64 = 4 << 20;
/// So many rows are shown, of so many columns; more columns are only listed.
const ROWS: usize = 20;
const COLUMNS: usize = 50;
const LISTED: usize = 1000;
/// So many characters of a text, bytes of a binary value, and values of a list are shown.
const CHARACTERS: usize = 200;
const BYTES: usize = 12;
const VALUES: usize = 6;
/// So deep nested types and values are told.
const DEPTH: usize = 6;

/// One reader at a time: however many files are opened on a page, no more memory is taken than by one.
static ALONE: Mutex<()> = Mutex::new(());

/// The file's columns, rows, row groups, and first rows; or one line that says why it cannot be read.
pub fn describe(path: &Path) -> Value {
    let unreadable = |why: &str| json!({ "type": "unreadable", "text": format!("cannot be read: {why}") });
    let told = match told(path) {
        Ok(told) => told,
        Err(e) => return unreadable(&format!("starting its reader: {e}")),
    };
    let mut parts = told.lines().map_while(|line| serde_json::from_str::<Value>(line).ok());
    let stopped = format!("it is damaged, or takes more than {} MiB or {SECONDS} s", MEMORY >> 20);
    let said = |part: &Value| part["error"].as_str().map(str::to_string);
    match parts.next() {
        None => unreadable(&stopped),
        Some(first) if said(&first).is_some() => unreadable(&said(&first).unwrap_or_default()),
        Some(mut first) => {
            match parts.next() {
                Some(rows) if rows["head"].is_array() => first["head"] = rows["head"].clone(),
                rows => {
                    let why = rows.as_ref().and_then(said).unwrap_or(stopped);
                    first["problem"] = format!("its rows cannot be read: {why}").into();
                }
            }
            first
        }
    }
}

/// What a reader says of the file.
fn told(path: &Path) -> std::io::Result<String> {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut command = Command::new(store::process::program()?);
    command.arg(WORD).arg(path).stdin(Stdio::null()).stderr(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn()?;
    let mut bytes = Vec::new();
    let read = child.stdout.take().map(|out| out.take(TOLD).read_to_end(&mut bytes));
    // One that has more to say is not listened to any longer, and ends of that.
    child.wait()?;
    read.transpose()?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The reader's process: one line about the file and one about its rows, or about why there is none.
pub fn main(arguments: &[OsString]) -> u8 {
    let [path] = arguments else { return 2 };
    let bounded = |limit: u64| Rlimit { current: Some(limit), maximum: Some(limit) };
    for (resource, limit) in [(Resource::As, MEMORY), (Resource::Cpu, SECONDS), (Resource::Core, 0)] {
        if setrlimit(resource, bounded(limit)).is_err() {
            return 1;
        }
    }
    let written = about(Path::new(path), &mut std::io::stdout());
    u8::from(written.is_err())
}

fn about(path: &Path, out: &mut impl Write) -> std::io::Result<()> {
    let opened = File::open(path).map_err(|e| e.to_string());
    let reader = opened.and_then(|file| SerializedFileReader::new(file).map_err(|e| e.to_string()));
    let reader = match reader {
        Ok(reader) => reader,
        Err(e) => return writeln!(out, "{}", json!({ "error": line(&e) })),
    };
    let metadata = reader.metadata();
    let fields = metadata.file_metadata().schema().get_fields();
    let columns: Vec<Value> = fields
        .iter()
        .take(LISTED)
        .map(|field| json!({ "name": field.name(), "type": kind(field, 0) }))
        .collect();
    let first = json!({
        "type": "parquet", "rows": metadata.file_metadata().num_rows(), "groups": metadata.num_row_groups(),
        "columns": columns, "more": fields.len().saturating_sub(LISTED), "head": null,
        "metadata": pairs(metadata.file_metadata()),
    });
    writeln!(out, "{first}")?;
    out.flush()?;
    let second = match rows(reader) {
        Ok(head) => json!({ "head": head }),
        Err(e) => json!({ "error": line(&e.to_string()) }),
    };
    writeln!(out, "{second}")
}

/// What the file says of itself; not Arrow's own form of the schema, which is for programs.
fn pairs(about: &FileMetaData) -> Map<String, Value> {
    let pairs = about.key_value_metadata().into_iter().flatten();
    let own = pairs.filter(|pair| !pair.key.starts_with("ARROW:")).take(LISTED);
    own.map(|pair| (pair.key.clone(), cut(pair.value.as_deref().unwrap_or_default()).into())).collect()
}

fn rows(reader: SerializedFileReader<File>) -> parquet::errors::Result<Vec<Vec<Value>>> {
    let about = reader.metadata().file_metadata();
    // Of latents and their like: what the bytes of a value are.
    let dtype = pairs(about).get("dtype").and_then(Value::as_str).map(str::to_string);
    let schema = about.schema();
    let first = schema.get_fields().iter().take(COLUMNS).cloned().collect();
    let part = Type::group_type_builder(schema.name()).with_fields(first).build()?;
    let rows = RowIter::from_file_into(Box::new(reader)).project(Some(part))?.with_batch_size(ROWS);
    let cells = |row: parquet::record::Row| {
        row.into_columns().iter().map(|(_, field)| cell(field, dtype.as_deref())).collect()
    };
    rows.take(ROWS).map(|row| row.map(cells)).collect()
}

/// A value of a table: a number, a text, or what there is of something larger.
fn cell(field: &Field, dtype: Option<&str>) -> Value {
    // Whole numbers that a browser holds exactly.
    const EXACT: u64 = 1 << 53;
    match field {
        Field::Null => Value::Null,
        Field::Bool(value) => (*value).into(),
        Field::Byte(value) => (*value).into(),
        Field::Short(value) => (*value).into(),
        Field::Int(value) => (*value).into(),
        Field::UByte(value) => (*value).into(),
        Field::UShort(value) => (*value).into(),
        Field::UInt(value) => (*value).into(),
        Field::Long(value) if value.unsigned_abs() <= EXACT => (*value).into(),
        Field::ULong(value) if *value <= EXACT => (*value).into(),
        Field::Float(value) if value.is_finite() => {
            value.to_string().parse::<f64>().unwrap_or_default().into()
        }
        Field::Double(value) if value.is_finite() => (*value).into(),
        Field::Str(text) => cut(text).into(),
        other => words(other, dtype, 0).into(),
    }
}

/// A value as a text.
fn words(field: &Field, dtype: Option<&str>, depth: usize) -> String {
    let inner = |field: &Field| words(field, dtype, depth + 1);
    match field {
        _ if depth > DEPTH => "…".into(),
        Field::Str(text) => format!("“{}”", cut(text)),
        Field::Float(value) => value.to_string(),
        Field::Double(value) => value.to_string(),
        Field::Bytes(value) => binary(value.data(), dtype),
        Field::ListInternal(list) => {
            let shown: Vec<String> = list.elements().iter().take(VALUES).map(inner).collect();
            several(&shown, list.len(), "value")
        }
        Field::MapInternal(map) => {
            let pair = |(key, value): &(Field, Field)| format!("{}: {}", inner(key), inner(value));
            let shown: Vec<String> = map.entries().iter().take(VALUES).map(pair).collect();
            several(&shown, map.len(), "entry")
        }
        Field::Group(row) => {
            let pair = |(name, value): (&String, &Field)| format!("{}: {}", cut(name), inner(value));
            let shown: Vec<String> = row.get_column_iter().take(VALUES).map(pair).collect();
            several(&shown, row.len(), "field")
        }
        other => cut(&other.to_string()),
    }
}

/// The beginning of a list, and how long it is where that is not all.
fn several(shown: &[String], count: usize, noun: &str) -> String {
    let text = shown.join(", ");
    if count <= shown.len() {
        return format!("[{text}]");
    }
    format!("[{text}, …], {}", crate::text::counted(count, noun))
}

/// Bytes: their number, and the first of them, as numbers where the file says which.
fn binary(bytes: &[u8], dtype: Option<&str>) -> String {
    let half = |b: &[u8]| f16::from_le_bytes([b[0], b[1]]).to_string();
    let single = |b: &[u8]| f32::from_le_bytes([b[0], b[1], b[2], b[3]]).to_string();
    let numbers = |width: usize, read: &dyn Fn(&[u8]) -> String| {
        let shown: Vec<String> = bytes.chunks_exact(width).take(VALUES).map(read).collect();
        several(&shown, bytes.len() / width, "value")
    };
    match dtype {
        Some("float16") if bytes.len().is_multiple_of(2) => numbers(2, &half),
        Some("float32") if bytes.len().is_multiple_of(4) => numbers(4, &single),
        _ => {
            let shown: Vec<String> = bytes.iter().take(BYTES).map(|byte| format!("{byte:02x}")).collect();
            let more = if bytes.len() > BYTES { " …" } else { "" };
            format!("{}{more} ({})", shown.join(" "), crate::text::counted(bytes.len(), "byte"))
        }
    }
}

/// A column's type, in words.
fn kind(column: &Type, depth: usize) -> String {
    let info = column.get_basic_info();
    let plain = match column {
        _ if depth > DEPTH => "…".into(),
        Type::PrimitiveType { physical_type, type_length, .. } => {
            primitive(*physical_type, *type_length, info.logical_type_ref(), info.converted_type())
        }
        Type::GroupType { fields, .. } => group(fields, info.converted_type(), depth),
    };
    match info.has_repetition().then(|| info.repetition()) {
        Some(Repetition::OPTIONAL) => format!("{plain}, may be missing"),
        Some(Repetition::REPEATED) => format!("{plain}, repeated"),
        _ => plain,
    }
}

fn primitive(physical: Physical, length: i32, logical: Option<&LogicalType>, old: ConvertedType) -> String {
    let whole = |bits: i8, signed: bool| format!("{}int{bits}", if signed { "" } else { "u" });
    match (logical, old) {
        (Some(LogicalType::String | LogicalType::Json | LogicalType::Enum), _)
        | (None, ConvertedType::UTF8 | ConvertedType::JSON | ConvertedType::ENUM) => "text".into(),
        (Some(LogicalType::Integer(of)), _) => whole(of.bit_width, of.is_signed),
        (Some(LogicalType::Float16), _) => "float16".into(),
        (Some(LogicalType::Date), _) | (None, ConvertedType::DATE) => "date".into(),
        (Some(LogicalType::Timestamp(_)), _) => "date and time".into(),
        (Some(LogicalType::Time(_)), _) => "time".into(),
        (Some(LogicalType::Decimal(_)), _) | (None, ConvertedType::DECIMAL) => "decimal".into(),
        _ => match physical {
            Physical::FIXED_LEN_BYTE_ARRAY => crate::text::counted(length.unsigned_abs() as usize, "byte"),
            Physical::BYTE_ARRAY => "bytes".into(),
            other => other.to_string().to_lowercase(),
        },
    }
}

fn group(fields: &[std::sync::Arc<Type>], old: ConvertedType, depth: usize) -> String {
    let only = |fields: &[std::sync::Arc<Type>]| (fields.len() == 1).then(|| fields[0].clone());
    // A list is a group of one repeated group of one.
    let element = (old == ConvertedType::LIST).then(|| only(fields)).flatten();
    if let Some(list) = element {
        let inner = if list.is_group() { only(list.get_fields()) } else { None };
        return format!(
            "list of {}",
            kind(&inner.unwrap_or(list), depth + 1).replace(", may be missing", "")
        );
    }
    if old == ConvertedType::MAP {
        return "map".into();
    }
    let named = |field: &std::sync::Arc<Type>| format!("{}: {}", cut(field.name()), kind(field, depth + 1));
    several(&fields.iter().take(VALUES).map(named).collect::<Vec<_>>(), fields.len(), "field")
}

/// The beginning of a text.
fn cut(text: &str) -> String {
    match text.char_indices().nth(CHARACTERS) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.into(),
    }
}

/// A text as one line.
fn line(text: &str) -> String {
    cut(&text.split_whitespace().collect::<Vec<_>>().join(" "))
}
