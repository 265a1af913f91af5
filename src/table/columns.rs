//! The columns of a table: which there are, which are shown unless others are asked for, and what stands in them.

use super::rows::{ENTRY, Row};
use crate::error::{Error, Result};
use serde_json::Value;
use stage::nearest;
use std::collections::BTreeSet;

/// So many columns are named to who asks for another.
const NAMED: usize = 30;

/// A column.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Column {
    /// `run`, `date`, `commit`, `entry`.
    Of(&'static str),
    Variant,
    /// Of a stage.
    Param(String, String),
    Metric(String),
    /// How many seeds a row is the mean of.
    Seeds,
    /// Seconds that the programs ran.
    Seconds,
    State,
}

/// What stands in a cell.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    Missing,
    Text(String),
    /// With the deviation over seeds.
    Number(f64, Option<f64>),
}

/// Rows, and all that is known of them.
pub struct Table {
    pub rows: Vec<Row>,
    pub columns: Vec<Column>,
    /// Those that are shown where no row is left out, which decide what a column is called.
    usual: Vec<Column>,
}

impl Table {
    /// The table of these rows.
    pub fn of(rows: Vec<Row>) -> Self {
        let mut columns: Vec<Column> = Vec::new();
        let mut add = |column: Column| {
            if !columns.contains(&column) {
                columns.push(column);
            }
        };
        let (own, entry): (Vec<&str>, Vec<&str>) =
            rows.iter().flat_map(|row| &row.of).map(|(name, _)| *name).partition(|name| *name != ENTRY);
        own.into_iter().for_each(|name| add(Column::Of(name)));
        add(Column::Variant);
        entry.into_iter().for_each(|name| add(Column::Of(name)));
        for stage in rows.iter().flat_map(|row| &row.stages) {
            stage.params.keys().for_each(|name| add(Column::Param(stage.stage.clone(), name.clone())));
        }
        if rows.iter().any(|row| row.seeds.is_some()) {
            add(Column::Seeds);
        }
        for stage in rows.iter().flat_map(|row| &row.stages) {
            stage.metrics.keys().for_each(|name| add(Column::Metric(name.clone())));
        }
        add(Column::Seconds);
        add(Column::State);
        let mut table = Self { rows, columns, usual: Vec::new() };
        table.usual = table.default_columns();
        table
    }

    /// What tells the rows apart, parameters that differ in the stages up to the last that measures something, and all
    /// metrics; the state where not all is done.
    pub fn default_columns(&self) -> Vec<Column> {
        // Where some rows are not measured yet, the others say how far that goes.
        let any = self.rows.iter().any(|row| row.stages.iter().any(|stage| !stage.metrics.is_empty()));
        let measured: BTreeSet<&str> = self.rows.iter().flat_map(|row| up_to_metrics(row, any)).collect();
        let differs = |column: &Column| {
            let cells: Vec<Cell> = self.rows.iter().map(|row| cell(row, column)).collect();
            cells.windows(2).any(|pair| pair[0] != pair[1])
        };
        let shown = |column: &&Column| match column {
            Column::Of(name) => ["run", ENTRY].contains(name),
            Column::Variant => differs(column) || self.rows.iter().any(|row| !row.variant.is_empty()),
            Column::Param(stage, _) => measured.contains(stage.as_str()) && differs(column),
            Column::Metric(_) | Column::Seeds => true,
            Column::Seconds => false,
            Column::State => self.rows.iter().any(|row| state(row) != "done"),
        };
        self.columns.iter().filter(shown).cloned().collect()
    }

    /// A column by its name. A parameter may be called by its own where no two stages have one of that name that differ.
    pub fn column(&self, name: &str) -> Result<Column> {
        let exact = self.columns.iter().find(|column| long_name(column) == name);
        let own = || {
            let mut named = self.columns.iter().filter(|c| matches!(c, Column::Param(_, p) if p == name));
            let first = named.next()?;
            let alike = |other: &Column| self.rows.iter().all(|row| cell(row, first) == cell(row, other));
            named.all(alike).then_some(first)
        };
        exact.or_else(own).cloned().ok_or_else(|| {
            let known: Vec<String> = self.columns.iter().flat_map(|c| [long_name(c), self.name(c)]).collect();
            let known: BTreeSet<&str> = known.iter().map(String::as_str).collect();
            let near = nearest(name, known).map(|near| format!("; did you mean `{near}`?"));
            Error::NoColumn { name: name.into(), near: near.unwrap_or_default(), all: self.named() }
        })
    }

    /// The columns that there are, what measures something first: of very many the first.
    fn named(&self) -> String {
        let (metrics, others): (Vec<&Column>, Vec<&Column>) =
            self.columns.iter().partition(|column| matches!(column, Column::Metric(_)));
        let names: Vec<String> = metrics.into_iter().chain(others).map(|column| self.name(column)).collect();
        match names.len().checked_sub(NAMED) {
            Some(more @ 1..) => format!("{} and {more} more", names[..NAMED].join(", ")),
            _ => names.join(", "),
        }
    }

    /// How a column is called: a parameter by its own name where that tells it.
    pub fn name(&self, column: &Column) -> String {
        let Column::Param(_, param) = column else { return long_name(column) };
        let clash = |other: &&Column| match other {
            Column::Param(_, p) => p == param && *other != column,
            other => long_name(other) == *param,
        };
        match self.usual.iter().any(|other| clash(&other)) {
            true => long_name(column),
            false => param.clone(),
        }
    }
}

/// The stages of a row up to the last that measures something; all of it where no row does.
fn up_to_metrics(row: &Row, any: bool) -> Vec<&str> {
    let last = row.stages.iter().rposition(|stage| !stage.metrics.is_empty());
    let count = last.map_or(if any { 0 } else { row.stages.len() }, |last| last + 1);
    row.stages[..count].iter().map(|stage| stage.stage.as_str()).collect()
}

/// The name of a column that no other has.
pub fn long_name(column: &Column) -> String {
    match column {
        Column::Of(name) => (*name).into(),
        Column::Variant => "variant".into(),
        Column::Param(stage, name) => format!("{stage}.{name}"),
        Column::Metric(name) => name.clone(),
        Column::Seeds => "seeds".into(),
        Column::Seconds => "seconds".into(),
        Column::State => "state".into(),
    }
}

/// What a row has in a column.
pub fn cell(row: &Row, column: &Column) -> Cell {
    let text = |text: Option<&String>| text.map_or(Cell::Missing, |text| Cell::Text(text.clone()));
    match column {
        Column::Of(name) => text(row.of.iter().find(|(of, _)| of == name).map(|(_, text)| text)),
        Column::Variant => match row.variant.as_str() {
            "" => Cell::Missing,
            variant => Cell::Text(variant.into()),
        },
        Column::Param(stage, name) => {
            let value = row.stages.iter().filter(|s| s.stage == *stage).find_map(|s| s.params.get(name));
            match value.and_then(|value| value.parse::<f64>().ok()).filter(|number| number.is_finite()) {
                Some(number) => Cell::Number(number, None),
                None => text(value.filter(|value| !value.is_empty())),
            }
        }
        Column::Metric(name) => {
            let value = row.stages.iter().find_map(|s| s.metrics.get(name)).and_then(Value::as_f64);
            value.map_or(Cell::Missing, |value| Cell::Number(value, row.deviations.get(name).copied()))
        }
        Column::Seeds => row.seeds.map_or(Cell::Missing, |seeds| Cell::Number(seeds as f64, None)),
        Column::Seconds => {
            let mut seconds = row.stages.iter().filter_map(|s| s.seconds).peekable();
            match seconds.peek() {
                Some(_) => Cell::Number(seconds.sum(), None),
                None => Cell::Missing,
            }
        }
        Column::State => Cell::Text(state(row)),
    }
}

/// `done`, `failed`, or how much is.
fn state(row: &Row) -> String {
    let (done, all) = (row.stages.iter().filter(|stage| stage.done).count(), row.stages.len());
    match () {
        () if row.failed => "failed".into(),
        () if done == all => "done".into(),
        () => format!("{done} of {all} stages"),
    }
}
