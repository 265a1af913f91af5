//! What the page shows of a Parquet file, whole, damaged and hostile.

use super::Served;
use crate::study::Study;
use parquet::basic::{Compression, ZstdLevel};
use parquet::data_type::{
    ByteArray, ByteArrayType, FixedLenByteArray, FixedLenByteArrayType, FloatType, Int64Type,
};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use serde_json::{Value, json};
use std::sync::Arc;

/// Thirty rows of each kind of column; a latent is four numbers of half precision.
fn table() -> Vec<u8> {
    let schema = "message table { required int64 label; required binary source (STRING); \
                  required fixed_len_byte_array(8) mean; required binary raw; \
                  optional group scores (LIST) { repeated group list { required float element; } } }";
    let pair = KeyValue::new("dtype".to_string(), "float16".to_string());
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_key_value_metadata(Some(vec![pair]))
        .build();
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let mut bytes = Vec::new();
    let mut writer = SerializedFileWriter::new(&mut bytes, schema, Arc::new(properties)).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let mut next = group.next_column().unwrap().unwrap();
    let labels: Vec<i64> = (0..29).chain([i64::MAX]).rev().collect();
    next.typed::<Int64Type>().write_batch(&labels, None, None).unwrap();
    next.close().unwrap();
    let text = |i: usize| if i == 1 { "é".repeat(5000) } else { format!("<b>picture {i}</b>") };
    let texts: Vec<ByteArray> = (0..30).map(|i| ByteArray::from(text(i).as_str())).collect();
    let mut next = group.next_column().unwrap().unwrap();
    next.typed::<ByteArrayType>().write_batch(&texts, None, None).unwrap();
    next.close().unwrap();
    // 1, -2, 0.5 and infinity.
    let mean = FixedLenByteArray::from(ByteArray::from(vec![0, 0x3c, 0, 0xc0, 0, 0x38, 0, 0x7c]));
    let mut next = group.next_column().unwrap().unwrap();
    next.typed::<FixedLenByteArrayType>().write_batch(&vec![mean; 30], None, None).unwrap();
    next.close().unwrap();
    let raw: Vec<ByteArray> = (0..30).map(|i| ByteArray::from(vec![i as u8; 2 * i + 1])).collect();
    let mut next = group.next_column().unwrap().unwrap();
    next.typed::<ByteArrayType>().write_batch(&raw, None, None).unwrap();
    next.close().unwrap();
    // The first has nothing, each other ten numbers.
    let values: Vec<f32> = (0..290).map(|i| i as f32 / 10.0).collect();
    let definitions: Vec<i16> = [vec![0], vec![2; 290]].concat();
    let repetitions: Vec<i16> = [vec![0], (0..290).map(|i| i16::from(i % 10 != 0)).collect()].concat();
    let mut next = group.next_column().unwrap().unwrap();
    next.typed::<FloatType>().write_batch(&values, Some(&definitions), Some(&repetitions)).unwrap();
    next.close().unwrap();
    group.close().unwrap();
    writer.close().unwrap();
    bytes
}

/// A few hundred bytes that become 300 MB where they are read.
fn bomb() -> Vec<u8> {
    let schema = Arc::new(parse_message_type("message bomb { required binary zeros; }").unwrap());
    let level = Compression::ZSTD(ZstdLevel::try_new(1).unwrap());
    let properties = WriterProperties::builder().set_compression(level).set_dictionary_enabled(false).build();
    let mut bytes = Vec::new();
    let mut writer = SerializedFileWriter::new(&mut bytes, schema, Arc::new(properties)).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    let zeros = ByteArray::from(vec![0; 300_000_000]);
    column.typed::<ByteArrayType>().write_batch(&[zeros], None, None).unwrap();
    column.close().unwrap();
    group.close().unwrap();
    writer.close().unwrap();
    bytes
}

/// What the page is told of each of these files, as outputs of a study.
fn shown(files: &[Vec<u8>]) -> Vec<Value> {
    let study = Study::new(
        "name: tables\nstages:\n  copy:\n    command: cp -r ${inputs.files} ${outputs.files}\n    inputs: {files: files}\n    outputs: [files]\n",
    );
    std::fs::create_dir(study.path("files")).unwrap();
    for (i, bytes) in files.iter().enumerate() {
        std::fs::write(study.path(&format!("files/{i:04}")), bytes).unwrap();
    }
    study.run(&[]);
    let served = Served::start(&study);
    served.study();
    let folder = served.value("step/copy")["outputs"][0]["content"].clone();
    let folder = served.value(folder.as_str().unwrap())["what"]["entries"].clone();
    let shown = |entry: &Value| served.value(entry["content"].as_str().unwrap())["what"].clone();
    let shown = folder.as_array().unwrap().iter().map(shown).collect();
    let status = std::fs::read_to_string(format!("/proc/{}/status", served.child.id())).unwrap();
    let most = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let most: u64 = most.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(most < 200_000, "the server took {most} kB");
    shown
}

#[test]
fn a_table_is_shown_with_its_first_rows() {
    let what = shown(&[table()]).remove(0);
    assert_eq!(
        (&what["type"], &what["rows"], &what["groups"]),
        (&json!("parquet"), &json!(30), &json!(1)),
        "{what}"
    );
    let columns = json!([
        {"name": "label", "type": "int64"}, {"name": "source", "type": "text"}, {"name": "mean", "type": "8 bytes"},
        {"name": "raw", "type": "bytes"}, {"name": "scores", "type": "list of float, may be missing"},
    ]);
    assert_eq!(what["columns"], columns);
    assert_eq!(what["metadata"], json!({"dtype": "float16"}));
    let head = what["head"].as_array().unwrap();
    assert_eq!(head.len(), 20);
    // What a browser's numbers do not hold is a text.
    let first = json!(["9223372036854775807", "<b>picture 0</b>", "[1, -2, 0.5, inf]", "00 (1 byte)", null]);
    assert_eq!(head[0], first);
    assert_eq!(head[1][0], 28);
    assert_eq!(head[1][1].as_str().unwrap().chars().count(), 201);
    assert_eq!(head[1][4], "[0, 0.1, 0.2, 0.3, 0.4, 0.5, …], 10 values");
    assert_eq!(head[9][3], "09 09 09 09 09 09 09 09 09 09 09 09 … (19 bytes)");
    assert!(what["problem"].is_null());
}

#[test]
fn a_damaged_or_hostile_one_is_told_of_in_one_line() {
    let whole = table();
    let mut files = vec![bomb(), [b"PAR1".as_slice(), &[0xff; 64], b"PAR1"].concat(), b"PAR1".to_vec()];
    // Cut, and with bytes that are others, most of them in the footer and the heads of pages.
    files.extend((1..20).map(|part| whole[..whole.len() * part / 20].to_vec()));
    for at in (4..whole.len()).step_by(whole.len() / 150) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0xff;
        files.push(bytes);
    }
    let shown = shown(&files);
    assert_eq!(shown.len(), files.len());
    for what in &shown {
        let problem = what["text"].as_str().or(what["problem"].as_str());
        match what["type"].as_str().unwrap() {
            "parquet" => assert!(problem.is_some() != what["head"].is_array(), "{what}"),
            "unreadable" => assert!(problem.unwrap().starts_with("cannot be read: "), "{what}"),
            other => panic!("{other}: {what}"),
        }
        assert!(problem.is_none_or(|text| !text.contains('\n') && text.len() < 500), "{what}");
    }
    // The schema of the bomb is there; its rows are not.
    assert_eq!(shown[0]["columns"], json!([{"name": "zeros", "type": "bytes"}]));
    let text = "its rows cannot be read: it is damaged, or takes more than 256 MiB or 10 s";
    assert_eq!(shown[0]["problem"], text);
    assert_eq!((&shown[1]["type"], &shown[2]["type"]), (&json!("unreadable"), &json!("unreadable")));
}
