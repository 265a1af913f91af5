//! The table of the variants, and of past runs, as values.

use crate::session::metrics::metrics;
use crate::table::columns::{Cell, Column, Table, cell};
use crate::table::rows::{Row, of_found};
use crate::table::together;
use crate::ui::known::Known;
use crate::ui::site::Now;
use crate::ui::slug::slug;
use serde_json::{Value, json};

/// The name of what tells of a row of the study.
pub fn of_variant(variant: &str) -> String {
    format!("row/v~{}", slug(variant))
}

/// The name of what tells of a row of a past run.
pub fn of_run(run: &str, variant: &str) -> String {
    format!("row/r~{run}~{}", slug(variant))
}

/// The rows of the study as it is.
pub fn rows(known: &Known) -> Vec<Row> {
    match known.looked() && !known.found().is_empty() {
        true => of_found(&known.session, known.found(), None),
        false => Vec::new(),
    }
}

/// Of the study as it is: seeds together, and each.
pub fn study(now: &Now) -> Value {
    let known = &now.known;
    let each = rows(known);
    let gathered = together(each.clone());
    let seeds = gathered.iter().any(|row| row.seeds.is_some());
    let table = Table::of(gathered);
    let row = |row: &Row| {
        let steps = known.session.graph.steps.iter().enumerate();
        // Those of all seeds, where it stands for several.
        let own = |variant: &String| {
            *variant == row.variant
                || (row.seeds.is_some()
                    && study::seed_of(variant).is_some_and(|(name, _)| name == row.variant))
        };
        let steps: Vec<usize> =
            steps.filter(|(_, step)| step.variants.iter().any(own)).map(|(i, _)| i).collect();
        let failed = row.failed || steps.iter().any(|i| now.states[*i].is == crate::ui::state::Is::Failed);
        shown(&table.columns, row, &of_variant(&row.variant), None, failed, steps)
    };
    let mut value =
        json!({ "columns": columns(&table), "rows": table.rows.iter().map(row).collect::<Vec<_>>() });
    if seeds {
        value["rows_each"] = each.iter().map(row).collect();
    }
    value
}

/// Of past runs, the newest first.
pub fn past(now: &Now) -> Value {
    let own = || now.past.runs.iter().filter(|run| run.study == now.known.session.graph.name);
    let rows: Vec<Row> = own().flat_map(|run| run.rows.iter().cloned()).collect();
    let runs: Vec<&str> = own().flat_map(|run| run.rows.iter().map(|_| run.run.as_str())).collect();
    let table = Table::of(rows);
    let row = |(row, run): (&Row, &str)| {
        shown(&table.columns, row, &of_run(run, &row.variant), Some(run), row.failed, Vec::new())
    };
    let rows: Vec<Value> = table.rows.iter().zip(runs).map(row).collect();
    json!({ "columns": columns(&table), "rows": rows })
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
