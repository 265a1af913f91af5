//! A command as words, each made of text and of places to fill in.

use crate::file::Command;
use std::fmt;

/// What a place is filled with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// The path of an input.
    Inputs,
    /// The value of a parameter.
    Params,
    /// A tuning value.
    Tuning,
    /// The path of an output.
    Outputs,
    /// What a cluster's commands are told of a job.
    Job,
}

/// Groups with their names in a file.
pub(crate) type Groups = &'static [(&'static str, Group)];

impl Group {
    /// Those of a stage.
    pub(crate) const OF_STAGE: Groups = &[
        ("inputs", Group::Inputs),
        ("params", Group::Params),
        ("tuning", Group::Tuning),
        ("outputs", Group::Outputs),
    ];
    /// Those of a cluster's commands.
    pub(crate) const OF_CLUSTER: Groups = &[("job", Group::Job)];

    /// The key in the study file.
    pub fn name(self) -> &'static str {
        let mut all = Self::OF_STAGE.iter().chain(Self::OF_CLUSTER);
        all.find(|(_, g)| *g == self).map_or("", |(name, _)| name)
    }
}

/// A piece of a word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// What stands there.
    Text(String),
    /// A place to fill in, and the name of what fills it.
    Slot(Group, String),
}

/// One argument.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Word(pub Vec<Part>);

impl Word {
    /// The word when it has no places to fill in.
    pub fn literal(&self) -> Option<&str> {
        match self.0.as_slice() {
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// The word with its places filled in.
    pub fn fill<'a>(&self, value: impl Fn(Group, &str) -> &'a str) -> String {
        let parts = self.0.iter().map(|part| match part {
            Part::Text(text) => text.as_str(),
            Part::Slot(group, name) => value(*group, name),
        });
        parts.collect()
    }

    fn push(&mut self, c: char) {
        match self.0.last_mut() {
            Some(Part::Text(text)) => text.push(c),
            _ => self.0.push(Part::Text(c.into())),
        }
    }
}

/// As it enters the cache key: places by name, `$` of texts doubled, so that no two words look alike.
impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|part| match part {
            Part::Text(text) => f.write_str(&text.replace('$', "$$")),
            Part::Slot(group, name) => write!(f, "${{{}.{name}}}", group.name()),
        })
    }
}

/// Reads a command. A line is split at white space, with quotes and backslashes as a shell has them; there is
/// no other shell in it.
pub fn parse(command: &Command) -> Result<Vec<Word>, String> {
    let words = match command {
        Command::Line(line) => split(line)?,
        Command::Words(words) => words.iter().map(|w| whole(w)).collect::<Result<_, _>>()?,
    };
    match words.first() {
        None => Err("the command is empty".into()),
        Some(first) if first.literal().is_none() => {
            Err("the program itself is fixed: the first word takes no `${…}`".into())
        }
        Some(_) => Ok(words),
    }
}

fn whole(text: &str) -> Result<Word, String> {
    let mut word = Word::default();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        rest = dollar(rest, &mut word)?.unwrap_or_else(|| {
            word.push(c);
            &rest[c.len_utf8()..]
        });
    }
    if word.0.is_empty() {
        word.0.push(Part::Text(String::new()));
    }
    Ok(word)
}

fn split(line: &str) -> Result<Vec<Word>, String> {
    let mut words = Vec::new();
    let mut word: Option<Word> = None;
    let mut quote = None;
    let mut rest = line;
    while let Some(c) = rest.chars().next() {
        let after = &rest[c.len_utf8()..];
        if quote.is_none() && c.is_whitespace() {
            words.extend(word.take());
            rest = after;
            continue;
        }
        let current = word.get_or_insert_default();
        if let Some(filled) = dollar(rest, current)? {
            rest = filled;
            continue;
        }
        rest = after;
        match (quote, c) {
            (None, '\'' | '"') => quote = Some(c),
            (Some(q), c) if q == c => quote = None,
            (Some('\''), c) => current.push(c),
            (q, '\\') => {
                let next = rest.chars().next().ok_or("the command ends with a backslash")?;
                if next == '\n' {
                    // The command goes on in the next line.
                    rest = &rest[1..];
                    if current.0.is_empty() && q.is_none() {
                        word = None;
                    }
                    continue;
                }
                // Inside double quotes a backslash is special only before these, as in a shell.
                if q.is_some() && !matches!(next, '"' | '\\' | '$' | '`') {
                    current.push('\\');
                }
                current.push(next);
                rest = &rest[next.len_utf8()..];
            }
            (_, c) => current.push(c),
        }
        if current.0.is_empty() {
            current.0.push(Part::Text(String::new()));
        }
    }
    if quote.is_some() {
        return Err("the command ends inside quotes".into());
    }
    words.extend(word);
    Ok(words)
}

/// At `$${`, takes a literal `${`; at `${group.name}`, takes a place; else takes nothing.
fn dollar<'a>(rest: &'a str, word: &mut Word) -> Result<Option<&'a str>, String> {
    if let Some(after) = rest.strip_prefix("$${") {
        "${".chars().for_each(|c| word.push(c));
        return Ok(Some(after));
    }
    let Some((group, name, after)) = slot(rest, Group::OF_STAGE)? else { return Ok(None) };
    if let [Part::Text(text)] = word.0.as_slice()
        && text.is_empty()
    {
        word.0.clear();
    }
    word.0.push(Part::Slot(group, name.to_string()));
    Ok(Some(after))
}

/// At `${group.name}` of one of these groups, the place and what comes after it.
pub(crate) fn slot(rest: &str, groups: Groups) -> Result<Option<(Group, &str, &str)>, String> {
    let Some((inside, after)) = rest.strip_prefix("${").and_then(|r| r.split_once('}')) else {
        return Ok(None);
    };
    // `${HOME}` and `${x:-y}` belong to a shell that the command starts.
    let Some((group, name)) = inside.split_once('.') else { return Ok(None) };
    if !group.chars().all(|c| c.is_ascii_alphabetic()) {
        return Ok(None);
    }
    let Some((_, group)) = groups.iter().find(|(g, _)| *g == group) else {
        let near = crate::error::hint(group, groups.iter().map(|(g, _)| *g));
        return Err(format!("`${{{inside}}}` names nothing{near}"));
    };
    Ok(Some((*group, name, after)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(line: &str) -> Result<Vec<String>, String> {
        Ok(parse(&Command::Line(line.into()))?.iter().map(Word::to_string).collect())
    }

    #[test]
    fn a_line_is_split_as_a_shell_would() {
        let words =
            shown(r#"sh -c 'ls "$1" | wc' -- ${inputs.files} "a b"c\ d '' "\n\"" x${params.n}y"#).unwrap();
        assert_eq!(
            words,
            ["sh", "-c", "ls \"$$1\" | wc", "--", "${inputs.files}", "a bc d", "", "\\n\"", "x${params.n}y"]
        );
    }

    #[test]
    fn a_shell_keeps_its_own_variables() {
        assert_eq!(shown("sh -c 'echo ${HOME} $${inputs.x}'").unwrap()[2], "echo $${HOME} $${inputs.x}");
        let word = &parse(&Command::Line("echo $${inputs.x}".into())).unwrap()[1];
        assert_eq!(word.literal(), Some("${inputs.x}"));
    }

    #[test]
    fn mistakes() {
        for (line, error) in [
            ("", "the command is empty"),
            ("a 'b", "the command ends inside quotes"),
            ("a ${input.b}", "`${input.b}` names nothing; did you mean `inputs`?"),
            ("${inputs.a}", "the program itself is fixed: the first word takes no `${…}`"),
        ] {
            assert_eq!(shown(line).unwrap_err(), error);
        }
    }
}
