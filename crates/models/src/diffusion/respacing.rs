//! Which timesteps a shorter process keeps.

use anyhow::Result;
use stage::bad_input;
use std::str::FromStr;

/// `250`, `10,20,30` (steps of equal sections of the process), `ddim50`, or nothing for all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Respacing {
    /// Every timestep.
    All,
    /// So many timesteps of each of as many equal sections.
    Sections(Vec<usize>),
    /// These timesteps, rising.
    Timesteps(Vec<usize>),
    /// So many timesteps at the smallest whole stride that gives exactly that many.
    Ddim(usize),
}

impl FromStr for Respacing {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let count = |word: &str| match word.trim().parse() {
            Ok(n) if n > 0 => Ok(n),
            _ => bad_input!("respacing `{text}`: write it as 250, 10,20,30 or ddim50"),
        };
        if text.is_empty() {
            return Ok(Self::All);
        }
        match text.strip_prefix("ddim") {
            Some(number) => Ok(Self::Ddim(count(number)?)),
            None => Ok(Self::Sections(text.split(',').map(count).collect::<Result<_>>()?)),
        }
    }
}

impl Respacing {
    /// The kept timesteps of `timesteps`, rising.
    ///
    /// # Errors
    /// Bad input when there are fewer timesteps than asked for.
    pub fn kept(&self, timesteps: usize) -> Result<Vec<usize>> {
        match self {
            Self::All => Ok((0..timesteps).collect()),
            Self::Timesteps(kept) => {
                let rising = kept.windows(2).all(|pair| pair[0] < pair[1]);
                if !rising || kept.last().is_none_or(|last| *last >= timesteps) {
                    bad_input!("respacing: {kept:?} are no rising timesteps below {timesteps}")
                }
                Ok(kept.clone())
            }
            Self::Ddim(count) => {
                let stride = (1..timesteps.max(2)).find(|i| timesteps.div_ceil(*i) == *count);
                match stride {
                    Some(stride) => Ok((0..timesteps).step_by(stride).collect()),
                    None => bad_input!(
                        "respacing ddim{count}: no whole stride over {timesteps} steps gives {count}"
                    ),
                }
            }
            Self::Sections(counts) => {
                let (size, extra) = (timesteps / counts.len(), timesteps % counts.len());
                let mut kept = Vec::new();
                let mut start = 0;
                for (i, &count) in counts.iter().enumerate() {
                    let size = size + usize::from(i < extra);
                    if size < count {
                        bad_input!("respacing: a section of {size} steps cannot keep {count}")
                    }
                    let stride = if count <= 1 { 1.0 } else { (size - 1) as f64 / (count - 1) as f64 };
                    // Added up in floating point, as the reference does: the rounding errors choose some steps.
                    let mut position = 0.0f64;
                    for _ in 0..count {
                        kept.push(start + position.round_ties_even() as usize);
                        position += stride;
                    }
                    start += size;
                }
                kept.dedup();
                Ok(kept)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(text: &str) -> Vec<usize> {
        text.parse::<Respacing>().unwrap().kept(1000).unwrap()
    }

    #[test]
    fn sections_and_strides() {
        let steps = kept("250");
        assert_eq!((steps.len(), steps[1], steps[248], steps[249]), (250, 4, 995, 999));
        assert_eq!(kept("ddim50")[49], 980);
        assert_eq!(kept("1"), [0]);
        assert_eq!(kept("2,1"), [0, 499, 500]);
        assert_eq!(kept("").len(), 1000);
        for bad in ["0", "x", "ddim", "5,", "1001", "ddim7000", "ddim999"] {
            let result = bad.parse::<Respacing>().and_then(|r| r.kept(1000));
            assert_eq!(stage::exit_code(&result.unwrap_err()), 2, "{bad}");
        }
    }
}
