//! Gating maps of any weights, against the gates of whole networks.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use models::analysis::{Gating, GatingMap};
use models::config::Allocation;
use models::{Config, Network};
use std::collections::BTreeMap;
use tch::{Device, Tensor};
use torch::random::normal;

/// The cells of a map, from the digits that it is stored as.
fn bits(map: &GatingMap, cells: usize) -> Vec<bool> {
    let text = serde_json::to_value(map).unwrap();
    let text = text.as_str().unwrap();
    let byte = |i: usize| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap();
    (0..cells).map(|i| byte(i / 8) >> (i % 8) & 1 == 1).collect()
}

#[test]
fn a_map_is_that_of_the_gates_and_counts_what_agrees() {
    let config = Config::preset("switch-dit-tiny/2", 8, 10).unwrap();
    let network = Network::fresh(&config, 0, Device::Cpu).unwrap();
    let gating = Gating::of(&network).unwrap();
    let (map, agreement) = GatingMap::of(&network, &network.state()).unwrap().unwrap();
    assert!((agreement - gating.agreement()).abs() < 1e-12);
    let bits = bits(&map, gating.chosen.len());
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
    let same = bits.iter().zip(self::bits(&moved, bits.len())).filter(|(a, b)| **a == *b);
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
