//! What a network is made of: its architecture, sizes and routing; the presets of the paper.

use anyhow::Result;
use serde::{Deserialize, Serialize};
use stage::{Choice, bad_input, nearest};

stage::choice! {
    /// Which of the paper's networks.
    pub enum Architecture {
        /// The plain block, without a mask.
        Dit = "dit",
        /// One fixed 0/1 channel mask per timestep.
        Dtr = "dtr",
        /// A sparse mixture of experts per block, gated by the timestep.
        SwitchDit = "switch-dit",
    }
}

stage::choice! {
    /// What a routed block makes of its experts' mixture (Table 1).
    pub enum Integration {
        /// The mixture is the block's input.
        Replace = "replace",
        /// The input is multiplied by the mixture m.
        Mask = "mask",
        /// And (1 − m) times the input is added at the end.
        MaskSkip = "mask-skip",
        /// And experts are 0 at first and m is 1 more than their mixture; the paper's.
        MaskSkipOne = "mask-skip-one",
    }
}

stage::choice! {
    /// How timesteps come to their experts.
    pub enum Allocation {
        /// The most probable ones of a gate.
        Gate = "gate",
        /// A gate with noise while it is trained (noisy top-k).
        NoisyGate = "noisy-gate",
        /// Drawn at random once: per block one expert for all timesteps, one for those of a column of the prior map, one for
        /// the others (Table 4); three experts, two kept. The gate only weighs them. DTR: each timestep's channels are drawn at
        /// random once, in each block anew (Table 3).
        Random = "random",
    }
}

stage::choice! {
    /// How a random allocation is drawn.
    pub enum Draws {
        /// As earlier versions did: DTR's channels once for all blocks, the prior's columns with replacement.
        Shared = "shared",
        /// DTR's channels for every block anew, as DTR's own code. The prior's columns without replacement: its first L columns are
        /// given to the L blocks in random order, so that the blocks together have the prior's own columns, and every timestep
        /// as many experts in common with every other as under the prior. What differs from it is the order alone.
        Independent = "independent",
    }
}

impl Draws {
    /// Whether it is as earlier versions did.
    pub fn is_shared(&self) -> bool {
        *self == Self::Shared
    }
}

impl Default for Draws {
    /// What a checkpoint that does not say it has.
    fn default() -> Self {
        Self::Shared
    }
}

stage::choice! {
    /// Which form of Eq. 7 the prior map takes.
    pub enum Form {
        /// The reference code's.
        Reference = "code",
        /// The paper's, read literally.
        Paper = "paper",
    }
}

/// Timesteps of the diffusion that every network here is trained for.
pub const TIMESTEPS: i64 = 1000;

/// One network, completely.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// The kind of network.
    pub architecture: Architecture,
    /// Width `D` of a token; a multiple of 4 and of `heads`.
    pub width: i64,
    /// Number of blocks `L`.
    pub blocks: i64,
    /// Attention heads; they divide the width.
    pub heads: i64,
    /// Side of a patch; it divides `side`.
    pub patch: i64,
    /// Side of the square latent.
    pub side: i64,
    /// Channels of the latent; the network gives twice as many (noise and variance).
    pub channels: i64,
    /// Classes.
    pub classes: i64,
    /// Whether there is a null label, which guidance needs; where it is not said, with more classes than one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub null_row: Option<bool>,
    /// Probability that training replaces a label by the null label; not used where there is none.
    pub label_dropout: f64,
    /// Experts `E` of a block (Switch-DiT).
    pub experts: i64,
    /// Experts `K` that a timestep keeps (Switch-DiT).
    pub top_k: i64,
    /// How timesteps come to their experts (Switch-DiT), or channels (DTR).
    pub allocation: Allocation,
    /// Seed of a random allocation.
    pub allocation_seed: u64,
    /// How a random allocation is drawn.
    #[serde(default, skip_serializing_if = "Draws::is_shared")]
    pub allocation_draws: Draws,
    /// What a block makes of the mixture (Switch-DiT).
    pub integration: Integration,
    /// Form of the prior map (Switch-DiT).
    pub relations: Form,
    /// Exponent α of the task relations, 4 in the paper (Switch-DiT's Eq. 7, DTR's masks).
    pub alpha: f64,
    /// Share β of the channels that a timestep keeps, 0.8 (DTR).
    pub beta: f64,
}

/// A row of the preset table.
struct Preset {
    size: &'static str,
    width: i64,
    blocks: i64,
    heads: i64,
}

/// S to XL are DiT's; `digits` is small enough for a laptop's CPU, `tiny` for tests.
#[rustfmt::skip]
const PRESETS: [Preset; 6] = [
    Preset { size: "s",      width:  384, blocks: 12, heads:  6 },
    Preset { size: "b",      width:  768, blocks: 12, heads: 12 },
    Preset { size: "l",      width: 1024, blocks: 24, heads: 16 },
    Preset { size: "xl",     width: 1152, blocks: 28, heads: 16 },
    Preset { size: "digits", width:   96, blocks:  4, heads:  4 },
    Preset { size: "tiny",   width:   32, blocks:  2, heads:  2 },
];

/// The name of RAPHAEL's mixture of experts.
const TIME_MOE: &str = "time-moe";

/// The words that a preset's name begins with.
fn families() -> impl Iterator<Item = (&'static str, Architecture)> {
    Architecture::ALL.iter().copied().chain([(TIME_MOE, Architecture::SwitchDit)])
}

/// Patch sides that a preset's name may carry.
const PATCHES: [i64; 4] = [1, 2, 4, 8];

impl Config {
    /// The preset called `name`: architecture, size and patch, as in `switch-dit-b/2`. The patch is 2 where the
    /// name has none. `time-moe` is RAPHAEL's as the paper describes it: a noisy gate, the mixture as the block's input, one of
    /// four experts.
    ///
    /// # Errors
    /// Bad input that names the nearest preset.
    pub fn preset(name: &str, side: i64, classes: i64) -> Result<Self> {
        let (family, patch) = name.split_once('/').unwrap_or((name, "2"));
        let found = families().find_map(|(word, architecture)| {
            let size = family.strip_prefix(word)?.strip_prefix('-')?;
            Some((word, architecture, PRESETS.iter().find(|p| p.size == size)?))
        });
        let Some((word, architecture, preset)) = found else {
            let names = Self::preset_names();
            let near = nearest(family, names.iter().map(String::as_str));
            let hint = near.map(|n| format!("; did you mean `{n}`?")).unwrap_or_default();
            bad_input!("model `{name}` is none of {}{hint}", names.join(", "))
        };
        let patch = match patch.parse() {
            Ok(p) if PATCHES.contains(&p) => p,
            _ => bad_input!("model `{name}`: the patch is one of 1, 2, 4, 8, as in `{family}/2`"),
        };
        let Preset { width, blocks, heads, .. } = *preset;
        let mut config = Self {
            architecture,
            width,
            blocks,
            heads,
            patch,
            side,
            channels: 4,
            classes,
            null_row: None,
            label_dropout: 0.1,
            experts: 3,
            top_k: 2,
            allocation: Allocation::Gate,
            allocation_seed: 0,
            allocation_draws: Draws::Shared,
            integration: Integration::MaskSkipOne,
            relations: Form::Reference,
            alpha: 4.0,
            beta: 0.8,
        };
        if word == TIME_MOE {
            (config.experts, config.top_k) = (4, 1);
            (config.allocation, config.integration) = (Allocation::NoisyGate, Integration::Replace);
        }
        config.check()?;
        Ok(config)
    }

    /// Every preset's name, without the patch.
    pub fn preset_names() -> Vec<String> {
        families().flat_map(|(word, _)| PRESETS.iter().map(move |p| format!("{word}-{}", p.size))).collect()
    }

    /// The heads of the preset with this width and so many blocks.
    pub fn preset_heads(width: i64, blocks: i64) -> Option<i64> {
        PRESETS.iter().find(|p| (p.width, p.blocks) == (width, blocks)).map(|p| p.heads)
    }

    /// Checks that the sizes fit together.
    ///
    /// # Errors
    /// Bad input that names the first one that does not.
    pub fn check(&self) -> Result<()> {
        let positive = [
            ("width", self.width),
            ("blocks", self.blocks),
            ("heads", self.heads),
            ("patch", self.patch),
            ("side", self.side),
            ("channels", self.channels),
            ("classes", self.classes),
        ];
        if let Some((name, value)) = positive.iter().find(|(_, v)| *v < 1) {
            bad_input!("network: {name} is {value}; it is at least 1")
        }
        if self.width % 4 != 0 || self.width % self.heads != 0 {
            bad_input!("network: width {} is no multiple of 4 and of heads {}", self.width, self.heads)
        }
        if self.side % self.patch != 0 {
            bad_input!("network: latents of side {} do not divide into patches of {}", self.side, self.patch)
        }
        if !(0.0..=1.0).contains(&self.label_dropout) {
            bad_input!("network: label-dropout {} is outside 0 to 1", self.label_dropout)
        }
        if self.architecture == Architecture::SwitchDit && !(1..=self.experts).contains(&self.top_k) {
            bad_input!("network: top-k {} is outside 1 to {} (experts)", self.top_k, self.experts)
        }
        if self.routed() && self.allocation == Allocation::Random && (self.experts, self.top_k) != (3, 2) {
            bad_input!(
                "network: a random allocation is of 2 of 3 experts, not {} of {}",
                self.top_k,
                self.experts
            )
        }
        if self.architecture == Architecture::Dtr && !(self.beta > 0.0 && self.beta <= 1.0) {
            bad_input!("network: beta {} is outside 0 to 1", self.beta)
        }
        if !(self.alpha.is_finite() && self.alpha > 0.0) {
            bad_input!("network: alpha {} is not positive", self.alpha)
        }
        Ok(())
    }

    /// Patches along one side.
    pub fn grid(&self) -> i64 {
        self.side / self.patch
    }

    /// Tokens `N` of an image.
    pub fn tokens(&self) -> i64 {
        self.grid() * self.grid()
    }

    /// Whether there is a null label, and guidance.
    pub fn conditional(&self) -> bool {
        self.null_row.unwrap_or(self.classes > 1)
    }

    /// The label that means "no label"; the last row of the label table.
    pub fn null_label(&self) -> i64 {
        self.classes
    }

    /// Rows of the label table.
    pub fn label_rows(&self) -> i64 {
        self.classes + i64::from(self.conditional())
    }

    /// Whether blocks have routers.
    pub fn routed(&self) -> bool {
        self.architecture == Architecture::SwitchDit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let config = Config::preset("switch-dit-xl/4", 32, 1000).unwrap();
        assert_eq!((config.width, config.blocks, config.patch, config.tokens()), (1152, 28, 4, 64));
        assert_eq!(Config::preset("dtr-digits", 8, 10).unwrap().patch, 2);
        let text = |name: &str| Config::preset(name, 32, 10).unwrap_err().to_string();
        assert!(
            text("switch-dit-bb/2").ends_with("did you mean `switch-dit-b`?"),
            "{}",
            text("switch-dit-bb/2")
        );
        assert!(text("dit-s/3").contains("patch"));
    }

    #[test]
    fn json_is_closed() {
        let config = Config::preset("dit-s/2", 32, 1000).unwrap();
        let mut json = serde_json::to_value(&config).unwrap();
        assert_eq!(serde_json::from_value::<Config>(json.clone()).unwrap(), config);
        json["depth"] = 3.into();
        assert!(serde_json::from_value::<Config>(json).is_err());
    }
}
