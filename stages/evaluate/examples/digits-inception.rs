//! Trains the FID graph at an eighth of its width as a classifier of the digits, and measures it on held-out pictures.
//!
//! `cargo run --release -p evaluate --example digits-inception -- --images data/digits --weights data/digits/inception.safetensors`

use anyhow::{Context as _, Result, ensure};
use evaluate::pictures::Pictures;
use extractors::inception::Inception;
use extractors::inception::resize::{RawPictures, Resize, prepare};
use extractors::inception::trainable::Trainable;
use pictures::Selection;
use rng::Stream;
use stage::{Context, Known};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use tch::nn::{self, OptimizerConfig};
use tch::{Device, Kind, Tensor};
use torch::random::normal;
use weights::Weights;

stage::arguments! {
    /// Train a narrow FID Inception on a labelled dataset.
    pub struct Args: "digits-inception" {
        /// Folder of Parquet files with columns `image` and `label`.
        input images: PathBuf;
        /// Side the pictures are cropped to.
        param image_size: u64 = 32, in 8..=512, unit "pixels";
        /// Full width divided by this.
        param divisor: i64 = 8, in 1..=16;
        /// Passes over the training pictures with small inputs.
        param small_epochs: u64 = 5;
        /// Side of the small inputs.
        param small_size: i64 = 139, in 75..=299, unit "pixels";
        /// Passes over the training pictures at 299 × 299, after the small ones.
        param epochs: u64 = 3;
        /// Pictures a step.
        param batch_size: u64 = 32, in 1.., unit "images";
        /// Greatest step of Adam; falls to zero along half a cosine in each phase.
        param learning_rate: f64 = 0.002;
        /// Of initial weights and order.
        param seed: u64 = 0;
        /// Cores.
        tuning threads: u64 = 2, in 1..;
        /// Safetensors, f16.
        output weights: PathBuf, known Known::NEVER;
    }
}

/// Every fifth picture is held out, never trained on.
const HELD_OUT: usize = 5;

fn main() -> ExitCode {
    stage::main(train)
}

struct Split {
    pictures: Tensor, // [N, 3, 299, 299]
    labels: Tensor,   // [N]
}

fn train(args: &Args, context: &Context) -> Result<()> {
    tch::set_num_threads(i32::try_from(args.threads)?);
    let (training, held_out) = read(args)?;
    let classes = training.labels.max().int64_value(&[]) + 1;
    let width = |full: i64| (full / args.divisor).max(1);
    let network = Trainable::new(classes, width, |name, shape| Ok(normal(args.seed, name, 0, shape)))?;
    let mut optimizer = nn::Adam::default().build(network.store(), args.learning_rate)?;

    let small = training.pictures.upsample_bilinear2d([args.small_size; 2], false, None, None);
    phase(args, context, &network, &mut optimizer, &small, &training.labels, args.small_epochs, "small")?;
    let full = &training.pictures;
    phase(args, context, &network, &mut optimizer, full, &training.labels, args.epochs, "full")?;
    average_statistics(&network, full, args.batch_size as i64)?;

    // Measured on what is stored: half precision, through the same path as every other member of the family.
    let stored: BTreeMap<String, Tensor> =
        network.tensors().into_iter().map(|(name, t)| (name, t.to_kind(Kind::Half))).collect();
    let bias = stored["fc.bias"].to_kind(Kind::Float);
    let copies = stored.iter().map(|(n, t)| (n.clone(), t.shallow_clone())).collect();
    let inception = Inception::load(Weights::new("the trained network", copies), Device::Cpu)?;
    let accuracy = accuracy(&inception, &bias, &held_out)?;
    let note = format!("{:.2} % of {} held-out pictures", 100.0 * accuracy, held_out.labels.numel());
    context.message(&note);
    ensure!(accuracy >= 0.95, "only {note} are classified rightly, and no weights are written; train longer");
    let metadata = BTreeMap::from([
        ("architecture".to_string(), format!("FID Inception-v3 at 1/{} of its width", args.divisor)),
        ("held_out_accuracy".to_string(), format!("{accuracy:.4}")),
    ]);
    weights::write(&args.weights, stored.iter().map(|(n, t)| (n.clone(), t)), &metadata)
}

fn read(args: &Args) -> Result<(Split, Split)> {
    let side = args.image_size as usize;
    let mut parts = [(Vec::new(), Vec::new()), (Vec::new(), Vec::new())];
    Pictures::open(&args.images, &Selection::default())?.batches(
        Some(side),
        0..usize::MAX,
        256,
        &mut |batch| {
            let found = batch
                .labels
                .with_context(|| format!("{} has pictures without label", args.images.display()))?;
            for (i, (picture, label)) in batch.bytes.chunks_exact(side * side * 3).zip(found).enumerate() {
                let (bytes, labels) = &mut parts[usize::from((batch.first + i) % HELD_OUT == 0)];
                bytes.extend(picture);
                labels.push(label);
            }
            Ok(())
        },
    )?;
    let [training, held_out] = parts.map(|(bytes, labels)| -> Result<Split> {
        let pictures = RawPictures { bytes: &bytes, size: [side, side] };
        let pictures = prepare(&pictures, Resize::Adm, args.threads as usize)?.contiguous();
        Ok(Split { pictures, labels: Tensor::from_slice(&labels) })
    });
    Ok((training?, held_out?))
}

#[expect(clippy::too_many_arguments, reason = "one phase of a script")]
fn phase(
    args: &Args,
    context: &Context,
    network: &Trainable,
    optimizer: &mut nn::Optimizer,
    pictures: &Tensor,
    labels: &Tensor,
    epochs: u64,
    name: &str,
) -> Result<()> {
    let count = labels.numel();
    let batch = args.batch_size as usize;
    let steps = (count / batch).max(1);
    let total = steps * epochs as usize;
    for epoch in 0..epochs {
        let order = Stream::new(args.seed, name, epoch).permutation(count as u32);
        let mut losses = 0.0;
        for (i, rows) in order.chunks(batch).take(steps).enumerate() {
            context.check_stop()?;
            let step = epoch as usize * steps + i;
            let share = (1.0 + (std::f64::consts::PI * step as f64 / total as f64).cos()) / 2.0;
            optimizer.set_lr(args.learning_rate * share);
            let rows: Vec<i64> = rows.iter().map(|&r| i64::from(r)).collect();
            let rows = Tensor::from_slice(&rows);
            let logits = network.forward(&pictures.index_select(0, &rows), 0.1)?;
            let loss = logits.cross_entropy_for_logits(&labels.index_select(0, &rows));
            optimizer.backward_step(&loss);
            losses += loss.double_value(&[]);
            context.progress(step + 1, total, &format!("{name} steps"));
        }
        context.metrics((epoch as usize + 1) * steps, serde_json::json!({"loss": losses / steps as f64}));
    }
    Ok(())
}

/// Replaces the moving statistics of the batch norms by plain means over the training pictures.
fn average_statistics(network: &Trainable, pictures: &Tensor, batch: i64) -> Result<()> {
    let _guard = tch::no_grad_guard();
    let count = pictures.size()[0];
    for i in 0..count / batch {
        let part = pictures.narrow(0, i * batch, batch);
        // Momentum 1/(i+1) makes the moving mean the mean of all so far.
        let _ = network.forward(&part, 1.0 / (i + 1) as f64)?;
    }
    Ok(())
}

fn accuracy(inception: &Inception, bias: &Tensor, split: &Split) -> Result<f64> {
    let count = split.labels.size()[0];
    let mut right = 0;
    for start in (0..count).step_by(64) {
        let length = 64.min(count - start);
        let logits = inception.features(&split.pictures.narrow(0, start, length))?.logits + bias;
        let labels = split.labels.narrow(0, start, length);
        right += logits.argmax(1, false).eq_tensor(&labels).sum(Kind::Int64).int64_value(&[]);
    }
    Ok(right as f64 / count as f64)
}
