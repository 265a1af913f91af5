//! The networks whose features are scored.

use anyhow::Result;
use extractors::dinov2::DinoV2;
use extractors::inception::resize::Resize;
use extractors::inception::{self, Inception};
use stage::sha256;
use std::path::Path;
use tch::{Device, Tensor};

/// The network, and what identifies it in results.
pub(crate) struct Network {
    pub(crate) inception: Inception,
    /// Of the weights file.
    pub(crate) sha256: String,
    pub(crate) dinov2: Option<Dino>,
    pub(crate) resize: Resize,
    pub(crate) batch: usize,
    pub(crate) threads: usize,
    pub(crate) device: Device,
}

impl Network {
    /// Features where distances between them are computed.
    pub(crate) fn on_device(&self, features: [&Tensor; 2]) -> Result<[Tensor; 2]> {
        let [a, b] = features.map(|features| features.f_to_device(self.device));
        Ok([a?, b?])
    }
}

/// The network behind FD-DINOv2.
pub(crate) struct Dino {
    pub(crate) network: DinoV2,
    /// Of the weights file.
    pub(crate) sha256: String,
}

impl Dino {
    /// Reads its weights.
    pub(crate) fn read(path: &Path, device: Device) -> Result<Self> {
        let network = DinoV2::load(inception::files::read(path)?, device)?;
        Ok(Self { network, sha256: sha256(path)? })
    }
}
