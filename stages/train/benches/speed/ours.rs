//! Our side: the trainer's own step with its own batches, and the network's guided step with the chain's arithmetic.

use crate::{Args, Case, Times, synchronize};
use anyhow::Result;
use half::f16;
use models::config::TIMESTEPS;
use models::diffusion::{Curve, Diffusion, Respacing, Schedule};
use models::graphs::CudaGraphs;
use models::prior::Prior;
use models::random::{self, Stream};
use models::{Config, Network, shim};
use shards::{About, Latents, Loader, Rows, ShardWriter, write_manifest};
use stage::{Arguments, Values, bad_input};
use std::path::Path;
use std::time::Instant;
use tch::{Device, Tensor};
use train::{Feed, Recipe, Team, Trainer};

const GUIDANCE: f64 = 1.5;
const STEPS: i64 = 250;
/// Of the kernel's accounting.
const TICKS_PER_SECOND: f64 = 100.0;

/// The network that the peer has under the same name.
pub fn config(size: &str) -> Result<Config> {
    if !["s", "b", "l", "xl", "tiny"].contains(&size) {
        bad_input!("--models: size {size} is none of s, b, l, xl, tiny")
    }
    Ok(if size == "tiny" {
        Config { width: 64, blocks: 4, heads: 4, ..Config::preset("switch-dit-s/2", 8, 10)? }
    } else {
        Config::preset(&format!("switch-dit-{size}/2"), 32, 1000)?
    })
}

/// Times `args.steps` steps after the warm-up.
pub fn measure(args: &Args, case: &Case, device: Device) -> Result<Times> {
    let config = config(&case.size)?;
    forget_memory(device)?;
    let (walls, cpu) = if case.train {
        let folder = tempfile::tempdir()?;
        let mut step = training(args, case, &config, folder.path(), device)?;
        timed(args, device, &mut *step)?
    } else {
        timed(args, device, &mut *sampling(args, case, &config, device)?)?
    };
    Ok(Times { name: "ours".into(), wall: median(walls), cpu, memory: memory(device)? })
}

type Step = Box<dyn FnMut() -> Result<()>>;

fn training(args: &Args, case: &Case, config: &Config, folder: &Path, device: Device) -> Result<Step> {
    let latents = latents(config, folder)?;
    let (precision, batch) = (args.precision.to_string(), case.batch.to_string());
    let path = folder.display().to_string();
    let given = [
        ("latents", path.as_str()),
        ("checkpoints", &path),
        ("log", &path),
        ("batch-size", &batch),
        ("precision", &precision),
    ];
    let train_args = train::Args::from_values(&Values::new(&train::Args::spec(), given)?)?;
    let mut recipe = Recipe::new(&train_args, &latents)?;
    recipe.network = config.clone();
    let loader = Loader::new(&latents, case.batch, 0)?;
    let team = Team::default();
    let mut feed = Feed::new(&recipe, loader, 0..case.batch, device);
    let mut trainer = Trainer::fresh(recipe, device, &team)?;
    trainer.record(args.cuda_graphs.side(device, None)?, args.cuda_graphs == CudaGraphs::On);
    Ok(Box::new(move || {
        trainer.advance(feed.draws(trainer.step())?, &team)?;
        if let Some(notice) = trainer.take_notice() {
            eprintln!("{notice}");
        }
        Ok(())
    }))
}

/// Seconds of the matching alone, and of all that it needs: the gates of all timesteps, the cost matrix, the matching.
pub fn matching(config: &Config, device: Device) -> Result<Option<[f64; 2]>> {
    const TIMES: u64 = 20;
    let network = Network::fresh(config, 0, device)?;
    let Some(prior) = network.prior() else { return Ok(None) };
    let _guard = tch::no_grad_guard();
    let (mut alone, mut whole) = (Vec::new(), Vec::new());
    for step in 0..TIMES {
        let begin = Instant::now();
        let Some(gates) = network.all_timesteps().gates else { return Ok(None) };
        let cost = prior.cost(&gates.chosen).to_device(Device::Cpu);
        let middle = Instant::now();
        drop(Prior::matching(&cost, 0, step));
        alone.push(middle.elapsed().as_secs_f64());
        whole.push(begin.elapsed().as_secs_f64());
    }
    Ok(Some([median(alone), median(whole)]))
}

/// A few rows of random latents in the network's shape.
fn latents(config: &Config, folder: &Path) -> Result<Latents> {
    let side = config.side as usize;
    let about = About {
        shape: [4, side, side],
        dtype: "float16".into(),
        scale: 0.18215,
        vae: String::new(),
        classes: config.classes as usize,
        image_size: side * 8,
        flipped: false,
    };
    let (rows, numel) = (64, about.numel());
    let mut values = vec![0f32; rows * numel];
    Stream::new(0, "latents", 0).fill_normal(&mut values);
    let mut writer = ShardWriter::create(&folder.join("00000.parquet"), &about)?;
    writer.write(Rows {
        mean: values.iter().map(|v| f16::from_f32(v * 5.0)).collect(),
        std: vec![f16::from_f32(0.1); rows * numel],
        label: (0..rows as i64).map(|i| i % config.classes).collect(),
        source: (0..rows).map(|i| i.to_string()).collect(),
        ..Rows::default()
    })?;
    let shard = writer.finish()?;
    write_manifest(folder, &about, vec![shard])?;
    Latents::open(folder)
}

fn sampling(args: &Args, case: &Case, config: &Config, device: Device) -> Result<Step> {
    let precision = args.precision;
    let network = Network::fresh(config, 0, device)?;
    for parameter in network.parameters() {
        let _ = parameter.tensor.set_requires_grad(false);
    }
    let schedule =
        Schedule::new(Curve::Cosine, TIMESTEPS as usize, &Respacing::Sections(vec![STEPS as usize]))?;
    let diffusion = Diffusion::new(schedule, device);
    let one = |t: i64| Tensor::from_slice(&[t]).to_device(device);
    let table: Vec<_> = diffusion.schedule.timestep_map.iter().map(|&t| network.timesteps(&one(t))).collect();
    network.store_products(precision.kind());
    let shape = [case.batch as i64, config.channels, config.side, config.side];
    let mut x = random::normal(0, "start", 0, &shape).to_device(device);
    let labels = random::integers(0, "label", 0, config.classes, &shape[..1]).to_device(device);
    let mut left = STEPS;
    Ok(Box::new(move || {
        let _guard = tch::no_grad_guard();
        left = if left == 1 { STEPS - 1 } else { left - 1 };
        let output =
            precision.run(device, || network.guided(&x, &table[left as usize], &labels, GUIDANCE))?;
        let at = diffusion.at(&Tensor::from_slice(&[left]).to_device(device));
        let guess = diffusion.predict(&at, &x, &output, false);
        let noise = random::normal(0, "noise", left as u64, &shape).to_device(device);
        x = diffusion.ddpm(&at, &guess, &noise);
        Ok(())
    }))
}

/// The time of each step, and the mean CPU time of all.
fn timed(args: &Args, device: Device, step: &mut dyn FnMut() -> Result<()>) -> Result<(Vec<f64>, f64)> {
    for _ in 0..args.warmup {
        step()?;
    }
    synchronize(device);
    let (begin, cpu) = (Instant::now(), cpu_seconds());
    let mut walls = Vec::new();
    for _ in 0..args.steps {
        let begin = Instant::now();
        step()?;
        if device == Device::Cpu {
            walls.push(begin.elapsed().as_secs_f64());
        }
    }
    synchronize(device);
    if walls.is_empty() {
        // On a GPU steps overlap with the host: only all of them together have a time.
        walls.push(begin.elapsed().as_secs_f64() / args.steps as f64);
    }
    Ok((walls, (cpu_seconds() - cpu) / args.steps as f64))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let n = values.len();
    (values[(n - 1) / 2] + values[n / 2]) / 2.0
}

/// User and system time of this process; 0 where the kernel does not say.
fn cpu_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = text.rsplit(") ").next().unwrap_or_default().split(' ');
    fields.skip(11).take(2).filter_map(|v| v.parse::<f64>().ok()).sum::<f64>() / TICKS_PER_SECOND
}

/// Begins a new peak. On a CPU the kernel resets its high-water mark when 5 is written there, to what the process has, of which
/// the allocator gives back what it keeps.
fn forget_memory(device: Device) -> Result<()> {
    if let Device::Cuda(index) = device {
        return shim::reset_gpu_peak_memory(index);
    }
    // SAFETY: it may be called at any time.
    unsafe { libc::malloc_trim(0) };
    Ok(std::fs::write("/proc/self/clear_refs", "5")?)
}

/// The peak since then, bytes.
fn memory(device: Device) -> Result<f64> {
    if let Device::Cuda(index) = device {
        return Ok(shim::gpu_peak_memory(index)? as f64);
    }
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    Ok(peak.and_then(|v| v.split_whitespace().next()?.parse::<f64>().ok()).unwrap_or(0.0) * 1024.0)
}
