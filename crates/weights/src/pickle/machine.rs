//! The pickle virtual machine, as far as dictionaries of tensors go.

mod find;
mod input;
mod numpy;
mod values;

pub use find::{Setting, Shapes};
pub use values::{Storage, Value, View};

use super::storage_kind;
use anyhow::{Context, Result, bail, ensure};
use input::Input;
use std::collections::HashMap;
use std::ops::Range;
use values::{Object, literal};

/// Longest name of a function or of a storage; those of torch have a few dozen letters.
const LONGEST_NAME: usize = 255;
/// Most dimensions of a tensor.
const MOST_DIMENSIONS: usize = 16;

/// The arenas, and the value that was left on the stack.
#[derive(Default)]
pub struct Machine {
    texts: Vec<String>,
    tuples: Vec<Vec<Value>>,
    lists: Vec<Vec<Value>>,
    dicts: Vec<Vec<(Value, Value)>>,
    objects: Vec<Object>,
    places: Vec<Range<usize>>,
    storages: Vec<Storage>,
    views: Vec<View>,
    stack: Vec<Value>,
    memo: HashMap<u32, Value>,
    result: Option<Value>,
    length: usize,
}

impl Machine {
    /// Runs one pickle; also returns how many bytes it had.
    pub fn run(bytes: &[u8]) -> Result<(Self, usize)> {
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
        if let Some(value) = literal(code, input)? {
            self.stack.push(value);
            return Ok(());
        }
        match code {
            0x80 => drop(input.byte()?),
            0x95 => drop(input.take(8)?),
            b'0' => drop(self.pop()?),
            b'X' | b'T' => self.text(input, |i| i.length())?,
            0x8c | b'U' => self.text(input, |i| i.short())?,
            0x8d => self.text(input, |i| i.long_length())?,
            b'B' => self.bytes(input, |i| i.length())?,
            b'C' => self.bytes(input, |i| i.short())?,
            0x8e | 0x96 => self.bytes(input, |i| i.long_length())?,
            // A view of the bytes before, which nobody writes to.
            0x98 => {}
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
            b'Q' => self.persistent()?,
            // A class that is called in its newer form is a function like any other.
            b'R' | 0x81 => self.call()?,
            // The same with named arguments.
            0x92 => {
                self.pop()?;
                self.call()?;
            }
            b'b' => self.build()?,
            other => self.container(other)?,
        }
        Ok(())
    }

    /// What makes and fills tuples, lists, sets and dictionaries. A set is a list here; nothing of it is asked for.
    fn container(&mut self, code: u8) -> Result<()> {
        match code {
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
            b']' | 0x8f => self.list(vec![]),
            0x91 => {
                let items = self.after_mark()?;
                self.list(items);
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

    fn bytes(&mut self, input: &mut Input, length: fn(&mut Input) -> Result<usize>) -> Result<()> {
        let length = length(input)?;
        self.places.push(input.place(length)?);
        self.stack.push(Value::Bytes(self.places.len() - 1));
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

    fn list(&mut self, items: Vec<Value>) {
        self.lists.push(items);
        self.stack.push(Value::List(self.lists.len() - 1));
    }

    fn dict(&mut self) {
        self.dicts.push(vec![]);
        self.stack.push(Value::Dict(self.dicts.len() - 1));
    }

    fn append(&mut self, items: Vec<Value>) -> Result<()> {
        match self.stack.last() {
            Some(Value::List(list)) => self.lists[*list].extend(items),
            Some(Value::Object(_)) => {}
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
            Some(Value::Object(object)) => {
                self.objects[*object].items.extend(items.chunks_exact(2).map(|pair| (pair[0], pair[1])))
            }
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
        let storage = Storage {
            kind: storage_kind(self.name_of(class)?)?,
            key: self.name_of(key)?.to_string(),
            count,
            inside: None,
        };
        self.storages.push(storage);
        self.stack.push(Value::Storage(self.storages.len() - 1));
        Ok(())
    }

    /// Only what rebuilds tensors is done. Everything else is remembered by its name, and refused where a tensor should be.
    fn call(&mut self) -> Result<()> {
        let (arguments, function) = (self.pop()?, self.pop()?);
        let name = match function {
            Value::Global(name) => name,
            Value::Object(object) => self.objects[object].name,
            _ => bail!("a call of what is no function"),
        };
        match (self.texts[name].as_str(), self.tuple_of(arguments)?) {
            ("collections.OrderedDict" | "collections.defaultdict", _) => self.dict(),
            (
                "torch._utils._rebuild_tensor_v2",
                &[Value::Storage(storage), Value::Integer(offset), size, stride, ..],
            ) => {
                let (size, stride) = (self.integers(size)?, self.integers(stride)?);
                self.views.push(View { storage, offset, size, stride });
                self.stack.push(Value::Tensor(self.views.len() - 1));
            }
            ("torch._utils._rebuild_parameter", &[tensor @ Value::Tensor(_), ..]) => self.stack.push(tensor),
            ("_codecs.encode", &[Value::Text(text), Value::Text(code)]) if self.texts[code] == "latin1" => {
                self.stack.push(Value::Latin1(text));
            }
            _ => {
                let made = self.array_of_call(name, arguments);
                self.objects.push(Object { name, arguments, state: None, items: vec![], made });
                self.stack.push(Value::Object(self.objects.len() - 1));
            }
        }
        Ok(())
    }

    /// The attributes of a dictionary (`_metadata`) say nothing about its tensors.
    fn build(&mut self) -> Result<()> {
        let state = self.pop()?;
        if let Some(Value::Object(object)) = self.stack.last().copied() {
            let made = self.array_of_state(object, state);
            let object = &mut self.objects[object];
            (object.state, object.made) = (Some(state), made.or(object.made));
        }
        Ok(())
    }

    /// What a value is, where an object is known after all.
    fn known(&self, value: Value) -> Value {
        match value {
            Value::Object(object) => self.objects[object].made.unwrap_or(value),
            _ => value,
        }
    }

    pub fn storage(&self, view: &View) -> &Storage {
        &self.storages[view.storage]
    }

    pub fn storages(&self) -> &[Storage] {
        &self.storages
    }
}
