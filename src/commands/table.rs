//! `pipeline table`: a row for each variant or past run, with the parameters that differ and the metrics.

use super::output::{print, print_json};
use crate::cache::runs::{self, Report};
use crate::cli::{Global, TableArguments};
use crate::error::{Error, Result};
use crate::session::{Options, Session};
use crate::stderr;
use crate::table::columns::{Column, Table};
use crate::table::format::{self, Format};
use crate::table::rows::{self, Row};
use crate::table::{select, together};
use std::path::Path;
use store::Store;
use study::{Choice, hint};

/// Prints the table that the arguments ask for.
pub fn table(global: &Global, arguments: &TableArguments) -> Result<()> {
    let mut rows = gather(global, arguments)?;
    if !arguments.each_seed {
        rows = together(rows);
    }
    let mut table = Table::of(rows);
    select::filter(&mut table, &arguments.filter)?;
    select::sort(&mut table, &arguments.sort)?;
    let shown: Vec<Column> = match arguments.columns.as_slice() {
        [] => table.default_columns(),
        names => names.iter().map(|name| table.column(name)).collect::<Result<_>>()?,
    };
    if shown.is_empty() && !global.json {
        stderr::line("nothing to show: no output is a JSON object of numbers, and nothing tells rows apart");
        return Ok(());
    }
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
    let table = Table::of(together(rows));
    let shown = table.default_columns();
    Some(format::render(&table, &shown, &[], Format::Text))
}

/// The rows that are asked for.
fn gather(global: &Global, arguments: &TableArguments) -> Result<Vec<Row>> {
    if arguments.of.is_empty() && !arguments.runs {
        return rows::of_study(open(global.choice())?, None);
    }
    let graph = study::load(&Choice { variants: Vec::new(), ..global.choice() })?;
    let store = Store::look(&graph.root, &graph.name)?;
    let mut all = Vec::new();
    if arguments.runs {
        let own = runs::all(&store).into_iter().filter(|report| report.study == graph.name);
        all.extend(own.flat_map(|report| rows::of_report(&report, true)));
    }
    let several = arguments.of.len() > 1 || arguments.runs;
    for name in &arguments.of {
        if *name == graph.name {
            all.extend(rows::of_study(open(global.choice())?, several.then_some(name))?);
        } else if Path::new(name).is_file() {
            let choice = Choice { file: name.into(), ..global.choice() };
            all.extend(rows::of_study(open(choice)?, several.then_some(name))?);
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
fn open(choice: Choice) -> Result<Session> {
    Ok(Session::open(&Options { choice: rows::every_variant(choice), ..Options::default() })?)
}
