//! Sizes and lengths of time, as people write them.

use serde::{Deserialize, Deserializer, de};
use std::str::FromStr;
use std::time::Duration;

/// A size in bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bytes(pub u64);

/// A length of time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Time(pub Duration);

/// Splits `4GiB` into its number and unit.
fn quantity(text: &str, units: &[(&str, f64)], example: &str) -> Result<f64, String> {
    let text = text.trim();
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = (text[..split].parse::<f64>(), text[split..].trim());
    let scale = units.iter().find(|(name, _)| *name == unit).map(|(_, scale)| scale);
    match (number, scale) {
        (Ok(number), Some(scale)) => Ok(number * scale),
        _ => {
            let names: Vec<_> = units.iter().map(|(name, _)| *name).filter(|n| !n.is_empty()).collect();
            Err(format!("`{text}` is no quantity such as `{example}`; units are {}", names.join(", ")))
        }
    }
}

impl FromStr for Bytes {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (k, m) = (f64::from(1 << 10), f64::from(1 << 20));
        let units = [
            ("", 1.0),
            ("B", 1.0),
            ("KiB", k),
            ("MiB", m),
            ("GiB", m * k),
            ("TiB", m * m),
            ("kB", 1e3),
            ("MB", 1e6),
            ("GB", 1e9),
            ("TB", 1e12),
        ];
        quantity(text, &units, "4GiB").map(|n| Bytes(n as u64))
    }
}

impl FromStr for Time {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let units = [("s", 1.0), ("m", 60.0), ("h", 3600.0), ("d", 86400.0)];
        // A year is longer than any stage; it keeps the arithmetic far from its limits.
        quantity(text, &units, "30m").map(|s| Time(Duration::from_secs_f64(s.min(31_536_000.0))))
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}
