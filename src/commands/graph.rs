//! `pipeline graph`.

use super::output::{print, print_json};
use crate::cli::{Global, GraphFormat};
use crate::error::Result;
use serde_json::json;
use std::collections::BTreeMap;
use study::graph::{Graph, Source};

/// Prints the study as a Mermaid or DOT picture, or as JSON.
pub fn graph(global: &Global, format: GraphFormat) -> Result<()> {
    let graph = study::load(&global.choice())?;
    let edges = edges(&graph);
    if global.json {
        let stages: Vec<&str> = graph.steps.iter().map(|s| s.id.as_str()).collect();
        let edges: Vec<_> =
            edges.iter().map(|((from, to), on)| json!({"from": from, "to": to, "outputs": on})).collect();
        return print_json(&json!({ "study": graph.name, "stages": stages, "edges": edges }));
    }
    let mut text = String::new();
    match format {
        GraphFormat::Mermaid => {
            text.push_str("flowchart LR\n");
            for step in &graph.steps {
                text.push_str(&format!("    {}[{}]\n", node(&step.id), step.id));
            }
            for ((from, to), outputs) in &edges {
                text.push_str(&format!("    {} -->|{}| {}\n", node(from), outputs.join(", "), node(to)));
            }
        }
        GraphFormat::Dot => {
            text.push_str(&format!(
                "digraph \"{}\" {{\n    rankdir=LR;\n    node [shape=box];\n",
                graph.name
            ));
            for step in &graph.steps {
                text.push_str(&format!("    \"{}\";\n", step.id));
            }
            for ((from, to), outputs) in &edges {
                text.push_str(&format!("    \"{from}\" -> \"{to}\" [label=\"{}\"];\n", outputs.join(", ")));
            }
            text.push_str("}\n");
        }
    }
    print(&text)
}

/// The name of a node in Mermaid, which takes no `@` and no `.`.
fn node(id: &str) -> String {
    id.replace(['@', '.'], "__")
}

/// The outputs that go from one stage to another.
fn edges(graph: &Graph) -> BTreeMap<(&str, &str), Vec<&str>> {
    let mut edges: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
    for step in &graph.steps {
        for input in &step.inputs {
            let across = matches!(input.source, Source::Across(_));
            for (from, output) in input.source.outputs() {
                let from = &graph.steps[from];
                let names = edges.entry((from.id.as_str(), step.id.as_str())).or_default();
                let name = from.outputs[output].name.as_str();
                // A step that several variants share is several entries of one folder.
                if !across || !names.contains(&name) {
                    names.push(name);
                }
            }
        }
    }
    edges
}
