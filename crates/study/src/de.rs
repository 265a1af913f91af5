//! Serde over the marked tree, so that closed structs read it and every mistake keeps its line.

use crate::error::{Error, hint};
use crate::mark::Mark;
use crate::tree::{Node, Value};
use serde::de::value::BorrowedStrDeserializer;
use serde::de::{
    self, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess, Unexpected, Visitor,
};
use serde::{Deserialize, forward_to_deserialize_any};
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::Arc;

/// The name by which [`Marked`] asks the deserializer for a place.
const MARKED: &str = "$marked";

/// A mistake, and its place as soon as that is known.
#[derive(Debug)]
pub struct Fault {
    mark: Option<Mark>,
    text: String,
}

impl Fault {
    fn or_at(mut self, mark: &Mark) -> Self {
        self.mark.get_or_insert_with(|| mark.clone());
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Fault {}

impl de::Error for Fault {
    fn custom<T: fmt::Display>(text: T) -> Self {
        Self { mark: None, text: text.to_string() }
    }
    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        Self::custom(format!("unknown key `{field}`{}", hint(field, expected.iter().copied())))
    }
    fn unknown_variant(word: &str, expected: &'static [&'static str]) -> Self {
        Self::custom(format!("`{word}` is not known here{}", hint(word, expected.iter().copied())))
    }
    fn missing_field(field: &'static str) -> Self {
        Self::custom(format!("the key `{field}` is missing"))
    }
    fn invalid_type(found: Unexpected, expected: &dyn de::Expected) -> Self {
        Self::custom(format!("expected {}, found {}", wanted(expected), words(&found)))
    }
    fn invalid_value(found: Unexpected, expected: &dyn de::Expected) -> Self {
        Self::custom(format!("expected {}, found {}", wanted(expected), words(&found)))
    }
}

/// Rust's `struct Stage` is a mapping to everybody else.
fn wanted(expected: &dyn de::Expected) -> String {
    let text = expected.to_string();
    if text.starts_with("struct ") { "a mapping".into() } else { text }
}

fn words(found: &Unexpected) -> String {
    match found {
        Unexpected::Str(text) => format!("`{text}`"),
        Unexpected::Map => "a mapping".into(),
        Unexpected::Seq => "a list".into(),
        Unexpected::Unit | Unexpected::Option => "nothing".into(),
        other => other.to_string(),
    }
}

/// Reads a typed value from a tree.
pub fn from_node<'de, T: Deserialize<'de>>(node: &'de Node) -> Result<T, Error> {
    T::deserialize(node).map_err(|e| Error::mistake(e.mark.as_ref().unwrap_or(&node.mark), e.text))
}

impl Node {
    fn unexpected(&self) -> Unexpected<'_> {
        match &self.value {
            Value::Null => Unexpected::Unit,
            Value::Scalar(text, _) => Unexpected::Str(text),
            Value::List(_) => Unexpected::Seq,
            Value::Map(_) => Unexpected::Map,
        }
    }

    fn parsed<T: std::str::FromStr>(&self, what: &str) -> Result<T, Fault> {
        let number = self.as_text().and_then(|text| text.parse().ok());
        number.ok_or_else(|| de::Error::invalid_type(self.unexpected(), &what))
    }
}

macro_rules! number {
    ($($method:ident $visit:ident $type:ty, $what:literal;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
            self.parsed::<$type>($what).and_then(|x| visitor.$visit(x)).map_err(|e: Fault| e.or_at(&self.mark))
        }
    )*};
}

impl<'de> Deserializer<'de> for &'de Node {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.value {
            Value::Null => visitor.visit_unit(),
            Value::Scalar(text, _) => visitor.visit_borrowed_str(text),
            Value::List(items) => visitor.visit_seq(Items(items.iter())),
            Value::Map(pairs) => visitor.visit_map(Pairs { rest: pairs.iter(), value: None }),
        }
        .map_err(|e: Fault| e.or_at(&self.mark))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match name {
            MARKED => visitor.visit_seq(WithMark { node: self, step: 0 }),
            _ => visitor.visit_newtype_struct(self),
        }
        .map_err(|e: Fault| e.or_at(&self.mark))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let found = match self.as_text() {
            Some(text) => visitor.visit_enum(IntoDeserializer::<Fault>::into_deserializer(text)),
            None => Err(de::Error::invalid_type(self.unexpected(), &"a word")),
        };
        found.map_err(|e| e.or_at(&self.mark))
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.parsed("true or false").and_then(|b| visitor.visit_bool(b)).map_err(|e| e.or_at(&self.mark))
    }

    number! {
        deserialize_i64 visit_i64 i64, "a whole number";
        deserialize_u64 visit_u64 u64, "a whole number";
        deserialize_u32 visit_u32 u32, "a whole number";
        deserialize_f64 visit_f64 f64, "a number";
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i128 u8 u16 u128 f32 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map struct identifier ignored_any
    }
}

struct Items<'de>(std::slice::Iter<'de, Node>);

impl<'de> SeqAccess<'de> for Items<'de> {
    type Error = Fault;
    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Fault> {
        self.0.next().map(|node| seed.deserialize(node)).transpose()
    }
}

struct Pairs<'de> {
    rest: std::slice::Iter<'de, (Node, Node)>,
    value: Option<&'de Node>,
}

impl<'de> MapAccess<'de> for Pairs<'de> {
    type Error = Fault;
    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Fault> {
        let Some((key, value)) = self.rest.next() else { return Ok(None) };
        self.value = Some(value);
        seed.deserialize(key).map(Some).map_err(|e| e.or_at(&key.mark))
    }
    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        let node = self.value.take().ok_or_else(|| <Fault as de::Error>::custom("a value before its key"))?;
        seed.deserialize(node)
    }
}

/// A node as the three things of [`Marked`]: file, line, value.
struct WithMark<'de> {
    node: &'de Node,
    step: u8,
}

impl<'de> SeqAccess<'de> for WithMark<'de> {
    type Error = Fault;
    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Fault> {
        self.step += 1;
        match self.step {
            1 => seed.deserialize(BorrowedStrDeserializer::new(&self.node.mark.file)).map(Some),
            2 => seed.deserialize(self.node.mark.line.into_deserializer()).map(Some),
            3 => seed.deserialize(self.node).map(Some),
            _ => Ok(None),
        }
    }
}

/// A value that remembers where it was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Marked<T> {
    pub value: T,
    pub mark: Mark,
}

impl<T> Deref for Marked<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.value
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Marked<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct V<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for V<T> {
            type Value = Marked<T>;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a value")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let missing = || <A::Error as de::Error>::custom("a value without a place");
                let file: &str = seq.next_element()?.ok_or_else(missing)?;
                let line = seq.next_element()?.ok_or_else(missing)?;
                let value = seq.next_element()?.ok_or_else(missing)?;
                Ok(Marked { value, mark: Mark { file: Arc::from(file), line } })
            }
        }
        deserializer.deserialize_newtype_struct(MARKED, V(PhantomData))
    }
}

/// A mapping in the order it was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Ordered<T>(pub Vec<(Marked<String>, T)>);

impl<T> Default for Ordered<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Deref for Ordered<T> {
    type Target = [(Marked<String>, T)];
    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Ordered<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct V<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for V<T> {
            type Value = Ordered<T>;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a mapping")
            }
            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Ordered::default())
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                pairs.shrink_to_fit();
                Ok(Ordered(pairs))
            }
        }
        deserializer.deserialize_map(V(PhantomData))
    }
}

/// A scalar as it would stand on a command line; a list becomes its items with commas between.
#[derive(Clone, Debug, PartialEq)]
pub struct Text(pub String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = Text;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a value or a list of values")
            }
            fn visit_str<E>(self, text: &str) -> Result<Text, E> {
                Ok(Text(text.into()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Text, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element::<String>()? {
                    items.push(item);
                }
                Ok(Text(items.join(",")))
            }
        }
        deserializer.deserialize_any(V)
    }
}
