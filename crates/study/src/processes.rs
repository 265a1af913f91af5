//! As how many processes a stage is started.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde::ser::SerializeStruct;
use serde::{Deserialize, Serialize, Serializer};
use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

/// More processes of one machine, or more machines, than this are a slip of the pen.
const MOST: u32 = 4096;

/// So many processes, on so many nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Processes {
    /// Machines.
    pub nodes: u32,
    /// Processes on each.
    pub per_node: u32,
}

impl Processes {
    /// `per_node` processes on each of `nodes` machines; both count from 1.
    fn new(nodes: u32, per_node: u32) -> Result<Self, String> {
        for (number, what) in [(nodes, "nodes"), (per_node, "processes")] {
            if number == 0 {
                return Err(format!("0 {what} would do nothing; leave `processes` out for one process"));
            }
            if number > MOST {
                return Err(format!("{number} {what} are more than {MOST}"));
            }
        }
        Ok(Self { nodes, per_node })
    }

    /// All of them.
    pub fn total(self) -> u32 {
        self.nodes * self.per_node
    }

    /// How many processes a stage is, of which nothing has to be said.
    pub fn of(said: Option<Self>) -> u32 {
        said.map_or(1, Self::total)
    }
}

/// `8`, or `2x8` where there are several nodes.
impl fmt::Display for Processes {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self.nodes {
            1 => write!(f, "{}", self.per_node),
            nodes => write!(f, "{nodes}x{}", self.per_node),
        }
    }
}

impl FromStr for Processes {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "expected a number of processes, NODESxPROCESSES (`2x8`) or `{{nodes: 2, per-node: 8}}`, found `{text}`"
            )
        };
        let number = |text: &str| text.trim().parse::<u32>().map_err(|_| wrong());
        match text.split_once('x') {
            Some((nodes, each)) => Self::new(number(nodes)?, number(each)?),
            None => Self::new(1, number(text)?),
        }
    }
}

impl<'de> Deserialize<'de> for Processes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = Processes;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a number of processes, or `{nodes: 2, per-node: 8}`")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Processes, E> {
                text.parse().map_err(E::custom)
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Processes, A::Error> {
                let said = Said::deserialize(de::value::MapAccessDeserializer::new(map))?;
                Processes::new(said.nodes, said.per_node).map_err(de::Error::custom)
            }
        }
        deserializer.deserialize_any(V)
    }
}

/// The mapping.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Said {
    nodes: u32,
    per_node: u32,
}

impl Serialize for Processes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut said = serializer.serialize_struct("Processes", 2)?;
        said.serialize_field("nodes", &self.nodes)?;
        said.serialize_field("per-node", &self.per_node)?;
        said.end()
    }
}

impl JsonSchema for Processes {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Processes".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [
                { "type": "integer", "minimum": 1, "maximum": MOST },
                { "type": "string", "pattern": "^[0-9]+(x[0-9]+)?$" },
                {
                    "type": "object",
                    "properties": {
                        "nodes": { "type": "integer", "minimum": 1, "maximum": MOST, "description": "Machines" },
                        "per-node": { "type": "integer", "minimum": 1, "maximum": MOST, "description": "Processes on each" }
                    },
                    "required": ["nodes", "per-node"],
                    "additionalProperties": false
                }
            ]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_a_product_and_nothing_else() {
        let read = |text: &str| text.parse::<Processes>();
        assert_eq!(read("8"), Ok(Processes { nodes: 1, per_node: 8 }));
        assert_eq!(read("2x8"), Ok(Processes { nodes: 2, per_node: 8 }));
        assert_eq!(read("2x8").map(Processes::total), Ok(16));
        for (text, part) in [
            ("0", "0 processes would do nothing"),
            ("0x2", "0 nodes would do nothing"),
            ("-1", "found `-1`"),
            ("2x", "found `2x`"),
            ("two", "expected a number of processes"),
            ("5000", "5000 processes are more than 4096"),
        ] {
            let said = read(text).unwrap_err();
            assert!(said.contains(part), "{text}: {said}");
        }
        for text in ["8", "2x8"] {
            assert_eq!(read(text).unwrap().to_string(), text);
        }
        let json = serde_json::to_string(&read("2x8").unwrap()).unwrap();
        assert_eq!(json, r#"{"nodes":2,"per-node":8}"#);
        assert_eq!(serde_json::from_str::<Processes>(&json).unwrap(), read("2x8").unwrap());
    }
}
