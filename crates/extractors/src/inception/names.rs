//! What the layers are called in TensorFlow's graph.

use super::graph::channels;
use anyhow::Result;

/// The blocks in their order; TensorFlow calls them `mixed`, `mixed_1`, …
const BLOCKS: [&str; 11] = ["5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e", "7a", "7b", "7c"];

/// The names of all convolutions, in the order of the graph.
pub fn convolutions() -> Result<Vec<String>> {
    let mut names = Vec::new();
    channels(|conv, _| {
        names.push(conv.name);
        Ok(conv.width)
    })?;
    Ok(names)
}

/// The scope of a convolution that torch calls `name`: `Mixed_6d.branch1x1` is `mixed_6/conv`.
pub fn tensorflow_scope(name: &str) -> Option<String> {
    let stem = ["Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "Conv2d_3b_1x1", "Conv2d_4a_3x3"];
    if let Some(i) = stem.iter().position(|s| *s == name) {
        return Some(numbered("conv", i));
    }
    let (block, branch) = name.strip_prefix("Mixed_")?.split_once('.')?;
    let index = BLOCKS.iter().position(|b| *b == block)?;
    let inside = match branch {
        "branch1x1" => "conv".into(),
        "branch_pool" => "tower_2/conv".into(),
        "branch3x3" => "conv".into(),
        _ => {
            let (tower, step) = branch.rsplit_once('_')?;
            // The double 3 × 3 of 6a stands where others have their first tower.
            let first = matches!(tower, "branch5x5" | "branch3x3" | "branch7x7") || (block == "6a");
            let tower = if first { "tower" } else { "tower_1" };
            match step.strip_suffix(['a', 'b']) {
                Some(_) => format!("{tower}/mixed/{}", numbered("conv", usize::from(step.ends_with('b')))),
                None => format!("{tower}/{}", numbered("conv", step.parse::<usize>().ok()?.checked_sub(1)?)),
            }
        }
    };
    Some(format!("{}/{inside}", numbered("mixed", index)))
}

/// TensorFlow's way to keep equal names apart.
fn numbered(name: &str, i: usize) -> String {
    if i == 0 { name.into() } else { format!("{name}_{i}") }
}
