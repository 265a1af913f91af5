//! The building blocks: convolution, norm, residual block, attention.

use super::config::Trace;
use anyhow::Result;
use tch::{Device, Kind, Tensor};

/// Groups of every norm.
pub const GROUPS: i64 = 32;
/// Of every norm; PyTorch's own default is ten times this.
const EPS: f64 = 1e-6;

/// Where the weights come from, and the form the network wants them in.
pub struct Take<'a> {
    pub device: Device,
    pub kind: Kind,
    pub take: &'a mut dyn FnMut(&str, &[i64]) -> Result<Tensor>,
}

impl Take<'_> {
    fn tensor(&mut self, module: &str, name: &str, shape: &[i64]) -> Result<Tensor> {
        let tensor = (self.take)(&format!("{module}.{name}"), shape)?;
        Ok(tensor.f_to_device(self.device)?.f_to_kind(self.kind)?)
    }
}

/// The same tensor with the channels innermost in memory, in which order libtorch's convolutions are fastest
/// (encoding at full size, 256×256, two cores: 1.4 s against 2.2 s a picture).
pub fn channels_last(x: &Tensor) -> Result<Tensor> {
    Ok(x.f_permute([0, 2, 3, 1])?.f_contiguous()?.f_permute([0, 3, 1, 2])?)
}

/// A convolution with bias; a kernel of 3 keeps the size, a kernel of 1 needs no padding.
pub struct Conv {
    weight: Tensor,
    bias: Tensor,
    kernel: i64,
}

impl Conv {
    pub fn new(module: &str, from: i64, to: i64, kernel: i64, take: &mut Take) -> Result<Self> {
        let weight = take.tensor(module, "weight", &[to, from, kernel, kernel])?;
        Ok(Self { weight, bias: take.tensor(module, "bias", &[to])?, kernel })
    }

    /// # Shapes
    /// `x` `[B, from, H, W]`; the output `[B, to, H, W]`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let pad = self.kernel / 2;
        Ok(x.f_conv2d(&self.weight, Some(&self.bias), [1, 1], [pad, pad], [1, 1], 1)?)
    }

    /// Half the size: zeros on the right and at the bottom only, then a stride of 2.
    ///
    /// # Shapes
    /// `x` `[B, from, H, W]`; the output `[B, to, H/2, W/2]`, rounded down.
    pub fn halve(&self, x: &Tensor) -> Result<Tensor> {
        let x = x.f_constant_pad_nd([0, 1, 0, 1])?;
        Ok(x.f_conv2d(&self.weight, Some(&self.bias), [2, 2], [0, 0], [1, 1], 1)?)
    }
}

/// Group normalisation, 32 groups.
pub struct Norm {
    weight: Tensor,
    bias: Tensor,
}

impl Norm {
    pub fn new(module: &str, channels: i64, take: &mut Take) -> Result<Self> {
        let weight = take.tensor(module, "weight", &[channels])?;
        Ok(Self { weight, bias: take.tensor(module, "bias", &[channels])? })
    }

    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x.f_group_norm(GROUPS, Some(&self.weight), Some(&self.bias), EPS, true)?)
    }
}

/// `x + conv2(silu(norm2(conv1(silu(norm1(x))))))`, the first `x` through a 1×1 convolution where the channels change.
pub struct Resnet {
    name: String,
    norm1: Norm,
    conv1: Conv,
    norm2: Norm,
    conv2: Conv,
    conv_shortcut: Option<Conv>,
}

impl Resnet {
    pub fn new(module: &str, from: i64, to: i64, take: &mut Take) -> Result<Self> {
        Ok(Self {
            norm1: Norm::new(&format!("{module}.norm1"), from, take)?,
            conv1: Conv::new(&format!("{module}.conv1"), from, to, 3, take)?,
            norm2: Norm::new(&format!("{module}.norm2"), to, take)?,
            conv2: Conv::new(&format!("{module}.conv2"), to, to, 3, take)?,
            conv_shortcut: (from != to)
                .then(|| Conv::new(&format!("{module}.conv_shortcut"), from, to, 1, take))
                .transpose()?,
            name: module.to_string(),
        })
    }

    /// # Shapes
    /// `x` `[B, from, H, W]`; the output `[B, to, H, W]`.
    pub fn forward(&self, x: &Tensor, trace: Trace) -> Result<Tensor> {
        let h = self.conv1.forward(&self.norm1.forward(x)?.f_silu()?)?; // [B, to, H, W]
        let h = self.conv2.forward(&self.norm2.forward(&h)?.f_silu()?)?;
        let out = match &self.conv_shortcut {
            Some(conv) => conv.forward(x)?.f_add(&h)?,
            None => x.f_add(&h)?,
        };
        trace(&self.name, &out);
        Ok(out)
    }
}

/// Self-attention over all positions, one head as wide as the channels, added to its input.
pub struct Attention {
    name: String,
    norm: Norm,
    query: Linear,
    key: Linear,
    value: Linear,
    out: Linear,
}

impl Attention {
    pub fn new(module: &str, channels: i64, take: &mut Take) -> Result<Self> {
        let mut linear = |name: &str| Linear::new(&format!("{module}.{name}"), channels, take);
        let (query, key, value, out) =
            (linear("to_q")?, linear("to_k")?, linear("to_v")?, linear("to_out.0")?);
        let norm = Norm::new(&format!("{module}.group_norm"), channels, take)?;
        Ok(Self { name: module.to_string(), norm, query, key, value, out })
    }

    /// # Shapes
    /// `x` and the output `[B, C, H, W]`.
    pub fn forward(&self, x: &Tensor, trace: Trace) -> Result<Tensor> {
        let (b, c, h, w) = x.size4()?;
        let tokens = self.norm.forward(x)?.f_permute([0, 2, 3, 1])?.f_reshape([b, 1, h * w, c])?; // [B, 1, N, C]
        let (q, k, v) =
            (self.query.forward(&tokens)?, self.key.forward(&tokens)?, self.value.forward(&tokens)?);
        let mixed =
            Tensor::f_scaled_dot_product_attention(&q, &k, &v, None::<Tensor>, 0.0, false, None, false)?;
        let out = self.out.forward(&mixed)?.f_reshape([b, h, w, c])?.f_permute([0, 3, 1, 2])?; // [B, C, H, W]
        let out = x.f_add(&out)?;
        trace(&self.name, &out);
        Ok(out)
    }
}

struct Linear {
    weight: Tensor,
    bias: Tensor,
}

impl Linear {
    fn new(module: &str, width: i64, take: &mut Take) -> Result<Self> {
        let weight = take.tensor(module, "weight", &[width, width])?;
        Ok(Self { weight, bias: take.tensor(module, "bias", &[width])? })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x.f_linear(&self.weight, Some(&self.bias))?)
    }
}
