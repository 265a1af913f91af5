//! One picture of a dataset, still encoded.

use crate::decode::decode;
use crate::rgb::Rgb;
use anyhow::{Result, bail};
use stage::bad_input;

/// One picture, still encoded.
#[derive(Clone, Debug, PartialEq)]
pub struct Picture {
    /// Its row in its file.
    pub row: usize,
    /// Its name, `0017.png`; empty where the file gives none.
    pub name: String,
    /// The PNG, JPEG, … file.
    pub bytes: Vec<u8>,
    /// Class, where there are labels.
    pub label: Option<i64>,
}

impl Picture {
    /// For errors, behind the name of the file: `row 17 (0017.png)`.
    pub fn place(&self) -> String {
        match self.name.as_str() {
            "" => format!("row {}", self.row),
            name => format!("row {} ({name})", self.row),
        }
    }
}

/// A picture of a dataset, or why there is none in its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Encoded {
    /// Where it stands, for errors.
    pub place: String,
    /// What was read.
    pub picture: Picture,
    /// Why nothing could be.
    pub fault: Option<String>,
}

impl Encoded {
    /// Decodes it.
    ///
    /// # Errors
    /// When there is no picture, or none that can be decoded; as [`crate::decode()`].
    pub fn decode(&self) -> Result<Rgb> {
        match &self.fault {
            Some(fault) => bail!("{fault}"),
            None => decode(&self.picture.bytes),
        }
    }

    /// The picture, which must be there.
    ///
    /// # Errors
    /// Bad input when nothing could be read in its place.
    pub fn present(self) -> Result<Picture> {
        match self.fault {
            Some(fault) => bad_input!("{}: {fault}", self.place),
            None => Ok(self.picture),
        }
    }
}
