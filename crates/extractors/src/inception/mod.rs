//! The Inception-v3 by which FID is computed (`inception-2015-12-05`), and its narrow relatives.
//!
//! Parameters have pytorch-fid's names. Every width is read off the tensors' shapes, so a network of a fraction of the
//! width, trained on another dataset, goes through the same code.

pub mod files;
pub mod graph;
pub mod graph_def;
pub mod names;
pub mod resize;
pub mod trainable;

use anyhow::{Context, Result};
use graph::{Conv, Taps, Walk, channels, walk};
use stage::bad_input;
use std::collections::HashMap;
use tch::{Device, Kind, Tensor};
use weights::Weights;

/// Of every batch norm in the graph.
pub const BATCH_NORM_EPSILON: f64 = 1e-3;
/// How many channels of `mixed_6/conv` sFID looks at (reference behaviour); a narrower layer gives all it has.
pub const SPATIAL_CHANNELS: i64 = 7;

/// The network with its batch norms folded into the convolutions, for inference only.
pub struct Inception {
    convs: HashMap<String, Folded>,
    /// `[D, classes]`.
    classifier: Tensor,
    device: Device,
}

struct Folded {
    weight: Tensor,
    bias: Tensor,
}

/// What scores are computed from, for a batch of `B` pictures.
pub struct Features {
    /// `[B, D]`: the mean of the last block over positions; D is 2048 in the full network.
    pub pool: Tensor,
    /// `[B, 17·17·c]`, row-major over positions, then channels; 2023 wide in the full network.
    pub spatial: Tensor,
    /// `[B, classes]`: `pool` times the classifier **without its bias** (reference behaviour).
    pub logits: Tensor,
}

impl Inception {
    /// Takes the parameters of the graph; storage of any floating type is computed in f32.
    ///
    /// # Errors
    /// Bad input that names the first tensor missing, misshapen or surplus.
    pub fn load(mut weights: Weights, device: Device) -> Result<Self> {
        let _guard = tch::no_grad_guard();
        let mut convs = HashMap::new();
        let last = channels(|conv, inputs| {
            let folded = fold(&mut weights, &conv, inputs, device)?;
            let width = folded.bias.size()[0];
            convs.insert(conv.name, folded);
            Ok(width)
        })?;
        let classes = first_dimension(&weights, "fc.weight")?;
        let classifier = weights.take("fc.weight", &[classes, last])?;
        if weights.has("fc.bias") {
            let _ = weights.take("fc.bias", &[classes])?;
        }
        // Kept by torch for averaging; without meaning at inference.
        let counters: Vec<String> =
            weights.names().filter(|n| n.ends_with("num_batches_tracked")).map(String::from).collect();
        counters.iter().for_each(|name| drop(weights.split_off(name)));
        weights.finish()?;
        let classifier = classifier.f_to_kind(Kind::Float)?.f_tr()?.f_contiguous()?.f_to_device(device)?;
        Ok(Self { convs, classifier, device })
    }

    /// Where it computes.
    pub fn device(&self) -> Device {
        self.device
    }

    /// Width of [`Features::pool`].
    pub fn width(&self) -> i64 {
        self.classifier.size()[0]
    }

    /// Width of [`Features::logits`].
    pub fn classes(&self) -> i64 {
        self.classifier.size()[1]
    }

    /// The features of scaled pictures, on the network's device.
    ///
    /// # Shapes
    /// `pictures`: `[B, 3, 299, 299]`, as [`resize::prepare`] makes them.
    pub fn features(&self, pictures: &Tensor) -> Result<Features> {
        self.observe(pictures, &mut |_, _| {})
    }

    /// As [`Inception::features`], showing the output of every convolution (after its ReLU), named pool and block.
    pub fn observe(&self, pictures: &Tensor, see: &mut dyn FnMut(&str, &Tensor)) -> Result<Features> {
        let _guard = tch::no_grad_guard();
        let pictures = pictures.f_to_device(self.device)?;
        let Taps { last, spatial } = walk(&mut Run { convs: &self.convs, see }, &pictures)?;
        let pool = last.f_mean_dim([2i64, 3].as_slice(), false, None::<Kind>)?; // [B, D]
        let channels = spatial.size()[1].min(SPATIAL_CHANNELS);
        let spatial = spatial.f_narrow(1, 0, channels)?.f_permute([0, 2, 3, 1])?; // [B, 17, 17, c]
        let spatial = spatial.f_reshape([spatial.size()[0], -1])?; // [B, 17·17·c]
        let logits = pool.f_matmul(&self.classifier)?; // [B, classes]
        Ok(Features { pool, spatial, logits })
    }
}

fn first_dimension(weights: &Weights, name: &str) -> Result<i64> {
    match weights.size(name) {
        Some(size) if !size.is_empty() => Ok(size[0]),
        Some(_) => bad_input!("{}: tensor {name} is a single number", weights.source()),
        None => {
            let near = stage::nearest(name, weights.names());
            let hint = near.map(|n| format!("; the nearest name is {n}")).unwrap_or_default();
            bad_input!("{}: no tensor {name}{hint}", weights.source())
        }
    }
}

/// Takes a convolution's parameters, with its batch norm folded in.
fn fold(weights: &mut Weights, conv: &Conv, inputs: i64, device: Device) -> Result<Folded> {
    let name = &conv.name;
    let weight_name = format!("{name}.conv.weight");
    let width = first_dimension(weights, &weight_name)?;
    if width > conv.width {
        bad_input!(
            "{}: tensor {weight_name} has {width} filters, the full network {}",
            weights.source(),
            conv.width
        )
    }
    let weight = weights.take(&weight_name, &[width, inputs, conv.kernel[0], conv.kernel[1]])?;
    let mut norm = |part: &str| -> Result<Tensor> {
        Ok(weights.take(&format!("{name}.bn.{part}"), &[width])?.f_to_kind(Kind::Double)?)
    };
    let (scale, shift) = (norm("weight")?, norm("bias")?);
    let (mean, variance) = (norm("running_mean")?, norm("running_var")?);
    let folded = || -> Result<Folded, tch::TchError> {
        let factor = scale.f_mul(&variance.f_add_scalar(BATCH_NORM_EPSILON)?.f_rsqrt()?)?; // [O]
        let weight = weight.f_to_kind(Kind::Double)?.f_mul(&factor.f_view([width, 1, 1, 1])?)?;
        let bias = shift.f_sub(&mean.f_mul(&factor)?)?;
        let channels_last = weight.f_permute([0, 2, 3, 1])?.f_to_kind(Kind::Float)?.f_contiguous()?;
        Ok(Folded {
            weight: channels_last.f_permute([0, 3, 1, 2])?.f_to_device(device)?,
            bias: bias.f_to_kind(Kind::Float)?.f_to_device(device)?,
        })
    };
    folded().with_context(|| format!("folding the batch norm of {name}"))
}

/// Computes.
struct Run<'a> {
    convs: &'a HashMap<String, Folded>,
    see: &'a mut dyn FnMut(&str, &Tensor),
}

impl Walk for Run<'_> {
    type X = Tensor;

    fn conv(&mut self, conv: Conv, x: &Tensor) -> Result<Tensor> {
        let folded = self.convs.get(&conv.name).with_context(|| format!("{} was not loaded", conv.name))?;
        let stride = [conv.stride, conv.stride];
        let y = x.f_conv2d(&folded.weight, Some(&folded.bias), stride, conv.pad, [1, 1], 1)?.f_relu_()?;
        (self.see)(&conv.name, &y);
        Ok(y)
    }

    fn max_pool(&mut self, name: &str, x: &Tensor, stride: i64, pad: i64) -> Result<Tensor> {
        let y = max_pool(x, stride, pad)?;
        (self.see)(name, &y);
        Ok(y)
    }

    fn average_pool(&mut self, x: &Tensor) -> Result<Tensor> {
        average_pool(x)
    }

    fn join(&mut self, name: &str, parts: &[Tensor]) -> Result<Tensor> {
        let y = Tensor::f_cat(parts, 1)?;
        (self.see)(name, &y);
        Ok(y)
    }
}

fn max_pool(x: &Tensor, stride: i64, pad: i64) -> Result<Tensor> {
    Ok(x.f_max_pool2d([3, 3], [stride, stride], [pad, pad], [1, 1], false)?)
}

fn average_pool(x: &Tensor) -> Result<Tensor> {
    Ok(x.f_avg_pool2d([3, 3], [1, 1], [1, 1], false, false, None::<i64>)?)
}
