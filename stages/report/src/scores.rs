//! The scores: what evaluate measured, each field explained.

use crate::document::{Block, Figure, Kind, Section, Table, Tile, code, number};
use crate::figure::chart::{Across, Panel, Series, panels};
use anyhow::{Context, Result};
use serde_json::Value as Json;
use stage::{BadInputExt, bad_input};
use std::path::Path;

/// A metric: keys it may stand under, name, which way is better, what it says; of those that are tiles, the decimals that a
/// usual number of samples carries.
struct Metric {
    keys: &'static [&'static str],
    name: &'static str,
    better: &'static str,
    meaning: &'static str,
    tile: Option<usize>,
}

const METRICS: [Metric; 12] = [
    Metric {
        keys: &["fid"],
        name: "FID",
        better: "lower",
        meaning: "Fréchet distance between Gaussians fitted to the pooled Inception features of samples and reference",
        tile: Some(2),
    },
    Metric {
        keys: &["sfid"],
        name: "sFID",
        better: "lower",
        meaning: "the same on spatial features, which see where things stand in the picture",
        tile: Some(2),
    },
    Metric {
        keys: &["inception_score", "is"],
        name: "IS",
        better: "higher",
        meaning: "Inception score: how sure the classifier is of each sample, and how varied its answers are",
        tile: Some(2),
    },
    Metric {
        keys: &["precision"],
        name: "Precision",
        better: "higher",
        meaning: "share of samples that lie within the manifold of the reference (0 to 1)",
        tile: Some(3),
    },
    Metric {
        keys: &["recall"],
        name: "Recall",
        better: "higher",
        meaning: "share of the reference that lies within the manifold of the samples (0 to 1)",
        tile: Some(3),
    },
    Metric {
        keys: &["fid_10k"],
        name: "FID-10K",
        better: "lower",
        meaning: "FID of 10,000 of the samples",
        tile: None,
    },
    Metric {
        keys: &["kid", "kid_mean"],
        name: "KID",
        better: "lower",
        meaning: "kernel distance of the features, unbiased; may fall below 0",
        tile: None,
    },
    Metric {
        keys: &["density"],
        name: "Density",
        better: "higher",
        meaning: "how often samples lie within the neighbourhoods of reference images, on average",
        tile: None,
    },
    Metric {
        keys: &["coverage"],
        name: "Coverage",
        better: "higher",
        meaning: "share of reference images with a sample in their neighbourhood (0 to 1)",
        tile: None,
    },
    Metric {
        keys: &["fid_infinity", "fid_inf"],
        name: "FID∞",
        better: "lower",
        meaning: "FID extrapolated to infinitely many samples: a line over 1/N through the FIDs of N/10, …, N of them; ± the standard error of the line",
        tile: None,
    },
    Metric {
        keys: &["fd_dinov2"],
        name: "FD-DINOv2",
        better: "lower",
        meaning: "Fréchet distance on DINOv2 features",
        tile: None,
    },
    Metric {
        keys: &["fid_classes"],
        name: "FID by class",
        better: "lower",
        meaning: "mean over the classes of the FID between a class's samples and its reference images; few images bias it upwards",
        tile: None,
    },
];

/// Other fields by the end of their path, the first that fits, and what they mean.
const FIELDS: [(&str, &str); 32] = [
    ("samples.images", "samples that were scored"),
    ("reference.images", "images behind the reference's means and covariances"),
    ("reference.precision_recall_images", "reference images that precision and recall compare with"),
    ("samples.size", "height and width of a sample, pixels"),
    ("reference.size", "height and width of a reference image after cropping, pixels"),
    (
        "reference.inception",
        "SHA-256 of the network's weights behind the reference; `none` where its file does not say",
    ),
    ("reference.resize", "how reference images reached the input size of the network"),
    ("reference.sha256", "SHA-256 of the reference, where it is one file"),
    ("inception.sha256", "SHA-256 of the feature network's weights"),
    ("reference.dinov2", "SHA-256 of the weights of DINOv2 behind the reference"),
    ("reference.dinov2_images", "images behind the reference's DINOv2 statistics, where they are not all"),
    ("samples.sha256", "SHA-256 of the samples, where they are one file"),
    ("dinov2.sha256", "SHA-256 of the weights of DINOv2"),
    ("dinov2.width", "features of an image; 1024 in ViT-L"),
    ("dinov2.resize", "how images reach the input size of DINOv2"),
    ("fid_infinity_sizes", "numbers of samples behind FID∞"),
    ("fid_infinity_distances", "FID of each of these numbers"),
    ("inception.width", "features of an image; 2048 in the full network"),
    ("inception.classes", "classes of the feature network; 1008 in the full one"),
    ("resize", "how samples reach the input size of the network"),
    ("distances", "arithmetic of the distances behind precision and recall"),
    ("neighbours", "nearest neighbours that span a neighbourhood"),
    ("split_size", "images of one split of the Inception score"),
    ("fid_infinity_error", "standard error of FID∞ by the scatter about its line"),
    ("kid_deviation", "standard deviation of KID over its subsets"),
    ("kid_subsets", "subsets over which KID is averaged"),
    ("kid_subset_size", "images of each set in a subset of KID"),
    ("warnings", "what to know before quoting the numbers"),
    ("images", "how many images"),
    ("sha256", "SHA-256 of the file"),
    ("source", "where it comes from"),
    ("width", "features of an image"),
];

/// The scores of a run: of its last checkpoint, or of several.
#[derive(Debug)]
pub struct Scored {
    /// The scores of the last step.
    pub last: Json,
    /// Step and scores, where there are several.
    pub steps: Vec<(u64, Json)>,
}

impl Scored {
    /// Reads the JSON that evaluate writes, or a folder with one such file for each checkpoint, named by its step.
    ///
    /// # Errors
    /// Bad input when there is none, or one is no JSON object.
    pub fn read(path: &Path) -> Result<Self> {
        if !path.is_dir() {
            return Ok(Self { last: object(path)?, steps: Vec::new() });
        }
        let context = || format!("reading {}", path.display());
        let mut steps = Vec::new();
        for entry in std::fs::read_dir(path).bad_input(context)? {
            let file = entry.with_context(context)?.path();
            let name = file.file_name().and_then(|n| n.to_str()).unwrap_or_default();
            let digits = name.split(|c: char| !c.is_ascii_digit()).find(|d| !d.is_empty());
            let Some(step) = digits.and_then(|d| d.parse().ok()) else {
                bad_input!("{}: the name has no step in it, as in step-00002000.json", file.display())
            };
            steps.push((step, object(&file)?));
        }
        steps.sort_by_key(|s| s.0);
        match steps.last() {
            Some((_, last)) => Ok(Self { last: last.clone(), steps }),
            None => bad_input!("{}: there are no scores in this folder", path.display()),
        }
    }

    /// A metric over the steps.
    pub fn curve(&self, key: &str) -> Vec<(f64, f64)> {
        self.steps.iter().filter_map(|(step, scores)| Some((*step as f64, metric(scores, key)?))).collect()
    }
}

fn object(path: &Path) -> Result<Json> {
    let scores: Json = stage::read_json(path)?;
    if !scores.is_object() {
        bad_input!("reading {}: the scores are a JSON object, as evaluate writes them", path.display())
    }
    Ok(scores)
}

/// The value of a metric by one of its keys, at the top or one level down.
pub fn metric(scores: &Json, key: &str) -> Option<f64> {
    let value = |v: &Json| v.as_f64().or_else(|| ["value", "mean"].iter().find_map(|k| v.get(k)?.as_f64()));
    let at = |v: &Json| v.get(key).and_then(value);
    at(scores).or_else(|| scores.as_object()?.values().find_map(at))
}

/// The scores as section and tiles.
pub fn section(scored: &Scored) -> (Section, Vec<Tile>) {
    let scores = &scored.last;
    let mut section = Section::new("Scores");
    let mut tiles = Vec::new();
    let mut table = Table::new("", &["Metric", "Value #", "Better", "What it says"]).set(Kind::Explained);
    for m in &METRICS {
        let Some((key, value)) = m.keys.iter().find_map(|k| Some((*k, metric(scores, k)?))) else { continue };
        let spread = ["deviation", "std", "error"].iter().find_map(|s| metric(scores, &format!("{key}_{s}")));
        let spread = spread.map(|s| format!(" ± {}", number(s))).unwrap_or_default();
        table.row([m.name.into(), number(value) + &spread, m.better.into(), m.meaning.into()]);
        if let Some(decimals) = m.tile {
            let note = format!("{} is better", m.better);
            tiles.push(Tile { name: m.name.into(), value: format!("{value:.decimals$}"), note });
        }
    }
    if table.rows.is_empty() {
        section.text("The scores file holds none of the metrics known here; its fields follow as they are.");
    } else {
        section.blocks.push(Block::Table(table));
    }
    section.blocks.extend(classes(scores).map(Block::Table));
    section.blocks.extend(curves(scored).map(Block::Figure));
    let mut rest =
        Table::new("How the scores were measured, field by field.", &["Field", "Value", "Meaning"])
            .set(Kind::Explained);
    for (path, value) in flatten(scores) {
        if path.starts_with("classes.") || path == "classes" {
            continue;
        }
        let top = path.rsplit('.').next().unwrap_or(&path);
        let parent = path.split('.').rev().nth(1).unwrap_or("");
        // A metric that was not computed has no number: it is listed, with its meaning.
        let metric = METRICS.iter().find(|m| m.keys.contains(&path.as_str()));
        if let Some(metric) = metric.filter(|_| value == "none") {
            rest.row([code(&path), "not computed".into(), metric.meaning.into()]);
            continue;
        }
        let known = |k: &str| METRICS.iter().any(|m| m.keys.contains(&k));
        if known(top) || (known(parent) && matches!(top, "value" | "mean")) {
            continue;
        }
        let ends = |end: &str| path == end || path.ends_with(&format!(".{end}"));
        let meaning = FIELDS.iter().find(|f| ends(f.0)).map_or("", |f| f.1);
        rest.row([code(&path), value, meaning.into()]);
    }
    if !rest.rows.is_empty() {
        section.blocks.push(Block::Table(rest));
    }
    (section, tiles)
}

/// Most classes that are listed; of more, the best and the worst.
const LISTED: usize = 20;

/// FID of each class, best first.
fn classes(scores: &Json) -> Option<Table> {
    let number_of = |class: &Json, key: &str| class.get(key).and_then(Json::as_f64);
    let mut classes: Vec<(&Json, f64)> =
        scores.get("classes")?.as_array()?.iter().filter_map(|c| Some((c, number_of(c, "fid")?))).collect();
    if classes.is_empty() {
        return None;
    }
    classes.sort_by(|a, b| a.1.total_cmp(&b.1));
    let all = classes.len();
    let caption = if all > LISTED {
        classes.drain(LISTED / 2..all - LISTED / 2);
        format!("FID by class: the {} best and the {} worst of {all}.", LISTED / 2, LISTED / 2)
    } else {
        "FID by class, best first.".into()
    };
    let mut table = Table::new(caption, &["Class #", "FID #", "Samples #", "Reference images #"]);
    for (class, fid) in classes {
        let cell = |key: &str| number_of(class, key).map(number).unwrap_or_default();
        let name = class.get("name").and_then(Json::as_str).map(String::from);
        table.row([name.unwrap_or_else(|| cell("class")), number(fid), cell("samples"), cell("reference")]);
    }
    Some(table)
}

/// The metrics over the steps, where several checkpoints were scored.
fn curves(scored: &Scored) -> Option<Figure> {
    let found = METRICS.iter().filter_map(|m| {
        let points = m.keys.iter().map(|k| scored.curve(k)).find(|c| c.len() > 1)?;
        Some((m, points))
    });
    let found: Vec<_> = found.collect();
    let drawn = found.iter().map(|(m, points)| Panel {
        title: format!("{} ({} is better)", m.name, m.better),
        log: m.keys[0] == "fid" || m.keys[0] == "sfid",
        series: vec![Series { name: String::new(), look: 0, points }],
        dots: true,
        ..Panel::default()
    });
    let drawn: Vec<_> = drawn.collect();
    (!drawn.is_empty()).then(|| Figure {
        name: "convergence".into(),
        alt: "Scores over the training steps".into(),
        caption: "Scores of each checkpoint against its training step. The table above is the last's.".into(),
        svg: panels(&drawn, Across { title: "training step", log: false }),
    })
}

/// Every leaf of a JSON value with its path; lists of numbers and words stay whole.
pub fn flatten(json: &Json) -> Vec<(String, String)> {
    fn walk(path: &str, json: &Json, out: &mut Vec<(String, String)>) {
        let join = |key: &str| if path.is_empty() { key.to_string() } else { format!("{path}.{key}") };
        match json {
            Json::Object(map) => map.iter().for_each(|(k, v)| walk(&join(k), v, out)),
            Json::Array(items) if items.iter().any(|v| v.is_object() || v.is_array()) => {
                items.iter().enumerate().for_each(|(i, v)| walk(&join(&i.to_string()), v, out));
            }
            leaf => out.push((path.into(), plain(leaf))),
        }
    }
    let mut out = Vec::new();
    walk("", json, &mut out);
    out
}

/// A leaf as text: numbers short, words bare, digests and paths as code.
pub fn plain(json: &Json) -> String {
    match json {
        Json::Null => "none".into(),
        Json::Bool(b) => (if *b { "yes" } else { "no" }).into(),
        Json::Number(n) => n.as_f64().map_or_else(|| n.to_string(), number),
        Json::String(s) if s.contains('/') || (s.len() >= 16 && !s.contains(' ')) => code(s),
        Json::String(s) => s.clone(),
        Json::Array(items) if items.is_empty() => "none".into(),
        Json::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(", "),
        Json::Object(_) => json.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn of_many_classes_the_ends_are_listed() {
        let class = |i: u64| json!({"class": i, "fid": 100 - i, "samples": 50, "reference": 10});
        let scores = |count: u64| json!({"classes": (0..count).map(class).collect::<Vec<_>>()});
        let few = classes(&scores(3)).unwrap();
        assert_eq!(few.rows[0], ["2", "98", "50", "10"].map(String::from));
        let many = classes(&scores(60)).unwrap();
        assert_eq!((many.rows.len(), many.rows[19][0].as_str()), (20, "0"));
        assert!(many.caption.contains("of 60"), "{}", many.caption);
        assert!(classes(&scores(0)).is_none());
    }

    #[test]
    fn metrics_are_found_flat_and_nested() {
        let flat = json!({"fid": 3.5, "images": 1000});
        let nested = json!({"scores": {"fid": {"value": 3.5}}, "images": 1000});
        for scores in [flat, nested] {
            assert_eq!(metric(&scores, "fid"), Some(3.5));
            let (section, tiles) = section(&Scored { last: scores, steps: Vec::new() });
            assert_eq!((tiles.len(), tiles[0].value.as_str()), (1, "3.50"));
            let Some(Block::Table(rest)) = section.blocks.last() else { panic!("no table") };
            assert_eq!(rest.rows, [["`images`", "1000", "how many images"].map(String::from)]);
        }
    }
}
