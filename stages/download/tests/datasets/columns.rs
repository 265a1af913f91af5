//! Columns of pictures and of labels, under whatever name and in whatever type.

use crate::support::{
    digits, download, images, integers, labels, opens, png, refuses, rows, said, table, table_as, texts,
};
use arrow::array::{
    Array, ArrayRef, BinaryArray, BooleanArray, DictionaryArray, Float64Array, Int64Array, LargeBinaryArray,
    ListArray, NullArray, StringArray, StructArray,
};
use arrow::datatypes::{DataType, Field, Fields, Int32Type, Int64Type};
use parquet::basic::{BrotliLevel, Compression, GzipLevel, ZstdLevel};
use std::path::Path;
use std::sync::Arc;

fn folder(dir: &Path, columns: &[(&str, ArrayRef)]) -> std::path::PathBuf {
    let folder = dir.join("data");
    let _ = std::fs::remove_dir_all(&folder);
    table(&folder.join("a.parquet"), columns);
    folder
}

#[test]
fn a_column_of_labels_is_taken_where_it_is_clear_and_offered_where_it_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let try_with = |columns: &[(&str, ArrayRef)], more: &[&str]| {
        download(dir.path(), &folder(dir.path(), columns), more)
    };
    let image = || ("image", images(0, 3));

    let output =
        try_with(&[image(), ("labels", integers(&[0, 1, 2])), ("image_id", integers(&[7, 8, 9]))], &[]);
    assert!(said(&output).contains("labels come from the column labels"), "{}", said(&output));
    assert_eq!(labels(&opens(&output, dir.path())), [0, 1, 2]);
    std::fs::remove_dir_all(dir.path().join("images")).unwrap();

    let cifar = || {
        [("img", images(0, 3)), ("fine_label", integers(&[5, 6, 7])), ("coarse_label", integers(&[0, 1, 1]))]
    };
    refuses(
        &try_with(&cifar(), &[]),
        dir.path(),
        "the columns fine_label, coarse_label perhaps hold labels; choose one with --label-column; --labels drop does without labels",
    );
    refuses(&try_with(&cifar(), &["--label-column", "fine_labels"]), dir.path(), "did you mean fine_label?");
    assert_eq!(
        labels(&opens(&try_with(&cifar(), &["--label-column", "coarse_label"]), dir.path())),
        [0, 1, 1]
    );
    let dropped = opens(&try_with(&cifar(), &["--labels", "drop"]), dir.path());
    assert!(dropped.manifest().classes == 1 && dropped.iter().all(|p| p.unwrap().label.is_none()));
    std::fs::remove_dir_all(dir.path().join("images")).unwrap();

    refuses(
        &try_with(&[image(), ("digit", integers(&[0, 1, 2]))], &[]),
        dir.path(),
        "the column digit perhaps holds labels",
    );
    let output = try_with(&[image(), ("caption", texts(&["a", "b", "c"]))], &[]);
    let what = "no labels are taken, the data is one class; --label-column takes them from one of the columns caption";
    assert!(said(&output).contains(what), "{}", said(&output));
    assert_eq!(opens(&output, dir.path()).manifest().classes, 1);
}

#[test]
fn a_column_of_pictures_is_taken_where_it_is_the_only_one() {
    let dir = tempfile::tempdir().unwrap();
    let only = folder(dir.path(), &[("img", images(0, 2)), ("label", integers(&[0, 1]))]);
    let taken = opens(&download(dir.path(), &only, &[]), dir.path());
    assert_eq!(rows(&taken), [("0.png".to_string(), Some(0)), ("1.png".to_string(), Some(1))]);
    std::fs::remove_dir_all(dir.path().join("images")).unwrap();
    let two = folder(dir.path(), &[("photo", images(0, 2)), ("mask", images(5, 2))]);
    refuses(
        &download(dir.path(), &two, &[]),
        dir.path(),
        "pictures in the columns photo, mask; choose one with --image-column",
    );
    let mask = opens(&download(dir.path(), &two, &["--image-column", "mask"]), dir.path());
    assert_eq!(rows(&mask)[0].0, "5.png");
    std::fs::remove_dir_all(dir.path().join("images")).unwrap();
    let none = folder(dir.path(), &[("text", texts(&["a"]))]);
    refuses(&download(dir.path(), &none, &[]), dir.path(), "no column of pictures; there are text");
}

#[test]
fn labels_of_every_type_become_classes_or_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let label = |label: ArrayRef, more: &[&str]| {
        let folder = folder(dir.path(), &[("image", images(0, 3)), ("label", label)]);
        download(dir.path(), &folder, more)
    };
    let dictionary: DictionaryArray<Int32Type> = vec!["cow", "ant", "cow"].into_iter().collect();
    let names: [(ArrayRef, Vec<i64>, &[&str]); 4] = [
        (texts(&["cow", "ant", "cow"]), vec![1, 0, 1], &["ant", "cow"]),
        (Arc::new(dictionary), vec![1, 0, 1], &["ant", "cow"]),
        (Arc::new(BooleanArray::from(vec![true, false, true])), vec![1, 0, 1], &[]),
        (Arc::new(Float64Array::from(vec![2.0, 0.0, 1.0])), vec![2, 0, 1], &[]),
    ];
    for (array, expected, names) in names {
        let taken = opens(&label(array, &[]), dir.path());
        assert_eq!(
            (labels(&taken), taken.manifest().class_names.as_slice()),
            (expected, names.map_names().as_slice())
        );
    }
    std::fs::remove_dir_all(dir.path().join("images")).unwrap();
    let list = ListArray::from_iter_primitive::<Int64Type, _, _>(vec![Some(vec![Some(1)]); 3]);
    let wrong: [(ArrayRef, &str); 5] = [
        (
            Arc::new(Int64Array::from(vec![Some(0), None, Some(1)])),
            "a.parquet row 1: no label; --labels drop does without labels",
        ),
        (integers(&[0, -1, 1]), "label -1 is no class; --labels drop does without labels"),
        (Arc::new(Float64Array::from(vec![0.5, 1.0, 2.0])), "label 0.5 is no class"),
        (Arc::new(list), "the column label holds no labels"),
        (Arc::new(NullArray::new(3)), "no label"),
    ];
    for (array, what) in wrong {
        refuses(&label(Arc::clone(&array), &[]), dir.path(), what);
        // Whatever they are.
        let dropped = opens(&label(array, &["--labels", "drop"]), dir.path());
        assert_eq!((dropped.manifest().rows, dropped.manifest().classes), (3, 1));
        std::fs::remove_dir_all(dir.path().join("images")).unwrap();
    }
    refuses(
        &label(integers(&[0, 1, 2]), &["--labels", "drop", "--label-column", "label"]),
        dir.path(),
        "contradict",
    );
}

trait Names {
    fn map_names(&self) -> Vec<String>;
}

impl Names for &[&str] {
    fn map_names(&self) -> Vec<String> {
        self.iter().map(|name| name.to_string()).collect()
    }
}

#[test]
fn names_of_classes_travel_and_must_agree() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let write = |file: &str, names: &[&str], labels: &[i64]| {
        let features = serde_json::json!({"label": {"names": names, "_type": "ClassLabel"}});
        let columns = [("image", images(0, labels.len())), ("label", integers(labels))];
        table_as(&data.join(file), &columns, Compression::UNCOMPRESSED, Some(features));
    };
    write("a.parquet", &["ant", "bee", "cow"], &[0, 1]);
    let taken = opens(&download(dir.path(), &data, &[]), dir.path());
    assert_eq!((taken.manifest().classes, taken.manifest().class_names.len()), (3, 3));
    // A dataset that was downloaded is one.
    let images = dir.path().join("images");
    std::fs::rename(&images, dir.path().join("first")).unwrap();
    let again = opens(&download(dir.path(), &dir.path().join("first"), &[]), dir.path());
    assert_eq!(
        (again.manifest().class_names.as_slice(), labels(&again)),
        (taken.manifest().class_names.as_slice(), vec![0, 1])
    );
    std::fs::remove_dir_all(&images).unwrap();
    write("b.parquet", &["bee", "ant", "cow"], &[0, 1]);
    refuses(&download(dir.path(), &data, &[]), dir.path(), "name the classes of `label` differently");
    std::fs::remove_file(data.join("b.parquet")).unwrap();
    write("a.parquet", &["ant", "bee"], &[0, 2]);
    refuses(&download(dir.path(), &data, &[]), dir.path(), "a label is 2, but it names 2 classes");
    // Names that are their numbers say nothing.
    let digits = opens(&download(dir.path(), &digits(), &[]), dir.path());
    assert_eq!((digits.manifest().classes, digits.manifest().class_names.len()), (10, 0));
}

#[test]
fn every_codec_and_form_of_bytes_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let codecs = [
        Compression::SNAPPY,
        Compression::GZIP(GzipLevel::default()),
        Compression::BROTLI(BrotliLevel::default()),
        Compression::LZ4,
        Compression::LZ4_RAW,
        Compression::ZSTD(ZstdLevel::default()),
    ];
    for codec in codecs {
        table_as(&dir.path().join("data/a.parquet"), &[("image", images(0, 4))], codec, None);
        let taken = opens(&download(dir.path(), Path::new("data"), &[]), dir.path());
        assert_eq!(taken.manifest().rows, 4, "{codec}");
    }
    let bytes: Vec<Vec<u8>> = (0..3).map(png).collect();
    let plain = || Arc::new(BinaryArray::from_iter_values(&bytes)) as ArrayRef;
    let keys = arrow::array::Int32Array::from(vec![0, 1, 2]);
    let coded = Arc::new(DictionaryArray::<Int32Type>::try_new(keys, plain()).unwrap()) as ArrayRef;
    let parts = |bytes: ArrayRef, path: ArrayRef| {
        let fields: Fields = vec![
            Field::new("bytes", bytes.data_type().clone(), true),
            Field::new("path", path.data_type().clone(), true),
        ]
        .into();
        Arc::new(StructArray::new(fields, vec![bytes, path], None)) as ArrayRef
    };
    let forms = [
        plain(),
        Arc::new(LargeBinaryArray::from_iter_values(&bytes)),
        Arc::clone(&coded),
        parts(coded, Arc::new(StringArray::from(vec![None::<&str>; 3]))),
        parts(plain(), Arc::new(NullArray::new(3))),
    ];
    for form in forms {
        let kind = form.data_type().clone();
        let taken = opens(&download(dir.path(), &folder(dir.path(), &[("image", form)]), &[]), dir.path());
        let read: Vec<Vec<u8>> = taken.iter().map(|p| p.unwrap().bytes).collect();
        assert_eq!(read, bytes, "{kind}");
    }
}

#[test]
fn files_without_rows_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let none: ArrayRef = Arc::new(BinaryArray::from_iter_values(Vec::<Vec<u8>>::new()));
    let folder = folder(dir.path(), &[("image", none), ("label", integers(&[]))]);
    refuses(&download(dir.path(), &folder, &[]), dir.path(), ": no rows in its Parquet files");
}

#[test]
fn a_row_without_a_picture_is_bad() {
    let dir = tempfile::tempdir().unwrap();
    let fields: Fields =
        vec![Field::new("bytes", DataType::Binary, true), Field::new("path", DataType::Utf8, true)].into();
    let bytes = BinaryArray::from_iter([Some(png(0)), None, None, Some(png(1))]);
    let paths = StringArray::from(vec![Some("0.png"), Some("1.png"), None, Some("3.png")]);
    let valid = vec![true, true, false, true].into();
    let array = StructArray::new(fields, vec![Arc::new(bytes), Arc::new(paths)], Some(valid));
    let folder = folder(dir.path(), &[("image", Arc::new(array)), ("label", integers(&[0, 1, 2, 3]))]);
    refuses(
        &download(dir.path(), &folder, &[]),
        dir.path(),
        "a.parquet row 1 (1.png): not a picture: no bytes, only the path 1.png",
    );
    let taken = opens(&download(dir.path(), &folder, &["--max-bad", "0.5"]), dir.path());
    assert_eq!((labels(&taken), taken.manifest().classes), (vec![0, 3], 4));
    assert_eq!(taken.manifest().bad, ["a.parquet row 1 (1.png)", "a.parquet row 2"]);
}
