//! Apache Arrow as far as the stages use it, by the paths of its own crate: arrays, their types, and taking values by their
//! numbers. The whole crate brings arithmetic, casts, rows and texts, which nobody here calls and which take long to build.

/// Arrays and their builders.
pub mod array {
    pub use arrow_array::builder::*;
    pub use arrow_array::cast::*;
    pub use arrow_array::*;
}

/// The memory below arrays.
pub mod buffer {
    pub use arrow_buffer::*;
}

/// What is done with whole arrays.
pub mod compute {
    pub use arrow_select::take::take;
}

/// Schemas and types.
pub mod datatypes {
    pub use arrow_array::types::*;
    pub use arrow_array::{ArrowNativeTypeOp, ArrowNumericType, ArrowPrimitiveType};
    pub use arrow_schema::{DataType, Field, FieldRef, Fields, Schema, SchemaBuilder, SchemaRef, TimeUnit};
}
