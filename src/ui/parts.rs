//! Values that several answers hold: outputs, and where and with what something ran.

use crate::cache::results::ActionResult;
use crate::name_map::NameMap;
use serde_json::{Map, Value, json};
use store::Produced;
use store::Store;
use store::digest::{Digest, Kind};

/// Whether a content seems to be at hand.
pub fn there(store: &Store, digest: &Digest) -> bool {
    match digest.kind {
        Kind::Tree => store.manifest_path(digest).is_file(),
        Kind::File | Kind::Program => store.place(digest).is_file(),
    }
}

/// The name of what tells of a content.
pub fn content(digest: &Digest) -> String {
    format!("content/{}", digest.hex())
}

/// The outputs of an action or a stage; `files` has their file names.
pub fn outputs(store: &Store, outputs: &NameMap<Produced>, files: &NameMap<String>) -> Value {
    let output = |(name, produced): (&String, &Produced)| {
        json!({
            "name": name,
            "file": files.get(name).unwrap_or(name),
            "digest": produced.digest,
            "bytes": produced.bytes,
            "files": produced.files,
            "content": there(store, &produced.digest).then(|| content(&produced.digest)),
        })
    };
    outputs.iter().map(output).collect()
}

/// Where a result was made, with what, and when.
pub fn ran(result: &ActionResult) -> Value {
    let Some(ran) = &result.ran else { return Value::Null };
    let mut value = match serde_json::to_value(&**ran) {
        Ok(Value::Object(value)) => value,
        _ => Map::new(),
    };
    value.remove("reported");
    for (name, reported) in &ran.reported {
        value.entry(name.clone()).or_insert_with(|| reported.clone().into());
    }
    value.insert("finished".into(), result.finished.into());
    value.insert("seconds".into(), result.seconds.into());
    Value::Object(value)
}
