//! The bytes of a pickle, taken one after the other.

use anyhow::{Context, Result};
use std::ops::Range;

pub struct Input<'a> {
    pub bytes: &'a [u8],
    pub at: usize,
}

impl<'a> Input<'a> {
    pub fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let place = self.place(count)?;
        Ok(&self.bytes[place])
    }

    /// Where the next bytes are, which are passed over.
    pub fn place(&mut self, count: usize) -> Result<Range<usize>> {
        let end = self.at.checked_add(count).filter(|&end| end <= self.bytes.len());
        let place = self.at..end.context("the pickle ends in the middle")?;
        self.at = place.end;
        Ok(place)
    }

    pub fn byte(&mut self) -> Result<u8> {
        Ok(self.take(1)?[0])
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        Ok(self.take(N)?.try_into()?)
    }

    pub fn i32(&mut self) -> Result<i32> {
        Ok(i32::from_le_bytes(self.array()?))
    }

    pub fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    /// A length of one byte.
    pub fn short(&mut self) -> Result<usize> {
        Ok(usize::from(self.byte()?))
    }

    /// A length of four bytes.
    pub fn length(&mut self) -> Result<usize> {
        Ok(usize::try_from(self.u32()?)?)
    }

    /// A length of eight bytes.
    pub fn long_length(&mut self) -> Result<usize> {
        Ok(usize::try_from(u64::from_le_bytes(self.array()?))?)
    }

    pub fn line(&mut self) -> Result<&'a str> {
        let rest = &self.bytes[self.at..];
        let end = rest.iter().position(|&b| b == b'\n').context("a name without end")?;
        self.at += end + 1;
        std::str::from_utf8(&rest[..end]).context("a name that is not UTF-8")
    }
}
