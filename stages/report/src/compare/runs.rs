//! The variants of a study: scores, logs and networks by name, the seeds of a variant together.

use crate::log::Log;
use crate::scores::{Scored, metric};
use anyhow::{Context, Result};
use models::checkpoint;
use models::interchange::{self, Hints};
use models::summary::Summary;
use stage::{BadInputExt, bad_input};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Where the variants' outputs lie.
#[derive(Debug, Default)]
pub struct Folders<'a> {
    /// A folder with VARIANT/evaluate/scores and so on, as a study with variants leaves it.
    pub runs: Option<&'a Path>,
    /// Scores by variant.
    pub scores: Option<&'a Path>,
    /// Logs by variant.
    pub logs: Option<&'a Path>,
    /// Checkpoints by variant.
    pub checkpoints: Option<&'a Path>,
    /// Samples by variant.
    pub samples: Option<&'a Path>,
}

/// What the network of a run costs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cost {
    /// Activated parameters, millions.
    pub params: f64,
    /// Stored parameters, millions.
    pub stored: f64,
    /// Multiply-accumulates of one image, thousand millions.
    pub gmacs: f64,
    /// Networks that are sampled as one.
    pub networks: usize,
}

/// One training and what came of it.
#[derive(Debug, Default)]
pub struct Run {
    /// Its scores.
    pub scored: Option<Scored>,
    /// Its log.
    pub log: Option<Log>,
    /// What its network costs.
    pub cost: Option<Cost>,
    /// Its checkpoints; several where networks are sampled as one.
    pub networks: Vec<PathBuf>,
    /// Its samples.
    pub samples: Option<PathBuf>,
}

/// A variant, with all its seeds.
#[derive(Debug, Default)]
pub struct Variant {
    /// One for each seed, in the order of the seeds; one where there are none.
    pub seeds: Vec<Run>,
}

/// The mean of a number over the seeds that have it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mean {
    /// The mean.
    pub mean: f64,
    /// The standard deviation of a sample, from two seeds up.
    pub deviation: Option<f64>,
    /// How many seeds.
    pub count: usize,
}

/// Points of a curve.
pub type Points = Vec<(f64, f64)>;

/// Reads all variants, by name; `scored` where there is nothing to show but scores and what goes with them.
///
/// # Errors
/// Bad input when a folder cannot be read, or none has scores where they are needed.
pub fn read(folders: &Folders, scored: bool) -> Result<BTreeMap<String, Variant>> {
    let mut runs: BTreeMap<String, Run> = BTreeMap::new();
    if let Some(folder) = folders.runs {
        for (name, path) in entries(folder)? {
            if let Some(run) = of_study(&path)? {
                runs.insert(name, run);
            }
        }
        if runs.is_empty() {
            bad_input!(
                "{}: no VARIANT/evaluate/scores in it; give the study's `out` folder after `pipeline run --variant '*'`",
                folder.display()
            )
        }
    }
    for (folder, take) in [
        (folders.scores, take_scores as fn(&mut Run, &Path) -> Result<()>),
        (folders.logs, take_log),
        (folders.checkpoints, take_network),
        (folders.samples, take_samples),
    ] {
        for (name, path) in folder.map(seeds_apart).transpose()?.unwrap_or_default() {
            take(runs.entry(name).or_default(), &path)?;
        }
    }
    let scored = scored || folders.scores.is_some();
    if runs.is_empty() || scored && runs.values().all(|run| run.scored.is_none()) {
        let folder = folders
            .scores
            .or(folders.samples)
            .or(folders.checkpoints)
            .filter(|_| runs.is_empty() || folders.scores.is_some());
        let folder = folder.map(|f| format!("{}: ", f.display())).unwrap_or_default();
        let what = if scored { "no variant has scores" } else { "there are no variants in it" };
        bad_input!("{folder}{what}; give a folder with one entry, named for the variant, for each of them")
    }
    let mut variants: BTreeMap<String, Vec<(u64, Run)>> = BTreeMap::new();
    for (name, run) in runs {
        let (variant, seed) = seed(&name);
        variants.entry(variant.into()).or_default().push((seed, run));
    }
    let sorted = |mut seeds: Vec<(u64, Run)>| {
        seeds.sort_by_key(|s| s.0);
        Variant { seeds: seeds.into_iter().map(|s| s.1).collect() }
    };
    Ok(variants.into_iter().map(|(name, seeds)| (name, sorted(seeds))).collect())
}

/// `dit-b-seed-2` is seed 2 of `dit-b`; a name without a seed is its own.
fn seed(name: &str) -> (&str, u64) {
    let split = || {
        let digits = name.rfind("seed")?;
        let seed = name[digits + 4..].trim_start_matches(['-', '_', '.', '=']).parse().ok()?;
        Some((name[..digits].trim_end_matches(['-', '_', '.', '/']), seed))
    };
    split().unwrap_or((name, 0))
}

/// The entries of a folder by name, without the ending of a file; hidden ones are nobody's.
fn entries(folder: &Path) -> Result<Vec<(String, PathBuf)>> {
    let context = || format!("reading {}", folder.display());
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).bad_input(context)? {
        let path = entry.with_context(context)?.path();
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        if !name.starts_with('.') {
            let bare = name.strip_suffix(".jsonl").or_else(|| name.strip_suffix(".json")).unwrap_or(name);
            found.push((bare.to_string(), path.clone()));
        }
    }
    found.sort();
    Ok(found)
}

/// The same, where a folder of `seed-N` counts as so many entries.
fn seeds_apart(folder: &Path) -> Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    for (name, path) in entries(folder)? {
        let inside = if path.is_dir() { entries(&path)? } else { Vec::new() };
        if !inside.is_empty() && inside.iter().all(|(inner, _)| seed(inner).0.is_empty() && !inner.is_empty())
        {
            found.extend(inside.into_iter().map(|(inner, path)| (format!("{name}-{inner}"), path)));
        } else {
            found.push((name, path));
        }
    }
    Ok(found)
}

/// A variant as the runner leaves it; `None` where it has no scores.
fn of_study(path: &Path) -> Result<Option<Run>> {
    let find = |stage: &str, names: [&str; 2]| {
        names.map(|name| path.join(stage).join(name)).into_iter().find(|p| p.exists())
    };
    let Some(scores) = find("evaluate", ["scores", "scores.json"]) else { return Ok(None) };
    let mut run = Run::default();
    take_scores(&mut run, &scores)?;
    if let Some(log) = find("train", ["log", "log.jsonl"]) {
        take_log(&mut run, &log)?;
    }
    // Several networks that are sampled as one were put together by a stage of their own.
    let networks = path.join("networks/checkpoints");
    let networks = networks.exists().then_some(networks);
    if let Some(checkpoints) = networks.or_else(|| find("train", ["checkpoints", "checkpoints"])) {
        take_network(&mut run, &checkpoints)?;
    }
    Ok(Some(run))
}

fn take_scores(run: &mut Run, path: &Path) -> Result<()> {
    run.scored = Some(Scored::read(path)?);
    Ok(())
}

fn take_log(run: &mut Run, path: &Path) -> Result<()> {
    run.log = Some(Log::read(path)?);
    Ok(())
}

fn take_samples(run: &mut Run, path: &Path) -> Result<()> {
    run.samples = Some(path.to_path_buf());
    Ok(())
}

fn take_network(run: &mut Run, path: &Path) -> Result<()> {
    let single = !path.is_dir() || !checkpoint::list(path)?.is_empty();
    let paths =
        if single { vec![path.to_path_buf()] } else { entries(path)?.into_iter().map(|e| e.1).collect() };
    for path in &paths {
        let about = interchange::read(path, &Hints::default())?.about;
        let counts = Summary::new(&about.network);
        let millions = |n: i64| n as f64 / 1e6;
        let cost = Cost {
            params: millions(counts.activated()),
            stored: millions(counts.stored()),
            gmacs: counts.macs_per_image() as f64 / 1e9,
            networks: paths.len(),
        };
        run.cost.get_or_insert(cost);
    }
    run.networks = paths;
    Ok(())
}

impl Variant {
    /// The mean of a metric of the last checkpoint, or of a cost.
    pub fn metric(&self, key: &str) -> Option<Mean> {
        let of = |run: &Run| match key {
            "params" => run.cost.map(|c| c.params),
            "gmacs" => run.cost.map(|c| c.gmacs),
            _ => metric(&run.scored.as_ref()?.last, key),
        };
        let values: Vec<f64> = self.seeds.iter().filter_map(of).collect();
        let count = values.len();
        let mean = values.iter().sum::<f64>() / count as f64;
        let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
        let varies = count > 1 && !matches!(key, "params" | "gmacs");
        let deviation = varies.then(|| (squares / (count - 1) as f64).sqrt());
        (count > 0).then_some(Mean { mean, deviation, count })
    }

    /// A metric over the checkpoints that were scored, its mean over the seeds.
    pub fn scores(&self, key: &str) -> Points {
        mean(self.seeds.iter().filter_map(|run| Some(run.scored.as_ref()?.curve(key))))
    }

    /// A quantity of the log, its mean over the seeds.
    pub fn logged(&self, key: &str) -> Points {
        mean(self.seeds.iter().filter_map(|run| Some(run.log.as_ref()?.get(key)?.to_vec())))
    }
}

/// The mean of curves where all of them have a point.
fn mean(curves: impl Iterator<Item = Points>) -> Points {
    let curves: Vec<Points> = curves.filter(|c| !c.is_empty()).collect();
    let [first, others @ ..] = curves.as_slice() else { return Vec::new() };
    if others.is_empty() {
        return first.clone();
    }
    let others: Vec<BTreeMap<u64, f64>> =
        others.iter().map(|c| c.iter().map(|p| (p.0.to_bits(), p.1)).collect()).collect();
    let at = |&(x, y): &(f64, f64)| {
        let more: Option<f64> = others.iter().map(|o| o.get(&x.to_bits()).copied()).sum();
        Some((x, (y + more?) / curves.len() as f64))
    };
    first.iter().filter_map(at).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn seeds_of_a_variant_are_told_by_name() {
        assert_eq!(seed("dit-b-seed-2"), ("dit-b", 2));
        assert_eq!(seed("lambda-0.1.seed3"), ("lambda-0.1", 3));
        assert_eq!(seed("seed-1"), ("", 1));
        for name in ["dit-b", "lambda-0.1", "linseed", "seeded-1"] {
            assert_eq!(seed(name), (name, 0));
        }
    }

    #[test]
    fn a_mean_has_the_deviation_of_a_sample() {
        let run = |fid: f64| Run {
            scored: Some(Scored { last: json!({"fid": fid}), steps: Vec::new() }),
            ..Run::default()
        };
        let one = Variant { seeds: vec![run(3.0)] };
        assert_eq!(one.metric("fid"), Some(Mean { mean: 3.0, deviation: None, count: 1 }));
        let three = Variant { seeds: vec![run(1.0), run(2.0), run(3.0)] };
        assert_eq!(three.metric("fid"), Some(Mean { mean: 2.0, deviation: Some(1.0), count: 3 }));
        assert_eq!(three.metric("sfid"), None);
    }

    #[test]
    fn curves_are_averaged_where_all_have_a_point() {
        let curves = [vec![(1.0, 1.0), (2.0, 3.0)], vec![(1.0, 3.0), (2.0, 5.0), (3.0, 9.0)]];
        assert_eq!(mean(curves.into_iter()), [(1.0, 2.0), (2.0, 4.0)]);
        assert!(mean(std::iter::empty()).is_empty());
    }
}
