//! What writing and reading a file takes beside its tensors. Alone in its program, whose memory is measured.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use measure::{forget_peak, held_memory, peak_memory};
use std::collections::BTreeMap;
use tch::{Device, Kind, Tensor};
use weights::Weights;
use weights::pickle::{self, Item};

/// The most that may come on top, bytes.
const ALLOWED: u64 = 64 << 20;
/// Numbers of a tensor; four of them are 256 MB.
const COUNT: i64 = 16 << 20;

/// How far the peak rises over what is held before, or over `over` more than that.
fn on_top<T>(over: u64, work: impl FnOnce() -> T) -> u64 {
    forget_peak().unwrap();
    let before = held_memory().unwrap();
    drop(work());
    peak_memory().unwrap().saturating_sub(before + over)
}

#[test]
fn a_file_takes_no_memory_of_its_size() {
    let dir = tempfile::tempdir().unwrap();
    let tensors: BTreeMap<String, Tensor> = ["a", "b", "c", "d"]
        .map(|name| (name.to_string(), Tensor::ones([COUNT], (Kind::Float, Device::Cpu))))
        .into();
    let (ours, theirs) = (dir.path().join("a.safetensors"), dir.path().join("a.pt"));
    let named = || tensors.iter().map(|(name, tensor)| (name.clone(), tensor));
    let taken = on_top(0, || weights::write(&ours, named(), &BTreeMap::new()).unwrap());
    assert!(taken < ALLOWED, "writing takes {taken} bytes on top");
    let taken = on_top(0, || pickle::write(&theirs, &Item::State(named().collect())).unwrap());
    assert!(taken < ALLOWED, "writing a file of torch takes {taken} bytes on top");
    let taken = on_top(0, || weights::verify(&ours).unwrap());
    assert!(taken < ALLOWED, "checking takes {taken} bytes on top");
    let one = 4 * COUNT as u64;
    let taken = on_top(one, || Weights::read(&ours).unwrap().take("b", &[COUNT]).unwrap());
    assert!(taken < ALLOWED, "reading one tensor takes {taken} bytes on top of it");
    let taken = on_top(4 * one, || Weights::read(&theirs).unwrap().into_tensors().unwrap());
    assert!(taken < ALLOWED, "reading a file of torch takes {taken} bytes on top of its tensors");
}
