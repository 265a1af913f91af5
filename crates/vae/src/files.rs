//! An autoencoder on disk: its weights, and what the `config.json` of diffusers beside them says of its latents.

use anyhow::{Context, Result};
use latents::{ChannelStatistics, LatentSpace};
use serde::Deserialize;
use stage::{bad_input, read_json};
use std::fs;
use std::path::{Path, PathBuf};

/// What a latent is multiplied by before a diffusion model sees it: one over its standard deviation over natural
/// pictures (latent diffusion, §4.3.2 and its released configuration).
pub const LATENT_SCALE: f64 = 0.18215;

/// Endings of files of weights, the first that a folder has.
const ENDINGS: [&str; 5] = ["safetensors", "ckpt", "pth", "pt", "bin"];

/// Where an autoencoder is.
pub struct Files {
    weights: PathBuf,
    settings: Option<Settings>,
    /// Whether the settings were in a folder that was given, and not only beside a file.
    given: bool,
}

/// What `config.json` says of latents; the sizes of the network show in its weights.
#[derive(Clone, Debug, Default, Deserialize)]
struct Settings {
    #[serde(default, rename = "_class_name")]
    class: String,
    scaling_factor: Option<f64>,
    shift_factor: Option<f64>,
    latent_channels: Option<i64>,
    latents_mean: Option<Vec<f64>>,
    latents_std: Option<Vec<f64>>,
}

/// The class of the autoencoders that are known here.
const CLASS: &str = "AutoencoderKL";

impl Files {
    /// At `path`: a file of weights, or a folder with one and perhaps a `config.json`. `flag` is for errors.
    ///
    /// # Errors
    /// Bad input when a folder has none or several, or its `config.json` is of something else.
    pub fn find(flag: &str, path: &Path) -> Result<Self> {
        let given = path.is_dir();
        let (weights, folder) = match given {
            true => (weights_in(flag, path)?, Some(path)),
            false => (path.to_path_buf(), path.parent()),
        };
        let config = folder.map(|folder| folder.join("config.json")).filter(|config| config.is_file());
        let settings = match config {
            // A file that only lies beside may be anything.
            Some(config) if !given => read_json::<Settings>(&config).ok().filter(|s| s.class == CLASS),
            Some(config) => {
                let settings: Settings = read_json(&config)?;
                if !settings.class.is_empty() && settings.class != CLASS {
                    bad_input!("{}: of {}, not {CLASS}", config.display(), settings.class)
                }
                Some(settings)
            }
            None => None,
        };
        Ok(Self { weights, settings, given })
    }

    /// The file of weights.
    pub fn weights(&self) -> &Path {
        &self.weights
    }

    /// Whether a `config.json` says how the latents are scaled.
    pub fn says_scale(&self) -> bool {
        self.given && self.settings.as_ref().is_some_and(|settings| settings.scaling_factor.is_some())
    }

    /// How its latents, of so many channels, are moved and scaled: as `--scale` and `--shift` say, else as `config.json` does,
    /// else as Stable Diffusion's.
    ///
    /// # Errors
    /// Bad input when nothing says it, or `config.json` contradicts the weights.
    pub fn space(&self, channels: i64, scale: Option<f64>, shift: Option<f64>) -> Result<LatentSpace> {
        let source = self.weights.display();
        let settings = self.settings.clone().unwrap_or_default();
        if let Some(told) = settings.latent_channels.filter(|told| *told != channels) {
            bad_input!("{source}: latents of {channels} channels, though its config.json says {told}")
        }
        let statistics = match (settings.latents_mean, settings.latents_std) {
            (Some(mean), Some(std)) => Some(ChannelStatistics { mean, std }),
            _ => None,
        };
        let told = LatentSpace {
            scale: settings.scaling_factor.unwrap_or(LATENT_SCALE),
            shift: settings.shift_factor.unwrap_or(0.0),
            channels: statistics,
            vae: String::new(),
        };
        let usual = LatentSpace::scaled(LATENT_SCALE, "");
        let space = match (scale, shift) {
            (None, None) if self.given && self.settings.is_some() => told,
            (None, None) if self.settings.is_some() && told != usual => bad_input!(
                "{source}: the config.json beside it says scaling_factor {} and shift_factor {}; name the folder, or give \
                 --scale and --shift",
                told.scale,
                told.shift
            ),
            (None, _) if channels != 4 && !self.says_scale() => bad_input!(
                "{source}: latents of {channels} channels and no config.json that says their scaling_factor; give --scale, and \
                 --shift where there is one"
            ),
            _ => LatentSpace {
                scale: scale.unwrap_or(if self.given { told.scale } else { LATENT_SCALE }),
                shift: shift.unwrap_or(if self.given { told.shift } else { 0.0 }),
                ..usual
            },
        };
        if !space.fits(channels as usize) {
            bad_input!("{source}: latents of {channels} channels cannot be scaled by {space:?}")
        }
        Ok(space)
    }
}

fn weights_in(flag: &str, folder: &Path) -> Result<PathBuf> {
    let context = || format!("reading {}", folder.display());
    let files: Vec<PathBuf> = fs::read_dir(folder)
        .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>())
        .with_context(context)?;
    for ending in ENDINGS {
        let found: Vec<&PathBuf> =
            files.iter().filter(|file| file.extension().is_some_and(|e| e == ending)).collect();
        match found.as_slice() {
            [] => {}
            [file] => return Ok((*file).clone()),
            _ => bad_input!("{flag} {}: {} {ending} files in it; name one", folder.display(), found.len()),
        }
    }
    bad_input!("{flag} {}: 0 safetensors files in it; name one", folder.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(config: Option<&str>, given: bool) -> Files {
        let settings = config.map(|text| stage::serde_json::from_str(text).unwrap());
        Files { weights: "vae.safetensors".into(), settings, given }
    }

    #[test]
    fn a_config_says_how_latents_are_scaled() {
        let sdxl = files(
            Some(r#"{"_class_name": "AutoencoderKL", "scaling_factor": 0.13025, "force_upcast": true}"#),
            true,
        );
        assert_eq!(sdxl.space(4, None, None).unwrap(), LatentSpace::scaled(0.13025, ""));
        assert_eq!(sdxl.space(4, Some(0.5), None).unwrap().scale, 0.5);
        let text = r#"{"latent_channels": 16, "scaling_factor": 0.3611, "shift_factor": 0.1159}"#;
        let flux = files(Some(text), true).space(16, None, None).unwrap();
        assert_eq!((flux.scale, flux.shift), (0.3611, 0.1159));
        let refused = files(Some(text), true).space(4, None, None).unwrap_err().to_string();
        assert!(refused.contains("4 channels") && refused.contains("says 16"), "{refused}");
        let text = r#"{"scaling_factor": 2.0, "latents_mean": [1, 2], "latents_std": [3, 4]}"#;
        let space = files(Some(text), true).space(2, None, None).unwrap();
        assert_eq!(space.affine(2)[1], latents::Affine { shift: 2.0, scale: 0.5 });
        assert!(files(Some(text), true).space(3, None, None).is_err());
    }

    #[test]
    fn without_one_only_stable_diffusion_s_is_known() {
        let plain = files(None, false);
        assert_eq!(plain.space(4, None, None).unwrap(), LatentSpace::scaled(LATENT_SCALE, ""));
        assert!(plain.space(16, None, None).unwrap_err().to_string().contains("give --scale"));
        assert_eq!(plain.space(16, Some(1.5305), Some(0.0609)).unwrap().shift, 0.0609);
        // A config that lies beside a file is not of the input; where it says something else, that is told.
        let beside = |scale: &str| files(Some(&format!(r#"{{"scaling_factor": {scale}}}"#)), false);
        assert_eq!(beside("0.18215").space(4, None, None).unwrap().scale, LATENT_SCALE);
        assert!(beside("0.13025").space(4, None, None).unwrap_err().to_string().contains("name the folder"));
        assert_eq!(beside("0.13025").space(4, Some(LATENT_SCALE), None).unwrap().scale, LATENT_SCALE);
    }
}
