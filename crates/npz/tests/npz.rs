//! Archives by NumPy, good and bad.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../../extractors/tests/recipe/numbers.rs"]
mod recipe;

use npz::{Npz, Numbers, Writer, labels, picture_shape};
use recipe::{golden, json};
use std::io::Write;
use std::path::{Path, PathBuf};
use zip::write::SimpleFileOptions;

#[test]
fn every_array_of_the_golden_archives_is_read() {
    for (file, arrays) in json("npz.json").as_object().unwrap() {
        let mut npz = Npz::open(&golden(file)).unwrap();
        for (name, wanted) in arrays.as_object().unwrap() {
            let values = npz.numbers(name).unwrap();
            let shape: Vec<u64> =
                wanted["shape"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).collect();
            assert_eq!(values.shape.iter().map(|&n| n as u64).collect::<Vec<_>>(), shape, "{file} {name}");
            let sum: f64 = values.values.iter().sum();
            let recorded = wanted["sum"].as_f64().unwrap();
            assert!(
                (sum - recorded).abs() <= 1e-9 * recorded.abs().max(1.0),
                "{file} {name}: {sum}, {recorded}"
            );
            let first: Vec<f64> =
                wanted["first"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect();
            assert_eq!(values.values[..first.len()], first, "{file} {name}");
        }
    }
}

#[test]
fn fortran_order_means_the_same_matrix() {
    let mut odd = Npz::open(&golden("npz_odd.npz")).unwrap();
    let mut plain = Npz::open(&golden("npz_ref_stored.npz")).unwrap();
    let (a, b) = (odd.numbers("fortran_f8").unwrap(), plain.numbers("sigma").unwrap());
    assert_eq!(a, b);
    let (a, b) = (odd.numbers("bigendian_f4").unwrap(), odd.numbers("v3").unwrap());
    assert_eq!(a, b);
}

fn npy(descr: &str, fortran: &str, shape: &str, values: &[u8]) -> Vec<u8> {
    let dictionary = format!("{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, }}\n");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((dictionary.len() as u16).to_le_bytes());
    bytes.extend(dictionary.as_bytes());
    bytes.extend(values);
    bytes
}

fn archive(folder: &Path, array: &[u8]) -> PathBuf {
    let path = folder.join("x.npz");
    let mut zip = zip::ZipWriter::new(std::fs::File::create(&path).unwrap());
    zip.start_file("arr_0.npy", SimpleFileOptions::default()).unwrap();
    zip.write_all(array).unwrap();
    zip.finish().unwrap();
    path
}

#[test]
fn what_is_no_array_of_pictures_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let pixels = [0u8; 48];
    let cases: [(&str, Vec<u8>); 9] = [
        ("float32", npy("'<f4'", "False", "(1, 2, 2, 3)", &pixels)),
        ("Fortran order", npy("'|u1'", "True", "(1, 4, 4, 3)", &pixels)),
        ("[N, H, W, 3]", npy("'|u1'", "False", "(3, 4, 4)", &pixels)),
        ("truncated", npy("'|u1'", "False", "(2, 4, 4, 3)", &pixels)),
        ("truncated", npy("'|u1'", "False", "(1, 2, 4, 3)", &pixels)),
        ("impossible", npy("'|u1'", "False", "(4294967296, 4294967296, 4294967296, 3)", &pixels)),
        ("records", npy("[('a', '<f4')]", "False", "(12,)", &pixels)),
        ("not a .npy", b"not an array at all".to_vec()),
        ("header", b"\x93NUMPY\x01\x00\xff".to_vec()),
    ];
    for (what, bytes) in cases {
        let path = archive(folder.path(), &bytes);
        let error = Npz::open(&path).and_then(|mut npz| picture_shape(&mut npz)).unwrap_err();
        let text = format!("{error:#}");
        assert_eq!(stage::exit_code(&error), 2, "{text}");
        let wanted = if what == "float32" { "<f4" } else { what };
        assert!(text.contains("arr_0") && text.contains(wanted) && !text.contains('\n'), "{what}: {text}");
    }
}

#[test]
fn a_cut_archive_is_refused_wherever_it_is_cut() {
    let folder = tempfile::tempdir().unwrap();
    let whole = std::fs::read(golden("npz_ref_deflate.npz")).unwrap();
    for length in (0..whole.len()).step_by(whole.len() / 40) {
        let path = folder.path().join("cut.npz");
        std::fs::write(&path, &whole[..length]).unwrap();
        let error = Npz::open(&path).err().expect("a cut archive was opened");
        assert_eq!(stage::exit_code(&error), 2);
        assert!(format!("{error:#}").contains("cut.npz"));
    }
}

#[test]
fn a_wrong_byte_is_found_by_the_checksum() {
    let folder = tempfile::tempdir().unwrap();
    let mut bytes = std::fs::read(golden("npz_ref_stored.npz")).unwrap();
    let values = bytes.windows(6).position(|w| w == b"\x93NUMPY").unwrap() + 200;
    bytes[values] ^= 1;
    let path = folder.path().join("flipped.npz");
    std::fs::write(&path, &bytes).unwrap();
    let error = Npz::open(&path).and_then(|mut npz| npz.numbers("arr_0")).unwrap_err();
    assert_eq!(stage::exit_code(&error), 2);
}

#[test]
fn mutated_archives_neither_panic_nor_take_memory() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mutated.npz");
    for file in ["npz_odd.npz", "npz_ref_deflate.npz"] {
        let whole = std::fs::read(golden(file)).unwrap();
        let stream = recipe::Stream::new(1, file);
        for round in 0..400 {
            let mut bytes = whole.clone();
            for k in 0..1 + round % 4 {
                let at = stream.raw(round * 8 + k) as usize % bytes.len();
                bytes[at] = stream.u8(round * 8 + k + 4);
            }
            std::fs::write(&path, &bytes).unwrap();
            let Ok(mut npz) = Npz::open(&path) else { continue };
            for name in
                ["arr_0", "mu", "sigma", "mu_s", "sigma_s", "fortran_f8", "v3", "scalar_i8", "empty_f4"]
            {
                let _ = npz.numbers(name);
            }
        }
    }
}

#[test]
fn what_is_written_is_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.npz");
    let matrix = [0.5f64, 1.0, -1.5, 2.0, 1e300, 0.0];
    let mut writer = Writer::create(&path).unwrap();
    writer.start("arr_0", "|u1", &[1, 1, 2, 3]).unwrap();
    writer.values(&[1, 2, 3]).unwrap();
    writer.values(&[4, 5, 6]).unwrap();
    writer.start("sigma", "<f8", &[2, 3]).unwrap();
    writer.values(&matrix.map(f64::to_le_bytes).concat()).unwrap();
    writer.integers("arr_1", &[7]).unwrap();
    writer.note("note.json", b"{}").unwrap();
    writer.finish().unwrap();
    let mut npz = Npz::open(&path).unwrap();
    assert_eq!(picture_shape(&mut npz).unwrap(), [1, 1, 2]);
    assert_eq!(npz.numbers("sigma").unwrap(), Numbers { shape: vec![2, 3], values: matrix.into() });
    assert_eq!(labels(&mut npz, 1).unwrap().unwrap(), [7]);
    assert_eq!(npz.note("note.json").unwrap().unwrap(), b"{}");
    assert!(npz.note("absent.json").unwrap().is_none());
}

#[test]
fn labels_are_whole_numbers_of_any_type_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let read = |descr: &str, values: &[u8]| {
        let path = folder.path().join("x.npz");
        let mut zip = zip::ZipWriter::new(std::fs::File::create(&path).unwrap());
        zip.start_file("arr_1.npy", SimpleFileOptions::default()).unwrap();
        zip.write_all(&npy(&format!("'{descr}'"), "False", "(2,)", values)).unwrap();
        zip.finish().unwrap();
        labels(&mut Npz::open(&path).unwrap(), 2)
    };
    let types: [(&str, &[u8]); 14] = [
        ("|b1", &[1, 0]),
        ("|u1", &[1, 0]),
        ("|i1", &[1, 0]),
        ("<u2", &[1, 0, 0, 0]),
        ("<i2", &[1, 0, 0, 0]),
        (">i2", &[0, 1, 0, 0]),
        ("<u4", &[1, 0, 0, 0, 0, 0, 0, 0]),
        ("<i4", &[1, 0, 0, 0, 0, 0, 0, 0]),
        (">u4", &[0, 0, 0, 1, 0, 0, 0, 0]),
        ("<u8", &[1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        ("<i8", &[1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        ("<f2", &[0, 0x3c, 0, 0]),
        ("<f4", &[0, 0, 0x80, 0x3f, 0, 0, 0, 0]),
        ("<f8", &[0, 0, 0, 0, 0, 0, 0xf0, 0x3f, 0, 0, 0, 0, 0, 0, 0, 0]),
    ];
    for (descr, values) in types {
        assert_eq!(read(descr, values).unwrap().unwrap(), [1, 0], "{descr}");
    }
    let half = 0.5f32.to_le_bytes();
    let wrong: [(&str, Vec<u8>, &str); 5] = [
        ("<i2", vec![0, 0, 255, 255], "-1 for picture 1"),
        ("<f4", [half, [0; 4]].concat(), "0.5 for picture 0"),
        ("<f4", [[0; 4], f32::NAN.to_le_bytes()].concat(), "NaN for picture 1"),
        ("<f4", [[0; 4], f32::INFINITY.to_le_bytes()].concat(), "inf for picture 1"),
        ("<u8", [0u64, u64::MAX].map(u64::to_le_bytes).concat(), "for picture 1"),
    ];
    for (descr, values, what) in wrong {
        let error = read(descr, &values).unwrap_err();
        let text = format!("{error:#}");
        assert!(
            stage::exit_code(&error) == 2 && text.contains(what) && text.contains("is no label"),
            "{text}"
        );
    }
}
