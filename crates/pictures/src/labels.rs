//! Labels: what stands in a column of them, and the classes that they make.

use anyhow::{Result, anyhow, bail};
use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use stage::bad_input;
use std::collections::BTreeSet;
use std::fmt::Display;

/// Most classes; what is beyond is a number of another kind.
const MOST: usize = 1_000_000;

stage::choice! {
    /// What happens to labels.
    pub enum Labels {
        /// They stay.
        Keep = "keep",
        /// They go.
        Drop = "drop",
    }
}

/// What stands in a column of labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Cell {
    /// A number, which is the class's.
    Integer(i64),
    /// The class's name.
    Text(String),
    /// Nothing.
    Missing,
}

/// The classes of a dataset.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Classes {
    /// How many; labels are below it.
    pub count: usize,
    /// Their names, in the order of their numbers; empty where they are not named, or each by its number.
    pub names: Vec<String>,
    /// The names by which labels say their class, sorted; empty where labels are numbers.
    texts: Vec<String>,
}

impl Default for Labels {
    /// They stay.
    fn default() -> Self {
        Self::Keep
    }
}

impl Classes {
    /// Whether labels say their class by name, so that numbers follow from the names that were met.
    pub fn by_name(&self) -> bool {
        !self.texts.is_empty()
    }

    /// Classes that are numbered in the order of these names.
    pub(crate) fn named(names: Vec<String>) -> Self {
        Self { count: names.len(), names: telling(names), texts: Vec::new() }
    }

    /// Classes of a manifest.
    pub(crate) fn counted(count: usize, names: Vec<String>) -> Self {
        Self { count, names, texts: Vec::new() }
    }

    /// The class that a label says.
    pub(crate) fn number(&self, cell: &Cell) -> Option<i64> {
        match cell {
            Cell::Integer(number) => Some(*number),
            Cell::Text(text) => self.texts.binary_search(text).ok().map(|number| number as i64),
            Cell::Missing => None,
        }
    }
}

/// Numbers as names are in the order 0, 1, 10, 2, as `torchvision` has its folders.
pub(crate) fn out_of_order(names: &[String], what: &str) -> Option<String> {
    let numbers: Option<Vec<u64>> = names.iter().map(|name| name.parse().ok()).collect();
    let other = numbers?.iter().enumerate().position(|(i, number)| *number != i as u64)?;
    Some(format!(
        "classes are numbered in the order of their names: the {what} {} is class {other}",
        names[other]
    ))
}

/// Names that say more than the numbers do.
fn telling(names: Vec<String>) -> Vec<String> {
    if names.iter().enumerate().all(|(i, name)| *name == i.to_string()) { Vec::new() } else { names }
}

/// Labels as they are met, until all are known.
#[derive(Default)]
pub(crate) struct Tally {
    /// One more than the greatest number.
    end: usize,
    texts: BTreeSet<String>,
}

impl Tally {
    /// Takes a label; `place` says where it stands.
    pub(crate) fn add(&mut self, cell: &Cell, place: impl Fn() -> String) -> Result<()> {
        match cell {
            Cell::Missing => bad_input!("{}: no label", place()),
            Cell::Integer(number) => {
                let end = usize::try_from(*number).ok().map(|n| n + 1).filter(|end| *end <= MOST);
                let Some(end) = end else { bad_input!("{}: label {number} is no class", place()) };
                self.end = self.end.max(end);
            }
            Cell::Text(text) if !self.texts.contains(text) => {
                self.texts.insert(text.clone());
            }
            Cell::Text(_) => {}
        }
        if self.end > 0 && !self.texts.is_empty() {
            bad_input!("{}: labels are numbers here and names there", place())
        }
        if self.texts.len() > MOST {
            bad_input!("{}: more than {MOST} different labels", place())
        }
        Ok(())
    }

    /// Takes a label of another part of the dataset, where it is of the same kind: a class has its number in every part.
    pub(crate) fn also(&mut self, cell: &Cell) {
        match cell {
            Cell::Text(text) if self.end == 0 && self.texts.len() < MOST => {
                self.texts.insert(text.clone());
            }
            Cell::Integer(number) if self.texts.is_empty() => {
                let end = usize::try_from(*number).ok().map(|n| n + 1).filter(|end| *end <= MOST);
                self.end = self.end.max(end.unwrap_or(0));
            }
            _ => {}
        }
    }

    /// The classes; `named` are those that the source itself names, and `source` is its name.
    pub(crate) fn classes(self, named: Option<&[String]>, source: &str) -> Result<Option<Classes>> {
        if !self.texts.is_empty() {
            let texts: Vec<String> = self.texts.into_iter().collect();
            return Ok(Some(Classes { count: texts.len(), names: telling(texts.clone()), texts }));
        }
        if self.end == 0 {
            return Ok(None);
        }
        let Some(names) = named else { return Ok(Some(Classes { count: self.end, ..Classes::default() })) };
        if self.end > names.len() {
            bad_input!("{source}: a label is {}, but it names {} classes", self.end - 1, names.len())
        }
        Ok(Some(Classes::named(names.to_vec())))
    }
}

/// The labels of an array.
pub(crate) fn cells(array: &ArrayRef) -> Result<Vec<Cell>> {
    let kind = array.data_type();
    let rows = 0..array.len();
    Ok(match kind {
        DataType::Null => rows.map(|_| Cell::Missing).collect(),
        DataType::Dictionary(..) => return cells(&values(array)?),
        DataType::Utf8 => array.as_string::<i32>().iter().map(text).collect(),
        DataType::LargeUtf8 => array.as_string::<i64>().iter().map(text).collect(),
        DataType::Utf8View => array.as_string_view().iter().map(text).collect(),
        DataType::Boolean => {
            let values = array.as_boolean();
            values.iter().map(|v| v.map_or(Cell::Missing, |v| Cell::Integer(v.into()))).collect()
        }
        DataType::Int8 => integers::<Int8Type>(array)?,
        DataType::Int16 => integers::<Int16Type>(array)?,
        DataType::Int32 => integers::<Int32Type>(array)?,
        DataType::Int64 => integers::<Int64Type>(array)?,
        DataType::UInt8 => integers::<UInt8Type>(array)?,
        DataType::UInt16 => integers::<UInt16Type>(array)?,
        DataType::UInt32 => integers::<UInt32Type>(array)?,
        DataType::UInt64 => integers::<UInt64Type>(array)?,
        DataType::Float16 => array
            .as_primitive::<Float16Type>()
            .iter()
            .map(|n| whole(n.map(f64::from)))
            .collect::<Result<_>>()?,
        DataType::Float32 => array
            .as_primitive::<Float32Type>()
            .iter()
            .map(|n| whole(n.map(f64::from)))
            .collect::<Result<_>>()?,
        DataType::Float64 => array.as_primitive::<Float64Type>().iter().map(whole).collect::<Result<_>>()?,
        other => bail!("{other} are no labels"),
    })
}

/// What the numbers of a dictionary stand for.
pub(crate) fn values(array: &ArrayRef) -> Result<ArrayRef> {
    let dictionary = array.as_any_dictionary();
    Ok(arrow::compute::take(dictionary.values(), dictionary.keys(), None)?)
}

fn text(text: Option<&str>) -> Cell {
    text.map_or(Cell::Missing, |text| Cell::Text(text.into()))
}

fn integers<T: ArrowPrimitiveType<Native: TryInto<i64> + Display>>(array: &ArrayRef) -> Result<Vec<Cell>> {
    let cell = |number: Option<T::Native>| match number {
        None => Ok(Cell::Missing),
        Some(number) => {
            number.try_into().map(Cell::Integer).map_err(|_| anyhow!("label {number} is no class"))
        }
    };
    array.as_primitive::<T>().iter().map(cell).collect()
}

fn whole(number: Option<f64>) -> Result<Cell> {
    match number {
        None => Ok(Cell::Missing),
        Some(number) if number.is_nan() => Ok(Cell::Missing),
        Some(number) if number.fract() == 0.0 && number.abs() < 1e15 => Ok(Cell::Integer(number as i64)),
        Some(number) => bail!("label {number} is no class"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Float64Array, StringArray};
    use std::sync::Arc;

    #[test]
    fn texts_are_classes_in_sorted_order_and_numbers_are_themselves() {
        let array: ArrayRef = Arc::new(StringArray::from(vec!["eel", "ant", "eel"]));
        let (mut tally, cells) = (Tally::default(), cells(&array).unwrap());
        cells.iter().for_each(|cell| tally.add(cell, String::new).unwrap());
        let classes = tally.classes(None, "x").unwrap().unwrap();
        assert_eq!(
            (classes.count, classes.names.as_slice()),
            (2, ["ant", "eel"].map(String::from).as_slice())
        );
        assert_eq!(cells.iter().map(|c| classes.number(c).unwrap()).collect::<Vec<_>>(), [1, 0, 1]);

        let mut tally = Tally::default();
        assert!(tally.add(&Cell::Integer(-1), String::new).is_err());
        assert!(tally.add(&Cell::Missing, String::new).is_err());
        tally.add(&Cell::Integer(4), String::new).unwrap();
        assert!(tally.add(&Cell::Text("ant".into()), String::new).is_err());
    }

    #[test]
    fn whole_floats_are_numbers_of_classes() {
        let of = |values: Vec<f64>| super::cells(&(Arc::new(Float64Array::from(values)) as ArrayRef));
        assert_eq!(of(vec![2.0]).unwrap(), [Cell::Integer(2)]);
        assert!(of(vec![0.5]).is_err());
    }

    #[test]
    fn names_that_are_other_numbers_say_so() {
        let of =
            |names: &[&str]| out_of_order(&names.iter().map(|n| n.to_string()).collect::<Vec<_>>(), "folder");
        assert!(of(&["0", "1", "10", "2"]).unwrap().contains("the folder 10 is class 2"));
        assert_eq!((of(&["0", "1"]), of(&["a", "b"])), (None, None));
    }

    #[test]
    fn names_that_are_their_numbers_say_nothing() {
        let numbers = |n: usize| (0..n).map(|i| i.to_string()).collect::<Vec<_>>();
        assert!(Classes::named(numbers(10)).names.is_empty());
        let sorted = ["0", "1", "10", "2"].map(String::from).to_vec();
        assert_eq!(Classes::named(sorted).names.len(), 4);
    }
}
