//! The training log: JSON lines, read into series, and the section with its curves.

use crate::document::{Block, Figure, Section, Table, grouped, number};
use crate::figure::chart::{Across, Panel, Series, panels};
use crate::provenance::duration;
use anyhow::Result;
use models::diffusion::NoiseSchedule;
use serde_json::{Map, Value as Json};
use stage::{BadInputExt, bad_input, read_text};
use std::collections::BTreeMap;
use std::path::Path;

/// What is drawn, in this order where the log has it: key, title, whether the axis is logarithmic.
const CURVES: [(&str, &str, bool); 6] = [
    ("mse", "Noise error (mean squared error per latent value)", true),
    ("vb", "Variance term (bits per latent value)", true),
    ("prior", "Diffusion prior loss (nats)", false),
    ("load_balance", "Load-balancing loss", false),
    ("z", "Router z-loss", false),
    ("weighted", "Weighted noise error", true),
];

/// The log of one training.
#[derive(Debug, Default)]
pub struct Log {
    /// Each quantity over the steps, in the order of the steps.
    pub series: BTreeMap<String, Vec<(f64, f64)>>,
}

impl Log {
    /// Reads JSON lines, each an object with a whole `step`. Where a resumed run logged a step twice, the last counts.
    ///
    /// # Errors
    /// Bad input that names the line.
    pub fn read(path: &Path) -> Result<Self> {
        let text = read_text(path)?;
        let mut steps: BTreeMap<u64, Map<String, Json>> = BTreeMap::new();
        for (i, line) in text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty()) {
            let place = || format!("reading {} line {}", path.display(), i + 1);
            let values: Map<String, Json> = serde_json::from_str(line).bad_input(place)?;
            let Some(step) = values.get("step").and_then(Json::as_u64) else {
                bad_input!("{}: no whole number `step`; give the JSON lines that train writes", place())
            };
            steps.insert(step, values);
        }
        if steps.is_empty() {
            bad_input!("{}: the log is empty; give the JSON lines that train writes", path.display())
        }
        let mut log = Self::default();
        for (step, values) in steps {
            for (key, value) in values.iter().filter(|(k, _)| *k != "step") {
                if let Some(value) = value.as_f64() {
                    log.series.entry(key.clone()).or_default().push((step as f64, value));
                }
            }
        }
        Ok(log)
    }

    /// A series by name.
    pub fn get(&self, key: &str) -> Option<&[(f64, f64)]> {
        self.series.get(key).map(Vec::as_slice).filter(|s| !s.is_empty())
    }
}

/// Median over a window centred on each point, cut at the ends: rare spikes leave no trace in it.
pub fn smooth(points: &[(f64, f64)], window: usize) -> Vec<(f64, f64)> {
    let median = |i: usize| {
        // As far to the left as to the right, so that the ends do not lag.
        let reach = (window / 2).min(i).min(points.len() - 1 - i);
        let mut values: Vec<f64> = points[i - reach..=i + reach].iter().map(|p| p.1).collect();
        *values.select_nth_unstable_by(reach, f64::total_cmp).1
    };
    points.iter().enumerate().map(|(i, p)| (p.0, median(i))).collect()
}

/// What is known of the training beside its log.
#[derive(Debug, Default)]
pub struct Known {
    /// The noise schedule.
    pub schedule: Option<NoiseSchedule>,
    /// Images of a step.
    pub batch_size: Option<f64>,
}

/// The section on training; `share` of the logged steps is the window of the smooth line.
pub fn section(log: &Log, share: f64, known: &Known) -> Section {
    let mut section = Section::new("Training");
    // What a training does not have, its log has as 0 throughout.
    let found = CURVES.iter().filter_map(|c| Some((c, log.get(c.0)?)));
    let found: Vec<_> = found.filter(|f| f.1.iter().any(|p| p.1 != 0.0)).collect();
    let Some(count) = found.iter().map(|f| f.1.len()).max() else {
        section.text("The log holds none of the quantities `mse`, `vb` or `prior`.");
        return section;
    };
    let window = ((count as f64 * share).round() as usize).max(1) | 1;
    let smooth: Vec<Vec<_>> = found.iter().map(|f| smooth(f.1, window)).collect();
    let drawn = found.iter().zip(&smooth).map(|(((_, title, log), raw), line)| Panel {
        title: (*title).into(),
        log: *log,
        raw,
        series: vec![Series { name: String::new(), look: 0, points: line }],
        ..Panel::default()
    });
    let svg = panels(&drawn.collect::<Vec<_>>(), Across { title: "training step", log: false });
    let pale = if window > 1 {
        format!(
            "Pale: as logged, each value the mean since the line before. Strong: median of {window} logged values, centred."
        )
    } else {
        "Each value as logged, the mean since the line before.".into()
    };
    let spikes = log.get("vb").map(|vb| spikes(vb, known.schedule)).unwrap_or_default();
    section.blocks.push(Block::Figure(Figure {
        name: "losses".into(),
        alt: "Loss curves over the training steps".into(),
        caption: format!("Losses over the training. {pale}{spikes} Source: the training log."),
        svg,
    }));
    section.blocks.push(Block::Table(summary(log, &found, known)));
    section
}

/// How far above the median of the variance term a value is a spike.
const SPIKE: f64 = 10.0;

/// A sentence on the spikes of the variance term, where it has some.
fn spikes(vb: &[(f64, f64)], schedule: Option<NoiseSchedule>) -> String {
    let mut values: Vec<f64> = vb.iter().map(|p| p.1).collect();
    values.sort_by(f64::total_cmp);
    let median = values[values.len() / 2];
    let count = values.iter().filter(|v| **v > SPIKE * median).count();
    let reason = match schedule {
        Some(NoiseSchedule::Cosine) => {
            ": where the noisiest timesteps of the cosine schedule were drawn, which is no fault of the training"
        }
        _ => "",
    };
    match count {
        0 => String::new(),
        1 => format!(" One value of the variance term is more than ten times its median{reason}."),
        n => format!(
            " {} values of the variance term are more than ten times its median{reason}.",
            grouped(n as i64)
        ),
    }
}

type Found<'a> = (&'a (&'a str, &'a str, bool), &'a [(f64, f64)]);

fn summary(log: &Log, found: &[Found], known: &Known) -> Table {
    let tail = |s: &[(f64, f64)]| {
        let last = &s[s.len() - s.len().div_ceil(10)..];
        last.iter().map(|p| p.1).sum::<f64>() / last.len() as f64
    };
    let mut table = Table::new(
        "Where the losses began and ended.",
        &["Loss", "First #", "Least #", "Mean of last tenth #"],
    );
    for ((key, ..), series) in found {
        let least = series.iter().map(|p| p.1).fold(f64::INFINITY, f64::min);
        table.row([format!("`{key}`"), number(series[0].1), number(least), number(tail(series))]);
    }
    let steps = found.iter().filter_map(|f| f.1.last()).map(|p| p.0).fold(0.0, f64::max);
    let mut caption = format!("{} steps. ", grouped(steps as i64));
    if let Some(rates) = log.get("images_per_second") {
        if let Some(batch) = known.batch_size {
            let ends = std::iter::once(0.0).chain(rates.iter().map(|p| p.0));
            let seconds: f64 = rates.iter().zip(ends).map(|(p, from)| (p.0 - from) * batch / p.1).sum();
            caption += &format!("{} of training steps, by the speeds in the log. ", duration(seconds));
        }
        let mut rates: Vec<f64> = rates.iter().map(|p| p.1).collect();
        rates.sort_by(f64::total_cmp);
        caption +=
            &format!("Median speed {} images/s. ", number((rates[rates.len() / 2] * 10.0).round() / 10.0));
    }
    table.caption = caption + "Where the losses began and ended:";
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Log> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.jsonl");
        std::fs::write(&path, text).unwrap();
        Log::read(&path)
    }

    #[test]
    fn a_step_logged_twice_counts_once() {
        let log =
            read("{\"step\":1,\"mse\":3}\n{\"step\":2,\"mse\":2}\n\n{\"step\":2,\"mse\":1,\"vb\":null}\n")
                .unwrap();
        assert_eq!(log.get("mse"), Some(&[(1.0, 3.0), (2.0, 1.0)][..]));
        assert_eq!(log.get("vb"), None);
    }

    #[test]
    fn a_broken_line_is_named() {
        let e = read("{\"step\":1}\n{\"step\":").unwrap_err();
        assert!(e.to_string().contains("line 2"), "{e}");
        assert_eq!(stage::exit_code(&e), 2);
        assert_eq!(stage::exit_code(&read("").unwrap_err()), 2);
        assert!(read("{\"mse\":1}").unwrap_err().to_string().contains("line 1"));
    }

    #[test]
    fn smoothing_keeps_ends_and_drops_spikes() {
        let points: Vec<_> = (0..9).map(|i| (f64::from(i), f64::from(i))).collect();
        let line = smooth(&points, 5);
        for (a, b) in points.iter().zip(&line) {
            assert!((a.1 - b.1).abs() < 1e-12);
        }
        let spike: Vec<_> = (0..9).map(|i| (f64::from(i), f64::from(i == 4))).collect();
        assert!(smooth(&spike, 5).iter().all(|p| p.1 == 0.0));
    }
}
