//! Our side: makes the numbers that all read, and measures ours on them.

use crate::{Args, Measured};
use anyhow::Result;
use extractors::inception::resize::{RawPictures, Resize, prepare as resize};
use extractors::inception::{Inception, files};
use measure::{median, peak_memory};
use metrics::{Blocks, Distances, Moments, Statistics, frechet, precision_recall};
use serde_json::{Value as Json, json};
use std::path::Path;
use std::time::Instant;
use tch::{Device, Kind, Tensor};

/// Makes the numbers of a part.
pub fn prepare(args: &Args, part: &str, folder: &Path) -> Result<()> {
    let [points, width] = [args.points, args.width].map(|n| n as i64);
    match part {
        "inception" => {
            let shape = [args.pictures as i64, 256, 256, 3];
            let pictures = features(1, &[shape.iter().product()])?.f_mul_scalar(64.0)?.f_clamp(0.0, 255.0)?;
            write(folder, "pictures", &pictures.f_to_kind(Kind::Uint8)?.f_view(shape)?)
        }
        "frechet" => {
            for set in [1, 2] {
                let mut moments = Moments::new(width);
                moments.add(&features(set, &[3 * width, width])?)?;
                let statistics = moments.statistics()?;
                write(folder, &format!("mu{set}"), &statistics.mean)?;
                write(folder, &format!("sigma{set}"), &statistics.covariance)?;
            }
            Ok(())
        }
        _ => {
            write(folder, "ref", &features(1, &[points, width])?)?;
            write(folder, "smp", &features(2, &[points, width])?)
        }
    }
}

/// As features of the network are: not negative, most small, correlated in rows.
fn features(set: i64, shape: &[i64]) -> Result<Tensor> {
    tch::manual_seed(set);
    let noise = Tensor::f_randn(shape, (Kind::Float, Device::Cpu))?;
    let rows = Tensor::f_randn([shape[0], 1], (Kind::Float, Device::Cpu))?;
    let noise = if shape.len() == 2 { noise.f_add(&rows.f_mul_scalar(0.25)?)? } else { noise };
    Ok(noise.f_mul_scalar(0.25 + 0.01 * set as f64)?.f_add_scalar(0.25)?.f_relu()?)
}

/// Measures the part that `--parts` names first, in the way it names second.
pub fn measure(args: &Args, folder: &Path) -> Result<Measured> {
    let _guard = tch::no_grad_guard();
    torch::device::open(torch::device::DeviceChoice::Cpu, args.threads)?;
    let once: Box<dyn Fn() -> Result<Json>> = match args.parts.iter().map(String::as_str).collect::<Vec<_>>()
        [..]
    {
        ["inception", _] => {
            let network = Inception::load(files::read(&folder.join("inception.pth"))?, Device::Cpu)?;
            let pictures = read(folder, "pictures", Kind::Uint8)?;
            let bytes = Vec::<u8>::try_from(pictures.f_view([-1])?)?;
            let threads = args.threads;
            Box::new(move || {
                let prepared =
                    resize(&RawPictures { bytes: &bytes, size: [256, 256] }, Resize::PytorchFid, threads)?;
                let mean = network.features(&prepared)?.pool.f_mean(Kind::Double)?;
                Ok(json!(mean.f_double_value(&[])?))
            })
        }
        ["frechet", _] => {
            let numbers = |name: &str| read(folder, name, Kind::Double);
            let one = Statistics::new("one", &numbers("mu1")?, &numbers("sigma1")?)?;
            let two = Statistics::new("two", &numbers("mu2")?, &numbers("sigma2")?)?;
            Box::new(move || Ok(json!(frechet(&one, &two)?.distance)))
        }
        ["manifold", distances] => {
            let (reference, samples) = (read(folder, "ref", Kind::Float)?, read(folder, "smp", Kind::Float)?);
            let distances = if distances == "exact" { Distances::Exact } else { Distances::Adm };
            Box::new(move || {
                let found = precision_recall(&reference, &samples, 3, distances, Blocks::default())?;
                Ok(json!([found.precision, found.recall]))
            })
        }
        _ => anyhow::bail!("--ours measures one part in one way"),
    };
    // As the peer, the network runs once before it is timed.
    if args.parts[0] == "inception" {
        once()?;
    }
    let mut seconds = Vec::new();
    let mut value = Json::Null;
    for _ in 0..args.repetitions {
        let begin = Instant::now();
        value = once()?;
        seconds.push(begin.elapsed().as_secs_f64());
    }
    Ok(Measured { seconds: median(seconds), peak: peak_memory()? as f64, value })
}

/// Raw numbers, and their shape beside them.
fn write(folder: &Path, name: &str, tensor: &Tensor) -> Result<()> {
    let tensor = tensor.f_contiguous()?;
    let mut bytes = vec![0; tensor.numel() * tensor.kind().elt_size_in_bytes()];
    tensor.f_copy_data_u8(&mut bytes, tensor.numel())?;
    std::fs::write(folder.join(format!("{name}.bin")), bytes)?;
    stage::write_json(&folder.join(format!("{name}.json")), &tensor.size())
}

fn read(folder: &Path, name: &str, kind: Kind) -> Result<Tensor> {
    let shape: Vec<i64> = stage::read_json(&folder.join(format!("{name}.json")))?;
    let bytes = std::fs::read(folder.join(format!("{name}.bin")))?;
    Ok(Tensor::f_from_data_size(&bytes, &shape, kind)?)
}
