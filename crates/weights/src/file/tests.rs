//! What is written is read, and what has changed is noticed.

use super::*;
use crate::Weights;
use safetensors::SafeTensors;
use tch::{Device, Kind};

fn tensors() -> BTreeMap<String, Tensor> {
    let long = Tensor::arange(3_000_000, (Kind::Float, Device::Cpu)).view([1000, 3000]);
    BTreeMap::from([
        ("transposed".to_string(), long.narrow(0, 0, 7).tr()),
        ("long".to_string(), long),
        ("half".to_string(), Tensor::from_slice(&[1f32, -2.5, 0.1]).to_kind(Kind::Half)),
        ("scalar".to_string(), Tensor::from(3i64)),
        ("none".to_string(), Tensor::zeros([0, 4], (Kind::Double, Device::Cpu))),
    ])
}

fn written(path: &Path, metadata: &[(&str, &str)]) {
    let metadata = metadata.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    write(path, tensors().iter().map(|(n, t)| (n.clone(), t)), &metadata).unwrap();
}

#[test]
fn what_is_written_is_read_by_us_and_by_the_format_s_own_reader() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a");
    written(&path, &[("checkpoint", "{}"), ("made-by", "x")]);
    let weights = Weights::read(&path).unwrap();
    assert_eq!(weights.metadata()["made-by"], "x");
    let (bytes, read) = (std::fs::read(&path).unwrap(), weights.into_tensors().unwrap());
    let theirs = SafeTensors::deserialize(&bytes).unwrap();
    for (name, tensor) in tensors() {
        assert_eq!((read[&name].size(), read[&name].kind()), (tensor.size(), tensor.kind()), "{name}");
        assert!(read[&name].equal(&tensor), "{name}");
        let mut ours: Vec<u8> = Vec::new();
        each_chunk(&tensor, &mut |bytes| {
            ours.extend(bytes);
            Ok(())
        })
        .unwrap();
        assert!(theirs.tensor(&name).unwrap().data() == ours, "{name}");
    }
    let again = dir.path().join("b");
    written(&again, &[("checkpoint", "{}"), ("made-by", "x")]);
    assert!(std::fs::read(&again).unwrap() == bytes);
    assert_eq!(verify(&path).unwrap(), None);
}

#[test]
fn a_file_of_the_format_s_own_writer_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a");
    let data: Vec<u8> = [1f32, 2.0].iter().flat_map(|x| x.to_le_bytes()).collect();
    let view = safetensors::tensor::TensorView::new(Dtype::F32, vec![2], &data).unwrap();
    let text = r#"{"checkpoint":"x"}"#.to_string();
    let metadata = std::collections::HashMap::from([("json".to_string(), text)]);
    std::fs::write(&path, safetensors::serialize([("t", view)], Some(metadata)).unwrap()).unwrap();
    assert_eq!(metadata_of(&path)["checkpoint"], "x");
    let mut weights = Weights::read(&path).unwrap();
    assert_eq!(Vec::<f32>::try_from(weights.take("t", &[2]).unwrap()).unwrap(), [1.0, 2.0]);
    assert_eq!(verify(&path).unwrap(), None);
}

fn metadata_of(path: &Path) -> BTreeMap<String, String> {
    metadata(path).unwrap()
}

#[test]
fn a_flipped_byte_anywhere_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a");
    let small = BTreeMap::from([
        ("b".to_string(), Tensor::from_slice(&[1f32, 2.0])),
        ("c".into(), Tensor::from(7i32)),
    ]);
    let metadata = BTreeMap::from([("checkpoint".to_string(), "{\"step\":6}".to_string())]);
    write(&path, small.iter().map(|(n, t)| (n.clone(), t)), &metadata).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let end = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let spaces = bytes[..end].iter().rev().take_while(|b| **b == b' ').count();
    for at in 0..bytes.len() {
        for flip in [1u8, 0x0f, 0x80] {
            let mut other = bytes.clone();
            other[at] ^= flip;
            std::fs::write(&path, &other).unwrap();
            let fault = verify(&path).unwrap();
            // What stands behind the last brace means nothing, as long as it is blank.
            let blank = (end - spaces..end).contains(&at) && other[at].is_ascii_whitespace();
            assert!(
                fault.is_some() || blank,
                "byte {at} ^ {flip}: {}",
                String::from_utf8_lossy(&other[8..end])
            );
        }
    }
    for length in 0..bytes.len() {
        std::fs::write(&path, &bytes[..length]).unwrap();
        assert!(verify(&path).unwrap().is_some(), "cut to {length}");
    }
}

#[test]
fn only_what_is_asked_for_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a");
    let both = BTreeMap::from(["a", "b"].map(|name| (name.to_string(), Tensor::from_slice(&[1f32, 2.0]))));
    write(&path, both.iter().map(|(n, t)| (n.clone(), t)), &BTreeMap::new()).unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let mut weights = Weights::read(&path).unwrap();
    assert_eq!(Vec::<f32>::try_from(weights.take("a", &[2]).unwrap()).unwrap(), [1.0, 2.0]);
    assert_eq!((weights.has("b"), weights.size("b")), (true, Some(vec![2])));
    let error = weights.take("b", &[2]).unwrap_err();
    let text = format!("{error:#}");
    assert!(text.contains("a: tensor b: damaged") && stage::exit_code(&error) == 2, "{text}");
    // What its header says is there even of one that is cut short.
    std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
    assert!(metadata(&path).unwrap().is_empty());
    let text = format!("{:#}", Weights::read(&path).err().unwrap());
    assert!(text.contains("cut short") && text.contains("download it again"), "{text}");
}

#[test]
fn metadata_of_other_programs_is_theirs() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a");
    let theirs = [("json", "not ours"), ("blake3", "0123"), ("format", "pt")];
    let texts: std::collections::HashMap<_, _> = theirs.map(|(k, v)| (k.to_string(), v.to_string())).into();
    let data = 1f32.to_le_bytes();
    let view = safetensors::tensor::TensorView::new(Dtype::F32, vec![1], &data).unwrap();
    std::fs::write(&path, safetensors::serialize([("t", view)], Some(texts)).unwrap()).unwrap();
    let weights = Weights::read(&path).unwrap();
    for (name, text) in theirs {
        assert_eq!(weights.metadata()[name], text);
    }
    assert_eq!(Vec::<f32>::try_from(weights.get("t").unwrap().unwrap()).unwrap(), [1.0]);
}
