//! How gating maps moved while a network was trained, by the shares in its log.

use crate::document::{Figure, grouped};
use crate::figure::chart::{Across, Line, Panel, panels};
use crate::log::Log;

/// What the log has of the network, and with `ema_` of its first average, and its title.
pub const SHARES: [(&str, &str); 2] = [
    ("prior_agreement", "Cells of the gating map that agree with the matched prior (%)"),
    ("map_agreement", "Cells of the gating map that are as at the look before (%)"),
];

/// From this share on a map counts as settled.
const SETTLED: f64 = 99.0;

/// Shares in hundredths.
pub fn percent(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    points.iter().map(|(step, share)| (*step, share * 100.0)).collect()
}

/// The curves of one training, where its log has them.
pub fn figure(log: &Log) -> Option<Figure> {
    let lines = |key: &str| -> Vec<Line> {
        let named = [("network", key.to_string()), ("moving average", format!("ema_{key}"))];
        named.into_iter().filter_map(|(name, key)| Some((name.into(), percent(log.get(&key)?)))).collect()
    };
    let all = SHARES.map(|(key, title)| (title, lines(key)));
    let found = all.iter().filter(|(_, lines)| !lines.is_empty());
    let drawn: Vec<Panel> = found.map(|(title, lines)| Panel::of(*title, lines)).collect();
    (!drawn.is_empty()).then(|| Figure {
        name: "gating-agreement".into(),
        alt: "How far the gating map agrees with the prior and with itself some steps before".into(),
        caption: format!(
            "How the denoising paths settled: the gating map at each look, beside the prior that it is best matched to, and beside the \
             map of the look before.{} Source: the training log.",
            settled(log)
        ),
        svg: panels(&drawn, Across { title: "training step", log: false }),
    })
}

/// A sentence on the step from which on the maps stayed as they were.
fn settled(log: &Log) -> String {
    let since = |key: &str| {
        let points = percent(log.get(key)?);
        let after = points.iter().rposition(|(_, share)| *share < SETTLED).map_or(0, |last| last + 1);
        Some(points.get(after).map(|(step, _)| grouped(*step as i64)))
    };
    let words = [("network", since("map_agreement")), ("moving average", since("ema_map_agreement"))];
    let said = words.into_iter().filter_map(|(what, step)| {
        Some(match step? {
            Some(step) => format!("that of the {what} from step {step} on"),
            None => format!("that of the {what} not to the end"),
        })
    });
    let said: Vec<String> = said.collect();
    match said.as_slice() {
        [] => String::new(),
        _ => format!(" The map changed less than 1 % from look to look: {}.", said.join(", ")),
    }
}
