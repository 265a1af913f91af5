//! A gating map alone, to see how it moves while a network is trained.

use crate::network::Network;
use crate::prior::Prior;
use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::collections::BTreeMap;
use tch::{Kind, Tensor};

/// Which experts every timestep keeps: bits, row by row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatingMap(Vec<u8>);

impl GatingMap {
    /// The map of a network whose gates learn which experts a timestep keeps, with these weights in the place of its own, and the
    /// share of its cells that agree with the matched prior, 0 to 1; nothing of other networks.
    ///
    /// # Errors
    /// When a weight is missing.
    pub fn of(network: &Network, weights: &BTreeMap<String, Tensor>) -> Result<Option<(Self, f64)>> {
        let Some(prior) = network.prior().filter(|_| network.learns_to_choose()) else { return Ok(None) };
        let _no_grad = tch::no_grad_guard();
        let chosen = network.chosen_with(weights)?;
        let costs = prior.cost(&chosen).to_device(tch::Device::Cpu);
        let matching = Prior::matching(&costs, 0, 0).unsqueeze(1);
        let cost = costs.gather(1, &matching, false).sum(Kind::Double).double_value(&[]);
        let cells = chosen.numel();
        let values =
            Vec::<f32>::try_from(chosen.to_kind(Kind::Float).flatten(0, -1)).context("a gating map")?;
        let bits = values.chunks(8).map(|byte| {
            byte.iter().enumerate().fold(0, |bits, (i, value)| bits | (u8::from(*value > 0.5) << i))
        });
        Ok(Some((Self(bits.collect()), 1.0 - cost / cells as f64)))
    }

    /// The share of the cells of this and another map of the same network that agree, 0 to 1.
    ///
    /// # Errors
    /// When they are of different sizes.
    pub fn agreement(&self, other: &Self, network: &Network) -> Result<f64> {
        ensure!(self.0.len() == other.0.len(), "gating maps of different networks");
        let different: u32 = self.0.iter().zip(&other.0).map(|(a, b)| (a ^ b).count_ones()).sum();
        let config = network.config();
        let cells = crate::config::TIMESTEPS * config.blocks * config.experts;
        Ok(1.0 - f64::from(different) / cells as f64)
    }
}

impl Serialize for GatingMap {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text: String = self.0.iter().map(|byte| format!("{byte:02x}")).collect();
        serializer.serialize_str(&text)
    }
}

impl<'de> Deserialize<'de> for GatingMap {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
        let bytes: Option<Vec<u8>> = text.as_bytes().chunks(2).map(byte).collect();
        bytes.map(Self).ok_or_else(|| de::Error::custom("a gating map is pairs of hexadecimal digits"))
    }
}
