//! What a pickle's dictionary holds: tensors, numbers, texts, by the keys that lead to them.

use super::{LONGEST_NAME, Machine, Object, Value, View};
use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeMap;

/// Dictionaries and lists inside of each other; an optimiser's state has three.
const DEEPEST: usize = 4;
/// The same of settings, each of which may be wrapped.
const DEEPEST_SETTING: usize = 16;
/// Settings of a file; a training has a few hundred.
const MOST_SETTINGS: usize = 10_000;

/// Shapes of tensors by their names, by the names of the dictionaries that they are in.
pub type Shapes = BTreeMap<String, BTreeMap<String, Vec<i64>>>;

/// Tensors and numbers of nested dictionaries.
#[derive(Default)]
pub struct Tree {
    pub views: BTreeMap<String, View>,
    pub numbers: BTreeMap<String, f64>,
}

/// A setting of whatever made a file.
#[derive(Clone, Debug, PartialEq)]
pub enum Setting {
    /// A text.
    Text(String),
    /// A number.
    Number(f64),
}

impl Machine {
    fn outer(&self) -> Result<usize> {
        match self.result {
            Some(Value::Dict(outer)) => Ok(outer),
            Some(Value::Object(object)) => {
                bail!("calls {}, which is not run", self.texts[self.objects[object].name])
            }
            _ => bail!("no dictionary of tensors"),
        }
    }

    /// The value under a text key of a dictionary.
    fn entry(&self, dict: usize, wanted: &str) -> Option<Value> {
        let found = self.dicts[dict].iter().find(|(key, _)| self.text_of(*key).is_ok_and(|k| k == wanted));
        found.map(|(_, value)| *value)
    }

    /// Adds the tensors of a dictionary, their names behind a prefix.
    fn collect(&self, dict: usize, prefix: &str, into: &mut BTreeMap<String, View>) -> Result<()> {
        for (key, value) in &self.dicts[dict] {
            match self.known(*value) {
                Value::Tensor(view) => {
                    into.insert(format!("{prefix}{}", self.text_of(*key)?), self.views[view].clone());
                }
                Value::Object(object) => {
                    let key = self.text_of(*key).unwrap_or("an entry");
                    bail!("{prefix}{key} calls {}, which is not run", self.texts[self.objects[object].name])
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The tensors of the dictionary, or of the one called `state_dict` inside it.
    pub fn tensors(&self) -> Result<BTreeMap<String, View>> {
        let outer = self.outer()?;
        let mut tensors = BTreeMap::new();
        match self.entry(outer, "state_dict") {
            Some(Value::Dict(inner)) => self.collect(inner, "", &mut tensors)?,
            _ => self.collect(outer, "", &mut tensors)?,
        }
        Ok(tensors)
    }

    /// The tensors of the dictionaries of these names inside the dictionary, as `NAME.KEY`; its own tensors if it has none of
    /// them, and under the name "".
    pub fn sections(&self, names: &[&str]) -> Result<BTreeMap<String, View>> {
        let outer = self.outer()?;
        let mut tensors = BTreeMap::new();
        for name in names {
            if name.is_empty() {
                let own = self.dicts[outer].iter().filter_map(|(key, value)| match self.known(*value) {
                    Value::Tensor(view) => {
                        Some((self.text_of(*key).ok()?.to_string(), self.views[view].clone()))
                    }
                    _ => None,
                });
                tensors.extend(own);
            } else if let Some(Value::Dict(inner)) = self.entry(outer, name) {
                self.collect(inner, &format!("{name}."), &mut tensors)?;
            }
        }
        if tensors.is_empty() { self.tensors() } else { Ok(tensors) }
    }

    /// The tensors and numbers inside the dictionary under a key of the dictionary, however deep, by the keys and places that
    /// lead to them: `KEY.state.0.step`.
    pub fn tree(&self, key: &str) -> Result<Tree> {
        let mut tree = Tree::default();
        let Some(start @ Value::Dict(_)) = self.entry(self.outer()?, key) else { return Ok(tree) };
        let mut left = self.length;
        self.branch(start, key, DEEPEST, &mut left, &mut tree).with_context(|| key.to_string())?;
        Ok(tree)
    }

    fn branch(
        &self,
        value: Value,
        path: &str,
        depth: usize,
        left: &mut usize,
        tree: &mut Tree,
    ) -> Result<()> {
        // What is remembered may be there again, even inside of itself.
        *left = left.checked_sub(1).context("more entries than the file has")?;
        let below = |key: &str, value: Value, left: &mut usize, tree: &mut Tree| {
            ensure!(depth > 0, "dictionaries and lists more than {DEEPEST} deep");
            self.branch(value, &format!("{path}.{key}"), depth - 1, left, tree)
        };
        match self.known(value) {
            Value::Tensor(view) => drop(tree.views.insert(path.into(), self.views[view].clone())),
            Value::Integer(number) => drop(tree.numbers.insert(path.into(), number as f64)),
            Value::Float(number) => drop(tree.numbers.insert(path.into(), number)),
            Value::Dict(dict) => {
                for (key, value) in &self.dicts[dict] {
                    match key {
                        Value::Integer(key) => below(&key.to_string(), *value, left, tree)?,
                        key => below(self.name_of(*key)?, *value, left, tree)?,
                    }
                }
            }
            Value::List(list) => {
                for (place, value) in self.lists[list].iter().enumerate() {
                    below(&place.to_string(), *value, left, tree)?;
                }
            }
            Value::Tuple(tuple) => {
                for (place, value) in self.tuples[tuple].iter().enumerate() {
                    below(&place.to_string(), *value, left, tree)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// The text under a key of the dictionary.
    pub fn text_under(&self, key: &str) -> Option<&str> {
        match self.entry(self.outer().ok()?, key)? {
            Value::Text(text) => Some(&self.texts[text]),
            _ => None,
        }
    }

    pub fn list_of_text(&self) -> Result<Vec<String>> {
        let Some(Value::List(list)) = self.result else { bail!("no list") };
        self.lists[list].iter().map(|v| Ok(self.text_of(*v)?.to_string())).collect()
    }

    /// The shapes of the tensors of each dictionary inside the dictionary, and under "" its own.
    pub fn outline(&self) -> Result<Shapes> {
        let outer = self.outer()?;
        let shape = |key: Value, value: Value| match (self.known(value), self.name_of(key)) {
            (Value::Tensor(view), Ok(name)) => Some((name.to_string(), self.views[view].size.clone())),
            _ => None,
        };
        let mut shapes = Shapes::new();
        // A dictionary that is remembered may be there many times.
        let mut left = self.length;
        for &(key, value) in &self.dicts[outer] {
            let (Value::Dict(inner), Ok(name)) = (value, self.name_of(key)) else {
                shapes.entry(String::new()).or_default().extend(shape(key, value));
                continue;
            };
            left = left.checked_sub(self.dicts[inner].len()).context("more entries than the file has")?;
            let inside: BTreeMap<_, _> = self.dicts[inner].iter().filter_map(|&(k, v)| shape(k, v)).collect();
            if !inside.is_empty() {
                shapes.insert(name.into(), inside);
            }
        }
        Ok(shapes)
    }

    /// Texts and numbers under a key of the dictionary, however they are wrapped, by the keys that lead to them. What has no name
    /// that a person would give it is passed over: `config.general.schedule_name` of an OmegaConf.
    pub fn settings(&self, key: &str) -> Vec<(String, Setting)> {
        let mut found = Vec::new();
        let start = self.outer().ok().and_then(|outer| self.entry(outer, key));
        if let Some(start) = start {
            let mut left = self.length.min(MOST_SETTINGS);
            self.setting(start, key.into(), DEEPEST_SETTING, &mut left, &mut found);
        }
        found
    }

    fn setting(
        &self,
        value: Value,
        path: String,
        depth: usize,
        left: &mut usize,
        found: &mut Vec<(String, Setting)>,
    ) {
        let Some(fewer) = left.checked_sub(1).filter(|_| depth > 0) else { return };
        *left = fewer;
        let each = |pairs: &[(Value, Value)], left: &mut usize, found: &mut Vec<(String, Setting)>| {
            for &(key, value) in pairs {
                let below = match self.name_of(key) {
                    Ok("_content" | "_val") => path.clone(),
                    Ok(name) if !name.starts_with('_') => format!("{path}.{name}"),
                    _ => continue,
                };
                self.setting(value, below, depth - 1, left, found);
            }
        };
        match value {
            Value::Text(text) if self.texts[text].len() <= LONGEST_NAME => {
                found.push((path, Setting::Text(self.texts[text].clone())));
            }
            Value::Integer(number) => found.push((path, Setting::Number(number as f64))),
            Value::Float(number) => found.push((path, Setting::Number(number))),
            Value::Dict(dict) => each(&self.dicts[dict], left, found),
            Value::Object(object) => {
                let Object { items, state, .. } = &self.objects[object];
                each(items, left, found);
                if let Some(state) = state {
                    self.setting(*state, path.clone(), depth - 1, left, found);
                }
            }
            // A state is sometimes a pair: attributes of the instance and of its slots.
            Value::Tuple(tuple) => {
                for &value in self.tuples[tuple].iter().take(2) {
                    if matches!(value, Value::Dict(_)) {
                        self.setting(value, path.clone(), depth - 1, left, found);
                    }
                }
            }
            _ => {}
        }
    }
}
