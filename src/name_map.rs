//! A few values by their names, of which a study of many stages holds very many: as little memory as a list takes, in the
//! order of names.

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::marker::PhantomData;
use std::ops::Index;

/// Values by name. What it looks like written down is what a `BTreeMap` looks like.
#[derive(Clone, PartialEq)]
pub struct NameMap<V>(Vec<(String, V)>);

impl<V> NameMap<V> {
    /// Nothing.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    fn place(&self, name: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(other, _)| other.as_str().cmp(name))
    }

    /// What stands for a name.
    pub fn get(&self, name: &str) -> Option<&V> {
        self.place(name).ok().map(|place| &self.0[place].1)
    }

    /// Whether something stands for a name.
    pub fn contains_key(&self, name: &str) -> bool {
        self.place(name).is_ok()
    }

    /// Puts a value, and gives the one that stood there.
    pub fn insert(&mut self, name: String, value: V) -> Option<V> {
        match self.place(&name) {
            Ok(place) => Some(std::mem::replace(&mut self.0[place].1, value)),
            Err(place) => {
                self.0.reserve_exact(1);
                self.0.insert(place, (name, value));
                None
            }
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes all away.
    pub fn clear(&mut self) {
        self.0 = Vec::new();
    }

    /// All, in the order of their names.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&String, &V)> {
        self.0.iter().map(|(name, value)| (name, value))
    }

    /// The names, in order.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = &String> {
        self.0.iter().map(|(name, _)| name)
    }

    /// The values, in the order of their names.
    pub fn values(&self) -> impl ExactSizeIterator<Item = &V> {
        self.0.iter().map(|(_, value)| value)
    }
}

impl<V> Default for NameMap<V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<V: fmt::Debug> fmt::Debug for NameMap<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<V> Index<&str> for NameMap<V> {
    type Output = V;

    fn index(&self, name: &str) -> &V {
        let Some(value) = self.get(name) else { panic!("nothing is called `{name}`") };
        value
    }
}

impl<V> Extend<(String, V)> for NameMap<V> {
    fn extend<T: IntoIterator<Item = (String, V)>>(&mut self, pairs: T) {
        pairs.into_iter().for_each(|(name, value)| drop(self.insert(name, value)));
    }
}

impl<V> FromIterator<(String, V)> for NameMap<V> {
    fn from_iter<T: IntoIterator<Item = (String, V)>>(pairs: T) -> Self {
        let mut map = Self::new();
        map.extend(pairs);
        map
    }
}

impl<V, const N: usize> From<[(String, V); N]> for NameMap<V> {
    fn from(pairs: [(String, V); N]) -> Self {
        pairs.into_iter().collect()
    }
}

impl<V> IntoIterator for NameMap<V> {
    type Item = (String, V);
    type IntoIter = std::vec::IntoIter<(String, V)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a, V> IntoIterator for &'a NameMap<V> {
    type Item = (&'a String, &'a V);
    type IntoIter = std::iter::Map<std::slice::Iter<'a, (String, V)>, fn(&'a (String, V)) -> Self::Item>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter().map(|(name, value)| (name, value))
    }
}

impl<V: Serialize> Serialize for NameMap<V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self)
    }
}

impl<'de, V: Deserialize<'de>> Deserialize<'de> for NameMap<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs<V>(PhantomData<V>);
        impl<'de, V: Deserialize<'de>> Visitor<'de> for Pairs<V> {
            type Value = NameMap<V>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<NameMap<V>, A::Error> {
                let mut map = NameMap::new();
                while let Some((name, value)) = access.next_entry()? {
                    map.insert(name, value);
                }
                Ok(map)
            }
        }
        deserializer.deserialize_map(Pairs(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn it_is_a_tree_map_in_all_that_is_seen_of_it() {
        let names = ["b", "", "a", "z", "a b", "\u{e9}", "a", "b"];
        let (mut map, mut tree) = (NameMap::new(), BTreeMap::new());
        for (i, name) in names.iter().enumerate() {
            assert_eq!(map.insert(name.to_string(), i), tree.insert(name.to_string(), i));
            assert_eq!(serde_json::to_string(&map).unwrap(), serde_json::to_string(&tree).unwrap());
            assert_eq!(format!("{map:?}"), format!("{tree:?}"));
        }
        assert!(map.iter().eq(&tree) && map.keys().eq(tree.keys()) && map.values().eq(tree.values()));
        assert_eq!((map.get("a"), map.get("c"), map["z"]), (Some(&6), None, 3));
        // A name that stands twice is taken as the last of both, however it comes.
        let text = r#"{"b": 1, "a": 2, "b": 3}"#;
        let read: NameMap<u32> = serde_json::from_str(text).unwrap();
        assert!(read.iter().eq(&serde_json::from_str::<BTreeMap<String, u32>>(text).unwrap()));
        assert!(serde_json::from_str::<NameMap<u32>>("[1]").is_err());
    }
}
