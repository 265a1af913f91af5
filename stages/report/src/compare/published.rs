//! A table or figure of the paper, with what it published.

use anyhow::Result;
use serde::Deserialize;
use serde_json::{Map, Value as Json};
use std::path::Path;

/// A table or figure of the paper.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Published {
    /// What it shows, under which settings.
    pub title: String,
    /// Where its numbers were read.
    pub source: String,
    /// What to know before comparing.
    #[serde(default)]
    pub notes: Vec<String>,
    /// Where it has the systems side by side: what its rows are.
    #[serde(default)]
    pub across: String,
    /// Its rows.
    pub rows: Vec<Row>,
}

/// A row of such a table.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// The variant of the study that is this row; none for a row that no program here can compute.
    pub variant: Option<String>,
    /// Its name in the paper.
    pub name: String,
    /// The system it belongs to: its line in a figure, its column in a table that has the systems side by side.
    #[serde(default)]
    pub line: String,
    /// The size of its network: a block of the table, a panel of a figure.
    #[serde(default)]
    pub size: String,
    /// The heading that it stands under.
    #[serde(default)]
    pub group: String,
    /// Where the table has the systems side by side: the name of the row in which this is a cell.
    #[serde(default)]
    pub across: String,
    /// Where it stands along what the heading counts, for scores as curves over it.
    #[serde(default)]
    pub at: Option<f64>,
    /// Numbers by name: `fid`, `fid_10k`, `inception_score`, `precision`, `recall`, `params` (millions), `gmacs`.
    #[serde(default)]
    pub published: Map<String, Json>,
}

impl Published {
    /// Reads one.
    ///
    /// # Errors
    /// Bad input when it is missing or of another shape.
    pub fn read(path: &Path) -> Result<Self> {
        stage::read_json(path)
    }
}

impl Row {
    /// A row for a variant that the table does not have.
    pub fn of(variant: &str) -> Self {
        Self { variant: Some(variant.into()), name: variant.into(), ..Self::default() }
    }

    /// A published number.
    pub fn number(&self, key: &str) -> Option<f64> {
        self.published.get(key)?.as_f64()
    }

    /// The block of the table that it stands in.
    pub fn block(&self) -> (&str, &str) {
        (&self.group, &self.size)
    }

    /// The system that a figure draws as one line.
    pub fn system(&self) -> &str {
        if self.line.is_empty() { &self.name } else { &self.line }
    }

    /// The panel that a figure divided into families draws it in.
    pub fn panel(&self) -> [&str; 2] {
        if self.across.is_empty() { [&self.group, &self.size] } else { [&self.line, ""] }
    }

    /// What it is called within that panel.
    pub fn in_panel(&self) -> &str {
        if self.across.is_empty() { self.system() } else { &self.across }
    }
}
