//! A table as text, CSV, Markdown, LaTeX and JSON.

use super::columns::{Cell, Column, Table, cell};
use crate::text::visible;
use serde_json::{Map, Number, Value};

/// How a table is written.
#[derive(Clone, Copy, PartialEq)]
pub enum Format {
    Text,
    Csv,
    Markdown,
    Latex,
}

/// A column as it is shown.
struct Shown {
    name: String,
    cells: Vec<String>,
    numbers: bool,
}

/// The table in a format; `best` has the columns of which one number is marked.
pub fn render(table: &Table, columns: &[Column], best: &[(Column, f64)], format: Format) -> String {
    if format == Format::Csv {
        return csv(table, columns);
    }
    let shown = |column: &Column| {
        let mut cells: Vec<Cell> = table.rows.iter().map(|row| cell(row, column)).collect();
        settled(&mut cells);
        let decimals = decimals(column, &cells);
        let mark = best.iter().find(|(best, _)| best == column).map(|(_, best)| *best);
        Shown {
            name: escaped(&table.name(column), format),
            numbers: cells.iter().any(|cell| matches!(cell, Cell::Number(..)))
                && !cells.iter().any(|cell| matches!(cell, Cell::Text(_))),
            cells: cells.iter().map(|cell| text(cell, decimals, mark, format)).collect(),
        }
    };
    let shown: Vec<Shown> = columns.iter().map(shown).collect();
    match format {
        Format::Markdown => markdown(&shown, table.rows.len()),
        Format::Latex => latex(&shown, table.rows.len()),
        _ => plain(&shown, table.rows.len()),
    }
}

/// Takes the deviations from a column of whole numbers of which none deviates: it is a setting, as a number of steps, and no measurement.
fn settled(cells: &mut [Cell]) {
    let fixed = |cell: &Cell| match cell {
        Cell::Number(n, deviation) => n.fract() == 0.0 && deviation.is_none_or(|d| d == 0.0),
        _ => true,
    };
    if cells.iter().all(fixed) {
        for cell in cells {
            if let Cell::Number(_, deviation) = cell {
                *deviation = None;
            }
        }
    }
}

/// The digits after the point that all numbers of a column have: four significant ones of the largest; of a parameter, and
/// where all are whole, as many as each has.
fn decimals(column: &Column, cells: &[Cell]) -> Option<usize> {
    let numbers =
        || cells.iter().filter_map(|cell| if let Cell::Number(n, _) = cell { Some(*n) } else { None });
    let whole = |cell: &Cell| match cell {
        Cell::Number(n, deviation) => n.fract() == 0.0 && deviation.is_none_or(|d| d.fract() == 0.0),
        _ => true,
    };
    if matches!(column, Column::Param(..)) || cells.iter().all(whole) {
        return None;
    }
    let largest = numbers().filter(|n| n.is_finite()).fold(0.0, |a: f64, b| a.max(b.abs()));
    let before = if largest > 0.0 { largest.log10().floor() as i32 } else { 0 };
    Some((3 - before).clamp(0, 6) as usize)
}

fn text(cell: &Cell, decimals: Option<usize>, best: Option<f64>, format: Format) -> String {
    let number = |n: f64| decimals.map_or(n.to_string(), |digits| format!("{n:.digits$}"));
    let (plain, value) = match cell {
        Cell::Missing if format == Format::Latex => return "--".into(),
        Cell::Missing => return "-".into(),
        Cell::Text(text) => return escaped(text, format),
        Cell::Number(n, None) => (number(*n), *n),
        Cell::Number(n, Some(deviation)) if format == Format::Latex => {
            (format!("{} $\\pm$ {}", number(*n), number(*deviation)), *n)
        }
        Cell::Number(n, Some(deviation)) => (format!("{} ± {}", number(*n), number(*deviation)), *n),
    };
    // As printed: two that look alike are both the best.
    if best.is_none_or(|best| number(best) != number(value)) {
        return plain;
    }
    match format {
        Format::Markdown => format!("**{plain}**"),
        Format::Latex => format!("\\textbf{{{plain}}}"),
        Format::Text | Format::Csv => format!("{plain}*"),
    }
}

fn escaped(text: &str, format: Format) -> String {
    let text = visible(text).replace(['\n', '\t'], " ");
    match format {
        Format::Markdown => {
            text.replace('\\', "\\\\").replace('|', "\\|").replace('_', "\\_").replace('*', "\\*")
        }
        Format::Latex => text.chars().map(tex).collect(),
        Format::Text | Format::Csv => text,
    }
}

fn tex(c: char) -> String {
    match c {
        '&' | '%' | '$' | '#' | '_' | '{' | '}' => format!("\\{c}"),
        '\\' => "\\textbackslash{}".into(),
        '~' => "\\textasciitilde{}".into(),
        '^' => "\\textasciicircum{}".into(),
        c => c.into(),
    }
}

fn plain(columns: &[Shown], rows: usize) -> String {
    let width = |column: &Shown| {
        let cells = column.cells.iter().chain([&column.name]).map(|cell| cell.chars().count());
        cells.max().unwrap_or(0)
    };
    let widths: Vec<usize> = columns.iter().map(width).collect();
    let line = |of: &dyn Fn(&Shown) -> String| {
        let cells = columns.iter().zip(&widths).map(|(column, width)| {
            let text = of(column);
            // Not by the width of a format, which ends at 65,535.
            let room = " ".repeat(width - text.chars().count());
            if column.numbers { room + &text } else { text + &room }
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_string() + "\n"
    };
    let head = line(&|column| column.name.clone());
    head + &(0..rows).map(|row| line(&|column| column.cells[row].clone())).collect::<String>()
}

fn markdown(columns: &[Shown], rows: usize) -> String {
    let line = |of: &dyn Fn(&Shown) -> String| {
        format!("| {} |\n", columns.iter().map(of).collect::<Vec<_>>().join(" | "))
    };
    let mut text = line(&|column| column.name.clone());
    text += &line(&|column| if column.numbers { "---:".into() } else { "---".into() });
    text + &(0..rows).map(|row| line(&|column| column.cells[row].clone())).collect::<String>()
}

fn latex(columns: &[Shown], rows: usize) -> String {
    let line = |of: &dyn Fn(&Shown) -> String| {
        format!("{} \\\\\n", columns.iter().map(of).collect::<Vec<_>>().join(" & "))
    };
    let aligned: String = columns.iter().map(|column| if column.numbers { 'r' } else { 'l' }).collect();
    let mut text = format!("% \\usepackage{{booktabs}}\n\\begin{{tabular}}{{{aligned}}}\n\\toprule\n");
    text += &line(&|column| column.name.clone());
    text += "\\midrule\n";
    text.extend((0..rows).map(|row| line(&|column| column.cells[row].clone())));
    text + "\\bottomrule\n\\end{tabular}\n"
}

/// RFC 4180, but for its line ends; a deviation is a column of its own.
fn csv(table: &Table, columns: &[Column]) -> String {
    let quoted = |text: String| match text.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text,
    };
    let mut lines = vec![Vec::new(); table.rows.len() + 1];
    for column in columns {
        let cells: Vec<Cell> = table.rows.iter().map(|row| cell(row, column)).collect();
        lines[0].push(quoted(table.name(column)));
        for (line, cell) in lines[1..].iter_mut().zip(&cells) {
            line.push(match cell {
                Cell::Missing => String::new(),
                Cell::Text(text) => quoted(text.clone()),
                Cell::Number(n, _) => n.to_string(),
            });
        }
        if cells.iter().any(|cell| matches!(cell, Cell::Number(_, Some(_)))) {
            lines[0].push(quoted(format!("{}_deviation", table.name(column))));
            for (line, cell) in lines[1..].iter_mut().zip(&cells) {
                line.push(if let Cell::Number(_, Some(d)) = cell { d.to_string() } else { String::new() });
            }
        }
    }
    lines.iter().map(|line| line.join(",") + "\n").collect()
}

/// An object for each row, without what it lacks.
pub fn json(table: &Table, columns: &[Column]) -> Vec<Value> {
    let number = |n: f64| match n.fract() == 0.0 && n.abs() < 1e15 {
        true => Value::from(n as i64),
        false => Number::from_f64(n).map_or(Value::Null, Value::Number),
    };
    let row = |row| {
        let mut values = Map::new();
        for column in columns {
            let name = table.name(column);
            match cell(row, column) {
                Cell::Missing => {}
                Cell::Text(text) => drop(values.insert(name, Value::String(text))),
                Cell::Number(n, deviation) => {
                    if let Some(deviation) = deviation {
                        values.insert(format!("{name}_deviation"), number(deviation));
                    }
                    values.insert(name, number(n));
                }
            }
        }
        Value::Object(values)
    };
    table.rows.iter().map(row).collect()
}
