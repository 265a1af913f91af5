//! What a file of tensors or of a table says of itself, without reading what it holds.

use serde_json::{Map, Value, json};
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// A header is no longer.
const HEADER: u64 = 32 << 20;
/// So many tensors are listed.
const LISTED: usize = 2000;

/// The names, types and shapes of a safetensors file.
pub fn safetensors(path: &Path) -> Option<Value> {
    let mut file = File::open(path).ok()?;
    let mut length = [0; 8];
    file.read_exact(&mut length).ok()?;
    let (length, size) = (u64::from_le_bytes(length), file.metadata().ok()?.len());
    if length > HEADER || length + 8 > size {
        return None;
    }
    let mut header = Vec::new();
    file.take(length).read_to_end(&mut header).ok()?;
    let header: Map<String, Value> = serde_json::from_slice(&header).ok()?;
    let tensors: Vec<Value> = header
        .iter()
        .filter(|(name, _)| *name != "__metadata__")
        .filter_map(|(name, tensor)| {
            let (dtype, shape) = (tensor.get("dtype")?, tensor.get("shape")?);
            Some(json!({ "name": name, "dtype": dtype, "shape": shape }))
        })
        .take(LISTED)
        .collect();
    if tensors.is_empty() && header.len() > 1 {
        return None;
    }
    let metadata = header.get("__metadata__").cloned().unwrap_or_else(|| json!({}));
    Some(json!({ "type": "safetensors", "tensors": tensors, "metadata": metadata }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_and_a_claim_is_not_believed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.safetensors");
        let header =
            br#"{"__metadata__":{"step":"5"},"w":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}}"#;
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header);
        bytes.extend([0; 24]);
        std::fs::write(&path, &bytes).unwrap();
        let value = safetensors(&path).unwrap();
        assert_eq!(value["tensors"][0]["shape"], json!([2, 3]));
        assert_eq!(value["metadata"]["step"], "5");
        bytes[7] = 0x7f;
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(safetensors(&path), None);
    }
}
