//! DINOv2's vision transformer (Oquab et al. 2023), for FD-DINOv2 (Stein et al. 2023): its class token as features.
//!
//! Parameters have the published names. Width, depth and the grid of positions are read off the tensors, so ViT-S, B and L of
//! patch 14 all go through here; heads are 64 wide in each of them.

use anyhow::Result;
use stage::bad_input;
use tch::{Device, Kind, Tensor};
use weights::Weights;

/// Side of the network's input, as FD-DINOv2 feeds it.
pub const INPUT_SIZE: usize = 224;
/// Mean of red, green and blue over ImageNet, of 1.
pub const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
/// Their standard deviation.
pub const DEVIATION: [f32; 3] = [0.229, 0.224, 0.225];

const PATCH: i64 = 14;
const HEAD: i64 = 64;
const EPSILON: f64 = 1e-6;
/// The published code adds this to the number of patches in a row before it scales the positions (reference behaviour).
const OFFSET: f64 = 0.1;

/// The network, for inference only.
pub struct DinoV2 {
    patch: Affine,
    class: Tensor,     // [1, 1, D]
    positions: Tensor, // [1, 1 + N, D], the class token's first
    blocks: Vec<Block>,
    norm: Affine,
    device: Device,
}

struct Affine {
    weight: Tensor,
    bias: Tensor,
}

struct Block {
    norm1: Affine,
    qkv: Affine,
    projection: Affine,
    scale1: Tensor,
    norm2: Affine,
    up: Affine,
    down: Affine,
    scale2: Tensor,
}

impl DinoV2 {
    /// Takes the parameters; storage of any floating type is computed in f32.
    ///
    /// # Errors
    /// Bad input that names the first tensor missing, misshapen or surplus.
    pub fn load(mut weights: Weights, device: Device) -> Result<Self> {
        let _guard = tch::no_grad_guard();
        let source = weights.source().to_string();
        let size = |weights: &Weights, name: &str| weights.size(name).unwrap_or_default();
        let width = size(&weights, "cls_token").last().copied().unwrap_or(HEAD);
        if width % HEAD != 0 || width == 0 {
            bad_input!("{source}: a width of {width} is no whole number of heads of {HEAD}")
        }
        let hidden = size(&weights, "blocks.0.mlp.fc1.weight").first().copied().unwrap_or(4 * width);
        let mut take = |name: &str, shape: &[i64]| -> Result<Tensor> {
            Ok(weights.take(name, shape)?.f_to_kind(Kind::Float)?.f_to_device(device)?)
        };
        let class = take("cls_token", &[1, 1, width])?;
        let patch = Affine {
            weight: take("patch_embed.proj.weight", &[width, 3, PATCH, PATCH])?,
            bias: take("patch_embed.proj.bias", &[width])?,
        };
        let norm = affine(&mut take, "norm", &[width])?;
        let tokens = size(&weights, "pos_embed").get(1).copied().unwrap_or(0);
        let side = ((tokens - 1).max(1) as f64).sqrt().round() as i64;
        let positions = weights.take("pos_embed", &[1, 1 + side * side, width])?;
        let positions = positions.f_to_kind(Kind::Float)?.f_to_device(device)?;
        let mut blocks = Vec::new();
        // The first block must be there; the first that is not ends the network.
        while blocks.is_empty() || weights.has(&format!("blocks.{}.norm1.weight", blocks.len())) {
            let path = format!("blocks.{}", blocks.len());
            let mut take = |name: &str, shape: &[i64]| -> Result<Tensor> {
                Ok(weights.take(name, shape)?.f_to_kind(Kind::Float)?.f_to_device(device)?)
            };
            blocks.push(Block {
                norm1: affine(&mut take, &format!("{path}.norm1"), &[width])?,
                qkv: affine(&mut take, &format!("{path}.attn.qkv"), &[3 * width, width])?,
                projection: affine(&mut take, &format!("{path}.attn.proj"), &[width, width])?,
                scale1: take(&format!("{path}.ls1.gamma"), &[width])?,
                norm2: affine(&mut take, &format!("{path}.norm2"), &[width])?,
                up: affine(&mut take, &format!("{path}.mlp.fc1"), &[hidden, width])?,
                down: affine(&mut take, &format!("{path}.mlp.fc2"), &[width, hidden])?,
                scale2: take(&format!("{path}.ls2.gamma"), &[width])?,
            });
        }
        // What masked patches became in training.
        if weights.has("mask_token") {
            let _ = weights.take("mask_token", &[1, width])?;
        }
        weights.finish()?;
        let positions = at_grid(&positions, side, INPUT_SIZE as i64 / PATCH)?;
        Ok(Self { patch, class, positions, blocks, norm, device })
    }

    /// Width of the features; 1024 in ViT-L.
    pub fn width(&self) -> i64 {
        self.class.size()[2]
    }

    /// The normalised class token, on the network's device.
    ///
    /// # Shapes
    /// `pictures`: `[B, 3, 224, 224]`, less [`MEAN`], over [`DEVIATION`]; returns `[B, D]`.
    pub fn features(&self, pictures: &Tensor) -> Result<Tensor> {
        let _guard = tch::no_grad_guard();
        let (count, width) = (pictures.size()[0], self.width());
        let pictures = pictures.f_to_device(self.device)?;
        let (stride, pad) = ([PATCH, PATCH], [0, 0]);
        let patches =
            pictures.f_conv2d(&self.patch.weight, Some(&self.patch.bias), stride, pad, [1, 1], 1)?;
        let patches = patches.f_flatten(2, 3)?.f_transpose(1, 2)?; // [B, N, D]
        let class = self.class.f_expand([count, 1, width], true)?;
        let mut x = Tensor::f_cat(&[class, patches], 1)?.f_add(&self.positions)?; // [B, 1 + N, D]
        for block in &self.blocks {
            x = block.forward(&x)?;
        }
        // The norm is that of each token, so the others need none.
        layer_norm(&x.f_select(1, 0)?, &self.norm) // [B, D]
    }
}

impl Block {
    /// # Shapes
    /// `[B, N, D]` to the same.
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (batch, tokens, width) = x.size3()?;
        let qkv = linear(&layer_norm(x, &self.norm1)?, &self.qkv)?;
        let qkv = qkv.f_view([batch, tokens, 3, width / HEAD, HEAD])?.f_permute([2, 0, 3, 1, 4])?;
        let (q, k, v) = (qkv.f_get(0)?, qkv.f_get(1)?, qkv.f_get(2)?); // [B, heads, N, 64]
        let none = None::<&Tensor>;
        let mixed = Tensor::f_scaled_dot_product_attention(&q, &k, &v, none, 0.0, false, None, false)?;
        let mixed = mixed.f_transpose(1, 2)?.f_reshape([batch, tokens, width])?;
        let x = x.f_add(&linear(&mixed, &self.projection)?.f_mul(&self.scale1)?)?;
        let hidden = linear(&layer_norm(&x, &self.norm2)?, &self.up)?.f_gelu("none")?;
        Ok(x.f_add(&linear(&hidden, &self.down)?.f_mul(&self.scale2)?)?)
    }
}

fn affine(take: &mut dyn FnMut(&str, &[i64]) -> Result<Tensor>, path: &str, shape: &[i64]) -> Result<Affine> {
    Ok(Affine {
        weight: take(&format!("{path}.weight"), shape)?,
        bias: take(&format!("{path}.bias"), &shape[..1])?,
    })
}

fn linear(x: &Tensor, layer: &Affine) -> Result<Tensor> {
    Ok(x.f_linear(&layer.weight, Some(&layer.bias))?)
}

fn layer_norm(x: &Tensor, norm: &Affine) -> Result<Tensor> {
    let width = x.size().last().copied().unwrap_or(0);
    Ok(x.f_layer_norm([width], Some(&norm.weight), Some(&norm.bias), EPSILON, false)?)
}

/// The positions of a grid of `side` patches for one of `wanted`, by bicubic interpolation as the published code has it.
fn at_grid(positions: &Tensor, side: i64, wanted: i64) -> Result<Tensor> {
    if side == wanted {
        return Ok(positions.shallow_clone());
    }
    let (tokens, width) = (positions.size()[1], positions.size()[2]);
    let grid = positions.f_narrow(1, 1, tokens - 1)?.f_reshape([1, side, side, width])?;
    let scale = (wanted as f64 + OFFSET) / side as f64;
    let grid = grid.f_permute([0, 3, 1, 2])?.f_upsample_bicubic2d([wanted, wanted], false, scale, scale)?;
    let grid = grid.f_permute([0, 2, 3, 1])?.f_reshape([1, wanted * wanted, width])?;
    Ok(Tensor::f_cat(&[positions.f_narrow(1, 0, 1)?, grid], 1)?)
}
