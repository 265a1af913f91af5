//! Whether samples stand in the order of their labels, on which the Inception Score of consecutive splits depends.

use std::collections::BTreeSet;

/// Whether the splits see, on average, less than half of the classes that they would in mixed order.
pub(crate) fn is_by_label(labels: &[i64], split: usize) -> bool {
    let classes = labels.iter().collect::<BTreeSet<_>>().len();
    let splits: Vec<&[i64]> = labels.chunks(split).collect();
    if splits.len() < 2 || classes < 2 {
        return false;
    }
    let share = |split: &&[i64]| {
        let seen = split.iter().collect::<BTreeSet<_>>().len();
        seen as f64 / classes.min(split.len()) as f64
    };
    splits.iter().map(share).sum::<f64>() < 0.5 * splits.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sorted_labels_are_told_from_mixed_ones() {
        let sorted: Vec<i64> = (0..1000).map(|i| i / 100).collect();
        let balanced: Vec<i64> = (0..1000).map(|i| i % 10).collect();
        let parts: Vec<i64> = (0..1000).map(|i| i / 50 % 10).collect();
        assert!(is_by_label(&sorted, 200) && is_by_label(&parts, 100));
        assert!(!is_by_label(&balanced, 200) && !is_by_label(&[3; 1000], 200));
        // In one split the order is no matter.
        assert!(!is_by_label(&sorted, 1000));
    }
}
