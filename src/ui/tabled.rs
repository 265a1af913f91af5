//! The table of the variants, and of past runs, as values.

use crate::session::metrics::metrics;
use crate::table::columns::{Cell, Column, Table, cell};
use crate::table::rows::Row;
use crate::table::together;
use crate::ui::known::Known;
use crate::ui::long::{Items, Long, object};
use crate::ui::site::Now;
use crate::ui::slug::slug;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::rc::Rc;

/// The name of what tells of a row of the study.
pub fn of_variant(variant: &str) -> String {
    format!("row/v~{}", slug(variant))
}

/// The name of what tells of a row of a past run.
pub fn of_run(run: &str, variant: &str) -> String {
    format!("row/r~{run}~{}", slug(variant))
}

/// Of the study as it is: seeds together, and each.
pub fn study(now: &Now) -> Long<'_> {
    let known = &now.known;
    let each = known.rows();
    let gathered = together(each.to_vec());
    let seeds = gathered.iter().any(|row| row.seeds.is_some());
    let table = Rc::new(Table::of(gathered));
    // Of a row that stands for all seeds, the steps of each.
    let mut own: HashMap<&str, Vec<usize>> = HashMap::new();
    for (i, step) in known.session.graph.steps.iter().enumerate() {
        for variant in &step.variants {
            own.entry(variant).or_default().push(i);
            if let Some((name, _)) = study::seed_of(variant) {
                own.entry(name).or_default().push(i);
            }
        }
    }
    own.values_mut().for_each(Vec::dedup);
    let head = object(json!({ "columns": columns(&table) }));
    let of = Rc::clone(&table);
    let row = Rc::new(move |row: &Row| {
        let steps = own.get(row.variant.as_str()).cloned().unwrap_or_default();
        let failed = row.failed || steps.iter().any(|i| now.states[*i].is == crate::ui::state::Is::Failed);
        shown(&of.columns, row, &of_variant(&row.variant), None, failed, steps)
    });
    let one = Rc::clone(&row);
    let rows = (0..table.rows.len()).map(move |i| one(&table.rows[i]));
    let mut lists: Vec<(_, Items<'_>)> = vec![("rows", Box::new(rows))];
    if seeds {
        lists.push(("rows_each", Box::new(each.iter().map(move |each| row(each)))));
    }
    Long { head, lists }
}

/// Of past runs, the newest first.
pub fn past(now: &Now) -> Long<'_> {
    let own = || now.past.runs.iter().filter(|run| run.study == now.known.session.graph.name);
    let rows: Vec<Row> = own().flat_map(|run| run.rows.iter().cloned()).collect();
    let runs: Vec<&str> = own().flat_map(|run| run.rows.iter().map(|_| run.run.as_str())).collect();
    let table = Table::of(rows);
    let head = object(json!({ "columns": columns(&table) }));
    let row = move |(i, run): (usize, &str)| {
        let row = &table.rows[i];
        shown(&table.columns, row, &of_run(run, &row.variant), Some(run), row.failed, Vec::new())
    };
    let rows = runs.into_iter().enumerate().map(row);
    Long { head, lists: vec![("rows", Box::new(rows))] }
}

fn shown(
    columns: &[Column],
    row: &Row,
    id: &str,
    run: Option<&str>,
    failed: bool,
    steps: Vec<usize>,
) -> Value {
    let cells: Vec<Value> = columns.iter().map(|column| value(cell(row, column))).collect();
    json!({
        "id": id, "variant": row.variant, "run": run, "failed": failed, "seeds": row.seeds, "cells": cells,
        "steps": steps,
    })
}

fn value(cell: Cell) -> Value {
    match cell {
        Cell::Missing => Value::Null,
        Cell::Text(text) => text.into(),
        Cell::Number(number, None) => plain(number),
        Cell::Number(number, Some(deviation)) => json!([plain(number), plain(deviation)]),
    }
}

/// A whole number without a point.
fn plain(number: f64) -> Value {
    match number.fract() == 0.0 && number.abs() < 1e15 {
        true => (number as i64).into(),
        false => number.into(),
    }
}

fn columns(table: &Table) -> Vec<Value> {
    let usual = table.default_columns();
    let column = |column: &Column| {
        let mut cells = table.rows.iter().map(|row| cell(row, column)).filter(|cell| *cell != Cell::Missing);
        let numeric = cells.clone().next().is_some() && cells.all(|cell| matches!(cell, Cell::Number(..)));
        let kind = match column {
            Column::Of(_) => "of",
            Column::Variant => "variant",
            Column::Param(..) => "param",
            Column::Metric(_) => "metric",
            Column::Seeds => "seeds",
            Column::Seconds => "seconds",
            Column::State => "state",
        };
        let long = crate::table::columns::long_name(column);
        json!({
            "name": table.name(column), "long": long, "kind": kind, "numeric": numeric,
            "shown": usual.contains(column),
        })
    };
    table.columns.iter().map(column).collect()
}

/// The numbers of a step, where it is done.
pub fn numbers(known: &Known, i: usize) -> Value {
    let found = known.found().get(i).and_then(|found| found.known.as_ref());
    let step = &known.session.graph.steps[i];
    found.map_or_else(|| json!({}), |outputs| Value::Object(metrics(&known.session, step, outputs)))
}
