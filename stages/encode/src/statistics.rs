//! Statistics of the latents' channels.

use anyhow::Result;
use shards::{LatentsMetadata, Shard};
use stage::bad_input;

/// The description with the statistics of the channels over all shards, where these have sums for them.
///
/// # Errors
/// Bad input when a channel has none.
pub fn with_statistics(about: &LatentsMetadata, shards: &[Shard]) -> Result<LatentsMetadata> {
    let mut sums = shards.iter().filter_map(|shard| shard.sums.as_ref());
    let Some(first) = sums.next() else { return Ok(about.clone()) };
    let mut all = first.clone();
    sums.for_each(|sums| all.merge(sums));
    match all.statistics() {
        Some(channels) => Ok(LatentsMetadata { channels: Some(channels), ..about.clone() }),
        None => bad_input!("--channel-statistics: a channel of the latents is one number everywhere"),
    }
}
