//! NumPy's arrays in a pickle: what of them is known without running NumPy.

use super::{Machine, Storage, Value, View};
use std::borrow::Cow;
use tch::Kind;

/// Functions that begin an array, by the end of their names: NumPy has moved them.
const RECONSTRUCT: &str = ".multiarray._reconstruct";
/// Those that make one of bytes.
const FROM_BUFFER: &str = ".numeric._frombuffer";

impl Machine {
    /// The array that a call makes at once: `_frombuffer(bytes, dtype, shape, order)`.
    pub(super) fn array_of_call(&mut self, name: usize, arguments: Value) -> Option<Value> {
        if !self.texts[name].starts_with("numpy") || !self.texts[name].ends_with(FROM_BUFFER) {
            return None;
        }
        let &[content, dtype, shape, order, ..] = self.tuple_of(arguments).ok()? else { return None };
        let fortran = matches!(order, Value::Text(i) if self.texts[i] == "F");
        self.array(content, dtype, shape, fortran)
    }

    /// The array that a state completes: `(version, shape, dtype, fortran, bytes)`.
    pub(super) fn array_of_state(&mut self, object: usize, state: Value) -> Option<Value> {
        let name = &self.texts[self.objects[object].name];
        if !name.starts_with("numpy") || !name.ends_with(RECONSTRUCT) {
            return None;
        }
        let &[_, shape, dtype, fortran, content] = self.tuple_of(state).ok()? else { return None };
        let fortran = matches!(fortran, Value::Bool(true) | Value::Integer(1));
        self.array(content, dtype, shape, fortran)
    }

    fn array(&mut self, content: Value, dtype: Value, shape: Value, fortran: bool) -> Option<Value> {
        let kind = self.kind_of(dtype)?;
        let size = self.integers(shape).ok()?;
        let count = size.iter().try_fold(1i64, |n, &side| n.checked_mul(side).filter(|_| side >= 0))?;
        let mut stride = vec![1i64; size.len()];
        let axes: Vec<usize> =
            if fortran { (0..size.len()).collect() } else { (0..size.len()).rev().collect() };
        for pair in axes.windows(2) {
            stride[pair[1]] = stride[pair[0]].checked_mul(size[pair[0]].max(1))?;
        }
        let key = format!("array {}", self.storages.len());
        self.storages.push(Storage { key, kind, count, inside: Some(content) });
        self.views.push(View { storage: self.storages.len() - 1, offset: 0, size, stride });
        Some(Value::Tensor(self.views.len() - 1))
    }

    /// The type of a little-endian `numpy.dtype('f4', …)`.
    fn kind_of(&self, dtype: Value) -> Option<Kind> {
        let Value::Object(object) = dtype else { return None };
        let object = &self.objects[object];
        let (&[code, ..], "numpy.dtype") =
            (self.tuple_of(object.arguments).ok()?, self.texts[object.name].as_str())
        else {
            return None;
        };
        let order = object.state.and_then(|state| self.tuple_of(state).ok()?.get(1).copied());
        if order.is_some_and(|order| self.text_of(order).is_ok_and(|order| order == ">")) {
            return None;
        }
        Some(match self.text_of(code).ok()? {
            "f2" => Kind::Half,
            "f4" => Kind::Float,
            "f8" => Kind::Double,
            "u1" => Kind::Uint8,
            "i1" => Kind::Int8,
            "i2" => Kind::Int16,
            "i4" => Kind::Int,
            "i8" => Kind::Int64,
            "b1" => Kind::Bool,
            _ => return None,
        })
    }

    /// The bytes of an array that are in the pickle itself. Protocols before the third write them as a text in Latin-1.
    pub fn inside<'a>(&self, content: Value, pickle: &'a [u8]) -> Option<Cow<'a, [u8]>> {
        match content {
            Value::Bytes(i) => Some(Cow::Borrowed(pickle.get(self.places[i].clone())?)),
            Value::Latin1(i) => {
                let bytes = self.texts[i].chars().map(|c| u8::try_from(u32::from(c)).ok());
                Some(Cow::Owned(bytes.collect::<Option<_>>()?))
            }
            _ => None,
        }
    }
}
