//! Many variants from one line: `matrix`, every combination of values, and `seeds`, every variant several times.

use crate::error::{Error, Result};
use crate::mark::Mark;
use crate::naming::plain;
use crate::tree::{Node, Value, get, pairs, put};
use std::collections::HashSet;

/// The variable that `seeds` gives a value, and the parameter whose values a name shows as `seed-1`.
pub const SEED: &str = "seed";
/// No study has more variants.
const MOST: usize = 10_000;

/// A variant as the study writes it: its name (empty for the study as it stands), where it stands, and what it changes.
pub type Overlay = (String, Mark, Option<Node>);

/// The variants of a matrix, by the values in their names. Those of a seed stand at the end, as `seed-1`.
pub fn combinations(matrix: &Node, study: &str) -> Result<Vec<Overlay>> {
    let keys = pairs(matrix, "a matrix is `stage.param` or `vars.name` with a list of values")?;
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let empty = Node { value: Value::Map(Vec::new()), mark: matrix.mark.clone() };
    // With the part of the name that is about seeds, and the place of the value that completes it.
    let mut all = vec![(None::<String>, String::new(), matrix.mark.clone(), empty)];
    for (key, values) in keys {
        let name = key.as_text().unwrap_or_default();
        let Some((stage, param)) = name.split_once('.') else {
            return Err(Error::mistake(&key.mark, format!("`{name}` is neither stage.param nor vars.name")));
        };
        let path: Vec<&str> =
            if stage == "vars" { vec!["vars", param] } else { vec!["stages", stage, "params", param] };
        let Value::List(values) = &values.value else {
            return Err(Error::mistake(&values.mark, format!("`{name}` needs a list of values")));
        };
        let mut next = Vec::with_capacity(all.len() * values.len());
        for (so_far, seeds, _, overlay) in &all {
            for value in values {
                let Some(text) = value.as_text() else {
                    return Err(Error::mistake(&value.mark, "a value of a matrix is one word or number"));
                };
                let mut overlay = overlay.clone();
                put(&mut overlay, &path, value.clone());
                let (name, seeds) = match param == SEED {
                    true => (so_far.clone(), format!("{seeds}-{SEED}-{}", plain(text))),
                    false => {
                        let name = so_far.iter().fold(plain(text), |name, so_far| format!("{so_far}-{name}"));
                        (Some(name), seeds.clone())
                    }
                };
                next.push((name, seeds, value.mark.clone(), overlay));
            }
        }
        if next.len() > MOST {
            return Err(Error::mistake(&matrix.mark, "the matrix has more than 10,000 combinations"));
        }
        all = next;
    }
    let named = all.into_iter().map(|(name, seeds, mark, overlay)| {
        // A matrix of seeds alone is of the study itself.
        let name = name.unwrap_or_else(|| if seeds.is_empty() { String::new() } else { study.into() });
        (format!("{name}{seeds}"), mark, Some(overlay))
    });
    Ok(named.collect())
}

/// Every variant once for each seed, as `NAME-seed-0`; where the study has no variants, the study itself. The study as it
/// stands, the first of them, has the first seed unless it says another.
pub fn seeded(base: &mut Node, overlays: Vec<Overlay>, seeds: &Node, study: &str) -> Result<Vec<Overlay>> {
    let values = values(seeds)?;
    let place = format!("${{vars.{SEED}}}");
    if !mentions(base, &place)
        && !overlays.iter().any(|(_, _, o)| o.as_ref().is_some_and(|o| mentions(o, &place)))
    {
        let text = format!(
            "`seeds` gives every variant a value of `{place}`, which nothing names; e.g. `params: {{seed: {place}}}`"
        );
        return Err(Error::mistake(&seeds.mark, text));
    }
    let stands =
        |(_, _, overlay): &Overlay| overlay.as_ref().and_then(|o| get(get(o, "vars")?, SEED)).is_some();
    if overlays.iter().any(stands) {
        let text = "`seeds` and a matrix over `vars.seed` are two ways for one thing; keep one";
        return Err(Error::mistake(&seeds.mark, text));
    }
    if get(base, "vars").and_then(|vars| get(vars, SEED)).is_none() {
        put(base, &["vars", SEED], Node::text(&seeds.mark, &values[0].to_string()));
    }
    let mut overlays = overlays.into_iter();
    let mut all: Vec<Overlay> = overlays.next().into_iter().collect();
    let mut variants: Vec<Overlay> = overlays.collect();
    if variants.is_empty() {
        variants.push((study.into(), seeds.mark.clone(), None));
    }
    if variants.len() * values.len() > MOST {
        return Err(Error::mistake(&seeds.mark, "these seeds make more than 10,000 variants"));
    }
    for (name, mark, overlay) in variants {
        for seed in &values {
            let empty = Node { value: Value::Map(Vec::new()), mark: seeds.mark.clone() };
            let mut overlay = overlay.clone().unwrap_or(empty);
            put(&mut overlay, &["vars", SEED], Node::text(&seeds.mark, &seed.to_string()));
            all.push((format!("{name}-{SEED}-{seed}"), mark.clone(), Some(overlay)));
        }
    }
    Ok(all)
}

/// The seeds: so many from 0 up, or a list of them.
fn values(seeds: &Node) -> Result<Vec<u64>> {
    let wrong =
        || Error::mistake(&seeds.mark, "`seeds` is how many, from 1 to 1,000, or a list of whole numbers");
    let number = |node: &Node| node.as_text().and_then(|text| text.parse::<u64>().ok()).ok_or_else(wrong);
    let Value::List(items) = &seeds.value else {
        return match number(seeds)? {
            count @ 1..=1000 => Ok((0..count).collect()),
            _ => Err(wrong()),
        };
    };
    let all = items.iter().map(number).collect::<Result<Vec<_>>>()?;
    let mut seen = HashSet::new();
    if let Some(twice) = all.iter().find(|seed| !seen.insert(**seed)) {
        return Err(Error::mistake(&seeds.mark, format!("`seeds` has {twice} twice")));
    }
    if all.is_empty() { Err(wrong()) } else { Ok(all) }
}

/// The seed in the name of a variant, with the name before it: `dit-b-seed-1`.
pub fn seed_of(name: &str) -> Option<(&str, u64)> {
    let (before, seed) = name.rsplit_once('-')?;
    Some((before.strip_suffix(SEED)?.strip_suffix('-')?, seed.parse().ok()?))
}

fn mentions(node: &Node, place: &str) -> bool {
    match &node.value {
        Value::Null => false,
        Value::Scalar(text, _) => text.contains(place),
        Value::List(items) => items.iter().any(|item| mentions(item, place)),
        Value::Map(pairs) => pairs.iter().any(|(_, value)| mentions(value, place)),
    }
}
