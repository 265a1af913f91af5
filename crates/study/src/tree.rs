//! YAML as a tree whose every node knows its file and line.

use crate::error::{Error, Result};
use crate::mark::Mark;
use granit_parser::{Event, Parser, ScalarStyle};
use std::collections::HashMap;
use std::sync::Arc;

/// Deepest nesting that a study may have, and the largest number of nodes that its anchors and aliases may copy. What is
/// written out is as much as the file is long.
const MAX_DEPTH: usize = 64;
const MAX_COPIES: usize = 200_000;

/// A value with its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    pub value: Value,
    pub mark: Mark,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `~`, `null` or nothing.
    Null,
    /// Its text, and whether it stood there without quotes.
    Scalar(String, bool),
    List(Vec<Node>),
    Map(Vec<(Node, Node)>),
}

impl Node {
    pub fn text(mark: &Mark, text: &str) -> Self {
        Self { value: Value::Scalar(text.into(), true), mark: mark.clone() }
    }

    /// The text of a scalar.
    pub fn as_text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar(text, _) => Some(text),
            _ => None,
        }
    }

    fn count(&self) -> usize {
        1 + match &self.value {
            Value::Null | Value::Scalar(..) => 0,
            Value::List(items) => items.iter().map(Node::count).sum(),
            Value::Map(pairs) => pairs.iter().map(|(k, v)| k.count() + v.count()).sum(),
        }
    }
}

/// A list or mapping that is still open: its place, its anchor, its children so far.
struct Open {
    map: bool,
    mark: Mark,
    anchor: usize,
    children: Vec<Node>,
}

/// Reads one YAML document. Anchors and aliases work; tags and several documents are refused.
pub fn parse(file: &Arc<str>, text: &str) -> Result<Node> {
    let mut open: Vec<Open> = Vec::new();
    let mut anchors: HashMap<usize, Node> = HashMap::new();
    let mut root = None;
    let mut documents = 0;
    let mut copies = 0;
    for next in Parser::new_from_str(text) {
        let (event, span) = next.map_err(|e| {
            let mark = Mark { file: Arc::clone(file), line: e.marker().line() as u32 };
            Error::mistake(&mark, format!("not YAML: {}", e.info()))
        })?;
        let mark = Mark { file: Arc::clone(file), line: span.start.line() as u32 };
        let refused = |what: &str| Error::mistake(&mark, what);
        let (node, anchor) = match event {
            Event::DocumentStart(..) => {
                documents += 1;
                if documents > 1 {
                    return Err(refused("a second document; a study is one document"));
                }
                continue;
            }
            Event::Scalar(_, _, _, Some(_))
            | Event::SequenceStart(_, _, Some(_))
            | Event::MappingStart(_, _, Some(_)) => {
                return Err(refused("tags (`!name`) are not used here"));
            }
            Event::Scalar(text, style, anchor, None) => {
                let plain = style == ScalarStyle::Plain;
                let null = plain && matches!(&*text, "" | "~" | "null" | "Null" | "NULL");
                let value = if null { Value::Null } else { Value::Scalar(text.into_owned(), plain) };
                (Node { value, mark }, anchor)
            }
            Event::SequenceStart(_, anchor, None) | Event::MappingStart(_, anchor, None) => {
                if open.len() >= MAX_DEPTH {
                    return Err(refused("nested too deeply"));
                }
                let map = matches!(event, Event::MappingStart(..));
                open.push(Open { map, mark, anchor, children: Vec::new() });
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(done) = open.pop() else { continue };
                let anchor = done.anchor;
                (close(done)?, anchor)
            }
            Event::Alias(id) => match anchors.get(&id) {
                Some(node) => {
                    copies += node.count();
                    if copies > MAX_COPIES {
                        return Err(refused("too many values"));
                    }
                    (node.clone(), 0)
                }
                None => return Err(refused("an alias to a value that is not complete")),
            },
            _ => continue,
        };
        if anchor != 0 {
            copies += node.count();
            if copies > MAX_COPIES {
                return Err(Error::mistake(&node.mark, "too many values"));
            }
            anchors.insert(anchor, node.clone());
        }
        match open.last_mut() {
            Some(parent) => parent.children.push(node),
            None => root = Some(node),
        }
    }
    root.ok_or_else(|| Error::mistake(&Mark { file: Arc::clone(file), line: 1 }, "the file is empty"))
}

/// Makes a list or mapping of what stood in it; a key that stands there twice is a mistake. The mappings under a key `<<`
/// give the keys that do not stand there themselves.
fn close(open: Open) -> Result<Node> {
    let Open { map, mark, children, .. } = open;
    if !map {
        return Ok(Node { value: Value::List(children), mark });
    }
    let mut pairs = Vec::with_capacity(children.len() / 2);
    let mut seen: HashMap<String, u32> = HashMap::new();
    let mut children = children.into_iter();
    let mut merged = Vec::new();
    while let (Some(key), Some(value)) = (children.next(), children.next()) {
        let Some(name) = key.as_text() else {
            return Err(Error::mistake(&key.mark, "a key must be a word"));
        };
        if let Some(line) = seen.insert(name.to_string(), key.mark.line) {
            return Err(Error::mistake(
                &key.mark,
                format!("`{name}` stands here twice; first on line {line}"),
            ));
        }
        if key.value == Value::Scalar("<<".into(), true) {
            merged.extend(match value.value {
                Value::List(items) => items,
                _ => vec![value],
            });
            continue;
        }
        pairs.push((key, value));
    }
    for node in merged {
        let Value::Map(more) = node.value else {
            return Err(Error::mistake(&node.mark, "`<<` takes a mapping, or a list of them"));
        };
        for (key, value) in more {
            let name = key.as_text().unwrap_or_default().to_string();
            if let std::collections::hash_map::Entry::Vacant(free) = seen.entry(name) {
                free.insert(key.mark.line);
                pairs.push((key, value));
            }
        }
    }
    Ok(Node { value: Value::Map(pairs), mark })
}

/// The pairs of a mapping; nothing is an empty one.
pub fn pairs<'a>(node: &'a Node, expected: &str) -> Result<&'a [(Node, Node)]> {
    match &node.value {
        Value::Map(pairs) => Ok(pairs),
        Value::Null => Ok(&[]),
        _ => Err(Error::mistake(&node.mark, expected)),
    }
}

/// The names in a mapping.
pub fn keys(node: &Node) -> Vec<&str> {
    pairs(node, "").map(|p| p.iter().filter_map(|(k, _)| k.as_text()).collect()).unwrap_or_default()
}

/// What a mapping has under a name.
pub fn get<'a>(node: &'a Node, key: &str) -> Option<&'a Node> {
    pairs(node, "").ok()?.iter().find(|(k, _)| k.as_text() == Some(key)).map(|(_, v)| v)
}

/// Takes a name out of a mapping.
pub fn take(node: &mut Node, key: &str) -> Option<Node> {
    let Value::Map(pairs) = &mut node.value else { return None };
    let at = pairs.iter().position(|(k, _)| k.as_text() == Some(key))?;
    Some(pairs.remove(at).1)
}

/// Puts a value at a path, making the mappings on the way.
pub fn put(node: &mut Node, path: &[&str], value: Node) {
    let [first, rest @ ..] = path else {
        *node = value;
        return;
    };
    if !matches!(node.value, Value::Map(_)) {
        node.value = Value::Map(Vec::new());
    }
    let Value::Map(pairs) = &mut node.value else { return };
    let at = pairs.iter().position(|(k, _)| k.as_text() == Some(first)).unwrap_or_else(|| {
        let empty = Node { value: Value::Null, mark: value.mark.clone() };
        pairs.push((Node::text(&value.mark, first), empty));
        pairs.len() - 1
    });
    put(&mut pairs[at].1, rest, value);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Node> {
        parse(&Arc::from("f.yaml"), text)
    }

    #[test]
    fn nodes_know_their_lines() {
        let Value::Map(pairs) = read("a: 1\nb:\n  - x\n  - 'y'\n").unwrap().value else { panic!() };
        assert_eq!(pairs[1].0.mark.line, 2);
        let Value::List(items) = &pairs[1].1.value else { panic!() };
        assert_eq!(items[1], Node { value: Value::Scalar("y".into(), false), mark: items[1].mark.clone() });
        assert_eq!(items[1].mark.to_string(), "f.yaml:4");
    }

    #[test]
    fn mistakes_are_one_line() {
        for (text, error) in [
            ("", "f.yaml:1: the file is empty"),
            ("a: 1\nb: 2\na: 3\n", "f.yaml:3: `a` stands here twice; first on line 1"),
            ("a: !x 1\n", "f.yaml:1: tags (`!name`) are not used here"),
            ("[a]: 1\n", "f.yaml:1: a key must be a word"),
        ] {
            assert_eq!(read(text).unwrap_err().to_string(), error);
        }
        assert!(read("a: [1\n").unwrap_err().to_string().starts_with("f.yaml:"));
    }

    #[test]
    fn merge_keys_give_what_is_not_there() {
        let read = |text: &str| read(text).map(|node| format!("{:?}", strip(&node)));
        fn strip(node: &Node) -> Vec<(String, String)> {
            let Value::Map(pairs) = &node.value else { return Vec::new() };
            let text = |n: &Node| n.as_text().unwrap_or("-").to_string();
            pairs.iter().map(|(k, v)| (text(k), text(v))).collect()
        }
        assert_eq!(read("{<<: {a: 1, b: 2}, b: 3}").unwrap(), read("{b: 3, a: 1}").unwrap());
        assert_eq!(read("{b: 3, <<: [{a: 1}, {a: 2, c: 4}]}").unwrap(), read("{b: 3, a: 1, c: 4}").unwrap());
        assert_eq!(
            read("a: 1\n<<: x\n").unwrap_err().to_string(),
            "f.yaml:2: `<<` takes a mapping, or a list of them"
        );
    }

    #[test]
    fn as_many_values_are_read_as_are_written() {
        let text: String = (0..250_000).map(|i| format!("k{i}: v\n")).collect();
        assert!(read(&text).is_ok());
    }

    #[test]
    fn aliases_of_aliases_do_not_explode() {
        let mut text = String::from("a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1]\n");
        for i in 1..12 {
            let item = format!("*a{}", i - 1);
            text += &format!("a{i}: &a{i} [{}]\n", vec![item; 8].join(", "));
        }
        assert!(read(&text).unwrap_err().to_string().ends_with("too many values"));
        assert!(read(&"[".repeat(1000)).is_err());
    }
}
