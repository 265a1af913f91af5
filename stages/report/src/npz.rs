//! Just enough of `.npz` to pick a few images out of many without holding them all.

use anyhow::{Context, Result, bail};
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;
use zip::ZipArchive;

/// A header of an `.npy` entry.
struct Header {
    kind: String,
    shape: Vec<usize>,
}

/// The labels, `arr_1`, where the file has them.
///
/// # Errors
/// When the file is no `.npz` or the labels are not `int64`.
pub fn labels(path: &Path) -> Result<Option<Vec<i64>>> {
    let mut archive = open(path)?;
    let Ok(mut entry) = archive.by_name("arr_1.npy") else { return Ok(None) };
    let header = header(&mut entry).context("arr_1")?;
    if header.kind != "<i8" || header.shape.len() != 1 {
        bail!("arr_1 is {} of shape {:?}, not int64 labels [N]", header.kind, header.shape);
    }
    let mut labels = Vec::new();
    let mut bytes = [0; 8];
    for i in 0..header.shape[0] {
        entry.read_exact(&mut bytes).with_context(|| format!("arr_1 ends before label {i}"))?;
        labels.push(i64::from_le_bytes(bytes));
    }
    Ok(Some(labels))
}

/// How many images there are.
///
/// # Errors
/// When `arr_0` is not uint8 [N, H, W, 3].
pub fn count(path: &Path) -> Result<usize> {
    let mut archive = open(path)?;
    let mut entry = archive.by_name("arr_0.npy").context("no arr_0")?;
    Ok(images_header(&mut entry)?.shape[0])
}

/// The images at `wanted`, which rises, each `[H, W, 3]`.
///
/// # Errors
/// When `arr_0` is not uint8 [N, H, W, 3] or ends early.
pub fn images(path: &Path, wanted: &[usize]) -> Result<Vec<image::RgbImage>> {
    let mut archive = open(path)?;
    let mut entry = archive.by_name("arr_0.npy").context("no arr_0")?;
    let header = images_header(&mut entry)?;
    let (height, width) = (header.shape[1], header.shape[2]);
    let bytes = height * width * 3;
    let mut found = Vec::new();
    let mut at = 0;
    for &index in wanted {
        let context = || format!("arr_0 ends before image {index}");
        let skipped = ((index - at) * bytes) as u64;
        if std::io::copy(&mut entry.by_ref().take(skipped), &mut std::io::sink()).with_context(context)?
            < skipped
        {
            bail!(context());
        }
        let mut pixels = Vec::new();
        entry.by_ref().take(bytes as u64).read_to_end(&mut pixels).with_context(context)?;
        found.push(image::RgbImage::from_raw(width as u32, height as u32, pixels).with_context(context)?);
        at = index + 1;
    }
    Ok(found)
}

fn open(path: &Path) -> Result<ZipArchive<BufReader<File>>> {
    Ok(ZipArchive::new(BufReader::new(File::open(path)?))?)
}

fn images_header(entry: &mut impl Read) -> Result<Header> {
    let header = header(entry).context("arr_0")?;
    if header.kind != "|u1" || header.shape.len() != 4 || header.shape[3] != 3 {
        bail!("arr_0 is {} of shape {:?}, not uint8 images [N, H, W, 3]", header.kind, header.shape);
    }
    if header.shape[1] == 0 || header.shape[2] == 0 || header.shape[1].max(header.shape[2]) > 1 << 16 {
        bail!("arr_0 has images of {} x {} pixels", header.shape[2], header.shape[1]);
    }
    Ok(header)
}

fn header(entry: &mut impl Read) -> Result<Header> {
    let mut start = [0; 8];
    entry.read_exact(&mut start).context("no .npy header")?;
    if &start[..6] != b"\x93NUMPY" {
        bail!("no .npy header");
    }
    let length = if start[6] == 1 {
        let mut bytes = [0; 2];
        entry.read_exact(&mut bytes)?;
        u64::from(u16::from_le_bytes(bytes))
    } else {
        let mut bytes = [0; 4];
        entry.read_exact(&mut bytes)?;
        u64::from(u32::from_le_bytes(bytes))
    };
    let mut text = String::new();
    entry.take(length).read_to_string(&mut text)?;
    let field = |key: &str| text.split_once(&format!("'{key}':")).map(|(_, rest)| rest.trim_start());
    let (Some(kind), Some(order), Some(shape)) = (field("descr"), field("fortran_order"), field("shape"))
    else {
        bail!("its header lacks descr, fortran_order or shape");
    };
    if !order.starts_with("False") {
        bail!("is in Fortran order");
    }
    let kind = kind.trim_start_matches('\'').split('\'').next().unwrap_or_default().to_string();
    let shape = shape.trim_start_matches('(').split(')').next().unwrap_or_default();
    let shape =
        shape.split(',').map(str::trim).filter(|s| !s.is_empty()).map(str::parse).collect::<Result<_, _>>();
    Ok(Header { kind, shape: shape.context("its header has no shape")? })
}
