//! Tensors in NumPy's archives.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../../../crates/extractors/tests/recipe/numbers.rs"]
mod recipe;

use evaluate::arrays::{self, statistics};
use npz::{Npz, Writer};
use recipe::golden;
use tch::{Kind, Tensor};

#[test]
fn statistics_of_either_compression() {
    for file in ["npz_ref_stored.npz", "npz_ref_deflate.npz"] {
        let mut npz = Npz::open(&golden(file)).unwrap();
        let (pool, spatial) = (statistics(&mut npz, "").unwrap(), statistics(&mut npz, "_s").unwrap());
        assert_eq!(pool.covariance.size(), [pool.width(); 2]);
        assert_ne!(pool.width(), spatial.width());
    }
}

#[test]
fn what_is_written_is_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.npz");
    let matrix = Tensor::arange(6, (Kind::Double, tch::Device::Cpu)).reshape([2, 3]) / 7.0;
    let row = Tensor::from_slice(&[1.5f32, -2.0]);
    let mut writer = Writer::create(&path).unwrap();
    arrays::write(&mut writer, "sigma", &matrix).unwrap();
    arrays::write(&mut writer, "mu", &row).unwrap();
    writer.finish().unwrap();
    let mut npz = Npz::open(&path).unwrap();
    assert_eq!(arrays::tensor(&mut npz, "sigma").unwrap(), matrix);
    assert_eq!(arrays::tensor(&mut npz, "mu").unwrap(), row.to_kind(Kind::Double));
}

/// An archive of one array.
fn archive(folder: &std::path::Path, name: &str, descr: &str, shape: &[usize], values: &[u8]) -> Npz {
    let path = folder.join("x.npz");
    let mut writer = Writer::create(&path).unwrap();
    writer.start(name, descr, shape).unwrap();
    writer.values(values).unwrap();
    writer.finish().unwrap();
    Npz::open(&path).unwrap()
}

#[test]
fn labels_of_any_whole_type_are_read_and_what_is_none_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let cases: [(&str, Vec<u8>); 11] = [
        ("|b1", vec![0, 1]),
        ("|u1", vec![0, 1]),
        ("|i1", vec![0, 1]),
        ("<u2", [0u16, 1].map(u16::to_le_bytes).concat()),
        ("<i2", [0i16, 1].map(i16::to_le_bytes).concat()),
        (">i2", [0i16, 1].map(i16::to_be_bytes).concat()),
        ("<u4", [0u32, 1].map(u32::to_le_bytes).concat()),
        ("<i4", [0i32, 1].map(i32::to_le_bytes).concat()),
        ("<u8", [0u64, 1].map(u64::to_le_bytes).concat()),
        ("<i8", [0i64, 1].map(i64::to_le_bytes).concat()),
        ("<f4", [0f32, 1.0].map(f32::to_le_bytes).concat()),
    ];
    for (descr, values) in cases {
        let mut npz = archive(folder.path(), "arr_1", descr, &[2], &values);
        assert_eq!(npz::labels(&mut npz, 2).unwrap().unwrap(), [0, 1], "{descr}");
    }
    for (bad, word) in [(-1.0, "-1"), (0.5, "0.5"), (f64::NAN, "NaN"), (1e300, "1000")] {
        let mut npz =
            archive(folder.path(), "arr_1", "<f8", &[2], &[0.0, bad].map(f64::to_le_bytes).concat());
        let error = npz::labels(&mut npz, 2).unwrap_err();
        assert_eq!(stage::exit_code(&error), 2);
        let text = error.to_string();
        assert!(text.contains(word) && text.contains("picture 1 is no label"), "{text}");
    }
}
