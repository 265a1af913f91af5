//! The numbers in outputs that are JSON objects.

use serde_json::{Map, Value};
use std::collections::BTreeMap;
use store::{Produced, Store};

/// Nobody keeps scores in a file of megabytes.
const LARGEST: u64 = 1 << 20;

/// The numbers in an output, by name, in the order in which they stand there.
pub fn numbers(store: &Store, output: &Produced) -> Map<String, Value> {
    if output.files != 1 || output.bytes > LARGEST {
        return Map::new();
    }
    let bytes = std::fs::read(store.place(&output.digest)).unwrap_or_default();
    let values = serde_json::from_slice::<Map<String, Value>>(&bytes).unwrap_or_default();
    values.into_iter().filter(|(_, value)| value.is_number()).collect()
}

/// Those of several outputs together; a name that two of them have is told apart by the output's.
pub fn together<'a>(
    store: &Store,
    outputs: &BTreeMap<String, Produced>,
    names: impl IntoIterator<Item = &'a String>,
) -> Map<String, Value> {
    let mut all = Map::new();
    for name in names {
        for (key, value) in outputs.get(name).map(|output| numbers(store, output)).unwrap_or_default() {
            let key = if all.contains_key(&key) { format!("{name}.{key}") } else { key };
            all.insert(key, value);
        }
    }
    all
}
