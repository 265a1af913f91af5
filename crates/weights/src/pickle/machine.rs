//! The pickle virtual machine, as far as dictionaries of tensors go.

use super::storage_kind;
use anyhow::{Context, Result, bail, ensure};
use std::collections::{BTreeMap, HashMap};
use tch::Kind;

/// Longest name of a function or of a storage; those of torch have a few dozen letters.
const LONGEST_NAME: usize = 255;
/// Most dimensions of a tensor.
const MOST_DIMENSIONS: usize = 16;
/// Dictionaries and lists inside of each other; an optimiser's state has three.
const DEEPEST: usize = 4;

/// One value. Containers are indices into the machine's arenas, so nothing is nested and nothing is copied.
#[derive(Clone, Copy, Debug)]
enum Value {
    Mark,
    None,
    Bool,
    Integer(i64),
    Float(f64),
    Bytes,
    Text(usize),
    Global(usize),
    Tuple(usize),
    List(usize),
    Dict(usize),
    Storage(usize),
    Tensor(usize),
    /// What a function would have made that is not run; its name.
    Unmade(usize),
}

/// A row of numbers that tensors look at.
#[derive(Clone, Debug)]
pub(super) struct Storage {
    pub(super) key: String,
    pub(super) kind: Kind,
    pub(super) count: i64,
}

/// Where in a storage a tensor is.
#[derive(Clone, Debug)]
pub(super) struct View {
    storage: usize,
    pub(super) offset: i64,
    pub(super) size: Vec<i64>,
    pub(super) stride: Vec<i64>,
}

impl Storage {
    pub(super) fn bytes(&self) -> Result<u64> {
        let size = self.kind.elt_size_in_bytes() as u64;
        let count = u64::try_from(self.count).context("a storage of negative size")?;
        count.checked_mul(size).context("a storage of impossible size")
    }
}

impl View {
    /// Its size in bytes, if it stays inside its storage, without repeating elements.
    pub(super) fn check(&self, storage: &Storage) -> Result<u64> {
        let count = || -> Option<u64> {
            let (mut last, mut count) = (self.offset, 1i64);
            for (&size, &stride) in self.size.iter().zip(&self.stride) {
                if size < 0 || stride < 0 {
                    return None;
                }
                last = last.checked_add((size - 1).max(0).checked_mul(stride)?)?;
                count = count.checked_mul(size)?;
            }
            let fits = self.offset >= 0 && count <= storage.count && (count == 0 || last < storage.count);
            u64::try_from(count).ok().filter(|_| fits)
        };
        ensure!(self.size.len() == self.stride.len(), "{:?} and {:?} do not fit", self.size, self.stride);
        let leaves = || format!("{:?} with strides {:?} leaves its storage", self.size, self.stride);
        Ok(count().with_context(leaves)? * storage.kind.elt_size_in_bytes() as u64)
    }
}

/// Tensors and numbers of nested dictionaries.
#[derive(Default)]
pub(super) struct Tree {
    pub(super) views: BTreeMap<String, View>,
    pub(super) numbers: BTreeMap<String, f64>,
}

/// The arenas, and the value that was left on the stack.
#[derive(Default)]
pub(super) struct Machine {
    texts: Vec<String>,
    tuples: Vec<Vec<Value>>,
    lists: Vec<Vec<Value>>,
    dicts: Vec<Vec<(Value, Value)>>,
    storages: Vec<Storage>,
    views: Vec<View>,
    stack: Vec<Value>,
    memo: HashMap<u32, Value>,
    result: Option<Value>,
    length: usize,
}

impl Machine {
    /// Runs one pickle; also returns how many bytes it had.
    pub(super) fn run(bytes: &[u8]) -> Result<(Self, usize)> {
        let mut machine = Self::default();
        let mut input = Input { bytes, at: 0 };
        loop {
            let at = input.at;
            let code = input.byte()?;
            if code == b'.' {
                machine.result = Some(machine.pop()?);
                machine.length = input.at;
                return Ok((machine, input.at));
            }
            machine.step(code, &mut input).with_context(|| format!("the pickle at byte {at}"))?;
        }
    }

    fn step(&mut self, code: u8, input: &mut Input) -> Result<()> {
        match code {
            0x80 => drop(input.byte()?),
            0x95 => drop(input.take(8)?),
            b'(' => self.stack.push(Value::Mark),
            b'0' => drop(self.pop()?),
            b'N' => self.stack.push(Value::None),
            0x88 | 0x89 => self.stack.push(Value::Bool),
            b'J' => self.stack.push(Value::Integer(i64::from(input.i32()?))),
            b'K' => {
                let n = input.byte()?;
                self.stack.push(Value::Integer(i64::from(n)));
            }
            b'M' => {
                let n = input.array::<2>()?;
                self.stack.push(Value::Integer(i64::from(u16::from_le_bytes(n))));
            }
            0x8a => {
                let length = usize::from(input.byte()?);
                let bytes = input.take(length)?;
                self.stack.push(Value::Integer(long(bytes)));
            }
            0x8b => {
                let length = input.length()?;
                let bytes = input.take(length)?;
                self.stack.push(Value::Integer(long(bytes)));
            }
            b'G' => {
                let bytes = input.array()?;
                self.stack.push(Value::Float(f64::from_be_bytes(bytes)));
            }
            b'X' => self.text(input, |i| i.length())?,
            0x8c | b'U' => self.text(input, |i| Ok(usize::from(i.byte()?)))?,
            b'T' => self.text(input, |i| i.length())?,
            b'C' | b'B' => {
                let length = if code == b'C' { usize::from(input.byte()?) } else { input.length()? };
                input.take(length)?;
                self.stack.push(Value::Bytes);
            }
            b'c' => {
                let (module, name) = (input.line()?, input.line()?);
                self.global(format!("{module}.{name}"));
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let name = format!("{}.{}", self.name_of(module)?, self.name_of(name)?);
                self.global(name);
            }
            b'q' => self.remember(|i| Ok(u32::from(i.byte()?)), input)?,
            b'r' => self.remember(|i| i.u32(), input)?,
            0x94 => {
                let top = *self.stack.last().context("nothing to remember")?;
                self.memo.insert(u32::try_from(self.memo.len())?, top);
            }
            b'h' => self.recall(|i| Ok(u32::from(i.byte()?)), input)?,
            b'j' => self.recall(|i| i.u32(), input)?,
            b')' => self.tuple(vec![]),
            0x85..=0x87 => {
                let count = usize::from(code - 0x84);
                let start = self.stack.len().checked_sub(count).context("the stack is empty")?;
                let items = self.stack.split_off(start);
                self.tuple(items);
            }
            b't' => {
                let items = self.after_mark()?;
                self.tuple(items);
            }
            // A set is a list here; nothing of it is asked for.
            b']' | 0x8f => {
                self.lists.push(vec![]);
                self.stack.push(Value::List(self.lists.len() - 1));
            }
            b'}' => self.dict(),
            b'a' => {
                let item = self.pop()?;
                self.append(vec![item])?;
            }
            b'e' | 0x90 => {
                let items = self.after_mark()?;
                self.append(items)?;
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.set(vec![key, value])?;
            }
            b'u' => {
                let items = self.after_mark()?;
                self.set(items)?;
            }
            b'Q' => self.persistent()?,
            // A class that is called in its newer form is a function like any other.
            b'R' | 0x81 => self.call()?,
            // The attributes of a dictionary (`_metadata`) say nothing about its tensors.
            b'b' => drop(self.pop()?),
            other => bail!("operation {other:#04x}, which dictionaries of tensors do not need"),
        }
        Ok(())
    }

    fn pop(&mut self) -> Result<Value> {
        self.stack.pop().context("the stack is empty")
    }

    fn after_mark(&mut self) -> Result<Vec<Value>> {
        let mark = self.stack.iter().rposition(|v| matches!(v, Value::Mark)).context("no mark")?;
        let items = self.stack.split_off(mark + 1);
        self.stack.pop();
        Ok(items)
    }

    fn text(&mut self, input: &mut Input, length: fn(&mut Input) -> Result<usize>) -> Result<()> {
        let length = length(input)?;
        let text = std::str::from_utf8(input.take(length)?).context("a text that is not UTF-8")?;
        self.texts.push(text.into());
        self.stack.push(Value::Text(self.texts.len() - 1));
        Ok(())
    }

    fn global(&mut self, name: String) {
        self.texts.push(name);
        self.stack.push(Value::Global(self.texts.len() - 1));
    }

    fn remember(&mut self, key: fn(&mut Input) -> Result<u32>, input: &mut Input) -> Result<()> {
        let key = key(input)?;
        self.memo.insert(key, *self.stack.last().context("nothing to remember")?);
        Ok(())
    }

    fn recall(&mut self, key: fn(&mut Input) -> Result<u32>, input: &mut Input) -> Result<()> {
        let key = key(input)?;
        self.stack.push(*self.memo.get(&key).context("nothing is remembered there")?);
        Ok(())
    }

    fn tuple(&mut self, items: Vec<Value>) {
        self.tuples.push(items);
        self.stack.push(Value::Tuple(self.tuples.len() - 1));
    }

    fn dict(&mut self) {
        self.dicts.push(vec![]);
        self.stack.push(Value::Dict(self.dicts.len() - 1));
    }

    fn append(&mut self, items: Vec<Value>) -> Result<()> {
        match self.stack.last() {
            Some(Value::List(list)) => self.lists[*list].extend(items),
            Some(Value::Unmade(_)) => {}
            _ => bail!("no list to append to"),
        }
        Ok(())
    }

    fn set(&mut self, items: Vec<Value>) -> Result<()> {
        ensure!(items.len().is_multiple_of(2), "a key without value");
        match self.stack.last() {
            Some(Value::Dict(dict)) => {
                self.dicts[*dict].extend(items.chunks_exact(2).map(|pair| (pair[0], pair[1])))
            }
            Some(Value::Unmade(_)) => {}
            _ => bail!("no dictionary to fill"),
        }
        Ok(())
    }

    fn text_of(&self, value: Value) -> Result<&str> {
        match value {
            Value::Text(i) | Value::Global(i) => Ok(&self.texts[i]),
            other => bail!("{other:?} where a text should be"),
        }
    }

    /// A text that is copied wherever it is used, and therefore short.
    fn name_of(&self, value: Value) -> Result<&str> {
        let name = self.text_of(value)?;
        ensure!(name.len() <= LONGEST_NAME, "a name of {} letters", name.len());
        Ok(name)
    }

    fn tuple_of(&self, value: Value) -> Result<&[Value]> {
        match value {
            Value::Tuple(i) => Ok(&self.tuples[i]),
            other => bail!("{other:?} where a tuple should be"),
        }
    }

    fn integers(&self, value: Value) -> Result<Vec<i64>> {
        let integer = |v: &Value| match v {
            Value::Integer(n) => Ok(*n),
            other => bail!("{other:?} where a whole number should be"),
        };
        let items = self.tuple_of(value)?;
        ensure!(items.len() <= MOST_DIMENSIONS, "{} dimensions", items.len());
        items.iter().map(integer).collect()
    }

    /// `('storage', class, key, device, count, …)`.
    fn persistent(&mut self) -> Result<()> {
        let id = self.pop()?;
        let [_, class, key, _, Value::Integer(count), ..] = *self.tuple_of(id)? else {
            bail!("a persistent object that is no storage")
        };
        let storage =
            Storage { kind: storage_kind(self.name_of(class)?)?, key: self.name_of(key)?.to_string(), count };
        self.storages.push(storage);
        self.stack.push(Value::Storage(self.storages.len() - 1));
        Ok(())
    }

    /// Only what rebuilds tensors is done. Everything else is remembered by its name, and refused where a tensor should be.
    fn call(&mut self) -> Result<()> {
        let (arguments, function) = (self.pop()?, self.pop()?);
        let (Value::Global(name) | Value::Unmade(name)) = function else {
            bail!("a call of what is no function")
        };
        match (self.texts[name].as_str(), self.tuple_of(arguments)?) {
            ("collections.OrderedDict", _) => self.dict(),
            (
                "torch._utils._rebuild_tensor_v2",
                &[Value::Storage(storage), Value::Integer(offset), size, stride, ..],
            ) => {
                let (size, stride) = (self.integers(size)?, self.integers(stride)?);
                self.views.push(View { storage, offset, size, stride });
                self.stack.push(Value::Tensor(self.views.len() - 1));
            }
            ("torch._utils._rebuild_parameter", &[tensor @ Value::Tensor(_), ..]) => self.stack.push(tensor),
            _ => self.stack.push(Value::Unmade(name)),
        }
        Ok(())
    }

    fn outer(&self) -> Result<usize> {
        match self.result {
            Some(Value::Dict(outer)) => Ok(outer),
            Some(Value::Unmade(name)) => bail!("calls {}, which is not run", self.texts[name]),
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
            match value {
                Value::Tensor(view) => {
                    into.insert(format!("{prefix}{}", self.text_of(*key)?), self.views[*view].clone());
                }
                Value::Unmade(name) => {
                    let key = self.text_of(*key).unwrap_or("an entry");
                    bail!("{prefix}{key} calls {}, which is not run", self.texts[*name])
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The tensors of the dictionary, or of the one called `state_dict` inside it.
    pub(super) fn tensors(&self) -> Result<BTreeMap<String, View>> {
        let outer = self.outer()?;
        let mut tensors = BTreeMap::new();
        match self.entry(outer, "state_dict") {
            Some(Value::Dict(inner)) => self.collect(inner, "", &mut tensors)?,
            _ => self.collect(outer, "", &mut tensors)?,
        }
        Ok(tensors)
    }

    /// The tensors of the dictionaries of these names inside the dictionary, as `NAME.KEY`; its own tensors if it has none of them.
    pub(super) fn sections(&self, names: &[&str]) -> Result<BTreeMap<String, View>> {
        let outer = self.outer()?;
        let mut tensors = BTreeMap::new();
        for name in names {
            if let Some(Value::Dict(inner)) = self.entry(outer, name) {
                self.collect(inner, &format!("{name}."), &mut tensors)?;
            }
        }
        if tensors.is_empty() { self.tensors() } else { Ok(tensors) }
    }

    /// The tensors and numbers inside the dictionary under a key of the dictionary, however deep, by the keys and places that
    /// lead to them: `KEY.state.0.step`.
    pub(super) fn tree(&self, key: &str) -> Result<Tree> {
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
        match value {
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
    pub(super) fn text_under(&self, key: &str) -> Option<&str> {
        match self.entry(self.outer().ok()?, key)? {
            Value::Text(text) => Some(&self.texts[text]),
            _ => None,
        }
    }

    pub(super) fn storage(&self, view: &View) -> &Storage {
        &self.storages[view.storage]
    }

    pub(super) fn storages(&self) -> &[Storage] {
        &self.storages
    }

    pub(super) fn list_of_text(&self) -> Result<Vec<String>> {
        let Some(Value::List(list)) = self.result else { bail!("no list") };
        self.lists[list].iter().map(|v| Ok(self.text_of(*v)?.to_string())).collect()
    }
}

/// A little-endian two's complement number; what is longer than 64 bits is cut, none of ours is.
fn long(bytes: &[u8]) -> i64 {
    let negative = bytes.last().is_some_and(|b| b & 0x80 != 0);
    let mut full = [if negative { 0xff } else { 0 }; 8];
    full.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    i64::from_le_bytes(full)
}

struct Input<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Input<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let end = self.at.checked_add(count).filter(|&end| end <= self.bytes.len());
        let end = end.context("the pickle ends in the middle")?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8> {
        Ok(self.take(1)?[0])
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        Ok(self.take(N)?.try_into()?)
    }

    fn i32(&mut self) -> Result<i32> {
        Ok(i32::from_le_bytes(self.array()?))
    }

    fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn length(&mut self) -> Result<usize> {
        Ok(usize::try_from(self.u32()?)?)
    }

    fn line(&mut self) -> Result<&'a str> {
        let rest = &self.bytes[self.at..];
        let end = rest.iter().position(|&b| b == b'\n').context("a name without end")?;
        self.at += end + 1;
        std::str::from_utf8(&rest[..end]).context("a name that is not UTF-8")
    }
}
