//! Our side: the trainer's own steps with its own batches, and the sampler's own steps with its own noise.

use crate::{Args, Case, Times, synchronize};
use anyhow::Result;
use half::f16;
use measure::{median, peak_memory};
use models::diffusion::NoiseSchedule;
use models::prior::Prior;
use models::{Config, Network};
use rng::Stream;
use sample::Sampler;
use shards::{Latents, LatentsMetadata, Loader, Rows, ShardWriter, write_manifest};
use stage::{Arguments, Values, bad_input};
use std::cell::RefCell;
use std::path::Path;
use std::time::Instant;
use tch::Device;
use torch::graphs::{CudaGraphs, WARM_UP};
use torch::parallel::ProcessGroup;
use torch::shim;
use train::{Prefetcher, Trainer, TrainingConfig};

const GUIDANCE: &str = "1.5";
const STEPS: &str = "250";
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
    let clock = Clock::new(args, device);
    if case.train {
        train(args, case, &config, &clock)?
    } else {
        sample(args, case, &config, &clock)?
    }
    let (walls, cpu) = clock.read();
    Ok(Times { name: "ours".into(), wall: median(walls), cpu, memory: memory(device)? })
}

/// Trains until the clock stops.
fn train(args: &Args, case: &Case, config: &Config, clock: &Clock) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (folder, device) = (folder.path(), clock.device);
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
    let mut training = TrainingConfig::new(&train_args, &latents)?;
    training.network = config.clone();
    let loader = Loader::new(&latents, case.batch, 0)?;
    let group = ProcessGroup::default();
    let mut prefetcher = Prefetcher::new(&training, loader, 0..case.batch, device);
    let mut trainer = Trainer::fresh(training, device, &group)?;
    trainer.record(args.cuda_graphs.side(device, None)?, args.cuda_graphs == CudaGraphs::On);
    while clock.ticks() {
        trainer.advance(prefetcher.batch(trainer.step())?, &group)?;
        if let Some(notice) = trainer.take_notice() {
            eprintln!("{notice}");
        }
    }
    Ok(())
}

/// Samples until the clock stops.
fn sample(args: &Args, case: &Case, config: &Config, clock: &Clock) -> Result<()> {
    let network = Network::fresh(config, 0, clock.device)?;
    for parameter in network.parameters() {
        let _ = parameter.tensor.set_requires_grad(false);
    }
    let (precision, graphs) = (args.precision.to_string(), args.cuda_graphs.to_string());
    let given = [
        ("checkpoints", "none"),
        ("steps", STEPS),
        ("guidance", GUIDANCE),
        ("precision", precision.as_str()),
        ("cuda-graphs", graphs.as_str()),
    ];
    let sample_args = sample::Args::from_values(&Values::new(&sample::Args::spec(), given)?)?;
    let mut sampler = Sampler::alone(&sample_args, network, NoiseSchedule::Cosine)?;
    // Asked before every step.
    let check = || if clock.ticks() { Ok(()) } else { Err(stage::Stopped.into()) };
    loop {
        let chain = sampler.latents(0, case.batch, check);
        if let Some(notice) = sampler.take_notice() {
            eprintln!("{notice}");
        }
        match chain {
            Err(e) if e.is::<stage::Stopped>() => return Ok(()),
            chain => drop(chain?),
        }
    }
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
    let about = LatentsMetadata {
        shape: [4, side, side],
        dtype: "float16".into(),
        scale: 0.18215,
        shift: 0.0,
        channels: None,
        vae: String::new(),
        classes: config.classes as usize,
        class_names: Vec::new(),
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

/// Steps that a GPU needs before it repeats them: those that are done as usual, and the one that is recorded.
const UNTIL_REPEATED: usize = WARM_UP + 1;

/// Counts steps: first the warm-up, then those that are timed.
struct Clock {
    device: Device,
    warmup: usize,
    steps: usize,
    state: RefCell<Ticks>,
}

struct Ticks {
    /// Steps that have begun.
    begun: usize,
    /// When the timed ones began, when the last of them did, and the CPU time then.
    first: Instant,
    last: Instant,
    cpu: f64,
    walls: Vec<f64>,
}

impl Clock {
    fn new(args: &Args, device: Device) -> Self {
        let now = Instant::now();
        let state = Ticks { begun: 0, first: now, last: now, cpu: 0.0, walls: Vec::new() };
        let warmup = if device.is_cuda() { args.warmup.max(UNTIL_REPEATED) } else { args.warmup };
        Self { device, warmup, steps: args.steps, state: state.into() }
    }

    /// Before each step: whether it is to be done.
    fn ticks(&self) -> bool {
        let mut state = self.state.borrow_mut();
        let end = self.warmup + self.steps;
        if [self.warmup, end].contains(&state.begun) {
            synchronize(self.device);
        }
        let now = Instant::now();
        if state.begun > self.warmup {
            let wall = now - state.last;
            state.walls.push(wall.as_secs_f64());
        }
        if state.begun == self.warmup {
            (state.first, state.cpu) = (now, cpu_seconds());
        }
        state.last = now;
        let go = state.begun < end;
        if go {
            state.begun += 1;
        } else {
            state.cpu = cpu_seconds() - state.cpu;
        }
        go
    }

    /// The time of each step, and the mean CPU time of all.
    fn read(self) -> (Vec<f64>, f64) {
        let state = self.state.into_inner();
        let steps = self.steps as f64;
        // On a GPU steps overlap with the host: only all of them together have a time.
        let whole = vec![(state.last - state.first).as_secs_f64() / steps];
        (if self.device.is_cuda() { whole } else { state.walls }, state.cpu / steps)
    }
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
    Ok(peak_memory()? as f64)
}
