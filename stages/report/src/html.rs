//! The report as one HTML file that needs nothing else: no script, no font, no picture from outside.

use crate::document::{Block, Document, Section, Table};
use crate::svg::{FIGURE_CSS, escape};
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
         <style>\n{FIGURE_CSS}{PAGE_CSS}</style>\n</head>\n<body>\n<header>\n<h1>{title}</h1>\n<p class=\"lead\">{}</p>\n",
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
    for block in &section.blocks {
        match block {
            Block::Text(text) => put(out, format_args!("<p>{}</p>\n", inline(text))),
            Block::Table(t) => table(out, t),
            Block::Figure(f) => put(
                out,
                format_args!(
                    "<figure id=\"{}\" role=\"group\" aria-label=\"{}\">\n<div class=\"scroll\">{}</div>\n<figcaption>{}</figcaption>\n</figure>\n",
                    escape(&f.name),
                    escape(&f.alt),
                    f.svg,
                    inline(&f.caption)
                ),
            ),
            Block::Code(text) => {
                put(out, format_args!("<pre><code>{}</code></pre>\n", escape(text.trim_end())))
            }
        }
    }
    out.push_str("</section>\n");
}

fn table(out: &mut String, table: &Table) {
    out.push_str("<div class=\"scroll\"><table>\n");
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
            put(out, format_args!("<td{}>{}</td>", class(c.number), inline(text)));
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody>\n</table></div>\n");
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
