//! Whole chains against those that other code has made, bit of noise by bit of noise: `tests/golden/make.py`.

use anyhow::Result;
use sample::{Args, Sampler};
use stage::{Arguments, Values};
use std::path::Path;
use tch::{Device, Kind};
use weights::Weights;

fn golden(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn sampler(flags: &str) -> Result<Sampler> {
    let path = golden("dit.pt").display().to_string();
    let words: Vec<&str> = flags.split_whitespace().collect();
    let flags = words.chunks(2).map(|pair| (pair[0].trim_start_matches("--"), pair[1]));
    let given = [("checkpoints", path.as_str()), ("heads", "2")].into_iter().chain(flags);
    let args = Args::from_values(&Values::new(&Args::spec(), given)?)?;
    Sampler::read(&args, Device::Cpu)
}

/// f32 rounding through a chain, relative; measured at most 2e-5.
const ROUNDING: f64 = 1e-4;

/// The names in the file, and the flags that ask for them.
const CHAINS: [(&str, &str); 13] = [
    ("ddpm-3", "--schedule linear --steps 8 --guidance 4 --guidance-channels 3"),
    ("ddpm-all", "--schedule linear --steps 8 --guidance 4"),
    ("ddpm-interval", "--schedule linear --steps 8 --guidance 3 --guidance-interval 200,800"),
    ("ddim", "--schedule linear --sampler ddim --steps 8"),
    ("ddim-eta", "--schedule linear --sampler ddim --steps 8 --eta 0.5"),
    ("ddim-1", "--schedule linear --sampler ddim --steps 1"),
    ("dpm-solver++", "--schedule linear --sampler dpm-solver++ --steps 10"),
    ("dpm-solver++-cosine", "--schedule cosine --sampler dpm-solver++ --steps 10"),
    ("v-ddpm", "--schedule linear --steps 8 --prediction v"),
    ("v-ddim", "--schedule cosine --sampler ddim --steps 8 --prediction v"),
    ("v-dpm-solver++", "--schedule cosine --sampler dpm-solver++ --steps 10 --prediction v"),
    ("euler", "--sampler euler --steps 7 --prediction velocity"),
    ("heun", "--steps 7 --prediction velocity --guidance 2 --guidance-channels 3"),
];

#[test]
fn chains_give_what_other_code_gives() {
    let recorded = Weights::read(&golden("chains.safetensors")).unwrap();
    let get = |name: &str| recorded.get(name).unwrap().unwrap();
    for (name, flags) in CHAINS {
        // As a graph repeats them, too, but where only some of the steps are guided: those are never recorded.
        for fixed in [false, true].into_iter().take(if flags.contains("interval") { 1 } else { 2 }) {
            let sampler = sampler(flags).unwrap();
            let mut sampler = if fixed { sampler.in_place() } else { sampler };
            let mut taken = 0;
            let noise = || {
                taken += 1;
                Ok(if taken == 1 { get("start").shallow_clone() } else { get("noises").get(taken - 2) })
            };
            let x = sampler.chain(get("labels"), noise, || Ok(())).unwrap().to_kind(Kind::Double);
            let wanted = get(&format!("out.{name}"));
            let off = ((x - wanted).norm() / wanted.norm()).double_value(&[]);
            assert!(off < ROUNDING, "{name}, fixed {fixed}: {off:.1e}");
            let draws =
                flags.contains("--eta") || !flags.contains("--sampler") && !flags.contains("velocity");
            assert_eq!(taken, if draws { 8 } else { 1 }, "{name}");
        }
    }
    // So that the flags are seen to matter.
    for (a, b) in [("ddpm-3", "ddpm-all"), ("ddim", "ddim-eta"), ("euler", "heun")] {
        let [a, b] = [a, b].map(|name| get(&format!("out.{name}")));
        assert!(((a - b).norm() / b.norm()).double_value(&[]) > 0.05);
    }
}

#[test]
fn what_does_not_go_together_is_refused() {
    let refused = |flags: &str, words: &str| {
        let e = sampler(flags).err().unwrap();
        assert_eq!(stage::exit_code(&e), 2, "{flags}");
        assert!(e.to_string().contains(words), "{flags}: {e}");
    };
    refused("--schedule linear --sampler heun", "the network predicts noise; use ddpm, ddim or dpm-solver++");
    refused("--prediction velocity --sampler ddpm", "the network predicts a velocity; use euler or heun");
    refused("--schedule linear --sampler dpm-solver++ --eta 0.5", "only ddim takes it");
    refused("--schedule linear --eta 0.5", "only ddim takes it, not ddpm");
    for interval in ["800,200", "5", "1,2,3", "3,3"] {
        refused(&format!("--schedule linear --guidance-interval {interval}"), "last + 1");
    }
}
