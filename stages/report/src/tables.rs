//! What the gates have learned, as Parquet.

use anyhow::Result;
use arrow::array::{ArrayRef, BooleanArray, FixedSizeListArray, Float32Array, RecordBatch, UInt16Array};
use arrow::datatypes::{DataType, Field};
use models::analysis::Gating;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use std::sync::Arc;

/// One row per timestep, block and expert, counted from 0: `probability`, `kept`, and the matched `prior`.
///
/// # Errors
/// When it cannot be encoded.
pub fn gating(gating: &Gating) -> Result<Vec<u8>> {
    let cells: Vec<(usize, usize)> =
        (0..gating.timesteps).flat_map(|t| (0..gating.columns()).map(move |c| (t, c))).collect();
    let number = |f: &dyn Fn(usize, usize) -> usize| -> ArrayRef {
        Arc::new(UInt16Array::from_iter_values(cells.iter().map(|&(t, c)| f(t, c) as u16)))
    };
    let flag = |f: &dyn Fn(usize, usize) -> bool| -> ArrayRef {
        Arc::new(BooleanArray::from_iter(cells.iter().map(|&(t, c)| Some(f(t, c)))))
    };
    write(&RecordBatch::try_from_iter([
        ("timestep", number(&|t, _| t)),
        ("block", number(&|_, c| c / gating.experts)),
        ("expert", number(&|_, c| c % gating.experts)),
        ("probability", Arc::new(Float32Array::from(gating.probabilities.clone())) as ArrayRef),
        ("kept", flag(&|t, c| gating.keeps(t, c))),
        ("prior", flag(&|t, c| gating.wanted(t, c))),
    ])?)
}

/// An expert on a path: timestep, block, expert, whether it is shared.
type Stop = (usize, usize, usize, bool);

/// One row per expert on the path of each of these timesteps, and whether every timestep keeps it.
///
/// # Errors
/// When it cannot be encoded.
pub fn paths(gating: &Gating, timesteps: &[usize]) -> Result<Vec<u8>> {
    let mut rows: Vec<Stop> = Vec::new();
    let shared = gating.shared();
    for &t in timesteps {
        for (block, kept) in gating.path(t).into_iter().enumerate() {
            rows.extend(
                kept.into_iter().map(|expert| (t, block, expert, shared[block * gating.experts + expert])),
            );
        }
    }
    let number = |f: fn(&Stop) -> usize| -> ArrayRef {
        Arc::new(UInt16Array::from_iter_values(rows.iter().map(|r| f(r) as u16)))
    };
    write(&RecordBatch::try_from_iter([
        ("timestep", number(|r| r.0)),
        ("block", number(|r| r.1)),
        ("expert", number(|r| r.2)),
        ("shared", Arc::new(BooleanArray::from_iter(rows.iter().map(|r| Some(r.3)))) as ArrayRef),
    ])?)
}

/// One row per timestep: the share of its experts that each timestep has in common with it.
///
/// # Errors
/// When it cannot be encoded.
pub fn affinity(gating: &Gating) -> Result<Vec<u8>> {
    let n = gating.timesteps;
    let item = Arc::new(Field::new("item", DataType::Float32, false));
    let values = Arc::new(Float32Array::from(gating.affinity()));
    let rows = FixedSizeListArray::try_new(item, i32::try_from(n)?, values, None)?;
    let timestep = UInt16Array::from_iter_values((0..n).map(|t| t as u16));
    write(&RecordBatch::try_from_iter([
        ("timestep", Arc::new(timestep) as ArrayRef),
        ("affinity", Arc::new(rows) as ArrayRef),
    ])?)
}

fn write(batch: &RecordBatch) -> Result<Vec<u8>> {
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(9)?))
        .set_created_by("report".into())
        .build();
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), Some(properties))?;
    writer.write(batch)?;
    writer.close()?;
    Ok(bytes)
}
