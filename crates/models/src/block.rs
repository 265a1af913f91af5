//! The transformer block, with or without a mask on its input.

use crate::attention::Attention;
use crate::config::Config;
use crate::mlp::Mlp;
use crate::modulation::{Modulation, modulate};
use crate::parameters::Builder;
use crate::router::Mixture;
use anyhow::Result;
use tch::Tensor;
use torch::shim::fused;

/// Attention and MLP, each behind an adaptive normalisation and a gate.
pub struct Block {
    attention: Attention,
    mlp: Mlp,
    /// `shift_msa`, `scale_msa`, `gate_msa`, `shift_mlp`, `scale_mlp`, `gate_mlp`.
    modulation: Modulation<6>,
}

impl Block {
    /// `blocks.INDEX`.
    pub fn new(builder: &mut Builder, config: &Config, index: i64) -> Result<Self> {
        let path = format!("blocks.{index}");
        Ok(Self {
            attention: Attention::new(builder, &format!("{path}.attn"), config.width, config.heads)?,
            mlp: Mlp::new(builder, &format!("{path}.mlp"), config.width)?,
            modulation: Modulation::new(builder, &path, config.width)?,
        })
    }

    /// Eqs. 5 and 6: the residual branches on what `entry` makes of the input.
    ///
    /// # Shapes
    /// `activated`, which is SiLU(c), `[B, D]`, to `[B, N, D]`.
    pub fn forward(&self, entry: &Entry, activated: &Tensor) -> Tensor {
        if fused::serves(entry.z) {
            self.fused(entry, self.modulation.forward_fused(activated))
        } else {
            self.plain(entry, self.modulation.forward(activated))
        }
    }

    /// The formulas, in any precision and on any device.
    fn plain(&self, entry: &Entry, modulation: [Tensor; 6]) -> Tensor {
        let [shift_msa, scale_msa, gate_msa, shift_mlp, scale_mlp, gate_mlp] = modulation;
        let change = entry.excess.as_ref().map(|excess| entry.z * excess.sum());
        let r = change.as_ref().map_or_else(|| entry.z.shallow_clone(), |change| entry.z + change);
        let r = r.addcmul(&gate_msa, &self.attention.forward(&modulate(&r, &shift_msa, &scale_msa)));
        let r = r.addcmul(&gate_mlp, &self.mlp.forward(&modulate(&r, &shift_mlp, &scale_mlp)));
        match change.filter(|_| entry.skip) {
            Some(change) => r - change,
            None => r,
        }
    }

    /// The same where passes are fused: between two products everything is done in one pass over the tokens.
    fn fused(&self, entry: &Entry, modulation: [Tensor; 6]) -> Tensor {
        let [shift_msa, scale_msa, gate_msa, shift_mlp, scale_mlp, gate_mlp] = modulation;
        let (r, keep, h) = match &entry.excess {
            None => (entry.z.shallow_clone(), None, fused::modulate(entry.z, &shift_msa, &scale_msa)),
            Some(Mixture { tokens, shared }) => {
                let entered = fused::enter(entry.z, tokens.as_ref(), shared, &shift_msa, &scale_msa);
                (entered.r, Some(entered.keep).filter(|_| entry.skip), entered.h)
            }
        };
        let (y, bias) = self.attention.forward_fused(&h);
        let [r, h] = fused::join(&r, &y, bias, &gate_msa, &shift_mlp, &scale_mlp);
        let (y, bias) = self.mlp.forward_fused(&h);
        fused::leave(&r, &y, bias, &gate_mlp, keep.as_ref())
    }
}

/// What enters a block: `z · m`, or `z`.
pub struct Entry<'a> {
    /// `[B, N, D]`.
    pub z: &'a Tensor,
    /// `m − 1`, if there is a mask.
    pub excess: Option<Mixture>,
    /// Whether `(1 − m) · z` is added at the end.
    pub skip: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};
    use torch::random::normal;

    /// f32 rounding through a block, relative (Frobenius); measured at most 8e-7.
    const ROUNDING: f64 = 1e-5;

    #[test]
    fn the_fused_block_is_the_plain_one() {
        let config = Config { width: 96, heads: 3, ..Config::preset("switch-dit-s/2", 8, 10).unwrap() };
        let mut builder = Builder::fresh(1, Device::Cpu);
        let block = Block::new(&mut builder, &config, 0).unwrap();
        let parameters = builder.finish();
        for p in &parameters {
            let noise = normal(2, &p.name, 0, &p.tensor.size()) * 0.1;
            let _ = tch::no_grad(|| p.tensor.shallow_clone().g_add_(&noise));
        }
        // Tokens that the fused attention serves, and that it does not.
        for n in [16, 15] {
            let draw = |name: &str, shape: &[i64]| normal(3, name, 0, shape).set_requires_grad(true);
            let (z, u, c) = (draw("z", &[2, n, 96]), draw("u", &[2, n, 96]), draw("c", &[2, 96]));
            let e = draw("e", &[2, 1, 96]);
            let copy = |x: &Tensor| x.shallow_clone();
            let whole = || Some(Mixture { tokens: Some(copy(&u)), shared: copy(&e) });
            let shared = || Some(Mixture { tokens: None, shared: copy(&e) });
            for (excess, skip) in [(whole(), true), (whole(), false), (shared(), true), (None, false)] {
                let entry = Entry { z: &z, excess, skip };
                let inputs: Vec<Tensor> = parameters
                    .iter()
                    .map(|p| copy(&p.tensor))
                    .chain([copy(&z), copy(&c)])
                    .chain(entry.excess.iter().flat_map(|m| m.tokens.iter().chain([&m.shared])).map(copy))
                    .collect();
                let run = |out: Tensor| {
                    let loss = (&out * normal(4, "weight", 0, &out.size())).sum(Kind::Float);
                    let mut all = Tensor::run_backward(&[loss], &inputs, false, false);
                    all.push(out);
                    all
                };
                let m = || block.modulation.forward(&c.silu());
                for (got, want) in run(block.fused(&entry, m())).iter().zip(run(block.plain(&entry, m()))) {
                    let distance = ((got - &want).norm() / want.norm()).double_value(&[]);
                    assert!(distance < ROUNDING, "{n} tokens, skip {skip}: {distance:e}");
                }
            }
        }
    }
}
