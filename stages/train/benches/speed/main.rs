//! Times training and sampling steps, ours and PyTorch's in turn, and prints one table with the ratios.
//!
//!     TORCH_BASELINE=torch_baseline.py cargo bench -p train --bench speed -- --models s:8,tiny:64
//!
//! `TORCH_BASELINE` names the peer's program and `TORCH_PYTHON` a Python with torch; without the first, ours alone is timed.

mod ours;
mod peer;

use anyhow::{Context, Result};
use models::Config;
use stage::bad_input;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use std::time::Instant;
use tch::{Device, Tensor};
use torch::Precision;
use torch::device::{self, DeviceChoice};
use torch::graphs::CudaGraphs;
use torch::shim::fused;

stage::arguments! {
    /// Time steps of training and sampling.
    pub struct Args: "speed" {
        /// SIZE:BATCH, with a size of s, b, l, xl (256 pixels, patch 2, 1000 classes) or tiny (8 x 8 latents, 10 classes).
        tuning models: Vec<String> = vec!["s:8".to_string(), "tiny:64".to_string()];
        /// What to time: train, sample.
        tuning work: Vec<String> = vec!["train".to_string(), "sample".to_string()];
        /// The peer's styles: official, best, best-compile.
        tuning styles: Vec<String> = vec!["official".to_string(), "best".to_string()];
        /// Steps that are timed.
        tuning steps: usize = 5, in 1..;
        /// Steps before them; on a GPU at least those that come before a repetition.
        tuning warmup: usize = 2, in 1..;
        /// What products are computed in, ours and the peer's.
        tuning precision: Precision = Precision::F32;
        /// Where to compute.
        tuning device: DeviceChoice = DeviceChoice::Cpu;
        /// Whether our steps are repeated as CUDA graphs.
        tuning cuda_graphs: CudaGraphs = CudaGraphs::Auto;
        /// Whether our passes over a block's tokens are fused on a GPU.
        tuning fused_passes: bool = true;
        /// Threads of one operation.
        tuning threads: usize = 2, in 1..;
    }
}

/// What is timed.
pub struct Case {
    /// Size of the model, as in `--models`.
    pub size: String,
    /// Images in a step.
    pub batch: usize,
    /// Whether a training step, else a step of guided sampling.
    pub train: bool,
}

/// Seconds and bytes of one step.
pub struct Times {
    /// Who.
    pub name: String,
    /// Median time of a step, seconds.
    pub wall: f64,
    /// CPU time of a step, all threads, seconds.
    pub cpu: f64,
    /// Peak memory, bytes: of the process on a CPU, of the tensors on a GPU.
    pub memory: f64,
}

fn main() -> ExitCode {
    // OpenMP reads this before `main`. The peer sets it too: threads that spin while they wait would time the neighbours.
    if std::env::var_os("OMP_WAIT_POLICY").is_none()
        && let Ok(program) = std::env::current_exe()
    {
        let e =
            Command::new(program).args(std::env::args_os().skip(1)).env("OMP_WAIT_POLICY", "PASSIVE").exec();
        eprintln!("error: starting again with OMP_WAIT_POLICY=PASSIVE: {e}");
        return ExitCode::FAILURE;
    }
    stage::bench(run)
}

fn run(args: &Args) -> Result<()> {
    let device = device::open(args.device, args.threads)?;
    if !args.fused_passes {
        fused::leave_aside();
    }
    let mut cases = Vec::new();
    for text in &args.models {
        for work in &args.work {
            let (Some((size, batch)), true) =
                (text.split_once(':'), ["train", "sample"].contains(&work.as_str()))
            else {
                bad_input!("--models {text} --work {work}: wanted SIZE:BATCH and train or sample")
            };
            let batch = batch.parse().with_context(|| format!("--models {text}: the batch"))?;
            ours::config(size)?;
            cases.push(Case { size: size.into(), batch, train: work == "train" });
        }
    }
    print!("{}", device::doctor());
    let peak = product_speed(device, args.precision);
    println!(
        "{:<10} {:.3} TFLOP/s in a {} matrix product, measured now\n",
        "product",
        peak / 1e12,
        args.precision
    );
    println!(
        "model  work   batch  who           s/step  CPU s/step  images/s  peak GB  MFU %  ours/peer wall, CPU"
    );
    for case in &cases {
        let mine = ours::measure(args, case, device)?;
        print_row(case, &mine, None, peak)?;
        if let (true, Some([alone, whole])) =
            (case.train, ours::matching(&ours::config(&case.size)?, device)?)
        {
            println!(
                "{:<13} matching {:.5} s, {:.2} % of the step; with gates and costs of all timesteps {:.5} s, {:.2} %",
                case.size,
                alone,
                100.0 * alone / mine.wall,
                whole,
                100.0 * whole / mine.wall
            );
        }
        if let Some(program) = std::env::var_os("TORCH_BASELINE") {
            for style in &args.styles {
                let theirs = peer::measure(args, case, &program, style)?;
                print_row(case, &theirs, Some(&mine), peak)?;
            }
        }
    }
    Ok(())
}

fn print_row(case: &Case, times: &Times, mine: Option<&Times>, peak: f64) -> Result<()> {
    let config = ours::config(&case.size)?;
    // A backward pass costs two forward ones; guidance evaluates each image twice. 250 steps make a sample.
    let (passes, steps) = if case.train { (3.0, 1.0) } else { (2.0, 250.0) };
    let flops = 2.0 * macs(&config) * case.batch as f64 * passes;
    let ratio = mine.map(|m| format!("{:.2}, {:.2}", m.wall / times.wall, m.cpu / times.cpu));
    println!(
        "{:<6} {:<6} {:>5}  {:<12} {:>7.4} {:>11.4} {:>9.2} {:>8.2} {:>6.1}  {}",
        case.size,
        if case.train { "train" } else { "sample" },
        case.batch,
        times.name,
        times.wall,
        times.cpu,
        case.batch as f64 / times.wall / steps,
        times.memory / 1e9,
        100.0 * flops / times.wall / peak,
        ratio.unwrap_or_default()
    );
    Ok(())
}

/// Multiplications of one evaluation of one image, with every kept expert's own product counted, whatever is really done.
fn macs(config: &Config) -> f64 {
    let [d, n, l, p] =
        [config.width, config.blocks, (config.side / config.patch).pow(2), config.patch].map(|v| v as f64);
    let block = (12.0 + config.top_k as f64) * l * d * d + 2.0 * l * l * d + 6.0 * d * d;
    n * block + 12.0 * p * p * l * d + 2.0 * d * d
}

/// Operations per second of a large square product.
fn product_speed(device: Device, precision: Precision) -> f64 {
    let side = if device == Device::Cpu { 2048 } else { 8192 };
    // Random numbers: a GPU multiplies equal ones faster.
    let a = Tensor::randn([side, side], (tch::Kind::Float, device)).to_kind(precision.kind());
    let once = |count: i32| {
        let begin = Instant::now();
        (0..count).for_each(|_| drop(a.matmul(&a)));
        synchronize(device);
        begin.elapsed().as_secs_f64() / f64::from(count)
    };
    once(2);
    let best = (0..3).map(|_| once(5)).fold(f64::INFINITY, f64::min);
    2.0 * (side as f64).powi(3) / best
}

/// Waits for a GPU.
pub fn synchronize(device: Device) {
    if let Device::Cuda(index) = device {
        tch::Cuda::synchronize(index as i64);
    }
}
