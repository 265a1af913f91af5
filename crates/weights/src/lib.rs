//! Named tensors on disk: safetensors, read and written strictly, and what `torch.save` wrote.

mod file;
mod finite;
mod head;
mod memory;
mod named;
pub mod pickle;
mod read;

pub use file::{metadata, verify, write};
pub use finite::finite;
pub use named::Weights;
