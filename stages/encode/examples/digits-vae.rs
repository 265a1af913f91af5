//! Trains the small autoencoder of the digits, and measures what it keeps of them.
//!
//! `cargo run --release -p encode --example digits-vae -- --images data/digits --weights data/digits/vae.safetensors`

use anyhow::{Context as _, Result};
use pictures::{center_crop, decode, read_parquet};
use rng::Stream;
use stage::{Context, Known, bad_input};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use tch::{Device, Kind, Tensor};
use torch::random::{normal, uniform};
use torch::shim::AdamW;
use vae::{Config, LATENT_SCALE, Posterior, Vae, from_bytes};
use weights::Weights;

stage::arguments! {
    /// Train a narrow Stable Diffusion autoencoder on a small dataset.
    pub struct Args: "digits-vae" {
        /// Folder of Parquet files with a column `image`.
        input images: PathBuf;
        /// Side the pictures are cropped to.
        param image_size: usize = 32, in 8..=512, unit "pixels";
        /// Channels of the levels, from the picture inwards.
        param channels: Vec<i64> = vec![32, 32, 64];
        /// Residual blocks of a level.
        param layers: i64 = 1, in 1..=4;
        /// Passes over the pictures.
        param epochs: usize = 5, in 1..;
        /// Pictures a step.
        param batch_size: usize = 16, in 1.., unit "images";
        /// Greatest step of Adam; rises over the first twentieth of the steps, then falls to zero along half a cosine.
        param learning_rate: f64 = 0.002;
        /// Weight of the divergence from the normal distribution, per number of the picture, against the squared error.
        param divergence: f64 = 0.0005;
        /// Of initial weights, order and noise.
        param seed: u64 = 0;
        /// Cores.
        tuning threads: usize = 1, in 1..;
        /// Safetensors, f16.
        output weights: PathBuf, known Known::NEVER;
    }
}

fn main() -> ExitCode {
    stage::main(train)
}

fn train(args: &Args, context: &Context) -> Result<()> {
    tch::set_num_threads(args.threads as i32);
    let pictures = read(args)?;
    let (count, latent) = (pictures.size()[0] as usize, 4);
    let config = Config { channels: args.channels.clone(), layers: args.layers, latent, picture: 3 };
    let mut tensors = initial(&config, args.seed)?;
    for tensor in tensors.values_mut() {
        *tensor = tensor.f_set_requires_grad(true)?;
    }
    let parameters: Vec<Tensor> = tensors.values().map(Tensor::shallow_clone).collect();
    let zeros = || parameters.iter().map(Tensor::zeros_like).collect::<Vec<_>>();
    let (first, second) = (zeros(), zeros());
    let vae = load(&tensors)?;

    let steps_per_epoch = count / args.batch_size;
    let steps = args.epochs * steps_per_epoch;
    for step in 0..steps {
        context.check_stop()?;
        let (epoch, place) = (step / steps_per_epoch, step % steps_per_epoch);
        let order = Stream::new(args.seed, "order", epoch as u64).permutation(count as u32);
        let rows: Vec<i64> =
            order[place * args.batch_size..][..args.batch_size].iter().map(|&i| i64::from(i)).collect();
        let x = pictures.f_index_select(0, &Tensor::from_slice(&rows))?;
        let posterior = vae.encode_moments(&x)?;
        let noise = normal(args.seed, "noise", step as u64, &posterior.mean.size());
        let error = (vae.decode(&posterior.sample(&noise)?)? - &x).square().mean(Kind::Float);
        let divergence = posterior.kl()?.mean(Kind::Float) / (x.numel() as f64 / args.batch_size as f64);
        let loss = &error + args.divergence * &divergence;
        loss.f_backward()?;
        let learning_rate = args.learning_rate * schedule(step, steps);
        tch::no_grad(|| -> Result<()> {
            let gradients: Vec<Tensor> = parameters.iter().map(Tensor::grad).collect();
            let _norm = torch::shim::clip(&gradients, 1.0)?;
            let number = Tensor::from((step + 1) as f32);
            let adam = AdamW { learning_rate, ..AdamW::default() };
            adam.step(&parameters, &gradients, &first, &second, &number)?;
            gradients.iter().try_for_each(|g| g.shallow_clone().f_zero_().map(drop))?;
            Ok(())
        })?;
        context.progress(step + 1, steps, "steps");
        if place + 1 == steps_per_epoch {
            context.metrics(
                step + 1,
                serde_json::json!({"mse": error.double_value(&[]), "divergence": divergence.double_value(&[])}),
            );
        }
    }

    let _guard = tch::no_grad_guard();
    let tensors = whiten(tensors, &encode(&vae, &pictures)?)?;
    let stored: BTreeMap<String, Tensor> = tensors
        .into_iter()
        .map(|(name, t)| Ok((name, t.f_detach()?.f_to_kind(Kind::Half)?)))
        .collect::<Result<_>>()?;
    weights::write(&args.weights, stored.iter().map(|(n, t)| (n.clone(), t)), &BTreeMap::new())?;
    let vae = Vae::load(Weights::read(&args.weights)?, Device::Cpu, Kind::Float)?;
    let posterior = encode(&vae, &pictures)?;
    let sample = posterior.sample(&normal(args.seed, "measure", 0, &posterior.mean.size()))?;
    let scaled = &sample * LATENT_SCALE;
    context.message(&format!(
        "{count} pictures: PSNR {:.2} dB from the mean, {:.2} dB from a sample; scaled latents have mean {:.4} and \
         standard deviation {:.4}; posterior deviation {:.4} of it",
        psnr(&vae, &posterior.mean, &pictures)?,
        psnr(&vae, &sample, &pictures)?,
        scaled.mean(Kind::Float).double_value(&[]),
        scaled.std(true).double_value(&[]),
        (posterior.std * LATENT_SCALE).mean(Kind::Float).double_value(&[]),
    ));
    Ok(())
}

/// All pictures, cropped, `[N, 3, H, W]` in [-1, 1].
fn read(args: &Args) -> Result<Tensor> {
    let size = args.image_size;
    let mut files: Vec<PathBuf> = std::fs::read_dir(&args.images)?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<Vec<_>>>()?
        .into_iter()
        .filter(|path| path.extension().is_some_and(|e| e == "parquet"))
        .collect();
    files.sort();
    let mut pixels: Vec<u8> = Vec::new();
    for file in &files {
        for picture in read_parquet(file)? {
            let picture = picture?;
            let rgb =
                decode(&picture.bytes).with_context(|| format!("{} {}", file.display(), picture.place()))?;
            pixels.extend(center_crop(&rgb, size).pixels);
        }
    }
    if pixels.is_empty() {
        bad_input!("{}: no Parquet files of pictures", args.images.display())
    }
    let size = size as i64;
    from_bytes(&Tensor::from_slice(&pixels).f_view([-1, size, size, 3])?.f_permute([0, 3, 1, 2])?)
}

/// PyTorch's own initial weights: uniform in one over the root of the fan-in; norms the identity.
fn initial(config: &Config, seed: u64) -> Result<BTreeMap<String, Tensor>> {
    let shapes = config.shapes()?;
    let fan_in = |name: &str| -> f64 {
        let weight = &shapes[&format!("{}.weight", name.rsplit_once('.').map_or(name, |(module, _)| module))];
        weight[1..].iter().product::<i64>() as f64
    };
    let tensor = |(name, shape): (&String, &Vec<i64>)| {
        let tensor = match (name.contains("norm"), name.ends_with(".weight")) {
            (true, true) => Tensor::f_ones(shape.as_slice(), (Kind::Float, Device::Cpu))?,
            (true, false) => Tensor::f_zeros(shape.as_slice(), (Kind::Float, Device::Cpu))?,
            _ => (uniform(seed, name, 0, shape) * 2.0 - 1.0) / fan_in(name).sqrt(),
        };
        Ok((name.clone(), tensor))
    };
    shapes.iter().map(tensor).collect()
}

fn load(tensors: &BTreeMap<String, Tensor>) -> Result<Vae> {
    let shared = tensors.iter().map(|(name, t)| (name.clone(), t.shallow_clone())).collect();
    Vae::load(Weights::new("initial weights", shared), Device::Cpu, Kind::Float)
}

fn schedule(step: usize, steps: usize) -> f64 {
    let warm = (steps / 20).max(1);
    let done = step as f64 / steps as f64;
    ((step + 1) as f64 / warm as f64).min(1.0) * 0.5 * (1.0 + (std::f64::consts::PI * done).cos())
}

/// The posterior of all pictures.
fn encode(vae: &Vae, pictures: &Tensor) -> Result<Posterior> {
    let parts = pictures.split(64, 0).iter().map(|x| vae.encode_moments(x)).collect::<Result<Vec<_>>>()?;
    let join =
        |part: fn(&Posterior) -> &Tensor| Tensor::f_cat(&parts.iter().map(part).collect::<Vec<_>>(), 0);
    Ok(Posterior { mean: join(|m| &m.mean)?, std: join(|m| &m.std)?, logvar: join(|m| &m.logvar)? })
}

/// Moves and stretches each channel of the latent so that a scaled sample has mean 0 and variance 1, and the decoder back:
/// the last layer of the encoder and the first of the decoder are affine, so the pictures stay the same.
fn whiten(mut tensors: BTreeMap<String, Tensor>, posterior: &Posterior) -> Result<BTreeMap<String, Tensor>> {
    let over = [0i64, 2, 3];
    let mean = posterior.mean.f_mean_dim(&over[..], false, Kind::Float)?; // [C]
    let spread = posterior.mean.f_var_dim(&over[..], false, false)?;
    let noise = posterior.std.f_square()?.f_mean_dim(&over[..], false, Kind::Float)?;
    let stretch: Tensor = 1.0 / (LATENT_SCALE * (spread + noise).sqrt()); // [C]
    let channels = mean.size()[0];
    let mut take = |name: &str| tensors.remove(name).with_context(|| format!("no tensor {name}"));

    let (weight, bias) = (take("quant_conv.weight")?, take("quant_conv.bias")?);
    let rows = Tensor::cat(&[stretch.shallow_clone(), stretch.ones_like()], 0).view([2 * channels, 1, 1, 1]);
    let bias = bias.split(channels, 0);
    let bias = Tensor::cat(&[(&bias[0] - &mean) * &stretch, &bias[1] + 2.0 * stretch.log()], 0);
    let (back, start) = (take("post_quant_conv.weight")?, take("post_quant_conv.bias")?);
    let start = start + back.view([channels, channels]).mv(&mean);
    let back = back / stretch.view([1, channels, 1, 1]);
    tensors.extend([
        ("quant_conv.weight".to_string(), weight * rows),
        ("quant_conv.bias".to_string(), bias),
        ("post_quant_conv.weight".to_string(), back),
        ("post_quant_conv.bias".to_string(), start),
    ]);
    Ok(tensors)
}

/// Peak signal to noise of the decoded latents over all pictures together, in dB; the peak is 2, from -1 to 1.
fn psnr(vae: &Vae, latents: &Tensor, pictures: &Tensor) -> Result<f64> {
    let mut sum = 0.0;
    for (z, x) in latents.split(64, 0).iter().zip(pictures.split(64, 0)) {
        sum += (vae.decode(z)?.clamp(-1.0, 1.0) - x).square().sum(Kind::Double).double_value(&[]);
    }
    Ok(10.0 * (4.0 / (sum / pictures.numel() as f64)).log10())
}
