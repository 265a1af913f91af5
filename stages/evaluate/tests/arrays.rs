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
