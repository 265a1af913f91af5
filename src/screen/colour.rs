//! Colours of states, where a terminal shows them and nobody objects.

use crate::text::{safe_line, table};
use std::env::var_os;

/// The column of a table in which the states stand.
const STATE: usize = 1;
/// What lies between two columns.
const GAP: usize = 2;

/// A colour of a terminal.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Colour {
    Green,
    Cyan,
    Yellow,
    Red,
}

impl Colour {
    /// The colour of a state as plans and summaries name it.
    fn of(state: &str) -> Option<Self> {
        match state {
            "cached" => Some(Self::Green),
            "ran" | "restored" | "fetched" | "replaced" | "to fetch" => Some(Self::Cyan),
            "to run" | "waiting" | "skipped" => Some(Self::Yellow),
            "FAILED" => Some(Self::Red),
            _ => None,
        }
    }

    /// A text in this colour.
    pub fn paint(self, text: &str) -> String {
        let code = match self {
            Self::Green => 32,
            Self::Cyan => 36,
            Self::Yellow => 33,
            Self::Red => 31,
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }
}

/// Whether colours are wanted on something that is a terminal or not: `NO_COLOR` forbids them, `CLICOLOR_FORCE` asks for
/// them everywhere, `CLICOLOR=0` and a dumb terminal do without.
pub fn wanted(terminal: bool) -> bool {
    let set = |name: &str| var_os(name).filter(|value| !value.is_empty());
    if set("NO_COLOR").is_some() {
        return false;
    }
    if set("CLICOLOR_FORCE").is_some_and(|value| value != "0") {
        return true;
    }
    terminal
        && set("CLICOLOR").is_none_or(|value| value != "0")
        && set("TERM").is_some_and(|term| term != "dumb")
}

/// A table whose second column has states, for people.
pub fn states(rows: &[Vec<String>], coloured: bool) -> String {
    let rows: Vec<Vec<String>> =
        rows.iter().map(|row| row.iter().map(|cell| safe_line(cell)).collect()).collect();
    let plain = table(&rows);
    if !coloured {
        return plain;
    }
    let before = rows.iter().filter_map(|row| row.first()).map(|cell| cell.chars().count()).max();
    let before = before.unwrap_or_default() + GAP;
    let lines = plain.lines().zip(&rows).map(|(line, row)| {
        let state = row.get(STATE).map_or("", String::as_str);
        let at = line.char_indices().nth(before).map(|(at, _)| at);
        match (Colour::of(state), at) {
            (Some(colour), Some(at)) => {
                format!("{}{}{}\n", &line[..at], colour.paint(state), &line[at + state.len()..])
            }
            _ => format!("{line}\n"),
        }
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_have_colours_and_cells_have_none() {
        let row = |cells: [&str; 3]| cells.map(String::from).to_vec();
        let rows = [
            row(["\u{e9}t\u{e9}", "FAILED", "why\n\u{1b}[2J"]),
            row(["b", "cached", ""]),
            row(["cc", "x", "y"]),
        ];
        let plain = "\u{e9}t\u{e9}  FAILED  why\\n\\u{1b}[2J\nb    cached\ncc   x       y\n";
        assert_eq!(states(&rows, false), plain);
        let coloured = states(&rows, true);
        let text = "\u{e9}t\u{e9}  \u{1b}[31mFAILED\u{1b}[0m  why\\n\\u{1b}[2J\nb    \u{1b}[32mcached\u{1b}[0m\ncc   x       y\n";
        assert_eq!(coloured, text);
    }
}
