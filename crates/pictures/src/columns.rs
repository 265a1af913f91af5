//! Which column holds the pictures and which the labels: taken where it is clear, offered by name where it is not.

use crate::labels::Labels;
use crate::selection::Selection;
use anyhow::Result;
use stage::{bad_input, nearest};

/// Words of which a column of labels is named.
const WORDS: [&str; 11] = [
    "label",
    "labels",
    "class",
    "classes",
    "category",
    "categories",
    "target",
    "targets",
    "species",
    "breed",
    "y",
];
/// Words of columns whose numbers count or measure.
const COUNTS: [&str; 20] = [
    "id",
    "ids",
    "idx",
    "index",
    "width",
    "height",
    "size",
    "bytes",
    "length",
    "count",
    "year",
    "month",
    "day",
    "time",
    "timestamp",
    "seed",
    "age",
    "rank",
    "row",
    "level",
];

/// What a column holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Holds {
    /// Pictures, still encoded.
    Pictures,
    /// Whole numbers, or values of true and false.
    Integers,
    /// Text or real numbers.
    Others,
    /// What can be no label.
    #[default]
    Nothing,
}

/// A column of a table.
#[derive(Clone, Debug, Default)]
pub(crate) struct Column {
    pub(crate) name: String,
    /// Its type, for people.
    pub(crate) kind: String,
    pub(crate) holds: Holds,
    /// The names of its classes, where the table has them.
    pub(crate) classes: Option<Vec<String>>,
}

/// The columns of a table, what is asked of them, and what errors call the table.
#[derive(Clone, Copy)]
pub(crate) struct Choice<'a> {
    pub(crate) columns: &'a [Column],
    pub(crate) selection: &'a Selection,
    pub(crate) source: &'a str,
}

impl Choice<'_> {
    /// The column of pictures.
    pub(crate) fn image(&self) -> Result<String> {
        let Self { columns, selection, source } = *self;
        if let Some(wanted) = &selection.image_column {
            return self.exists(wanted, "--image-column");
        }
        let pictures: Vec<&str> =
            columns.iter().filter(|c| c.holds == Holds::Pictures).map(|c| c.name.as_str()).collect();
        match pictures.as_slice() {
            all if all.contains(&"image") => Ok("image".into()),
            [only] => Ok((*only).into()),
            [] => {
                let image = columns.iter().find(|c| c.name == "image");
                let what = image.map(|image| format!("; image holds {}, no bytes of pictures", image.kind));
                bad_input!(
                    "{source}: no column of pictures; there are {}{}",
                    names(columns),
                    what.unwrap_or_default()
                )
            }
            several => bad_input!(
                "{source}: pictures in the columns {}; {}",
                several.join(", "),
                selection.choose("image-column")
            ),
        }
    }

    /// The column of labels beside that of pictures, and what a person should know of the choice. `folders` says that folders are
    /// classes where no column is called one.
    pub(crate) fn label(&self, image: &str, folders: bool) -> Result<(Option<String>, Option<String>)> {
        let Self { columns, selection, source } = *self;
        if selection.labels == Labels::Drop {
            return Ok((None, None));
        }
        let (label, note) = match &selection.label_column {
            Some(wanted) => (Some(self.exists(wanted, "--label-column")?), None),
            None => self.found(image, folders)?,
        };
        let holds = |name: &String| columns.iter().find(|c| c.name == *name).map(|c| c.holds);
        if let Some(name) =
            label.as_ref().filter(|name| matches!(holds(name), Some(Holds::Nothing | Holds::Pictures)))
        {
            bad_input!("{source}: the column {name} holds no labels")
        }
        Ok((label, note))
    }

    fn found(&self, image: &str, folders: bool) -> Result<(Option<String>, Option<String>)> {
        let Self { columns, selection, source } = *self;
        let others = || columns.iter().filter(|c| c.name != image && c.holds != Holds::Pictures);
        if others().any(|c| c.name == "label") {
            return Ok((Some("label".into()), None));
        }
        let called: Vec<&str> =
            others().filter(|c| c.classes.is_some() || is_label(&c.name)).map(|c| c.name.as_str()).collect();
        let doubtful: Vec<&str> = others()
            .filter(|c| {
                c.holds == Holds::Integers && !words(&c.name).any(|word| COUNTS.contains(&word.as_str()))
            })
            .map(|c| c.name.as_str())
            .collect();
        let rest: Vec<&str> = others()
            .filter(|c| matches!(c.holds, Holds::Integers | Holds::Others))
            .map(|c| c.name.as_str())
            .collect();
        match (called.as_slice(), doubtful.as_slice(), rest.as_slice()) {
            ([only], ..) => {
                Ok((Some((*only).into()), Some(format!("{source}: labels come from the column {only}"))))
            }
            ([], ..) if folders => Ok((None, None)),
            ([], [], []) => Ok((None, None)),
            ([], [], rest) => Ok((
                None,
                Some(format!(
                    "{source}: no labels are taken, the data is one class; --label-column takes them from one of the columns {}",
                    rest.join(", ")
                )),
            )),
            (several @ [_, ..], ..) | ([], several, _) => {
                let (columns, hold) = match several.len() {
                    1 => ("column", "holds"),
                    _ => ("columns", "hold"),
                };
                bad_input!(
                    "{source}: the {columns} {} perhaps {hold} labels; {}",
                    several.join(", "),
                    selection.choose("label-column")
                )
            }
        }
    }

    fn exists(&self, wanted: &str, flag: &str) -> Result<String> {
        let Self { columns, source, .. } = *self;
        if columns.iter().any(|c| c.name == wanted) {
            return Ok(wanted.into());
        }
        let near = nearest(wanted, columns.iter().map(|c| c.name.as_str()));
        let hint = near.map(|n| format!("; did you mean {n}?")).unwrap_or_default();
        bad_input!("{flag} {wanted}: {source} has no such column, but {}{hint}", names(columns))
    }
}

fn names(columns: &[Column]) -> String {
    columns.iter().map(|c| c.name.as_str()).collect::<Vec<_>>().join(", ")
}

fn is_label(name: &str) -> bool {
    words(name).any(|word| WORDS.contains(&word.as_str()))
}

/// `fineLabel-id` is the words fine, label, id.
fn words(name: &str) -> impl Iterator<Item = String> {
    let mut words = vec![String::new()];
    let mut lower = false;
    for c in name.chars() {
        if !c.is_alphanumeric() || (c.is_uppercase() && lower) {
            words.push(String::new());
        }
        lower = c.is_lowercase();
        if c.is_alphanumeric() {
            words.last_mut().into_iter().for_each(|word| word.extend(c.to_lowercase()));
        }
    }
    words.into_iter().filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(of: &[(&str, Holds)]) -> Vec<Column> {
        of.iter()
            .map(|(name, holds)| Column { name: (*name).into(), holds: *holds, ..Column::default() })
            .collect()
    }

    #[test]
    fn labels_are_taken_where_it_is_clear_and_offered_where_it_is_not() {
        use Holds::{Integers, Others, Pictures};
        let choose = |of: &[(&str, Holds)]| {
            let columns: Vec<_> = [("image", Pictures)].iter().chain(of).copied().collect();
            let selection = Selection { insist: true, ..Selection::default() };
            Choice { columns: &table(&columns), selection: &selection, source: "a" }.label("image", false)
        };
        assert_eq!(choose(&[]).unwrap(), (None, None));
        assert_eq!(choose(&[("label", Integers), ("fine_label", Integers)]).unwrap().0.unwrap(), "label");
        let (taken, note) = choose(&[("labels", Integers), ("id", Integers)]).unwrap();
        assert_eq!(
            (taken.as_deref(), note.as_deref()),
            (Some("labels"), Some("a: labels come from the column labels"))
        );
        let error = choose(&[("fine_label", Integers), ("coarse_label", Integers)]).unwrap_err().to_string();
        assert!(error.contains("columns fine_label, coarse_label perhaps hold labels"), "{error}");
        assert!(choose(&[("digit", Integers)]).is_err());
        let (taken, note) = choose(&[("caption", Others), ("image_id", Integers)]).unwrap();
        assert!(taken.is_none() && note.unwrap().contains("one of the columns caption, image_id"));
    }

    #[test]
    fn names_fall_into_words() {
        assert_eq!(words("fineLabel-id").collect::<Vec<_>>(), ["fine", "label", "id"]);
        assert!(is_label("ClassName") && is_label("coarse_labels") && !is_label("classic"));
    }
}
