//! A network's tensor under its name.

use tch::Tensor;

/// One parameter, under its name in the reference's state dict.
pub struct Parameter {
    /// The name.
    pub name: String,
    /// The values; they share memory with the layer's own.
    pub tensor: Tensor,
    /// Whether it is trained; the position table is not.
    pub trained: bool,
}
