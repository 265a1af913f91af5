//! FID of each class: the samples of a class against the reference's pictures of it.

use crate::scores::Class;
use anyhow::Result;
use metrics::{Moments, Statistics, frechet};
use std::collections::BTreeMap;
use tch::Tensor;

/// For every class that has two samples and two reference pictures, by number. Few pictures bias it upwards: it ranks classes
/// within a run, and compares runs of equal numbers.
///
/// `features` and `labels` are of the samples and of the reference.
pub(crate) fn distances(features: [&Tensor; 2], labels: [&[i64]; 2]) -> Result<Vec<Class>> {
    let mut rows: BTreeMap<i64, [Vec<i64>; 2]> = BTreeMap::new();
    for (side, labels) in labels.into_iter().enumerate() {
        for (row, &label) in labels.iter().enumerate() {
            rows.entry(label).or_default()[side].push(row as i64);
        }
    }
    let statistics = |side: usize, rows: &[i64]| -> Result<Statistics> {
        let mut moments = Moments::new(features[side].size()[1]);
        moments.add(&features[side].f_index_select(0, &Tensor::f_from_slice(rows)?)?)?;
        moments.statistics()
    };
    rows.into_iter()
        .filter(|(_, rows)| rows.iter().all(|r| r.len() >= 2))
        .map(|(class, [samples, reference])| {
            let fid = frechet(&statistics(0, &samples)?, &statistics(1, &reference)?)?.distance;
            Ok(Class { class, samples: samples.len(), reference: reference.len(), fid })
        })
        .collect()
}
