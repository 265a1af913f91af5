//! A value with long lists of values in it. As a whole it takes many times the memory of its text, so a server writes the text of
//! each item alone.

use crate::ui::site::clean;
use serde_json::{Map, Value};

/// The items of a list, each made when it is its turn.
pub type Items<'a> = Box<dyn Iterator<Item = Value> + 'a>;

/// See the module.
pub struct Long<'a> {
    pub head: Map<String, Value>,
    pub lists: Vec<(&'static str, Items<'a>)>,
}

/// An object that is written as one.
pub fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(values) => values,
        _ => Map::new(),
    }
}

impl Long<'_> {
    /// All of it.
    pub fn value(self) -> Value {
        let mut value = self.head;
        value.extend(self.lists.into_iter().map(|(name, items)| (name.to_string(), items.collect())));
        clean(Value::Object(value))
    }

    /// Its text.
    pub fn text(self) -> String {
        let mut text = clean(Value::Object(self.head)).to_string();
        text.pop();
        for (name, items) in self.lists {
            text += if text.len() > 1 { "," } else { "" };
            text += &Value::from(name).to_string();
            text += ":[";
            for (place, item) in items.enumerate() {
                text += if place > 0 { "," } else { "" };
                text += &clean(item).to_string();
            }
            text += "]";
        }
        text + "}"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn its_text_is_that_of_the_whole_and_hides_as_much() {
        let long = |heads: Value| {
            let Value::Object(head) = heads else { unreachable!() };
            let items = || Box::new([json!({"a": "https://me:secret@host/x"}), json!(1)].into_iter());
            Long {
                head,
                lists: vec![("some", items()), ("none", Box::new(std::iter::empty())), ("more", items())],
            }
        };
        for head in [json!({}), json!({"name": "https://me:secret@host/y", "z": [1, "}"]})] {
            let text = long(head.clone()).text();
            assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), long(head).value());
            assert!(!text.contains("secret"), "{text}");
        }
    }
}
