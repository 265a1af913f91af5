//! `pipeline table`: a row for each variant or past run, with the parameters that differ and the metrics.

mod columns;
mod format;
mod rows;
mod seeds;
mod select;

use super::output::{print, print_json};
use crate::cache::runs::{self, Report};
use crate::cli::{Global, TableArguments};
use crate::error::{Error, Result};
use crate::session::{Options, Session};
use columns::{Column, Table};
use format::Format;
use rows::Row;
use std::path::Path;
use store::Store;
use study::{Choice, hint};

/// Prints the table that the arguments ask for.
pub fn table(global: &Global, arguments: &TableArguments) -> Result<()> {
    let mut rows = gather(global, arguments)?;
    if !arguments.each_seed {
        rows = seeds::together(rows);
    }
    let mut table = Table::of(rows);
    select::filter(&mut table, &arguments.filter)?;
    select::sort(&mut table, &arguments.sort)?;
    let shown: Vec<Column> = match arguments.columns.as_slice() {
        [] => table.default_columns(),
        names => names.iter().map(|name| table.column(name)).collect::<Result<_>>()?,
    };
    let best = select::best(&table, &arguments.lowest, &arguments.highest)?;
    let format = match () {
        () if global.json => return print_json(&format::json(&table, &shown)),
        () if arguments.csv => Format::Csv,
        () if arguments.markdown => Format::Markdown,
        () if arguments.latex => Format::Latex,
        () => Format::Text,
    };
    print(&format::render(&table, &shown, &best, format))
}

/// The table of the variants of a run that has just ended, where it had several; else nothing.
pub fn of_run(report: &Report) -> Option<String> {
    let rows = rows::of_report(report, false);
    if rows.len() < 2 {
        return None;
    }
    let table = Table::of(seeds::together(rows));
    let shown = table.default_columns();
    Some(format::render(&table, &shown, &[], Format::Text))
}

/// The rows that are asked for.
fn gather(global: &Global, arguments: &TableArguments) -> Result<Vec<Row>> {
    if arguments.of.is_empty() && !arguments.runs {
        return rows::of_study(every_variant(global.choice())?, None);
    }
    let graph = study::load(&Choice { variants: Vec::new(), ..global.choice() })?;
    let store = Store::open(&graph.root, &graph.name)?;
    let mut all = Vec::new();
    if arguments.runs {
        let own = runs::all(&store).into_iter().filter(|report| report.study == graph.name);
        all.extend(own.flat_map(|report| rows::of_report(&report, true)));
    }
    let several = arguments.of.len() > 1 || arguments.runs;
    for name in &arguments.of {
        if *name == graph.name {
            all.extend(rows::of_study(every_variant(global.choice())?, several.then_some(name))?);
        } else if Path::new(name).is_file() {
            let choice = Choice { file: name.into(), ..global.choice() };
            all.extend(rows::of_study(every_variant(choice)?, several.then_some(name))?);
        } else if let Some(report) = runs::past(&store, name)? {
            all.extend(rows::of_report(&report, true));
        } else {
            let past = runs::all(&store);
            let named = past.iter().filter_map(|report| report.name.as_deref());
            let near = hint(name, named.chain([graph.name.as_str()]));
            return Err(Error::NothingToShow { name: name.clone(), near });
        }
    }
    Ok(all)
}

/// All variants, where none is selected and there are some.
fn every_variant(choice: Choice) -> Result<Session> {
    let all = Choice { variants: vec!["*".into()], ..choice.clone() };
    let choice = if choice.variants.is_empty() && study::load(&all).is_ok() { all } else { choice };
    Ok(Session::open(&Options { choice, ..Options::default() })?)
}
