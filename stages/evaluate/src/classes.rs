//! FID of each class: the samples of a class against the reference's pictures of it.

use crate::scores::Class;
use anyhow::Result;
use metrics::{Moments, Statistics, frechet};
use std::collections::BTreeMap;
use tch::Tensor;

/// For every class that has two samples and two reference pictures, by number. Few pictures bias it upwards: it ranks classes
/// within a run, and compares runs of equal numbers.
///
/// `features` and `labels` are of the samples and of the reference; `names` are those of the classes, by number.
pub(crate) fn distances(features: [&Tensor; 2], labels: [&[i64]; 2], names: &[String]) -> Result<Vec<Class>> {
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
            let name = usize::try_from(class).ok().and_then(|class| names.get(class)).cloned();
            Ok(Class { class, name, samples: samples.len(), reference: reference.len(), fid })
        })
        .collect()
}

/// The labels of the reference by the samples' numbers of the same classes, where both sides name them; those of classes that
/// the samples do not have are below zero.
pub(crate) fn numbers_of(labels: &[i64], [ours, theirs]: [&[String]; 2]) -> Vec<i64> {
    if ours.is_empty() || theirs.is_empty() || ours == theirs {
        return labels.to_vec();
    }
    let number = |label: &i64| {
        let name = usize::try_from(*label).ok().and_then(|label| theirs.get(label));
        let number = name.and_then(|name| ours.iter().position(|other| other == name));
        number.map_or(-1, |number| number as i64)
    };
    labels.iter().map(number).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_the_same_by_name() {
        let names = |names: &[&str]| names.iter().map(|n| n.to_string()).collect::<Vec<_>>();
        let (ours, theirs) = (names(&["ant", "bee"]), names(&["bee", "cow", "ant"]));
        assert_eq!(numbers_of(&[0, 1, 2], [&ours, &theirs]), [1, -1, 0]);
        assert_eq!(numbers_of(&[0, 1, 2], [&[], &theirs]), [0, 1, 2]);
    }
}
