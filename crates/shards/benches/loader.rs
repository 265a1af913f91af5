//! How fast latents come out of the loader, beside PyTorch's `DataLoader` over one `.npy` per picture (benches/dataloader.py).
//!
//!     TORCH_PYTHON=python cargo bench -p shards --bench loader -- [--rows 16384] [--batch 256] [--seconds 5]
//!
//! Latents of 4 × 32 × 32 with mirrored copies, from warm files; without `TORCH_PYTHON` the peer is left out. The last line is
//! of a cold disk cache, every row group verified on the way.

#![expect(clippy::unwrap_used, reason = "a bench whose set-up fails has failed")]

use half::f16;
use rng::Stream;
use shards::{Latents, LatentsMetadata, Loader, Residence, Rows, ShardWriter, write_manifest};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// Rows of a file and of a row group, as `encode` writes them.
const SHARD: usize = 4096;
const GROUP: usize = 64;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let option = |name: &str, default: usize| {
        let at = arguments.iter().position(|a| a == name);
        at.map_or(default, |i| arguments[i + 1].parse().unwrap_or_else(|_| panic!("{name} wants a number")))
    };
    let (rows, batch) = (option("--rows", 16_384), option("--batch", 256));
    let time = Duration::from_secs(option("--seconds", 5) as u64);
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("latents");
    write(&folder, rows);

    println!("{rows} latents of 4 x 32 x 32 with mirrored copies, batches of {batch}, warm files");
    let mut best: f64 = 0.0;
    for residence in [Residence::Memory, Residence::Disk] {
        // The peak begins anew.
        std::fs::write("/proc/self/clear_refs", "5").unwrap();
        let latents = Latents::open(&folder).unwrap().reside(residence, 1).unwrap();
        latents.verify().unwrap();
        let speed = measure(&latents, batch, time);
        best = best.max(speed);
        println!(
            "ours, {residence}: {speed:.0} latents/s, peak {} MiB",
            measure::peak_memory().unwrap() >> 20
        );
    }
    if let Some(python) = std::env::var_os("TORCH_PYTHON") {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/dataloader.py");
        let seconds = time.as_secs().to_string();
        let numbers = [rows.to_string(), batch.to_string(), seconds];
        let output =
            Command::new(python).arg(script).arg(dir.path().join("npy")).args(numbers).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let mut peer: f64 = 0.0;
        for line in String::from_utf8(output.stdout).unwrap().lines() {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            let speed = line["latents_per_second"].as_f64().unwrap();
            peer = peer.max(speed);
            let (workers, peak) = (&line["workers"], line["peak_mib"].as_f64().unwrap());
            println!("DataLoader, {workers} workers: {speed:.0} latents/s, peak {peak:.0} MiB");
        }
        println!("ratio to its best: {:.1}", best / peer);
    }

    evict(&folder);
    let latents = Latents::open(&folder).unwrap();
    let loader = Loader::new(&latents, batch, 2).unwrap();
    let start = Instant::now();
    let steps = rows / batch;
    (0..steps).for_each(|step| drop(loader.batch(step).unwrap()));
    let speed = (steps * batch) as f64 / start.elapsed().as_secs_f64();
    println!("ours, disk, nothing cached: {speed:.0} latents/s over the first epoch");
}

fn write(folder: &Path, rows: usize) {
    std::fs::create_dir(folder).unwrap();
    let about = LatentsMetadata {
        shape: [4, 32, 32],
        dtype: "float16".into(),
        scale: 0.18215,
        shift: 0.0,
        channels: None,
        vae: String::new(),
        classes: 1000,
        class_names: Vec::new(),
        image_size: 256,
        flipped: true,
    };
    let mut stream = Stream::by_bytes(0, "bench", 0);
    let mut numbers = |scale: f64, count: usize| -> Vec<f16> {
        (0..count).map(|_| f16::from_f64(scale * stream.normal())).collect()
    };
    let mut shards = Vec::new();
    for first in (0..rows).step_by(SHARD) {
        let path = folder.join(format!("{:05}.parquet", shards.len()));
        let mut writer = ShardWriter::create(&path, &about).unwrap();
        for group in (first..rows.min(first + SHARD)).step_by(GROUP) {
            let range = group..rows.min(first + SHARD).min(group + GROUP);
            let count = range.len() * about.numel();
            let rows = Rows {
                mean: numbers(5.0, count),
                std: numbers(0.01, count),
                mean_flipped: numbers(5.0, count),
                std_flipped: numbers(0.01, count),
                label: range.clone().map(|row| (row % 1000) as i64).collect(),
                source: range.map(|row| row.to_string()).collect(),
            };
            writer.write(rows).unwrap();
        }
        shards.push(writer.finish().unwrap());
    }
    write_manifest(folder, &about, shards).unwrap();
}

/// Latents per second, once the first batches are there.
fn measure(latents: &Latents, batch: usize, time: Duration) -> f64 {
    let loader = Loader::new(latents, batch, 1).unwrap();
    (0..4).for_each(|step| drop(loader.batch(step).unwrap()));
    let (start, mut step) = (Instant::now(), 4);
    while start.elapsed() < time {
        drop(loader.batch(step).unwrap());
        step += 1;
    }
    ((step - 4) * batch) as f64 / start.elapsed().as_secs_f64()
}

/// Has the system forget what it keeps of the files.
fn evict(folder: &Path) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let file = std::fs::File::open(entry.unwrap().path()).unwrap();
        file.sync_all().unwrap();
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
    }
}
