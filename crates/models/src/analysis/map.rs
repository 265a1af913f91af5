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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Config;
    use crate::analysis::Gating;
    use crate::config::Allocation;
    use tch::Device;
    use torch::random::normal;

    #[test]
    fn a_map_is_that_of_the_gates_and_counts_what_agrees() {
        let config = Config::preset("switch-dit-tiny/2", 8, 10).unwrap();
        let network = Network::fresh(&config, 0, Device::Cpu).unwrap();
        let gating = Gating::of(&network).unwrap();
        let (map, agreement) = GatingMap::of(&network, &network.state()).unwrap().unwrap();
        assert!((agreement - gating.agreement()).abs() < 1e-12);
        let bits: Vec<bool> = (0..gating.chosen.len()).map(|i| map.0[i / 8] >> (i % 8) & 1 == 1).collect();
        assert_eq!(bits, gating.chosen);
        assert_eq!(map.agreement(&map, &network).unwrap(), 1.0);

        // Other weights in the place of its own.
        let other = Network::fresh(&config, 1, Device::Cpu).unwrap();
        let noisy = |(name, tensor): (String, Tensor)| {
            let noise = if name.contains("f_gate") { 1.0 } else { 0.0 };
            let moved = &tensor + normal(2, &name, 0, &tensor.size()) * noise;
            (name, moved)
        };
        let state: BTreeMap<String, Tensor> = other.state().into_iter().map(noisy).collect();
        let (moved, _) = GatingMap::of(&network, &state).unwrap().unwrap();
        let same = bits.iter().enumerate().filter(|(i, bit)| (moved.0[i / 8] >> (i % 8) & 1 == 1) == **bit);
        let wanted = same.count() as f64 / bits.len() as f64;
        assert!(wanted < 0.99 && (map.agreement(&moved, &network).unwrap() - wanted).abs() < 1e-12);
        let text = serde_json::to_string(&moved).unwrap();
        assert_eq!(serde_json::from_str::<GatingMap>(&text).unwrap(), moved);
        assert!(serde_json::from_str::<GatingMap>("\"0g\"").is_err());

        let fixed = Config { allocation: Allocation::Random, ..config };
        for config in [fixed, Config::preset("dit-tiny/2", 8, 10).unwrap()] {
            let network = Network::fresh(&config, 0, Device::Cpu).unwrap();
            assert!(GatingMap::of(&network, &network.state()).unwrap().is_none());
        }
    }
}
