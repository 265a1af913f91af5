//! The JSON Schema of a study file, made from the types that read it.

use crate::de::{Marked, Ordered, Text};
use crate::file::{Command, Ignored, Outputs, Study};
use crate::quantity::{Bytes, Time};
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};
use std::borrow::Cow;

/// The schema, with the keys that `overlay` takes away before the types are read.
pub fn schema() -> Value {
    let schema = SchemaSettings::draft07().into_generator().into_root_schema_for::<Study>();
    let mut schema = schema.to_value();
    let scalar = json!({ "type": ["string", "number", "boolean"] });
    let overlay = json!({ "type": "object", "description": "Put over the study, mapping by mapping; null takes a key away" });
    let more = json!({
        "extends": { "type": "string", "description": "Path of a study that this one is put over, mapping by mapping; null (`~`) takes a key away" },
        "vars": { "type": "object", "additionalProperties": scalar, "description": "What `${vars.x}` stands for, in any text of the study" },
        "profiles": { "type": "object", "additionalProperties": overlay, "description": "What `--profile NAME` puts over the study" },
        "variants": { "type": "object", "additionalProperties": overlay, "description": "What `--variant NAME` puts over the study (`*`: all of them). A name has letters, digits, `-`, `_` and `.`, is no stage's, and has at most 200 bytes" },
        "seeds": {
            "type": ["integer", "array"],
            "items": { "type": "integer", "minimum": 0 },
            "description": "How many (0, 1, …), or which: every variant once for each, with that value of `${vars.seed}`, called NAME-seed-0; `--variant NAME` then takes all seeds of NAME. Of a study without variants NAME is the study's"
        },
        "matrix": {
            "type": "object",
            "additionalProperties": { "type": "array", "items": scalar },
            "description": "`stage.param` or `vars.x` with values: one variant for every combination, called `a-1`, `a-2`, …, with `-` for what no name may have. A parameter `seed` gives the names of `seeds`"
        }
    });
    if let (Some(properties), Value::Object(more)) = (schema["properties"].as_object_mut(), more) {
        properties.extend(more);
    }
    // A study that extends another may leave anything out, at any depth.
    if let Some(object) = schema.as_object_mut() {
        object.remove("required");
    }
    for definition in schema["definitions"].as_object_mut().into_iter().flat_map(|d| d.values_mut()) {
        if let Some(object) = definition.as_object_mut() {
            object.remove("required");
        }
    }
    schema
}

impl<T: JsonSchema> JsonSchema for Marked<T> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

impl<T: JsonSchema> JsonSchema for Ordered<T> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        format!("MapOf{}", T::schema_name()).into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let value = generator.subschema_for::<T>();
        json_schema!({ "type": ["object", "null"], "additionalProperties": { "anyOf": [value, { "type": "null" }] } })
    }
}

macro_rules! inline {
    ($($type:ident: $schema:tt,)*) => {$(
        impl JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }
            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    )*};
}

inline! {
    Text: { "type": ["string", "number", "boolean", "array"] },
    Command: { "type": ["string", "array"], "items": { "type": ["string", "number", "boolean"] } },
    Ignored: {
        "anyOf": [
            { "type": "array", "items": { "type": "string" } },
            { "type": "object", "additionalProperties": { "type": "array", "items": { "type": "string" } } }
        ]
    },
    Outputs: {
        "anyOf": [
            { "type": "array", "items": { "type": "string" } },
            {
                "type": "object",
                "additionalProperties": {
                    "anyOf": [
                        { "type": "string" },
                        {
                            "type": "object",
                            "properties": {
                                "file": { "type": "string", "description": "Name of the file or folder that the stage writes" },
                                "stream": {
                                    "type": ["boolean", "string"],
                                    "description": "Entries are complete while the stage runs: in the folder (true), or as files of this pattern in PIPELINE_STATE"
                                },
                                "temp": { "type": "boolean", "description": "gc may drop the content; made again when needed" }
                            },
                            "additionalProperties": false
                        }
                    ]
                }
            }
        ]
    },
    Bytes: { "type": ["string", "integer"], "examples": ["4GiB"] },
    Time: { "type": "string", "examples": ["30m"] },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kept_schema_is_the_one_the_types_give() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/pipeline.schema.json");
        let kept: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        assert_eq!(kept, schema(), "run `pipeline schema > docs/pipeline.schema.json`");
    }
}
