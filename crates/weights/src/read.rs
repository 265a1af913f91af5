//! A file of weights of either form, known by its first bytes.

use crate::file;
use crate::head::Head;
use crate::named::Weights;
use crate::pickle;
use anyhow::Result;
use stage::BadInputExt;
use std::fs::File;
use std::path::Path;

impl Weights {
    /// Opens a safetensors file, whose tensors are read when they are asked for, or reads a file of `torch.save` (`.pth`,
    /// `.ckpt`). Tensors come onto the CPU.
    ///
    /// # Errors
    /// Bad input when the file is missing, truncated or neither of these.
    pub fn read(path: &Path) -> Result<Self> {
        let context = || format!("reading {}", path.display());
        stage::refuse_impostor(path)?;
        let file = File::open(path).bad_input(context)?;
        if pickle::is_pickle(&file::begin(&file).bad_input(context)?) {
            return pickle::read(path);
        }
        let head = Head::of_whole(&file).bad_input(context)?;
        Ok(Self::stored(path.display().to_string(), file, head))
    }
}
