//! The space of latents: how an autoencoder's are moved and scaled for a diffusion model.

use serde::{Deserialize, Serialize};

/// The space that a network's latents live in. A latent `x` of the autoencoder's is `(x - shift) · scale` there, or, where the
/// channels have statistics, `(x - mean) / std · scale` by channel.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct LatentSpace {
    /// What the autoencoder's latents are multiplied by.
    pub scale: f64,
    /// What is taken from them before.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub shift: f64,
    /// The channels' own statistics, which stand in for `shift`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channels: Option<ChannelStatistics>,
    /// Which autoencoder it is: a digest of its tensors, or in older files BLAKE3 of its file. Empty where nothing is known.
    pub vae: String,
}

/// Mean and standard deviation of each channel over a set of latents.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChannelStatistics {
    /// Means.
    pub mean: Vec<f64>,
    /// Standard deviations.
    pub std: Vec<f64>,
}

/// Whether a shift is none; then nothing is said of it.
pub fn is_zero(shift: &f64) -> bool {
    *shift == 0.0
}

/// One channel's map: `(x - shift) · scale`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Affine {
    /// What is taken away.
    pub shift: f64,
    /// What the rest is multiplied by.
    pub scale: f64,
}

impl LatentSpace {
    /// One with a scale alone.
    pub fn scaled(scale: f64, vae: impl Into<String>) -> Self {
        Self { scale, vae: vae.into(), ..Self::default() }
    }

    /// The map of every channel.
    pub fn affine(&self, channels: usize) -> Vec<Affine> {
        let one = |channel: usize| match &self.channels {
            Some(ChannelStatistics { mean, std }) => {
                Affine { shift: mean[channel], scale: self.scale / std[channel] }
            }
            None => Affine { shift: self.shift, scale: self.scale },
        };
        (0..channels).map(one).collect()
    }

    /// Whether it can be one of latents with so many channels.
    pub fn fits(&self, channels: usize) -> bool {
        let number = |x: &f64| x.is_finite();
        let statistics = self.channels.as_ref().is_none_or(|c| {
            let sizes = c.mean.len() == channels && c.std.len() == channels;
            sizes && c.mean.iter().all(number) && c.std.iter().all(|std| std.is_finite() && *std > 0.0)
        });
        statistics && number(&self.shift) && number(&self.scale) && self.scale != 0.0
    }
}

/// Sums over the numbers of each channel, from which statistics follow: of latents that are drawn from normal distributions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChannelSums {
    /// Numbers in a channel.
    pub count: u64,
    /// Of the means.
    pub mean: Vec<f64>,
    /// Of the means' squares and the variances.
    pub square: Vec<f64>,
}

impl ChannelSums {
    /// For so many channels.
    pub fn new(channels: usize) -> Self {
        Self { count: 0, mean: vec![0.0; channels], square: vec![0.0; channels] }
    }

    /// Adds distributions of one channel, by mean and standard deviation; [`ChannelSums::count`] is the caller's.
    pub fn add(&mut self, channel: usize, distributions: impl Iterator<Item = (f64, f64)>) {
        let (mut mean, mut square) = (0.0, 0.0);
        for (m, std) in distributions {
            mean += m;
            square += m * m + std * std;
        }
        self.mean[channel] += mean;
        self.square[channel] += square;
    }

    /// Adds what others have summed.
    pub fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.mean.iter_mut().zip(&other.mean).for_each(|(a, b)| *a += b);
        self.square.iter_mut().zip(&other.square).for_each(|(a, b)| *a += b);
    }

    /// The statistics; `None` of nothing, and of channels that are all one number.
    pub fn statistics(&self) -> Option<ChannelStatistics> {
        let count = self.count as f64;
        let mean: Vec<f64> = self.mean.iter().map(|sum| sum / count).collect();
        let std: Vec<f64> =
            self.square.iter().zip(&mean).map(|(sum, mean)| (sum / count - mean * mean).sqrt()).collect();
        let sound = self.count > 0 && std.iter().all(|std| *std > 0.0 && std.is_finite());
        sound.then_some(ChannelStatistics { mean, std })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_not_written() {
        let plain = LatentSpace::scaled(0.5, "a");
        assert_eq!(serde_json::to_string(&plain).unwrap(), r#"{"scale":0.5,"vae":"a"}"#);
        let flux = LatentSpace { shift: 0.1159, ..LatentSpace::scaled(0.3611, "b") };
        let text = serde_json::to_string(&flux).unwrap();
        assert_eq!(serde_json::from_str::<LatentSpace>(&text).unwrap(), flux);
        assert_eq!(flux.affine(2), [Affine { shift: 0.1159, scale: 0.3611 }; 2]);
    }

    #[test]
    fn statistics_of_distributions() {
        let mut sums = ChannelSums::new(1);
        // Of normal distributions at 1 and 3 with deviation 2: mean 2, variance 1 + 4.
        sums.add(0, [(1.0, 2.0), (3.0, 2.0)].into_iter());
        sums.count = 2;
        let mut twice = sums.clone();
        twice.merge(&sums);
        for sums in [&sums, &twice] {
            let ChannelStatistics { mean, std } = sums.statistics().unwrap();
            assert_eq!((mean[0], std[0]), (2.0, 5f64.sqrt()));
        }
        assert_eq!(ChannelSums::new(1).statistics(), None);
        let channels = sums.statistics();
        let space = LatentSpace { channels, ..LatentSpace::scaled(2.0, "") };
        assert_eq!(space.affine(1), [Affine { shift: 2.0, scale: 2.0 / 5f64.sqrt() }]);
        assert!(space.fits(1) && !space.fits(2) && !LatentSpace::scaled(f64::NAN, "").fits(1));
    }
}
