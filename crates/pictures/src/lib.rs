//! Pictures: datasets of them as they come, the layout that `download` gives them, decoding, and the crop that ADM, DiT and
//! Switch-DiT train on.

pub mod dataset;

mod columns;
mod crop;
mod decode;
mod form;
mod jpeg;
mod labels;
mod manifest;
mod picture;
mod png;
mod resample;
mod rgb;
mod selection;
mod table;
mod writer;

pub use crop::center_crop;
pub use dataset::Dataset;
pub use decode::{MAX_BYTES, MAX_PIXELS, decode};
pub use labels::{Classes, Labels};
pub use manifest::{File, Manifest, Pictures};
pub use picture::{Encoded, Picture};
pub use resample::{Filter, resize};
pub use rgb::Rgb;
pub use selection::Selection;
pub use table::{Table, is_parquet, read_parquet};
pub use writer::PicturesWriter;
