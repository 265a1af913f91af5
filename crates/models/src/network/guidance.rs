//! Classifier-free guidance: a network evaluated with a label and without.

use super::{Network, Timesteps};
use tch::Tensor;

stage::choice! {
    /// Which channels of the prediction are guided.
    pub enum GuidedChannels {
        /// All of them; the reference's and the paper's.
        All = "all",
        /// The first three, as facebookresearch/DiT's code does: its published FID of 2.27 is with them. The fourth is predicted for
        /// the label alone.
        Three = "3",
    }
}

impl GuidedChannels {
    /// How many of so many.
    fn of(self, channels: i64) -> i64 {
        match self {
            Self::All => channels,
            Self::Three => channels.min(3),
        }
    }
}

/// Classifier-free guidance: what is predicted without a label, and `scale` times what the label adds to that.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Guidance {
    /// 1 follows the labels as they are.
    pub scale: f64,
    /// Which channels of the prediction.
    pub channels: GuidedChannels,
}

impl From<f64> for Guidance {
    /// Of all channels.
    fn from(scale: f64) -> Self {
        Self { scale, channels: GuidedChannels::All }
    }
}

impl Network {
    /// Classifier-free guidance; what is not guided, the variance among it, of each half stays its own (reference behaviour).
    ///
    /// # Shapes
    /// `x` `[2n, C, S, S]` of which the first half is read, `t` and `y` `[2n]`, the labels then the null labels, to
    /// `[2n, 2C, S, S]`.
    pub fn forward_with_cfg(
        &self,
        x: &Tensor,
        t: &Tensor,
        y: &Tensor,
        guidance: impl Into<Guidance>,
    ) -> Tensor {
        let half = x.narrow(0, 0, x.size()[0] / 2);
        let out = self.forward(&Tensor::cat(&[&half, &half], 0), t, y);
        let (guided, rest) = self.guide(&out, guidance.into());
        Tensor::cat(&[Tensor::cat(&[&guided, &guided], 0), rest], 1)
    }

    /// One guided evaluation for images that are all at the same timestep; `timesteps` has one row.
    ///
    /// # Shapes
    /// `x` `[B, C, S, S]`, `y` `[B]`, to `[B, 2C, S, S]`.
    pub fn guided(
        &self,
        x: &Tensor,
        timesteps: &Timesteps,
        y: &Tensor,
        guidance: impl Into<Guidance>,
    ) -> Tensor {
        if !self.config.conditional() {
            return self.forward_at(x, timesteps, y);
        }
        let labels = Tensor::cat(&[y, &y.full_like(self.config.null_label())], 0);
        let out = self.forward_at(&Tensor::cat(&[x, x], 0), timesteps, &labels);
        let (guided, rest) = self.guide(&out, guidance.into());
        Tensor::cat(&[guided, rest.narrow(0, 0, x.size()[0])], 1)
    }

    /// The guided channels, and the others as they are.
    ///
    /// # Shapes
    /// `out` `[2n, 2C, S, S]`, with labels and then with the null label, to `[n, G, S, S]` and `[2n, 2C − G, S, S]`.
    fn guide(&self, out: &Tensor, guidance: Guidance) -> (Tensor, Tensor) {
        let (all, images) = (self.config.channels, out.size()[0] / 2);
        let channels = guidance.channels.of(all);
        let (noise, rest) = (out.narrow(1, 0, channels), out.narrow(1, channels, 2 * all - channels));
        let (conditional, null) = (noise.narrow(0, 0, images), noise.narrow(0, images, images));
        (&null + (conditional - &null) * guidance.scale, rest)
    }
}
