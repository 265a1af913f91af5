//! A table of results for other programs: LaTeX with `booktabs`, and CSV.

use super::published::Row;
use super::table::{COLUMNS, Compared};
use crate::document::{Cell, Grid, GridRow};
use std::fmt::Write;

/// The tables as LaTeX: one `tabular` each in a `table`, for a document that uses `booktabs`.
pub fn latex(grids: &[Grid], caption: &str, label: &str) -> String {
    let mut out = String::from("% \\usepackage{booktabs}\n");
    for (i, grid) in grids.iter().enumerate() {
        let number = if i == 0 { String::new() } else { format!("-{}", i + 1) };
        put(&mut out, format_args!("\\begin{{table}}\n\\centering\n\\caption{{{}}}\n", tex(caption)));
        put(&mut out, format_args!("\\label{{tab:{label}{number}}}\n"));
        tabular(&mut out, grid);
        out.push_str("\\end{table}\n");
    }
    out
}

fn tabular(out: &mut String, grid: &Grid) {
    let columns = grid.columns().count();
    put(out, format_args!("\\begin{{tabular}}{{l{}}}\n\\toprule\n", "r".repeat(columns)));
    let mut heads = vec![tex(&grid.first)];
    let (mut rules, mut at) = (String::new(), 2);
    for head in &grid.heads {
        let (span, title) = (head.under.len(), tex(&head.title));
        heads.push(if span == 1 { title } else { format!("\\multicolumn{{{span}}}{{c}}{{{title}}}") });
        if span > 1 {
            put(&mut rules, format_args!("\\cmidrule(lr){{{at}-{}}}", at + span - 1));
        }
        at += span;
    }
    put(out, format_args!("{} \\\\\n", heads.join(" & ")));
    if grid.two_levels() {
        if !rules.is_empty() {
            put(out, format_args!("{rules}\n"));
        }
        let under: Vec<String> = grid.columns().map(|(_, under)| tex(under)).collect();
        put(out, format_args!(" & {} \\\\\n", under.join(" & ")));
    }
    for block in &grid.blocks {
        out.push_str("\\midrule\n");
        if !block.title.is_empty() {
            let (all, title) = (columns + 1, tex(&block.title));
            put(out, format_args!("\\multicolumn{{{all}}}{{l}}{{\\emph{{{title}}}}} \\\\\n"));
        }
        for GridRow { name, cells } in &block.rows {
            put(out, format_args!("{}", tex(name)));
            cells.iter().for_each(|cell| put(out, format_args!(" & {}", tex_cell(cell))));
            out.push_str(" \\\\\n");
        }
    }
    out.push_str("\\bottomrule\n\\end{tabular}\n");
}

fn tex_cell(cell: &Cell) -> String {
    let text = tex(cell.shown());
    if cell.best { format!("\\textbf{{{text}}}") } else { text }
}

/// Text as LaTeX reads it back, with signs that its fonts lack as commands.
fn tex(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        let command = match c {
            '\\' => "\\textbackslash{}",
            '~' => "\\textasciitilde{}",
            '^' => "\\textasciicircum{}",
            '–' => "--",
            '—' => "---",
            '’' => "'",
            '“' => "``",
            '”' => "''",
            '−' => "$-$",
            '±' => "$\\pm$",
            '×' => "$\\times$",
            '·' => "$\\cdot$",
            '↓' => "$\\downarrow$",
            '↑' => "$\\uparrow$",
            '∞' => "$\\infty$",
            'λ' => "$\\lambda$",
            'γ' => "$\\gamma$",
            'α' => "$\\alpha$",
            'β' => "$\\beta$",
            '\u{202f}' | '\u{a0}' => "~",
            '&' | '%' | '$' | '#' | '_' | '{' | '}' => {
                out.push('\\');
                out.push(c);
                continue;
            }
            _ => {
                out.push(c);
                continue;
            }
        };
        out.push_str(command);
    }
    out
}

/// Every number of every row with all its digits: `KEY_published`, `KEY`, and `KEY_deviation` over the seeds.
pub fn csv(rows: &[Compared]) -> String {
    let mut names: Vec<String> =
        ["variant", "name", "group", "size", "line", "seeds"].map(String::from).to_vec();
    let mut cells: Vec<Vec<String>> = rows
        .iter()
        .map(|r| {
            let Row { variant, name, group, size, line, .. } = &r.row;
            let seeds = r.here.map_or(String::new(), |v| v.seeds.len().to_string());
            let variant = variant.as_deref().unwrap_or_default();
            [variant, name, group, size, line, &seeds].map(|text| quoted(text)).to_vec()
        })
        .collect();
    for column in &COLUMNS {
        let mean = |r: &Compared| r.here?.metric(column.key);
        let published = |r: &Compared| r.row.number(column.key);
        let numbers: [(&str, &dyn Fn(&Compared) -> Option<f64>); 3] = [
            ("_published", &published),
            ("", &|r| Some(mean(r)?.mean)),
            ("_deviation", &|r| mean(r)?.deviation),
        ];
        for (ending, of) in numbers {
            let values: Vec<Option<f64>> = rows.iter().map(of).collect();
            if values.iter().any(Option::is_some) {
                names.push(format!("{}{ending}", column.key));
                for (cells, value) in cells.iter_mut().zip(values) {
                    cells.push(value.map(|v| v.to_string()).unwrap_or_default());
                }
            }
        }
    }
    std::iter::once(names).chain(cells).map(|row| row.join(",") + "\n").collect()
}

/// A field of CSV (RFC 4180).
fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.into()
    }
}

fn put(out: &mut String, text: std::fmt::Arguments) {
    // Writing to a string cannot fail.
    let _ = out.write_fmt(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped_for_each() {
        assert_eq!(tex("λ_dp = 0.1 & 50 % ↓"), "$\\lambda$\\_dp = 0.1 \\& 50 \\% $\\downarrow$");
        assert_eq!(quoted("M = 3, \"k\""), "\"M = 3, \"\"k\"\"\"");
    }
}
