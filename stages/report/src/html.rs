//! The report as one HTML file that needs nothing else: no script, no font, no picture from outside.

use crate::document::{Block, Document, Figure, Grid, Kind, Section, Table};
use crate::figure::looks;
use crate::figure::svg::escape;
use std::fmt::Write;

const PAGE_CSS: &str = include_str!("page.css");

/// The whole page.
pub fn render(document: &Document) -> String {
    let mut out = String::new();
    let title = escape(&document.title);
    put(
        &mut out,
        format_args!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{title}</title>\n\
         <style>\n{PAGE_CSS}@media screen and (prefers-color-scheme: dark) {{{}}}\n</style>\n</head>\n<body>\n<header>\n<h1>{title}</h1>\n<p class=\"lead\">{}</p>\n",
            looks::dark_css(),
            inline(&document.lead)
        ),
    );
    if !document.tiles.is_empty() {
        out.push_str("<dl class=\"tiles\">\n");
        for tile in &document.tiles {
            put(
                &mut out,
                format_args!(
                    "<div><dt>{}</dt><dd>{}<small>{}</small></dd></div>\n",
                    inline(&tile.name),
                    inline(&tile.value),
                    inline(&tile.note)
                ),
            );
        }
        out.push_str("</dl>\n");
    }
    if document.sections.len() > 1 {
        out.push_str("<nav>");
        for section in &document.sections {
            put(
                &mut out,
                format_args!("<a href=\"#{}\">{}</a> ", escape(&section.slug()), escape(&section.title)),
            );
        }
        out.push_str("</nav>\n");
    }
    out.push_str("</header>\n<main>\n");
    document.sections.iter().for_each(|s| section(&mut out, s));
    out.push_str("</main>\n</body>\n</html>\n");
    out
}

fn section(out: &mut String, section: &Section) {
    put(
        out,
        format_args!("<section id=\"{}\">\n<h2>{}</h2>\n", escape(&section.slug()), escape(&section.title)),
    );
    // Figures that follow each other may stand side by side.
    let both = |a: &Block, b: &Block| matches!((a, b), (Block::Figure(_), Block::Figure(_)));
    for part in section.blocks.chunk_by(both) {
        let side_by_side = part.len() > 1;
        if side_by_side {
            out.push_str("<div class=\"figures\">\n");
        }
        part.iter().for_each(|b| block(out, b));
        if side_by_side {
            out.push_str("</div>\n");
        }
    }
    out.push_str("</section>\n");
}

fn block(out: &mut String, block: &Block) {
    match block {
        Block::Text(text) => put(out, format_args!("<p>{}</p>\n", inline(text))),
        Block::Table(t) => table(out, t),
        Block::Grid(g) => grid(out, g),
        Block::Figure(f) => figure(out, f),
        Block::Code(text) => put(out, format_args!("<pre><code>{}</code></pre>\n", escape(text.trim_end()))),
    }
}

fn figure(out: &mut String, figure: &Figure) {
    put(
        out,
        format_args!(
            "<figure id=\"{}\" role=\"group\" aria-label=\"{}\">\n<div class=\"scroll\">{}</div>\n<figcaption>{}</figcaption>\n</figure>\n",
            escape(&figure.name),
            escape(&figure.alt),
            figure.svg,
            inline(&figure.caption)
        ),
    );
}

fn table(out: &mut String, table: &Table) {
    // On a narrow page many columns become lines, each with the heading of its column.
    let cards = table.columns.len() > 3 && table.kind == Kind::Plain;
    let kind = match table.kind {
        Kind::Plain if cards => " cards",
        Kind::Plain => "",
        Kind::Settings => " settings",
        Kind::Digests => " digests",
        Kind::Explained => " explained",
    };
    put(out, format_args!("<div class=\"scroll{kind}\"><table>\n"));
    if !table.caption.is_empty() {
        put(out, format_args!("<caption>{}</caption>\n", inline(&table.caption)));
    }
    let class = |number: bool| if number { " class=\"n\"" } else { "" };
    out.push_str("<thead><tr>");
    for c in &table.columns {
        put(out, format_args!("<th scope=\"col\"{}>{}</th>", class(c.number), inline(&c.title)));
    }
    out.push_str("</tr></thead>\n<tbody>\n");
    for row in &table.rows {
        out.push_str("<tr>");
        for (text, c) in row.iter().zip(&table.columns) {
            let of = if cards { format!(" data-of=\"{}\"", escape(&c.title)) } else { String::new() };
            put(out, format_args!("<td{}{of}>{}</td>", class(c.number), inline(text)));
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody>\n</table></div>\n");
}

/// A table of results. Every cell says which column it is of, for pages that are too narrow for columns.
fn grid(out: &mut String, grid: &Grid) {
    out.push_str("<div class=\"scroll wide\"><table class=\"grid\">\n<thead><tr>");
    let two = grid.two_levels();
    let down = if two { " rowspan=\"2\"" } else { "" };
    put(out, format_args!("<th scope=\"col\"{down}>{}</th>", inline(&grid.first)));
    for head in &grid.heads {
        let span = match head.under.len() {
            1 => String::new(),
            n => format!(" colspan=\"{n}\""),
        };
        put(out, format_args!("<th scope=\"colgroup\" class=\"n\"{span}>{}</th>", inline(&head.title)));
    }
    if two {
        out.push_str("</tr>\n<tr>");
        for (_, under) in grid.columns() {
            put(out, format_args!("<th scope=\"col\" class=\"n\">{}</th>", inline(under)));
        }
    }
    out.push_str("</tr></thead>\n");
    let all = grid.columns().count() + 1;
    for block in &grid.blocks {
        out.push_str("<tbody>\n");
        if !block.title.is_empty() {
            put(
                out,
                format_args!(
                    "<tr><th scope=\"rowgroup\" colspan=\"{all}\">{}</th></tr>\n",
                    inline(&block.title)
                ),
            );
        }
        for row in &block.rows {
            put(out, format_args!("<tr><th scope=\"row\">{}</th>", inline(&row.name)));
            for (cell, (title, under)) in row.cells.iter().zip(grid.columns()) {
                let (text, of) = (inline(cell.shown()), escape(format!("{title} {under}").trim_end()));
                let text = if cell.best { format!("<b>{text}</b>") } else { text };
                put(out, format_args!("<td class=\"n\" data-of=\"{of}\">{text}</td>"));
            }
            out.push_str("</tr>\n");
        }
        out.push_str("</tbody>\n");
    }
    out.push_str("</table></div>\n");
}

/// Escapes text and turns what stands between backticks into code.
fn inline(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for (i, part) in text.split('`').enumerate() {
        let part = escape(part);
        if i % 2 == 1 { put(&mut out, format_args!("<code>{part}</code>")) } else { out.push_str(&part) }
    }
    out
}

fn put(out: &mut String, text: std::fmt::Arguments) {
    // Writing to a string cannot fail.
    let _ = out.write_fmt(text);
}
