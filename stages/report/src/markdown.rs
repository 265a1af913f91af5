//! The report as Markdown, with its pictures as files beside it.

use crate::document::{Block, Document, Grid, Table};
use std::fmt::Write;

/// Folder of the pictures, beside `report.md`.
pub const FIGURES: &str = "figures";

/// The whole document.
pub fn render(document: &Document) -> String {
    let mut out = format!("# {}\n\n{}\n", escape(&document.title), escape(&document.lead));
    if !document.tiles.is_empty() {
        out.push('\n');
        for tile in &document.tiles {
            let note =
                if tile.note.is_empty() { String::new() } else { format!(" ({})", escape(&tile.note)) };
            line(&mut out, format_args!("- **{}** {}{note}", escape(&tile.name), escape(&tile.value)));
        }
    }
    for section in &document.sections {
        line(&mut out, format_args!("\n## {}", escape(&section.title)));
        for block in &section.blocks {
            out.push('\n');
            match block {
                Block::Text(text) => line(&mut out, format_args!("{}", escape(text))),
                Block::Table(t) => table(&mut out, t),
                Block::Grid(g) => grid(&mut out, g),
                Block::Figure(f) => {
                    let alt = escape(&f.alt);
                    line(
                        &mut out,
                        format_args!("![{alt}]({FIGURES}/{}.svg)\n\n{}", f.name, escape(&f.caption)),
                    );
                }
                Block::Code(text) => line(&mut out, format_args!("```sh\n{}\n```", text.trim_end())),
            }
        }
    }
    out
}

fn table(out: &mut String, table: &Table) {
    if !table.caption.is_empty() {
        line(out, format_args!("{}\n", escape(&table.caption)));
    }
    let row = |cells: Vec<String>| format!("| {} |", cells.join(" | "));
    line(out, format_args!("{}", row(table.columns.iter().map(|c| cell(&c.title)).collect())));
    let rules = table.columns.iter().map(|c| if c.number { "--:" } else { ":--" }.to_string());
    line(out, format_args!("{}", row(rules.collect())));
    for cells in &table.rows {
        line(out, format_args!("{}", row(cells.iter().map(|c| cell(c)).collect())));
    }
}

/// Markdown has one row of headings, and no rules between rows: a block is a row of its own with its title.
fn grid(out: &mut String, grid: &Grid) {
    let row = |cells: &[String]| format!("| {} |", cells.join(" | "));
    let heads = grid.columns().map(|(title, under)| cell(format!("{title} {under}").trim_end()));
    let heads: Vec<String> = std::iter::once(cell(&grid.first)).chain(heads).collect();
    let columns = heads.len() - 1;
    line(out, format_args!("{}", row(&heads)));
    let rules = std::iter::once(":--".to_string()).chain(std::iter::repeat_n("--:".to_string(), columns));
    line(out, format_args!("{}", row(&rules.collect::<Vec<_>>())));
    for block in &grid.blocks {
        if !block.title.is_empty() {
            let title = std::iter::once(format!("*{}*", cell(&block.title)));
            let cells = title.chain(std::iter::repeat_n(String::new(), columns));
            line(out, format_args!("{}", row(&cells.collect::<Vec<_>>())));
        }
        for r in &block.rows {
            let bold = |text: &str, best: bool| if best { format!("**{text}**") } else { text.into() };
            let cells = r.cells.iter().map(|c| bold(&cell(c.shown()), c.best));
            let cells: Vec<String> = std::iter::once(cell(&r.name)).chain(cells).collect();
            line(out, format_args!("{}", row(&cells)));
        }
    }
}

fn cell(text: &str) -> String {
    escape(text).replace('|', "\\|").replace('\n', " ")
}

/// Escapes what Markdown would read as markup, outside of code between backticks.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut in_code = false;
    for c in text.chars() {
        match c {
            '`' => in_code = !in_code,
            '*' | '_' | '<' | '[' | ']' | '\\' | '#' if !in_code => out.push('\\'),
            _ => {}
        }
        out.push(c);
    }
    out
}

fn line(out: &mut String, text: std::fmt::Arguments) {
    // Writing to a string cannot fail.
    let _ = writeln!(out, "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_in_names_is_escaped() {
        assert_eq!(escape("a_b `c_d` <e>"), "a\\_b `c_d` \\<e>");
        assert_eq!(cell("`a|b`"), "`a\\|b`");
    }
}
