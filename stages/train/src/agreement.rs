//! How far gating maps agree with the prior, and with what they were some steps before: of the network, and of its first average.

use anyhow::{Context, Result};
use models::Network;
use models::analysis::GatingMap;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use tch::Tensor;
use torch::flat::Flat;

/// The maps of the network and of its first average.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Maps {
    network: GatingMap,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ema: Option<GatingMap>,
}

/// A look at the maps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Looked {
    /// Steps done.
    pub step: usize,
    /// What was seen.
    pub maps: Maps,
}

/// The file of the state folder that has, for the last checkpoints there, the look before each.
pub const LOOKS: &str = "gating.json";
/// Checkpoints that it has looks of: a run may be killed between writing it and writing the last.
const KEPT: usize = 2;

type Looks = BTreeMap<usize, Looked>;

/// The look before the checkpoint of this step, if the folder has it.
pub fn look_before(state: &Path, step: usize) -> Option<Looked> {
    looks(state).remove(&step)
}

fn looks(state: &Path) -> Looks {
    // Without it the log says less once; a damaged one is none.
    let text = fs::read(state.join(LOOKS)).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}

/// Keeps the look before the checkpoint that comes at this step.
///
/// # Errors
/// When it cannot be written.
pub fn keep_look(state: &Path, step: usize, looked: Option<&Looked>) -> Result<()> {
    let Some(looked) = looked else { return Ok(()) };
    let mut looks = looks(state);
    looks.retain(|at, _| *at < step);
    while looks.len() >= KEPT {
        looks.pop_first();
    }
    looks.insert(step, looked.clone());
    stage::write_json(&state.join(LOOKS), &serde_json::to_value(&looks)?).context("keeping the gating map")
}

impl Maps {
    /// The maps of these weights, and by its name in the log the share of each that agrees with the prior; nothing where no gate
    /// learns to choose.
    ///
    /// # Errors
    /// When a weight is missing.
    pub fn of(
        network: &Network,
        flat: &Flat,
        averages: &[Tensor],
    ) -> Result<Option<(Self, BTreeMap<String, f64>)>> {
        let map = |vector: &Tensor| GatingMap::of(network, &flat.split(vector));
        let Some((own, agreement)) = map(&flat.values)? else { return Ok(None) };
        let mut shares = BTreeMap::from([("prior_agreement".to_string(), agreement)]);
        let ema = averages.first().map(map).transpose()?.flatten().map(|(ema, agreement)| {
            shares.insert("ema_prior_agreement".into(), agreement);
            ema
        });
        Ok(Some((Self { network: own, ema }, shares)))
    }

    /// The shares that agree with the maps of before, by their names in the log.
    ///
    /// # Errors
    /// When these are of another network.
    pub fn since(&self, before: &Self, network: &Network) -> Result<BTreeMap<String, f64>> {
        let mut shares = BTreeMap::new();
        let share = self.network.agreement(&before.network, network)?;
        shares.insert("map_agreement".to_string(), share);
        if let Some((ema, before)) = self.ema.as_ref().zip(before.ema.as_ref()) {
            shares.insert("ema_map_agreement".into(), ema.agreement(before, network)?);
        }
        Ok(shares)
    }
}
