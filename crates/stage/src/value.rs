//! Types that an argument may have, and their ranges.

use crate::spec::Kind;
use serde_json::Value as Json;
use std::ops::{RangeFrom, RangeInclusive};
use std::path::{Path, PathBuf};

/// A type that an argument may have.
pub trait Value: Sized {
    /// Its type in `--describe`.
    fn kind() -> Kind;
    /// Whether an argument of this type without a default must be given.
    const REQUIRED: bool = true;
    /// Reads it from the command line.
    ///
    /// # Errors
    /// What is wrong with the text.
    fn parse(text: &str) -> Result<Self, String>;
    /// The value when none is given and none is required.
    fn absent() -> Option<Self> {
        None
    }
    /// The value as JSON, for defaults.
    fn json(&self) -> Json;
}

/// A range of an argument: `1..=100` or `1..`.
pub trait Bounds {
    /// `kind` with this range.
    fn apply(&self, kind: Kind) -> Kind;
}

macro_rules! bounds {
    ($t:ty) => {
        impl Bounds for RangeInclusive<$t> {
            fn apply(&self, kind: Kind) -> Kind {
                bounded(kind, *self.start() as f64, Some(*self.end() as f64))
            }
        }
        impl Bounds for RangeFrom<$t> {
            fn apply(&self, kind: Kind) -> Kind {
                bounded(kind, self.start as f64, None)
            }
        }
    };
}
// The type of a bare literal.
bounds!(i32);

macro_rules! numbers {
    ($variant:ident, $wide:ty, $($t:ty),*) => {$(
        impl Value for $t {
            fn kind() -> Kind { numbers!(@kind $variant, $t) }
            fn parse(text: &str) -> Result<Self, String> {
                text.parse().map_err(|e| format!("`{text}`: {e}"))
            }
            fn json(&self) -> Json { Json::from(*self) }
        }
        bounds!($t);
    )*};
    (@kind Integer, $t:ty) => { Kind::Integer { min: (<$t>::MIN == 0).then_some(0), max: None } };
    (@kind Number, $t:ty) => { Kind::Number { min: None, max: None } };
}
numbers!(Integer, i64, u32, u64, usize, i64);
numbers!(Number, f64, f64);

fn bounded(kind: Kind, low: f64, high: Option<f64>) -> Kind {
    match kind {
        Kind::Integer { .. } => Kind::Integer { min: Some(low as i64), max: high.map(|h| h as i64) },
        Kind::Number { .. } => Kind::Number { min: Some(low), max: high },
        Kind::List { of } => Kind::List { of: Box::new(bounded(*of, low, high)) },
        other => other,
    }
}

impl Value for bool {
    fn kind() -> Kind {
        Kind::Flag
    }
    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| format!("`{text}` is neither true nor false"))
    }
    fn json(&self) -> Json {
        (*self).into()
    }
}

impl Value for String {
    fn kind() -> Kind {
        Kind::Text
    }
    fn parse(text: &str) -> Result<Self, String> {
        Ok(text.into())
    }
    fn json(&self) -> Json {
        self.clone().into()
    }
}

impl Value for PathBuf {
    fn kind() -> Kind {
        Kind::Path
    }
    fn parse(text: &str) -> Result<Self, String> {
        Ok(path(text))
    }
    fn json(&self) -> Json {
        self.to_string_lossy().into()
    }
}

/// A path without a slash at its end, behind which a link would be taken for what it leads to.
pub(crate) fn path(text: &str) -> PathBuf {
    Path::new(text).components().collect()
}

impl<T: Value> Value for Option<T> {
    fn kind() -> Kind {
        T::kind()
    }
    const REQUIRED: bool = false;
    fn parse(text: &str) -> Result<Self, String> {
        T::parse(text).map(Some)
    }
    fn absent() -> Option<Self> {
        Some(None)
    }
    fn json(&self) -> Json {
        self.as_ref().map_or(Json::Null, T::json)
    }
}

impl<T: Value> Value for Vec<T> {
    fn kind() -> Kind {
        Kind::List { of: Box::new(T::kind()) }
    }
    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Vec::new());
        }
        text.split(',').map(|part| T::parse(part.trim())).collect()
    }
    fn json(&self) -> Json {
        self.iter().map(T::json).collect()
    }
}
