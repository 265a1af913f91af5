//! What a training waits for before its first batch, from a thousand rows to a million.
//!
//!     cargo bench -p shards --bench start -- [--rows 1280000] [--folder FOLDER]
//!
//! Latents of 4 × 8 × 8 from warm files. `--folder` keeps the largest folder there, for `train --latents FOLDER`.

#![expect(clippy::unwrap_used, reason = "a bench whose set-up fails has failed")]

use half::f16;
use rng::Stream;
use shards::{Latents, LatentsMetadata, Loader, Residence, Rows, ShardWriter, write_manifest};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Rows of a file and of a row group, as `encode` writes them.
const SHARD: usize = 4096;
const GROUP: usize = 64;
const BATCH: usize = 256;
const FIRST: usize = 1280;
const STEP: usize = 10;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let option = |name: &str| arguments.iter().position(|a| a == name).map(|at| arguments[at + 1].clone());
    let most: usize = option("--rows").map_or(1_280_000, |rows| rows.parse().unwrap());
    println!("seconds: open, into memory, verify, first batch of {BATCH}");
    let mut rows = FIRST;
    while rows <= most {
        let dir = tempfile::tempdir().unwrap();
        let kept = option("--folder").filter(|_| rows * STEP > most).map(PathBuf::from);
        let folder = kept.unwrap_or_else(|| dir.path().join("latents"));
        write(&folder, rows);
        for residence in [Residence::Memory, Residence::Disk] {
            // The peak begins anew.
            std::fs::write("/proc/self/clear_refs", "5").unwrap();
            let mut times = Vec::new();
            let mut last = Instant::now();
            let mut lap = || {
                times.push(last.elapsed().as_secs_f64());
                last = Instant::now();
            };
            let latents = Latents::open(&folder).unwrap();
            lap();
            let latents = latents.reside(residence, 1).unwrap();
            lap();
            latents.verify().unwrap();
            lap();
            drop(Loader::new(&latents, BATCH, 1).unwrap().batch(0).unwrap());
            lap();
            let parts: Vec<String> = times.iter().map(|time| format!("{time:7.3}")).collect();
            let peak = measure::peak_memory().unwrap() >> 20;
            let name = residence.to_string();
            println!(
                "{rows:9} rows, {name:6} {}  sum {:7.3}, peak {peak} MiB",
                parts.join(" "),
                times.iter().sum::<f64>()
            );
        }
        rows *= STEP;
    }
}

fn write(folder: &Path, rows: usize) {
    std::fs::create_dir(folder).unwrap();
    let about = LatentsMetadata {
        shape: [4, 8, 8],
        dtype: "float16".into(),
        scale: 1.0,
        shift: 0.0,
        channels: None,
        vae: String::new(),
        classes: 1000,
        class_names: Vec::new(),
        image_size: 64,
        flipped: false,
    };
    let mut stream = Stream::by_bytes(0, "bench", 0);
    // Each row group is the same numbers: nothing here looks at them.
    let mut numbers = |scale: f64| -> Vec<f16> {
        (0..GROUP * about.numel()).map(|_| f16::from_f64(scale * stream.normal())).collect()
    };
    let (mean, std) = (numbers(1.0), numbers(0.01));
    let mut shards = Vec::new();
    for first in (0..rows).step_by(SHARD) {
        let path = folder.join(format!("{:05}.parquet", shards.len()));
        let mut writer = ShardWriter::create(&path, &about).unwrap();
        let end = rows.min(first + SHARD);
        for group in (first..end).step_by(GROUP) {
            let range = group..end.min(group + GROUP);
            let count = range.len() * about.numel();
            let rows = Rows {
                mean: mean[..count].to_vec(),
                std: std[..count].to_vec(),
                label: range.clone().map(|row| (row % 1000) as i64).collect(),
                source: range.map(|row| row.to_string()).collect(),
                ..Rows::default()
            };
            writer.write(rows).unwrap();
        }
        shards.push(writer.finish().unwrap());
    }
    write_manifest(folder, &about, shards).unwrap();
}
