//! What may be said of a cluster, in a study or in a file of its own: closed structs, one doc line per key.

use crate::de::Marked;
use crate::quantity::Time;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, Visitor};
use std::borrow::Cow;
use std::fmt;

/// The commands of a batch system, and what its answers mean.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct ClusterKeys {
    /// A preset that this is put over: one of `pipeline clusters`, or a file.
    pub preset: Option<Marked<String>>,
    /// What it is, for people.
    pub about: Option<Marked<String>>,
    /// A script for bash that submits `${job.worker}` and prints its id, or of an array a line for each task.
    pub submit: Option<Marked<String>>,
    /// A script for bash that prints a line `ID STATE [REASON]` for each job that is known; the ids are "$@".
    pub ask: Option<Marked<String>>,
    /// A script for bash that has the jobs "$@" be told SIGTERM. Default: they are cancelled at once.
    pub signal: Option<Marked<String>>,
    /// A script for bash that ends the jobs "$@", those that wait as well.
    pub cancel: Option<Marked<String>>,
    /// What the states that `ask` prints mean.
    pub states: Option<StateKeys>,
    /// How many tasks an array may have. Default 1: there are no arrays.
    pub array: Option<Marked<u32>>,
    /// The environment variable in which a task of an array finds its number.
    pub index: Option<Marked<String>>,
    /// The number of the first task of an array. Default 1.
    pub first: Option<Marked<u32>>,
    /// What `submit` complains of when there are too many jobs now.
    pub busy: Vec<Marked<String>>,
    /// Further words for `submit`, its "$@".
    pub options: Vec<Marked<String>>,
    /// Longest time of a job, as `30m`, `2h`. Default: the stage's `timeout` and two minutes, else the cluster's.
    pub time: Option<Time>,
    /// How often `ask` is called for all jobs together. Default `10s`.
    pub interval: Option<Time>,
    /// How many jobs of a run are submitted at a time, tasks of arrays counted each. Default: as many as there are.
    pub max_submitted: Option<Marked<u32>>,
}

/// States as the cluster calls them, by what they mean. One that is in no list is shown, and waited for.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct StateKeys {
    /// It waits.
    pub pending: Vec<Marked<String>>,
    /// It is on a node.
    pub running: Vec<Marked<String>>,
    /// It is over, well or not.
    pub ended: Vec<Marked<String>>,
    /// Somebody cancelled it.
    pub cancelled: Vec<Marked<String>>,
    /// Its time was over.
    pub timeout: Vec<Marked<String>>,
    /// It had too little memory.
    pub memory: Vec<Marked<String>>,
    /// The cluster took its node away, and does not start it again.
    pub again: Vec<Marked<String>>,
    /// It cannot begin, and stays where it is until it is cancelled.
    pub stuck: Vec<Marked<String>>,
}

/// A cluster as a study names or describes it.
#[derive(Clone, Debug)]
pub enum ClusterSaid {
    /// The name of a preset.
    Name(String),
    /// Keys of its own.
    Keys(Box<ClusterKeys>),
}

impl<'de> Deserialize<'de> for ClusterSaid {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = ClusterSaid;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("the name of a preset, or a mapping of commands")
            }
            fn visit_str<E>(self, text: &str) -> Result<ClusterSaid, E> {
                Ok(ClusterSaid::Name(text.into()))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ClusterSaid, A::Error> {
                let keys = ClusterKeys::deserialize(de::value::MapAccessDeserializer::new(map))?;
                Ok(ClusterSaid::Keys(Box::new(keys)))
            }
        }
        deserializer.deserialize_any(V)
    }
}

impl JsonSchema for ClusterSaid {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "ClusterSaid".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let keys = generator.subschema_for::<ClusterKeys>();
        json_schema!({ "anyOf": [{ "type": "string" }, keys] })
    }
}
