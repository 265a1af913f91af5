//! Which classes are sampled, and in which order.

use anyhow::Result;
use serde::{Serialize, Serializer};
use stage::{Kind, Value, bad_input, nearest};

/// How labels are given to pictures, as the command line says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Labels {
    /// One class after the other, as often as they fit.
    Balanced,
    /// Uniformly at random; the reference.
    Uniform,
    /// These classes in turns, by name or number.
    Of(String),
}

/// The same where the classes are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// These classes one after the other.
    InTurns(Vec<i64>),
    /// All classes at random.
    Uniform,
}

impl Labels {
    /// As the command line says it.
    pub(crate) fn text(&self) -> &str {
        match self {
            Self::Balanced => "balanced",
            Self::Uniform => "uniform",
            Self::Of(classes) => classes,
        }
    }

    /// What may have been meant by a name that is not known to be that of a class.
    pub(crate) fn meant(&self) -> Option<&'static str> {
        let Self::Of(text) = self else { return None };
        nearest(text, ["balanced", "uniform"])
    }

    /// The classes of a network that has so many, which may be named.
    ///
    /// # Errors
    /// Bad input that says which classes there are.
    pub(crate) fn order(&self, classes: i64, names: &[String]) -> Result<Order> {
        Ok(match self {
            Self::Balanced => Order::InTurns((0..classes).collect()),
            Self::Uniform => Order::Uniform,
            Self::Of(text) => Order::InTurns(chosen(text, classes, names)?),
        })
    }
}

impl Value for Labels {
    fn kind() -> Kind {
        Kind::Text
    }
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "balanced" => Ok(Self::Balanced),
            "uniform" => Ok(Self::Uniform),
            text if text.split(',').all(|class| class.trim().is_empty()) => Err("no labels".into()),
            classes => Ok(Self::Of(classes.into())),
        }
    }
    fn json(&self) -> serde_json::Value {
        self.text().into()
    }
}

impl Serialize for Labels {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.text())
    }
}

/// The numbers of the classes in a list. A name may hold commas itself, as ImageNet's do.
fn chosen(text: &str, classes: i64, names: &[String]) -> Result<Vec<i64>> {
    let parts: Vec<&str> = text.split(',').collect();
    let mut numbers = Vec::new();
    let mut at = 0;
    while at < parts.len() {
        let found = (at + 1..=parts.len()).rev().find_map(|end| {
            let name = parts[at..end].join(",");
            Some((end, names.iter().position(|known| known == name.trim())? as i64))
        });
        let (end, number) = match found {
            Some(found) => found,
            None => (at + 1, number(parts[at].trim(), classes, names)?),
        };
        numbers.push(number);
        at = end;
    }
    Ok(numbers)
}

/// A class by its number, where classes have no names that could be mistaken for numbers.
fn number(text: &str, classes: i64, names: &[String]) -> Result<i64> {
    let numbered = !names.iter().any(|name| name.parse::<i64>().is_ok());
    if let Some(number) = text.parse().ok().filter(|number| numbered && (0..classes).contains(number)) {
        return Ok(number);
    }
    let near = nearest(text, names.iter().map(String::as_str).chain(["balanced", "uniform"]));
    let hint = near.map(|name| format!("; did you mean {name}?")).unwrap_or_default();
    match names {
        [] => bad_input!(
            "--labels {text}: neither balanced, uniform nor a class; they have no names, but numbers from 0 to {}{hint}",
            classes - 1
        ),
        names => {
            let shown = names.iter().take(10).map(String::as_str).collect::<Vec<_>>().join(", ");
            let more =
                if names.len() > 10 { format!(", … ({} in all)", names.len()) } else { String::new() };
            bad_input!(
                "--labels {text}: neither balanced, uniform nor one of the classes {shown}{more}{hint}"
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(text: &str, names: &[&str]) -> Result<Order> {
        let names: Vec<String> = names.iter().map(|name| name.to_string()).collect();
        let labels = Labels::parse(text).unwrap();
        labels.order(names.len().max(3) as i64, &names)
    }

    #[test]
    fn classes_are_chosen_by_name_else_by_number() {
        let animals = ["tench, Tinca tinca", "cat", "dog"];
        assert_eq!(order("dog,cat", &animals).unwrap(), Order::InTurns(vec![2, 1]));
        assert_eq!(order("cat, tench, Tinca tinca", &animals).unwrap(), Order::InTurns(vec![1, 0]));
        assert_eq!(order("2", &animals).unwrap(), Order::InTurns(vec![2]));
        assert_eq!(order("0,2", &[]).unwrap(), Order::InTurns(vec![0, 2]));
        assert_eq!(order("balanced", &animals).unwrap(), Order::InTurns(vec![0, 1, 2]));
        assert_eq!(order("uniform", &[]).unwrap(), Order::Uniform);
        // The folder 10 is class 1 here.
        let folders = ["0", "10", "9"];
        assert_eq!(order("10", &folders).unwrap(), Order::InTurns(vec![1]));
        assert!(order("2", &folders).is_err());
    }

    #[test]
    fn what_is_no_class_says_which_there_are() {
        let error = order("dgo", &["cat", "dog"]).unwrap_err().to_string();
        assert!(error.contains("one of the classes cat, dog; did you mean dog?"), "{error}");
        let error = order("3", &[]).unwrap_err().to_string();
        assert!(error.contains("numbers from 0 to 2"), "{error}");
        assert!(order("balnced", &[]).unwrap_err().to_string().contains("did you mean balanced?"));
    }
}
