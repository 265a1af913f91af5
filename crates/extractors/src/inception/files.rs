//! Weights in any of the forms they are published in.

use super::graph_def::Graph;
use anyhow::Result;
use stage::BadInputExt;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use weights::Weights;

/// Reads a TensorFlow graph (`.pb`), a file of `torch.save` (`.pth`) or safetensors, whichever the first bytes show.
///
/// # Errors
/// Bad input that names the file and what is wrong with it.
pub fn read(path: &Path) -> Result<Weights> {
    let mut start = Vec::new();
    let context = || format!("reading {}", path.display());
    File::open(path).and_then(|f| f.take(16).read_to_end(&mut start)).bad_input(context)?;
    // safetensors: eight bytes of length, then JSON. A GraphDef begins with its first node: field 1, a message.
    if start.get(8) != Some(&b'{') && start.first() == Some(&0x0a) {
        return Graph::read(path)?.weights();
    }
    Weights::read(path)
}
