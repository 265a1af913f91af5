//! Which rows a table has, in which order, and which numbers are marked.

use super::columns::{Cell, Column, Table, cell};
use crate::error::{Error, Result};
use std::cmp::Ordering;

/// The comparisons of a filter; of two that begin alike the longer first.
const OPERATORS: [&str; 7] = ["<=", ">=", "!=", "<", ">", "=", "~"];

/// Keeps the rows of which every filter is so. A row without a value passes only `!=`.
pub fn filter(table: &mut Table, filters: &[String]) -> Result<()> {
    for text in filters {
        let wrong = || Error::Filter(text.clone());
        let at = text.find(['<', '>', '=', '!', '~']).filter(|at| *at > 0).ok_or_else(wrong)?;
        let operator = OPERATORS.iter().find(|o| text[at..].starts_with(**o)).ok_or_else(wrong)?;
        let (name, value) = (text[..at].trim(), text[at + operator.len()..].trim());
        let column = table.column(name)?;
        let number = value.parse::<f64>().ok();
        if matches!(*operator, "<" | "<=" | ">" | ">=") && number.is_none() {
            return Err(wrong());
        }
        table.rows.retain(|row| is_so(&cell(row, &column), operator, value, number));
    }
    Ok(())
}

fn is_so(cell: &Cell, operator: &str, text: &str, number: Option<f64>) -> bool {
    let order = match (cell, number) {
        (Cell::Number(value, _), Some(number)) => value.partial_cmp(&number),
        _ => None,
    };
    let shown = match cell {
        Cell::Missing => return operator == "!=",
        Cell::Text(shown) => shown.clone(),
        Cell::Number(value, _) => value.to_string(),
    };
    let equal = order.map_or(shown == text, |order| order == Ordering::Equal);
    match operator {
        "<" => order == Some(Ordering::Less),
        ">" => order == Some(Ordering::Greater),
        "<=" => order.is_some_and(|order| order != Ordering::Greater),
        ">=" => order.is_some_and(|order| order != Ordering::Less),
        "=" => equal,
        "!=" => !equal,
        _ => shown.contains(text),
    }
}

/// Sorts by the first column, then the next; what has no value comes last, either way.
pub fn sort(table: &mut Table, names: &[String]) -> Result<()> {
    let columns = names.iter().map(|name| {
        // A column may itself begin with a `-`.
        let down = name.strip_prefix('-').filter(|_| table.column(name).is_err());
        Ok((table.column(down.unwrap_or(name))?, down.is_some()))
    });
    let columns = columns.collect::<Result<Vec<_>>>()?;
    table.rows.sort_by(|a, b| {
        let compare = |(column, down): &(Column, bool)| order(&cell(a, column), &cell(b, column), *down);
        columns.iter().map(compare).find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
    });
    Ok(())
}

fn order(a: &Cell, b: &Cell, down: bool) -> Ordering {
    let turned = |order: Ordering| if down { order.reverse() } else { order };
    match (a, b) {
        (Cell::Missing, Cell::Missing) => Ordering::Equal,
        (Cell::Missing, _) => Ordering::Greater,
        (_, Cell::Missing) => Ordering::Less,
        (Cell::Number(a, _), Cell::Number(b, _)) => turned(a.total_cmp(b)),
        (Cell::Text(a), Cell::Text(b)) => turned(a.cmp(b)),
        (Cell::Number(..), Cell::Text(_)) => turned(Ordering::Less),
        (Cell::Text(_), Cell::Number(..)) => turned(Ordering::Greater),
    }
}

/// The columns of which the best is marked, with what that is.
pub fn best(table: &Table, lowest: &[String], highest: &[String]) -> Result<Vec<(Column, f64)>> {
    let mut all = Vec::new();
    for (names, better) in [(lowest, f64::min as fn(f64, f64) -> f64), (highest, f64::max)] {
        for name in names {
            let column = table.column(name)?;
            let numbers = table.rows.iter().filter_map(|row| match cell(row, &column) {
                Cell::Number(value, _) => Some(value),
                _ => None,
            });
            all.extend(numbers.reduce(better).map(|best| (column, best)));
        }
    }
    Ok(all)
}
