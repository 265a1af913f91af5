//! The numbers in outputs that are JSON objects.

use crate::name_map::NameMap;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use store::{Produced, Store};

/// Nobody keeps scores in a file of megabytes.
const LARGEST: u64 = 1 << 20;

/// What numbers that are none are called, by Python and by others.
const NO_NUMBERS: [&str; 6] = ["NaN", "Infinity", "-Infinity", "nan", "inf", "-inf"];

/// Whether a text stands for a number that is none.
pub fn is_no_number(text: &str) -> bool {
    NO_NUMBERS.contains(&text)
}

/// The values of a JSON object, in the order in which they stand there.
///
/// # Errors
/// Why the bytes are no such object.
pub fn object(bytes: &[u8]) -> serde_json::Result<Map<String, Value>> {
    parse(bytes)
}

/// What JSON says that any program wrote. Numbers that are none, which Python writes as `NaN`, `Infinity` and `-Infinity`, are
/// these words.
///
/// # Errors
/// Why the bytes are no such thing.
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> serde_json::Result<T> {
    serde_json::from_slice(bytes).or_else(|e| serde_json::from_slice(&quoted(bytes)).map_err(|_| e))
}

/// The same with the words for numbers that are none in quotes, where they are in none.
fn quoted(bytes: &[u8]) -> Vec<u8> {
    let (mut out, mut rest, mut inside) = (Vec::with_capacity(bytes.len()), bytes, false);
    while let Some(&byte) = rest.first() {
        let word =
            ["-Infinity", "Infinity", "NaN"].iter().find(|word| !inside && rest.starts_with(word.as_bytes()));
        let length = match word {
            Some(word) => {
                out.extend([b"\"", word.as_bytes(), b"\""].concat());
                word.len()
            }
            None => {
                // What is escaped ends no text.
                let length = if inside && byte == b'\\' { 2.min(rest.len()) } else { 1 };
                inside ^= byte == b'"';
                out.extend(&rest[..length]);
                length
            }
        };
        rest = &rest[length..];
    }
    out
}

/// The numbers in an output, by name, in the order in which they stand there.
pub fn numbers(store: &Store, output: &Produced) -> Map<String, Value> {
    if output.files != 1 || output.bytes > LARGEST {
        return Map::new();
    }
    let bytes = std::fs::read(store.place(&output.digest)).unwrap_or_default();
    object(&bytes).unwrap_or_default().into_iter().filter(|(_, value)| value.is_number()).collect()
}

/// Those of several outputs together; a name that two of them have is told apart by the output's.
pub fn together<'a>(
    store: &Store,
    outputs: &NameMap<Produced>,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_are_none_take_no_other_with_them() {
        let text =
            r#"{"acc": 0.9, "loss": NaN, "of \" NaN": "-Infinity \\", "up": Infinity, "down":-Infinity}"#;
        let values = object(text.as_bytes()).unwrap();
        let shown: Vec<String> = values.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(
            shown,
            [
                "acc=0.9",
                r#"loss="NaN""#,
                r#"of " NaN="-Infinity \\""#,
                r#"up="Infinity""#,
                r#"down="-Infinity""#
            ]
        );
        for text in ["[NaN]", "NaN", "{\"a\": NaNa}", "{\"a\": \"NaN}", "{\"a\\"] {
            assert!(object(text.as_bytes()).is_err(), "{text}");
        }
    }
}
