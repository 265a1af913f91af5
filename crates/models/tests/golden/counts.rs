//! Parameters and multiply-accumulates of the presets, counted without making the networks.

use super::support::*;
use models::summary::Summary;
use models::{Config, Network};

/// `Switch-S/2 M3k2 classes=1000` as a preset.
fn preset(name: &str, classes: i64) -> Config {
    let mut words = name.split_whitespace();
    let family = words.next().unwrap().to_lowercase().replace("switch-", "switch-dit-");
    let mut config = Config::preset(&family, 32, classes).unwrap();
    for word in words.filter(|w| w.starts_with('M')) {
        let (experts, kept) = word[1..].split_once('k').unwrap();
        (config.experts, config.top_k) = (experts.parse().unwrap(), kept.parse().unwrap());
    }
    config
}

#[test]
fn parameters() {
    let meta = json("param_counts");
    for (name, want) in meta["params"].as_object().unwrap() {
        let (model, classes) = name.split_once(" classes=").unwrap();
        let ours = Summary::new(&preset(model, classes.parse().unwrap()));
        assert_eq!(ours.stored(), want["total"].as_i64().unwrap(), "{name}");
        assert_eq!(ours.stored() - ours.frozen, want["trainable"].as_i64().unwrap(), "{name}");
        for (part, count) in want["by_part"].as_object().unwrap() {
            assert_eq!(ours.parameters[part.as_str()], count.as_i64().unwrap(), "{name} {part}");
        }
        assert_eq!(ours.parameters.len(), want["by_part"].as_object().unwrap().len(), "{name}");
    }
    for row in meta["paper_table1"]["rows"].as_array().unwrap() {
        for classes in [1, 1000] {
            let mut config = preset(row["model"].as_str().unwrap(), classes);
            if let (Some(experts), Some(kept)) = (row["M"].as_i64(), row["k"].as_i64()) {
                (config.experts, config.top_k) = (experts, kept);
            }
            let ours = Summary::new(&config);
            let field = |what: &str| row[&format!("{what}_classes{classes}")].as_i64().unwrap();
            assert_eq!(ours.stored(), field("total"), "{row}");
            assert_eq!(ours.activated(), field("activated"), "{row}");
        }
    }
}

#[test]
fn multiply_accumulates() {
    for (name, want) in json("param_counts")["flops_32x32x4"].as_object().unwrap() {
        let ours = Summary::new(&preset(name, 1000));
        assert_eq!(ours.macs_per_image(), want["macs_per_image"].as_i64().unwrap(), "{name}");
        assert_eq!(ours.fixed_macs, want["macs_fixed_per_forward"].as_i64().unwrap(), "{name}");
        for (part, count) in want["breakdown_macs"].as_object().unwrap() {
            if let Some(ours) = ours.macs.get(part.as_str()) {
                assert_eq!(*ours, count.as_i64().unwrap(), "{name} {part}");
            } else {
                assert!(part.starts_with("fixed_"), "{name} {part}");
            }
        }
    }
}

#[test]
fn the_count_is_that_of_the_network() {
    for name in ["dit-tiny/2", "dtr-tiny/2", "switch-dit-tiny/4", "time-moe-tiny/2"] {
        for classes in [1, 10] {
            let config = Config::preset(name, 8, classes).unwrap();
            let network = Network::fresh(&config, 0, tch::Device::Cpu).unwrap();
            let made: usize = network.parameters().iter().map(|p| p.tensor.numel()).sum();
            assert_eq!(Summary::new(&config).stored(), made as i64, "{name}, {classes} classes");
        }
    }
}
