//! The recipe's numbers and pictures, and where the goldens are: what needs no libtorch.

#![allow(dead_code, reason = "each test program that includes this file uses a part of it")]

use serde_json::Value as Json;
use std::path::PathBuf;

const GOLDEN_RATIO: u64 = 0x9E37_79B9_7F4A_7C15;

pub fn golden(name: &str) -> PathBuf {
    let given = std::env::var_os("GOLDEN_DIR").map(PathBuf::from);
    let root = given.unwrap_or_else(|| concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden").into());
    root.join("evaluation").join(name)
}

pub fn json(name: &str) -> Json {
    stage::read_json(&golden(name)).unwrap()
}

pub fn seed() -> u64 {
    json("SEED.json")["seed"].as_u64().unwrap()
}

fn mix64(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

pub fn fnv1a64(name: &str) -> u64 {
    name.bytes().fold(0xCBF2_9CE4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01B3))
}

/// One stream of numbers, by name.
pub struct Stream(u64);

impl Stream {
    pub fn new(seed: u64, name: &str) -> Self {
        // The recipe's finalizer starts with a shift-xor, as `mix64` does.
        Self(mix64(seed ^ fnv1a64(name)))
    }
    pub fn key(&self) -> u64 {
        self.0
    }
    pub fn raw(&self, j: usize) -> u64 {
        mix64(self.0.wrapping_add((j as u64 + 1).wrapping_mul(GOLDEN_RATIO)))
    }
    /// In [-1, 1), exact.
    pub fn v(&self, j: usize) -> f32 {
        ((self.raw(j) >> 40) as i64 - (1 << 23)) as f32 / (1 << 23) as f32
    }
    pub fn u(&self, j: usize) -> f32 {
        (self.raw(j) >> 40) as f32 / (1 << 24) as f32
    }
    pub fn u8(&self, j: usize) -> u8 {
        (self.raw(j) >> 56) as u8
    }
}

/// `[n, size, size, 3]`, flat.
pub fn structured_images(seed: u64, name: &str, n: usize, size: usize) -> Vec<u8> {
    let scales: Vec<usize> = [1, 4, 16, 64].into_iter().filter(|&s| s <= size).collect();
    let mut out = Vec::with_capacity(n * size * size * 3);
    for i in 0..n {
        let weights = Stream::new(seed, &format!("{name}/{i}/w"));
        let base = Stream::new(seed, &format!("{name}/{i}/base"));
        let blocks: Vec<Stream> =
            scales.iter().map(|s| Stream::new(seed, &format!("{name}/{i}/s{s}"))).collect();
        for (y, x, c) in (0..size * size * 3).map(|j| (j / 3 / size, j / 3 % size, j % 3)) {
            let sum: i32 = scales
                .iter()
                .zip(&blocks)
                .enumerate()
                .map(|(k, (s, stream))| {
                    let weight = 4 + i32::from(weights.u8(k) & 15);
                    let value = stream.u8(((y / s) * size.div_ceil(*s) + x / s) * 3 + c);
                    weight * (i32::from(value) - 128)
                })
                .sum();
            out.push(((sum >> 4) + i32::from(base.u8(c))).clamp(0, 255) as u8);
        }
    }
    out
}
