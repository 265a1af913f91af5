//! The network that tensors belong to, from their shapes.

use super::Hints;
use crate::config::{Allocation, Architecture, Config};
use anyhow::{Context, Result};
use stage::bad_input;
use tch::Kind;
use weights::Weights;

/// Numbers of classes that data sets have, beside whole tens: a table of so many rows may have no null label.
const USUAL_CLASSES: [i64; 12] = [2, 37, 43, 47, 101, 102, 196, 205, 256, 257, 365, 397];

/// The network that a state dict belongs to, from the shapes of its tensors and the reference's buffers.
pub fn network(state: &Weights, hints: &Hints) -> Result<Config> {
    let source = state.source();
    let sizes = |name: &str, dimensions: usize| -> Result<Vec<i64>> {
        let size = told(state, name, state.size(name))?;
        if size.len() != dimensions || size.contains(&0) {
            bad_input!("{source}: tensor {name} has shape {size:?}, wanted {dimensions} dimensions")
        }
        Ok(size)
    };
    let (tokens, width) = (sizes("pos_embed", 3)?[1], sizes("pos_embed", 3)?[2]);
    let projection = sizes("x_embedder.proj.weight", 4)?;
    let (channels, patch) = (projection[1], projection[2]);
    let grid = tokens.isqrt();
    if grid * grid != tokens {
        bad_input!("{source}: pos_embed has {tokens} tokens, which make no square")
    }
    let rows = sizes("y_embedder.embedding_table.weight", 2)?[0];
    let index = |name: &str| name.strip_prefix("blocks.")?.split('.').next()?.parse::<i64>().ok();
    let blocks = state.names().filter_map(index).max().map_or(0, |last| last + 1);
    let Some(heads) = hints.heads.or(Config::preset_heads(width, blocks)) else {
        bad_input!("{source}: width {width} and {blocks} blocks are no preset's; give --heads")
    };
    let outputs = sizes("final_layer.linear.weight", 2)?[0];
    if outputs == patch * patch * channels {
        bad_input!(
            "{source}: gives the noise alone (learn_sigma is off); the networks here give its variance too, as the official ones"
        )
    }
    let side = grid * patch;
    let (classes, null_row) = classes(source, rows, hints)?;
    let preset = Config::preset("dit-tiny/1", side, classes)?;
    let mut config = Config { width, blocks, heads, patch, channels, null_row, ..preset };
    // Ones in each row of a map of timesteps, as its mean: maps are equally full in all rows.
    let ones = |name: &str| -> Result<f64> {
        let rows = sizes(name, 2)?[0];
        Ok(told(state, name, state.get(name)?)?.sum(Kind::Double).double_value(&[]) / rows as f64)
    };
    if state.has("routers.0._unit_mapping") {
        config.architecture = Architecture::Dtr;
        let kept = ones("routers.0._unit_mapping")?;
        if kept != (config.beta * width as f64).floor() {
            // The middle of what is cut down to this number of channels.
            config.beta = ((kept + 0.5) / width as f64).min(1.0);
        }
    } else if state.has("routers.0.experts.w") {
        config.architecture = Architecture::SwitchDit;
        config.experts = sizes("routers.0.experts.w", 3)?[0];
        config.top_k = (ones("prior._unit_mapping")? / blocks as f64).round() as i64;
        if state.has("routers.0.f_noise.1.weight") {
            config.allocation = Allocation::NoisyGate;
        }
    }
    config.check().with_context(|| format!("the network of {source}"))?;
    Ok(config)
}

/// What was found of a tensor that the network's sizes are read from.
fn told<T>(state: &Weights, name: &str, found: Option<T>) -> Result<T> {
    match found {
        Some(found) => Ok(found),
        None => bad_input!("{}: no tensor {name}, which says how large the network is", state.source()),
    }
}

/// The classes of a table of labels, and whether it has a null label.
fn classes(source: &str, rows: i64, hints: &Hints) -> Result<(i64, Option<bool>)> {
    let null = |classes: i64| rows == classes + 1;
    let classes = match hints.classes {
        Some(classes) if rows == classes || null(classes) => classes,
        Some(classes) => {
            bad_input!(
                "{source}: its table of labels has {rows} rows, neither for {classes} classes nor for a null label beside them"
            )
        }
        None if rows == 1 => 1,
        None if !hints.any_classes && (rows % 10 == 0 || USUAL_CLASSES.contains(&rows)) => bad_input!(
            "{source}: its table of labels has {rows} rows: {} with a null label, or {} without; give --classes {} or --classes {rows}",
            plural(rows - 1),
            plural(rows),
            rows - 1
        ),
        None => rows - 1,
    };
    // Not said where it is the rule.
    Ok((classes, Some(null(classes)).filter(|null| *null != (classes > 1))))
}

fn plural(classes: i64) -> String {
    if classes == 1 { "1 class".into() } else { format!("{classes} classes") }
}

/// What a network knows of labels, for people.
pub fn labels(config: &Config) -> String {
    let null = if config.conditional() { "a null label" } else { "no null label" };
    format!("{} and {null}", plural(config.classes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_of_labels_are_read_with_what_is_known() {
        let read =
            |rows, known: Option<i64>| classes("a.pt", rows, &Hints { classes: known, ..Hints::default() });
        // Without a word: one class alone, and what can only be classes with a null label.
        for (rows, wanted) in [(1, (1, None)), (4, (3, None)), (11, (10, None)), (1001, (1000, None))] {
            assert_eq!(read(rows, None).unwrap(), wanted, "{rows}");
        }
        for (rows, both) in [
            (2, "1 class with a null label, or 2 classes without"),
            (10, "9 classes with"),
            (101, "100"),
            (1000, "999"),
        ] {
            let text = read(rows, None).unwrap_err().to_string();
            assert!(text.contains(both) && text.contains(&format!("--classes {rows}")), "{text}");
        }
        // Told.
        assert_eq!(read(2, Some(1)).unwrap(), (1, Some(true)));
        assert_eq!(read(2, Some(2)).unwrap(), (2, Some(false)));
        assert_eq!(read(10, Some(10)).unwrap(), (10, Some(false)));
        assert_eq!(read(10, Some(9)).unwrap(), (9, None));
        assert_eq!(read(1, Some(1)).unwrap(), (1, None));
        assert!(read(10, Some(8)).unwrap_err().to_string().contains("10 rows"));
    }
}
