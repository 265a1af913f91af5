//! The autoencoder of Stable Diffusion (`AutoencoderKL`) and its kin: pictures to latents and back.

mod autoencoder;
mod coder;
mod config;
mod files;
mod layers;
mod names;
mod pixels;
mod posterior;

pub use autoencoder::{IDENTITY_MARK, Vae};
pub use config::Config;
pub use files::{Files, LATENT_SCALE};
pub use layers::Trace;
pub use pixels::{from_bytes, to_bytes};
pub use posterior::Posterior;
