//! The page without script: what is known, in tables.

use crate::text::{day_and_time, duration};
use crate::ui::log::Part;
use crate::ui::resources::answer;
use crate::ui::site::Site;
use maud::{DOCTYPE, html};
use serde_json::Value;

/// So many rows of a table are shown.
const ROWS: usize = 2000;

/// The page.
pub fn page(site: &Site) -> String {
    let of = |name: &str| answer(site, name, Part::exported()).unwrap_or_default();
    let (study, table, runs) = (of("study"), of("table"), of("runs"));
    let title = text(&study["study"]);
    let markup = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) }
                link rel="stylesheet" href="style.css";
            }
            body class="plain" {
                main {
                    h1 { (title) }
                    @if let Some(error) = study["error"].as_str() { p role="alert" { (error) } }
                    h2 { "Stages" }
                    div class="wide" { table {
                        thead { tr { th scope="col" { "Stage" } th scope="col" { "State" } th scope="col" { "Took" }
                            th scope="col" { "Why" } } }
                        tbody { @for step in list(&study["steps"]).iter().take(ROWS) { tr {
                            th scope="row" { (text(&step["id"])) }
                            td { span class={ "is is-" (text(&step["state"]["is"])) } { (state(&step["state"])) } }
                            td class="number" { (step["state"]["seconds"].as_f64().map(duration).unwrap_or_default()) }
                            td { (text(&step["state"]["reason"])) }
                        } } }
                    } }
                    h2 { "Variants" }
                    div class="wide" { (cells(&table)) }
                    h2 { "Runs" }
                    div class="wide" { table {
                        thead { tr { th scope="col" { "Run" } th scope="col" { "Name" } th scope="col" { "Began (UTC)" }
                            th scope="col" { "Result" } th scope="col" { "Machine" } th scope="col" { "Note" } } }
                        tbody { @for run in list(&runs["runs"]).iter().take(ROWS) { tr {
                            th scope="row" { (text(&run["run"])) }
                            td { (text(&run["name"])) }
                            td { (run["started"].as_u64().map(day_and_time).unwrap_or_default()) }
                            td { (text(&run["result"])) }
                            td { (text(&run["host"])) }
                            td { (text(&run["note"])) }
                        } } }
                    } }
                }
            }
        }
    };
    markup.into_string()
}

/// A table of rows and the columns that are usually shown.
fn cells(table: &Value) -> maud::Markup {
    let columns = list(&table["columns"]);
    let shown: Vec<usize> = (0..columns.len()).filter(|i| columns[*i]["shown"] == true).collect();
    html! { table {
        thead { tr { @for i in &shown { th scope="col" { (text(&columns[*i]["name"])) } } } }
        tbody { @for row in list(&table["rows"]).iter().take(ROWS) { tr {
            @for i in &shown { td class=[(columns[*i]["numeric"] == true).then_some("number")] { (cell(&row["cells"][*i])) } }
        } } }
    } }
}

fn cell(value: &Value) -> String {
    let number = |value: &Value| value.as_f64().map(crate::text::significant).unwrap_or_default();
    match value {
        Value::Number(n) if n.is_i64() => n.to_string(),
        Value::Number(_) => number(value),
        Value::Array(pair) if pair.len() == 2 => format!("{} ± {}", number(&pair[0]), number(&pair[1])),
        value => text(value).into(),
    }
}

fn state(state: &Value) -> String {
    let progress = &state["progress"];
    let word = text(&state["is"]).replace('-', " ");
    match (progress["done"].as_u64(), progress["total"].as_u64()) {
        (Some(done), Some(total)) => format!("{word}, {done} of {total} {}", text(&progress["unit"])),
        _ => word,
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
