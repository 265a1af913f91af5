//! The seeds of a variant as one row: mean and standard deviation of every metric.

use super::rows::{Row, StageOfRow};
use serde_json::{Map, Number, Value};
use std::collections::BTreeMap;
use study::seed_of;

/// What the seeds of a variant have in common, and its name; `None` for a row that has no seeds beside it.
type Group<'a> = Option<(Vec<(&'a str, String)>, String)>;

/// Makes one row of all seeds of a variant, in the place of the first; others stay as they are.
pub fn together(rows: Vec<Row>) -> Vec<Row> {
    let variant = |row: &Row| seed_of(&row.variant).map(|(name, _)| (row.of.clone(), name.to_string()));
    let mut groups: Vec<(Group, Vec<Row>)> = Vec::new();
    for row in rows {
        let group = variant(&row);
        match groups.iter_mut().find(|(name, _)| name.is_some() && *name == group) {
            Some((_, rows)) => rows.push(row),
            None => groups.push((group, vec![row])),
        }
    }
    let row = |(group, mut rows): (Group, Vec<Row>)| match group {
        Some((_, name)) if rows.len() > 1 => mean(name, &rows),
        _ => rows.swap_remove(0),
    };
    groups.into_iter().map(row).collect()
}

fn mean(variant: String, rows: &[Row]) -> Row {
    let mut deviations = BTreeMap::new();
    let stage = |stage: &StageOfRow| {
        let same = |row: &'_ Row| row.stages.iter().find(|s| s.stage == stage.stage).cloned();
        let all: Vec<StageOfRow> = rows.iter().filter_map(same).collect();
        let seconds: Vec<f64> = all.iter().filter_map(|s| s.seconds).collect();
        // What differs from seed to seed is the seed.
        let alike =
            |(name, value): &(&String, &String)| all.iter().all(|s| s.params.get(*name) == Some(*value));
        let params = stage.params.iter().filter(alike).map(|(k, v)| (k.clone(), v.clone())).collect();
        let mut metrics = Map::new();
        for name in all.iter().flat_map(|s| s.metrics.keys()) {
            let values: Vec<f64> =
                all.iter().filter_map(|s| s.metrics.get(name)?.as_f64()).filter(|v| v.is_finite()).collect();
            let (mean, deviation) = moments(&values);
            if let Some(deviation) = deviation {
                deviations.insert(name.clone(), deviation);
            }
            metrics.insert(name.clone(), Number::from_f64(mean).map_or(Value::Null, Value::Number));
        }
        StageOfRow {
            stage: stage.stage.clone(),
            done: all.iter().all(|s| s.done),
            seconds: (!seconds.is_empty()).then(|| seconds.iter().sum()),
            params,
            metrics,
        }
    };
    let stages = rows[0].stages.iter().map(stage).collect();
    let measured = |row: &&Row| row.stages.iter().any(|stage| !stage.metrics.is_empty());
    Row {
        of: rows[0].of.clone(),
        variant,
        failed: rows.iter().any(|row| row.failed),
        stages,
        // Those that there is a number of.
        seeds: Some(rows.iter().filter(measured).count()),
        deviations,
    }
}

/// The mean, and the standard deviation of a sample from two values up.
fn moments(values: &[f64]) -> (f64, Option<f64>) {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (mean, (values.len() > 1).then(|| (squares / (values.len() - 1) as f64).sqrt()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deviation_is_that_of_a_sample() {
        let (mean, deviation) = moments(&[2.0, 4.0, 9.0]);
        assert!((mean - 5.0).abs() < 1e-12 && (deviation.unwrap() - 13f64.sqrt()).abs() < 1e-12);
        assert_eq!(moments(&[3.0]), (3.0, None));
    }
}
