//! A shell's operators in a `command:`, which starts no shell: there they would be words like any other.

use crate::de::Marked;
use crate::error::{Error, Result};
use crate::file::Command;
use crate::mark::Mark;

/// Refuses a command line with a bare operator, or of several lines. A list of words means what it says.
pub fn refuse(command: &Marked<Command>) -> Result<()> {
    let Command::Line(line) = &command.value else { return Ok(()) };
    let Some(found) = first(line) else { return Ok(()) };
    let token = &line[found.clone()];
    let (mark, column) = place(&command.mark, line, found.start, token);
    let column = column.map(|column| format!("column {column}: ")).unwrap_or_default();
    let quoted = format!("'{token}'");
    let text = match token.starts_with(|c: char| "|&;<>`$".contains(c) || c.is_ascii_digit()) {
        true => format!(
            "{column}`command:` starts no shell, so `{token}` would be a word for the program; write `shell:` in its \
             place, or `{quoted}` where the word is meant"
        ),
        false => format!(
            "{column}a `command:` is one line, and `{token}` begins another one; write `shell:` in its place, or end \
             the line before it with a backslash"
        ),
    };
    Err(Error::mistake(&mark, text))
}

/// The first operator, or the first word of a second line.
fn first(line: &str) -> Option<std::ops::Range<usize>> {
    let end_of = |at: usize| line[at..].find(char::is_whitespace).map_or(line.len(), |n| at + n);
    let (mut quote, mut word, mut lines) = (None, None::<usize>, false);
    let mut chars = line.char_indices().peekable();
    let mut begun = false;
    while let Some((at, c)) = chars.next() {
        match (quote, c) {
            (Some(q), c) if q == c => quote = None,
            (Some('"') | None, '\\') => {
                let next = chars.next();
                if quote.is_none() && next.is_none_or(|(_, c)| c != '\n') {
                    word.get_or_insert(at);
                }
                continue;
            }
            (Some(_), _) => continue,
            (None, c) if c.is_whitespace() => {
                word = None;
                lines |= c == '\n' && begun;
                continue;
            }
            (None, '\'' | '"') => quote = Some(c),
            (None, '$') if line[at..].starts_with("$${") => {}
            (None, '$') if line[at..].starts_with("${") => {
                let end = line[at..].find('}').map_or(line.len(), |n| at + n);
                while chars.peek().is_some_and(|(next, _)| *next <= end) {
                    chars.next();
                }
            }
            (None, '`') if word.is_none() => return Some(at..end_of(at)),
            (None, '$') if line[at..].starts_with("$(") && word.is_none() => return Some(at..end_of(at)),
            (None, '|' | '&' | ';' | '<' | '>') => {
                let start = word.unwrap_or(at);
                let rest = &line[at..];
                let operator = rest.find(|c| !"|&;<>".contains(c)).map_or(line.len(), |n| at + n);
                let ends = rest[operator - at..].chars().next().is_none_or(char::is_whitespace);
                // `2>file`, `x;`, `x&`, `>${outputs.o}`.
                let number = line[start..at].bytes().all(|b| b.is_ascii_digit());
                let is = match c {
                    '<' | '>' => number || (c == '>' && line[operator..].starts_with("${")),
                    ';' | '&' => start == at || ends,
                    _ => start == at || line[at..operator] == *"||",
                };
                if is {
                    let start = if matches!(c, '<' | '>') { start } else { at };
                    return Some(start..operator);
                }
            }
            _ => {}
        }
        if lines {
            return Some(at..end_of(at));
        }
        begun = true;
        word.get_or_insert(at);
    }
    None
}

/// Where a piece of a command stands in its file. The file is read again: a text does not know how it was quoted and
/// folded, but as often as the piece stands before it in the text, it stands before it in the file.
fn place(mark: &Mark, line: &str, at: usize, token: &str) -> (Mark, Option<usize>) {
    let unknown = (mark.clone(), None);
    let Ok(file) = std::fs::read_to_string(&*mark.file) else { return unknown };
    let Some(first) = (mark.line as usize).checked_sub(1) else { return unknown };
    let before = line[..at].matches(token).count();
    let begin: usize = file.split_inclusive('\n').take(first).map(str::len).sum();
    let begin = begin + file[begin..].lines().next().and_then(|l| l.find("command:")).unwrap_or(0);
    let Some((found, _)) = file[begin..].match_indices(token).nth(before) else { return unknown };
    let above = &file[..begin + found];
    let start = above.rfind('\n').map_or(0, |n| n + 1);
    let number = above.matches('\n').count() as u32 + 1;
    (Mark { file: mark.file.clone(), line: number }, Some(above[start..].chars().count() + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bare_operators_are_found() {
        for (line, token) in [
            ("a && b", "&&"),
            ("a &&b", "&&"),
            ("a || b", "||"),
            ("a x; b", ";"),
            ("a | b", "|"),
            ("a |b", "|"),
            ("a > f", ">"),
            ("a >f", ">"),
            ("a 2>&1", "2>&"),
            ("a x>${outputs.o}", "x>"),
            ("a < f", "<"),
            ("a &", "&"),
            ("a x&", "&"),
            ("a ${inputs.x} >> b", ">>"),
            ("a `date`", "`date`"),
            ("a $(date)", "$(date)"),
            ("a b\nc d\n", "c"),
            ("\n\na b\n\n  ${inputs.c}\n", "${inputs.c}"),
        ] {
            assert_eq!(first(line).map(|range| &line[range]), Some(token), "{line}");
        }
    }

    #[test]
    fn words_that_only_look_like_them_are_left_alone() {
        for line in [
            "sh -c 'a && b | c > d; e\nf' -- x\n",
            "sh -c \"a \\\" && b\"",
            "a \\; \\> '|' b\\ c",
            "find . -exec ls {} ';'",
            "a --re=x|y url?a=1&b=2 a;b x=>y",
            "a \\\n  b\n",
            "a $${x} ${inputs.a} $HOME",
        ] {
            assert_eq!(first(line).map(|range| &line[range]), None, "{line}");
        }
    }
}
