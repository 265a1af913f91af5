//! What the report says, before it is Markdown or HTML.

/// A report: a title, one line under it, and sections of blocks.
#[derive(Debug, Default)]
pub struct Document {
    /// Title of the page.
    pub title: String,
    /// One sentence under the title.
    pub lead: String,
    /// The few figures a reader looks for first.
    pub tiles: Vec<Tile>,
    /// The sections, in reading order.
    pub sections: Vec<Section>,
}

/// One figure shown large: its name, its value, and what it rests on.
#[derive(Debug)]
pub struct Tile {
    /// What is measured.
    pub name: String,
    /// Its value.
    pub value: String,
    /// Unit, direction or size of the sample.
    pub note: String,
}

/// A heading with what stands under it.
#[derive(Clone, Debug)]
pub struct Section {
    /// The heading; its slug is the anchor.
    pub title: String,
    /// The content.
    pub blocks: Vec<Block>,
}

/// One piece of content. Text may hold `code` between backticks and no other markup.
#[derive(Clone, Debug)]
pub enum Block {
    /// A paragraph.
    Text(String),
    /// A table.
    Table(Table),
    /// A table of results.
    Grid(Grid),
    /// A picture with its caption.
    Figure(Figure),
    /// Commands to type.
    Code(String),
}

/// Rows under named columns.
#[derive(Clone, Debug, Default)]
pub struct Table {
    /// What the table shows.
    pub caption: String,
    /// Heading and alignment of each column.
    pub columns: Vec<Column>,
    /// Cells, as many a row as there are columns.
    pub rows: Vec<Vec<String>>,
    /// How a page sets it.
    pub kind: Kind,
}

/// How a page sets a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// As any other.
    #[default]
    Plain,
    /// Many short rows, small and in columns where it is printed.
    Settings,
    /// Long digests, small where it is printed.
    Digests,
    /// Values with a sentence on each, which stands below them on a narrow page.
    Explained,
}

/// A column of a table.
#[derive(Clone, Debug)]
pub struct Column {
    /// Its heading.
    pub title: String,
    /// Whether it holds figures, which stand to the right with digits of one width.
    pub number: bool,
}

/// A table of results: numbers under headings that may have two of them, rows in blocks.
#[derive(Clone, Debug, Default)]
pub struct Grid {
    /// Heading of the names of the rows.
    pub first: String,
    /// The headings beside it.
    pub heads: Vec<Head>,
    /// The blocks, between which a rule stands.
    pub blocks: Vec<GridBlock>,
}

/// A heading over one column or more.
#[derive(Clone, Debug)]
pub struct Head {
    /// Its text.
    pub title: String,
    /// What stands under it, once for each column; one empty text for a heading of one column.
    pub under: Vec<String>,
}

/// Rows that are compared with each other.
#[derive(Clone, Debug)]
pub struct GridBlock {
    /// What they have in common; may be empty.
    pub title: String,
    /// The rows.
    pub rows: Vec<GridRow>,
}

/// A row of results.
#[derive(Clone, Debug)]
pub struct GridRow {
    /// What was measured.
    pub name: String,
    /// As many as there are columns beside the name.
    pub cells: Vec<Cell>,
}

/// One result; empty where there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cell {
    /// The number as printed.
    pub text: String,
    /// Whether it is the best of its block.
    pub best: bool,
}

impl Grid {
    /// The columns beside the name: heading, and what stands under it.
    pub fn columns(&self) -> impl Iterator<Item = (&str, &str)> {
        self.heads.iter().flat_map(|h| h.under.iter().map(|u| (h.title.as_str(), u.as_str())))
    }

    /// Whether headings have something under them.
    pub fn two_levels(&self) -> bool {
        self.columns().any(|(_, under)| !under.is_empty())
    }
}

impl Cell {
    /// The text, or a dash.
    pub fn shown(&self) -> &str {
        if self.text.is_empty() { "–" } else { &self.text }
    }
}

/// An SVG picture that also stands alone as a file.
#[derive(Clone, Debug)]
pub struct Figure {
    /// File name without its ending.
    pub name: String,
    /// What is seen, for a reader who cannot see it.
    pub alt: String,
    /// What is seen, with units and source.
    pub caption: String,
    /// The whole `<svg>` element.
    pub svg: String,
}

impl Section {
    /// An empty section.
    pub fn new(title: &str) -> Self {
        Self { title: title.into(), blocks: Vec::new() }
    }

    /// The anchor of the section in the page.
    pub fn slug(&self) -> String {
        self.title.to_lowercase().split_whitespace().collect::<Vec<_>>().join("-")
    }

    /// Adds a paragraph.
    pub fn text(&mut self, text: impl Into<String>) {
        self.blocks.push(Block::Text(text.into()));
    }
}

impl Table {
    /// A table with text columns; a title that ends in `#` marks a column of figures.
    pub fn new(caption: impl Into<String>, columns: &[&str]) -> Self {
        let columns = columns.iter().map(|title| Column {
            title: title.trim_end_matches('#').trim_end().into(),
            number: title.ends_with('#'),
        });
        Self { caption: caption.into(), columns: columns.collect(), ..Self::default() }
    }

    /// The same table, set otherwise.
    pub fn set(self, kind: Kind) -> Self {
        Self { kind, ..self }
    }

    /// Adds a row.
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        debug_assert_eq!(N, self.columns.len());
        self.rows.push(cells.into());
    }
}

/// Text between backticks, which are doubled away when the text itself holds some.
pub fn code(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("`{}`", text.replace('`', "'")) }
}

/// A number as people read it: five significant figures, no trailing zeros, a thin exponent where it is far from one.
pub fn number(x: f64) -> String {
    if !x.is_finite() {
        return x.to_string();
    }
    if x == 0.0 {
        return "0".into();
    }
    if x.fract() == 0.0 && x.abs() < 1e15 {
        return grouped(x as i64);
    }
    let magnitude = x.abs().log10().floor() as i32;
    if !(-4..9).contains(&magnitude) {
        return format!("{x:.3e}");
    }
    let decimals = (4 - magnitude).clamp(0, 8) as usize;
    let text = format!("{x:.decimals$}");
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').into()
    } else {
        grouped(x.round() as i64)
    }
}

/// A whole number with thin spaces between groups of three digits, from five digits up.
pub fn grouped(n: i64) -> String {
    let digits = n.unsigned_abs().to_string();
    if digits.len() < 5 {
        return n.to_string();
    }
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    if n < 0 { format!("−{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_exact() {
        assert_eq!(number(0.0), "0");
        assert_eq!(number(16.21), "16.21");
        assert_eq!(number(0.123456789), "0.12346");
        assert_eq!(number(1234.5678), "1234.6");
        assert_eq!(number(-2.5), "-2.5");
        assert_eq!(number(1000.0), "1000");
        assert_eq!(number(50000.0), "50\u{202f}000");
        assert_eq!(number(123456.7), "123\u{202f}457");
        assert_eq!(number(1e-7), "1.000e-7");
        assert_eq!(grouped(-1234567), "−1\u{202f}234\u{202f}567");
    }
}
