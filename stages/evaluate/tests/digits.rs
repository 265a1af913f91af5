//! The weights that are shipped for the digits.

use evaluate::pictures::Pictures;
use extractors::inception::Inception;
use extractors::inception::resize::{RawPictures, Resize, prepare};
use pictures::Selection;
use std::path::Path;
use tch::{Device, Kind, Tensor};
use weights::Weights;

const DIGITS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../data/digits");
/// As the program that trained them splits the pictures.
const HELD_OUT: usize = 5;

#[test]
fn the_digits_inception_reads_held_out_digits() {
    let folder = Path::new(DIGITS);
    let weights = || Weights::read(&folder.join("inception.safetensors")).unwrap();
    let bias = weights().get("fc.bias").unwrap().unwrap().to_kind(Kind::Float);
    let network = Inception::load(weights(), Device::Cpu).unwrap();
    let mut labels: Vec<i64> = Vec::new();
    let mut held_out: Vec<u8> = Vec::new();
    let mut give = |batch: evaluate::pictures::Batch| {
        let one = batch.bytes.len() / batch.count;
        let rows = (0..batch.count).filter(|i| (batch.first + i).is_multiple_of(HELD_OUT));
        for i in rows {
            held_out.extend(&batch.bytes[i * one..][..one]);
            labels.push(batch.labels.as_ref().unwrap()[i]);
        }
        Ok(())
    };
    Pictures::open(folder, &Selection::default())
        .unwrap()
        .batches(Some(32), 0..usize::MAX, 64, &mut give)
        .unwrap();
    let mut right = 0;
    for (bytes, wanted) in held_out.chunks(60 * 32 * 32 * 3).zip(labels.chunks(60)) {
        let pictures = prepare(&RawPictures { bytes, size: [32, 32] }, Resize::Adm, 2).unwrap();
        let logits = network.features(&pictures).unwrap().logits + &bias;
        right +=
            logits.argmax(1, false).eq_tensor(&Tensor::from_slice(wanted)).sum(Kind::Int64).int64_value(&[]);
    }
    let accuracy = right as f64 / labels.len() as f64;
    assert!(accuracy >= 0.95, "{:.2} % of {}", 100.0 * accuracy, labels.len());
    let size = std::fs::metadata(folder.join("inception.safetensors")).unwrap().len();
    assert!(size < 1_500_000, "{size} bytes");
}
