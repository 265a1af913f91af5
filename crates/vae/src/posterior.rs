//! What the encoder says of a latent.

use anyhow::Result;
use tch::{Kind, Tensor};

/// Reference behaviour: diffusers clamps the predicted log-variance to this range.
const LOGVAR_RANGE: (f64, f64) = (-30.0, 20.0);

/// The posterior of a latent, a normal distribution per position; none of it is scaled by [`LATENT_SCALE`](crate::LATENT_SCALE).
#[derive(Debug)]
pub struct Posterior {
    /// Mean. `[B, C, H, W]`, f32.
    pub mean: Tensor,
    /// Standard deviation. `[B, C, H, W]`, f32.
    pub std: Tensor,
    /// Logarithm of the variance, clamped to [-30, 20]. `[B, C, H, W]`, f32.
    pub logvar: Tensor,
}

impl Posterior {
    /// From the encoder's output, the means above the log-variances.
    ///
    /// # Shapes
    /// `moments` `[B, 2C, H, W]`, f32.
    ///
    /// # Errors
    /// When libtorch fails, as on an odd number of channels.
    pub fn new(moments: &Tensor) -> Result<Self> {
        let mut halves = moments.f_chunk(2, 1)?.into_iter();
        let (Some(mean), Some(logvar)) = (halves.next(), halves.next()) else {
            anyhow::bail!("moments of shape {:?} have no log-variance", moments.size())
        };
        let logvar = logvar.f_clamp(LOGVAR_RANGE.0, LOGVAR_RANGE.1)?;
        let std = logvar.f_mul_scalar(0.5)?.f_exp()?;
        Ok(Self { mean, std, logvar })
    }

    /// A sample: `mean + std * noise`.
    ///
    /// # Shapes
    /// `noise` and the sample `[B, C, H, W]`.
    ///
    /// # Errors
    /// When the shapes differ.
    pub fn sample(&self, noise: &Tensor) -> Result<Tensor> {
        Ok(self.mean.f_add(&self.std.f_mul(noise)?)?)
    }

    /// The divergence from the standard normal distribution, summed over each latent. `[B]`.
    pub fn kl(&self) -> Result<Tensor> {
        let variance = self.logvar.f_exp()?;
        let terms = self.mean.f_square()?.f_add(&variance)?.f_sub_scalar(1.0)?.f_sub(&self.logvar)?;
        Ok(terms.f_sum_dim_intlist([1i64, 2, 3].as_slice(), false, Kind::Float)?.f_mul_scalar(0.5)?)
    }
}
