//! Joins what the shards of a sampling made to the folder that one piece would have made.

use crate::outputs::{SAMPLES, picture};
use anyhow::{Context as _, Result};
use npz::{Npz, Writer};
use stage::{Staged, bad_input, sharding};
use std::fs;
use std::ops::Range;
use std::path::Path;

/// Links the pictures of all parts into `samples`, with one `samples.npz`. They must be those of these numbers.
///
/// # Errors
/// Bad input when there are more or fewer, or they differ in size.
pub fn join(parts: &Path, samples: &Path, pictures: Range<usize>) -> Result<()> {
    let count = pictures.len();
    let parts = sharding::parts(parts)?;
    let files: Vec<_> = parts.iter().map(|part| part.join("samples.npz")).collect();
    let (mut shapes, mut names) = (Vec::new(), Vec::new());
    for file in &files {
        let mut npz = Npz::open(file)?;
        shapes.push(npz.array("arr_0")?.header.shape);
        names.push(npz::class_names(&mut npz)?);
    }
    let counts: Vec<usize> = shapes.iter().map(|shape| shape.first().copied().unwrap_or(0)).collect();
    let there: usize = counts.iter().sum();
    if there != count {
        bad_input!("the parts hold {there} pictures where there should be {count}; see --images")
    }
    if let Some(other) = shapes.iter().position(|shape| shape.get(1..) != shapes[0].get(1..)) {
        bad_input!("{}: its pictures are not of the size of those before", files[other].display())
    }
    if let Some(other) = names.iter().position(|named| *named != names[0]) {
        bad_input!("{}: its classes are not those of the parts before", files[other].display())
    }
    let staged = Staged::folder(samples, &SAMPLES)?;
    let images = staged.path().join("images");
    fs::create_dir(&images).with_context(|| format!("making {}", images.display()))?;
    let mut first = pictures.start;
    for (part, count) in parts.iter().zip(&counts) {
        for image in first..first + count {
            sharding::link(&part.join("images").join(picture(image)), &images.join(picture(image)))?;
        }
        first += count;
    }
    let mut joined = Writer::create(&staged.path().join("samples.npz"))?;
    let all: Vec<usize> = std::iter::once(count).chain(shapes[0][1..].iter().copied()).collect();
    for (array, kind, shape) in [("arr_0", "|u1", all.as_slice()), ("arr_1", "<i8", &all[..1])] {
        joined.start(array, kind, shape)?;
        for file in &files {
            let mut npz = Npz::open(file)?;
            let mut array = npz.array(array)?;
            joined.copy(&mut array.values)?;
            array.finish()?;
        }
    }
    npz::name_classes(&mut joined, &names[0])?;
    joined.finish()?;
    staged.commit()
}
