//! Paths of which a million are held: one that is short lies in its owner, without a place of its own in memory.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::ops::Deref;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// As many bytes fit beside the length and the variant: both variants take 32.
const SHORT: usize = 30;

/// A path that does not change.
#[derive(Clone, PartialEq, Eq)]
pub struct SmallPath(Form);

#[derive(Clone, PartialEq, Eq)]
enum Form {
    /// What follows the path are zeros.
    Short { length: u8, bytes: [u8; SHORT] },
    /// A longer one.
    Long(Box<Path>),
}

impl SmallPath {
    /// The path.
    pub fn as_path(&self) -> &Path {
        match &self.0 {
            Form::Short { length, bytes } => Path::new(OsStr::from_bytes(&bytes[..usize::from(*length)])),
            Form::Long(path) => path,
        }
    }
}

impl Deref for SmallPath {
    type Target = Path;

    fn deref(&self) -> &Path {
        self.as_path()
    }
}

impl AsRef<Path> for SmallPath {
    fn as_ref(&self) -> &Path {
        self
    }
}

impl From<&Path> for SmallPath {
    fn from(path: &Path) -> Self {
        let text = path.as_os_str().as_bytes();
        let mut bytes = [0; SHORT];
        match bytes.get_mut(..text.len()) {
            Some(room) => {
                room.copy_from_slice(text);
                Self(Form::Short { length: text.len() as u8, bytes })
            }
            None => Self(Form::Long(path.into())),
        }
    }
}

impl From<PathBuf> for SmallPath {
    fn from(path: PathBuf) -> Self {
        match path.as_os_str().len() {
            0..=SHORT => path.as_path().into(),
            _ => Self(Form::Long(path.into())),
        }
    }
}

impl From<&OsStr> for SmallPath {
    fn from(name: &OsStr) -> Self {
        Path::new(name).into()
    }
}

impl From<&OsString> for SmallPath {
    fn from(name: &OsString) -> Self {
        Path::new(name).into()
    }
}

impl From<&str> for SmallPath {
    fn from(text: &str) -> Self {
        Path::new(text).into()
    }
}

impl From<String> for SmallPath {
    fn from(text: String) -> Self {
        PathBuf::from(text).into()
    }
}

impl fmt::Debug for SmallPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_path().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_comes_back_whatever_its_length() {
        let mut paths: Vec<SmallPath> = Vec::new();
        for length in 0..70 {
            for byte in [b'a', b'/', 0xff] {
                let text = [&b"x".repeat(length)[..], &[byte]].concat();
                let path = Path::new(OsStr::from_bytes(&text));
                let (borrowed, owned) = (SmallPath::from(path), SmallPath::from(path.to_path_buf()));
                assert_eq!(
                    (borrowed.as_path().as_os_str(), owned.as_path().as_os_str()),
                    (path.as_os_str(), path.as_os_str())
                );
                assert_eq!((&borrowed, format!("{owned:?}")), (&owned, format!("{path:?}")));
                assert!(!paths.contains(&owned));
                paths.push(owned);
            }
        }
        assert_eq!((SmallPath::from("").as_os_str(), size_of::<SmallPath>()), (OsStr::new(""), 32));
    }
}
