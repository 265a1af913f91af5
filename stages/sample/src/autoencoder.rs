//! Whether an autoencoder is that of a checkpoint's latents, and how those are moved and scaled.

use crate::Args;
use anyhow::Result;
use latents::LatentSpace;
use models::checkpoint::CheckpointMetadata;
use stage::bad_input;
use vae::{Config, Files, IDENTITY_MARK, Vae};
use weights::Weights;

/// Checks that the autoencoder's latents have the network's channels.
pub fn same_channels(files: &Files, sizes: &Config, about: &CheckpointMetadata) -> Result<()> {
    let (found, wanted) = (sizes.latent, about.network.channels);
    if found != wanted {
        bad_input!("{}: latents of {found} channels, the network's have {wanted}", files.weights().display())
    }
    Ok(())
}

/// Checks that these are the weights of the autoencoder that latents come from, as far as a checkpoint says which; gives what
/// identifies them.
pub fn same_autoencoder(files: &Files, weights: &Weights, wanted: &str, source: &str) -> Result<String> {
    // Older checkpoints know the file instead of its tensors.
    let by_file = !wanted.is_empty() && !wanted.starts_with(IDENTITY_MARK);
    let digest = if by_file { stage::digest(files.weights())? } else { Vae::identity(weights)? };
    if !wanted.is_empty() && digest != wanted {
        bad_input!(
            "{}: not the autoencoder of the latents that {source} was trained on ({} {digest}, wanted {wanted})",
            files.weights().display(),
            if by_file { "BLAKE3 of the file" } else { "digest of its tensors" },
        )
    }
    Ok(digest)
}

/// How the network's latents are moved and scaled: as its checkpoint says. Another program's does not say it; then `--scale` and
/// `--shift` do, or the autoencoder's `config.json`, or it is as the reference has it.
pub fn latent_space(args: &Args, about: &CheckpointMetadata, files: &Files) -> Result<LatentSpace> {
    if !about.foreign {
        let LatentSpace { scale, shift, .. } = about.latents;
        for (flag, given, told) in [("scale", args.scale, scale), ("shift", args.shift, shift)] {
            if given.is_some_and(|given| given != told) {
                bad_input!(
                    "--{flag}: the checkpoint's latents have {told}; this is for checkpoints that do not say it"
                )
            }
        }
        return Ok(about.latents.clone());
    }
    if args.scale.is_none() && args.shift.is_none() && !files.says_scale() && about.network.channels == 4 {
        return Ok(about.latents.clone());
    }
    files.space(about.network.channels, args.scale, args.shift)
}
