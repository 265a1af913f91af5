//! Our side: the trainer's own checkpoint, and the sampler's own way to a network.

use crate::{Args, Measured};
use anyhow::{Context, Result};
use half::f16;
use measure::{forget_peak, held_memory, peak_memory};
use models::checkpoint::{Checkpoint, CheckpointMetadata, Content, LatentSpace, average_prefix};
use models::diffusion::NoiseSchedule;
use models::{Config, Network};
use shards::{Latents, LatentsMetadata, Rows, ShardWriter, write_manifest};
use stage::{Arguments, Values, bad_input};
use std::path::Path;
use std::time::Instant;
use tch::Device;
use torch::parallel::ProcessGroup;
use train::{Trainer, TrainingConfig};

const DECAY: f64 = 0.9999;

/// Whether a training of this size is measured as it is.
pub fn fits(size: &str) -> Result<bool> {
    match size {
        "s" | "b" => Ok(true),
        "l" | "xl" => Ok(false),
        _ => bad_input!("--sizes: {size} is none of s, b, l, xl"),
    }
}

/// Measures one part.
pub fn measure(args: &Args, part: &str, size: &str, file: &Path) -> Result<Measured> {
    tch::set_num_threads(i32::try_from(args.threads)?);
    let config = Config::preset(&format!("switch-dit-{size}/2"), 32, 1000)?;
    match part {
        "write" if fits(size)? => {
            let trainer = Trainer::fresh(training(&config)?, Device::Cpu, &ProcessGroup::default())?;
            writing(|| trainer.save(file))
        }
        "write" => {
            let network = Network::fresh(&config, 0, Device::Cpu)?;
            let mut content = Content::default();
            for prefix in ["model.", &average_prefix(DECAY), "optimizer.first.", "optimizer.second."] {
                let tensors = network.parameters().iter().map(|p| (p.name.clone(), p.tensor.detach()));
                content.add(prefix, tensors.collect::<Vec<_>>());
            }
            let latents = LatentSpace::scaled(1.0, "");
            let about = CheckpointMetadata::new(0, config, NoiseSchedule::Cosine, vec![DECAY], latents);
            writing(|| content.write(file, &about))
        }
        "sample" => reading(|| Checkpoint::read(file)?.network(Some(DECAY), Device::Cpu)),
        "go on" => {
            let training = training(&config)?;
            reading(|| {
                Trainer::resume(training, Checkpoint::read(file)?, Device::Cpu, &ProcessGroup::default())
            })
        }
        _ => bad_input!("--part: {part} is none of write, sample, go on"),
    }
}

/// A training of this network on latents that nobody reads.
fn training(config: &Config) -> Result<TrainingConfig> {
    let folder = tempfile::tempdir()?;
    let [channels, side] = [config.channels, config.side].map(|n| n as usize);
    let about = LatentsMetadata {
        shape: [channels, side, side],
        dtype: "float16".into(),
        scale: 1.0,
        shift: 0.0,
        channels: None,
        vae: String::new(),
        classes: config.classes as usize,
        class_names: Vec::new(),
        image_size: 8 * side,
        flipped: false,
    };
    let mut writer = ShardWriter::create(&folder.path().join("00000.parquet"), &about)?;
    let (mean, std) = (vec![f16::ZERO; about.numel()], vec![f16::ZERO; about.numel()]);
    writer.write(Rows { mean, std, label: vec![0], source: vec![String::new()], ..Rows::default() })?;
    write_manifest(folder.path(), &about, vec![writer.finish()?])?;
    let path = folder.path().display().to_string();
    let given = [("latents", path.as_str()), ("checkpoints", &path), ("log", &path)];
    let args = train::Args::from_values(&Values::new(&train::Args::spec(), given)?)?;
    Ok(TrainingConfig {
        network: config.clone(),
        ..TrainingConfig::new(&args, &Latents::open(folder.path())?)?
    })
}

/// Measures what writing takes beside what is there before.
fn writing(write: impl FnOnce() -> Result<()>) -> Result<Measured> {
    forget_peak().context("forgetting the peak of memory")?;
    let (held, begin) = (held_memory()?, Instant::now());
    write()?;
    let seconds = begin.elapsed().as_secs_f64();
    Ok(Measured { held: held as f64, peak: peak_memory()? as f64, seconds })
}

/// Measures what reading takes beside what is there afterwards.
fn reading<T>(read: impl FnOnce() -> Result<T>) -> Result<Measured> {
    forget_peak().context("forgetting the peak of memory")?;
    let begin = Instant::now();
    let kept = read()?;
    let seconds = begin.elapsed().as_secs_f64();
    let (held, peak) = (held_memory()? as f64, peak_memory()? as f64);
    drop(kept);
    Ok(Measured { held, peak, seconds })
}
