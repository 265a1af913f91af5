//! `shell:`, a script for `bash -euo pipefail`.
//!
//! What a place is filled with never becomes text of the script. Each place becomes a variable of the shell, which is
//! given its value as an argument; the variable stands in quotes unless the script has them there already. Where a shell
//! would take it as text (in single quotes, in a here-document with a quoted word), it is refused. So the worst that
//! can happen to a file name is that it is split, and only in places that this reader takes for quoted and bash does not.

use crate::template::{self, Group, Groups, Part, Word};

/// What runs a script, before the script itself.
const SHELL: [&str; 4] = ["bash", "-euo", "pipefail", "-c"];
/// What the script of a stage is called in bash's messages.
const NAME: &str = "shell";

/// The command that runs the script of a stage.
pub fn parse(script: &str) -> Result<Vec<Word>, String> {
    words_for(NAME, script, Group::OF_STAGE, |_| "set --".into())
}

/// The command that runs a script of a cluster, called `name`; words that follow are its `"$@"`.
pub(crate) fn parse_for_cluster(name: &str, script: &str) -> Result<Vec<Word>, String> {
    words_for(name, script, Group::OF_CLUSTER, |places| format!("shift {places}"))
}

fn words_for(
    name: &str,
    script: &str,
    groups: Groups,
    clear: impl FnOnce(usize) -> String,
) -> Result<Vec<Word>, String> {
    if script.trim().is_empty() {
        return Err("the script is empty".into());
    }
    let mut reader = Reader { groups, places: Vec::new() };
    let text = reader.read(script, Frame::Plain)?;
    let given: Vec<String> =
        reader.places.iter().enumerate().map(|(i, (_, _, name))| format!("{name}=${{{}}}", i + 1)).collect();
    // On the first line, so that the lines in bash's messages are those of the script.
    let text = match given.is_empty() {
        true => text,
        false => format!("{}; {}; {text}", given.join(" "), clear(given.len())),
    };
    let literal = |text: &str| Word(vec![Part::Text(text.into())]);
    let mut words: Vec<Word> = SHELL.map(literal).to_vec();
    words.extend([literal(&text), literal(name)]);
    words.extend(reader.places.into_iter().map(|(group, name, _)| Word(vec![Part::Slot(group, name)])));
    Ok(words)
}

/// The words of a script that may name files: not what is written to (after `>`), nor its comments.
pub fn words(script: &str) -> Vec<String> {
    let mut words = Vec::new();
    for line in script.lines() {
        let (mut word, mut written, mut quote) = (String::new(), false, None);
        let mut end = |word: &mut String, written: &mut bool| {
            let word = std::mem::take(word);
            if !word.is_empty() && !std::mem::take(written) {
                words.push(word);
            }
        };
        for c in line.chars() {
            match (quote, c) {
                (None, '#') if word.is_empty() => break,
                (None, '\'' | '"') => quote = Some(c),
                (Some(q), c) if q == c => quote = None,
                (None, '>') => {
                    end(&mut word, &mut written);
                    written = true;
                }
                // In quotes as well: a script may name another one in its text.
                (_, c) if c.is_whitespace() || "|&;<()`".contains(c) => end(&mut word, &mut written),
                (_, c) => word.push(c),
            }
        }
        end(&mut word, &mut written);
    }
    words
}

/// What the reader is inside of.
#[derive(Clone, Copy, PartialEq)]
enum Frame {
    /// The script itself.
    Plain,
    /// `$(…)`, `(…)`.
    Paren,
    /// `` `…` ``.
    Backtick,
    /// `"…"`.
    Double,
    /// A here-document whose word is not quoted.
    Here,
    /// `${…}` of the shell.
    Brace,
    /// `$((…))`, `((…))`.
    Arithmetic,
}

/// A here-document that begins with the next line.
struct Here {
    word: String,
    quoted: bool,
    tabs: bool,
}

struct Reader {
    groups: Groups,
    /// Places in the order in which they first stand, with the names of their variables.
    places: Vec<(Group, String, String)>,
}

impl Reader {
    fn read(&mut self, script: &str, base: Frame) -> Result<String, String> {
        let mut frames = vec![base];
        let mut here: Vec<Here> = Vec::new();
        let mut text = String::with_capacity(script.len());
        let mut rest = script;
        while let Some(c) = rest.chars().next() {
            let top = frames[frames.len() - 1];
            // Braces are quoted where what holds them is.
            let outer = frames.iter().rev().copied().find(|f| *f != Frame::Brace).unwrap_or(base);
            let command = matches!(outer, Frame::Plain | Frame::Paren | Frame::Backtick);
            let mut taken = c.len_utf8();
            if let Some(after) = rest.strip_prefix("$${") {
                text.push_str("${");
                frames.push(Frame::Brace);
                rest = after;
                continue;
            }
            if let Some((group, name, after)) = template::slot(rest, self.groups)? {
                if outer == Frame::Arithmetic && matches!(group, Group::Inputs | Group::Outputs) {
                    return Err(format!("`${{{}.{name}}}` is a path and stands in arithmetic", group.name()));
                }
                let variable = self.variable(group, name);
                text += &if command { format!("\"${{{variable}}}\"") } else { format!("${{{variable}}}") };
                rest = after;
                continue;
            }
            let begins_word =
                text.is_empty() || text.ends_with(|c: char| c.is_whitespace() || ";|&()`".contains(c));
            match c {
                '\\' => taken += rest[1..].chars().next().map_or(0, char::len_utf8),
                '\'' if command => taken = self.single(rest, 1, false)?,
                '$' if command && rest.starts_with("$'") => taken = self.single(rest, 2, true)?,
                '#' if command && top != Frame::Brace && begins_word => {
                    taken = rest.find('\n').unwrap_or(rest.len());
                }
                '"' if top == Frame::Double => drop(frames.pop()),
                '"' if top != Frame::Here => frames.push(Frame::Double),
                '`' if top == Frame::Backtick => drop(frames.pop()),
                '`' => frames.push(Frame::Backtick),
                '$' if rest.starts_with("$((") => {
                    taken = 3;
                    frames.push(Frame::Arithmetic);
                }
                '$' if rest.starts_with("$(") => {
                    taken = 2;
                    frames.push(Frame::Paren);
                }
                '$' if rest.starts_with("${") => {
                    taken = 2;
                    frames.push(Frame::Brace);
                }
                '(' if command && begins_word && rest.starts_with("((") => {
                    taken = 2;
                    frames.push(Frame::Arithmetic);
                }
                '(' if command || top == Frame::Arithmetic => frames.push(Frame::Paren),
                ')' if top == Frame::Paren => drop(frames.pop()),
                ')' if top == Frame::Arithmetic && rest.starts_with("))") => {
                    taken = 2;
                    frames.pop();
                }
                '}' if top == Frame::Brace => drop(frames.pop()),
                '<' if command && rest.starts_with("<<<") => taken = 3,
                '<' if command && top != Frame::Brace && rest.starts_with("<<") => {
                    let (length, begun) = document(rest);
                    taken = length;
                    here.extend(begun);
                }
                '\n' if command && !here.is_empty() => {
                    text.push('\n');
                    rest = &rest[1..];
                    for here in here.drain(..) {
                        rest = self.document(rest, &here, &mut text)?;
                    }
                    continue;
                }
                _ => {}
            }
            text += &rest[..taken].replace("$${", "${");
            rest = &rest[taken..];
        }
        Ok(text)
    }

    /// Reads a here-document; what comes after it.
    fn document<'a>(&mut self, rest: &'a str, here: &Here, text: &mut String) -> Result<&'a str, String> {
        let mut end = 0;
        for line in rest.split_inclusive('\n') {
            let bare = line.trim_end_matches('\n');
            let bare = if here.tabs { bare.trim_start_matches('\t') } else { bare };
            if bare == here.word {
                break;
            }
            end += line.len();
        }
        let body = &rest[..end];
        match here.quoted {
            true => {
                self.refuse(
                    body,
                    "a here-document whose word is quoted",
                    "leave the quotes of its word out",
                )?;
                *text += &body.replace("$${", "${");
            }
            false => *text += &self.read(body, Frame::Here)?,
        }
        // The word itself, so that it is not read as a command.
        let word = rest[end..].split_inclusive('\n').next().unwrap_or_default();
        text.push_str(word);
        Ok(&rest[end + word.len()..])
    }

    /// The name of the variable for a place.
    fn variable(&mut self, group: Group, name: &str) -> String {
        if let Some((_, _, variable)) = self.places.iter().find(|(g, n, _)| *g == group && n == name) {
            return variable.clone();
        }
        let plain: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        let mut variable = format!("pipeline_{}_{plain}", group.name());
        while self.places.iter().any(|(_, _, other)| *other == variable) {
            variable.push('_');
        }
        self.places.push((group, name.into(), variable.clone()));
        variable
    }

    /// The length of a text in single quotes, in which nothing may be filled in.
    fn single(&self, rest: &str, begin: usize, escapes: bool) -> Result<usize, String> {
        let mut escaped = false;
        for (at, c) in rest[begin..].char_indices() {
            match c {
                _ if escaped => escaped = false,
                '\\' if escapes => escaped = true,
                '\'' => {
                    let end = begin + at + 1;
                    self.refuse(
                        &rest[..end],
                        "single quotes",
                        "end them before it (`'…'${…}'…'`), or use double quotes",
                    )?;
                    return Ok(end);
                }
                _ => {}
            }
        }
        Err("the script ends inside quotes".into())
    }

    /// Refuses places in a text that the shell does not look into.
    fn refuse(&self, text: &str, inside: &str, out: &str) -> Result<(), String> {
        let mut rest = text;
        while let Some(at) = rest.find("${") {
            let escaped = rest[..at].ends_with('$');
            rest = &rest[at..];
            if let (false, Some((group, name, _))) = (escaped, template::slot(rest, self.groups)?) {
                return Err(format!(
                    "`${{{}.{name}}}` stands inside {inside}, where nothing is filled in; {out}",
                    group.name()
                ));
            }
            rest = &rest[2..];
        }
        Ok(())
    }
}

/// What stands at `<<`: its length, and the here-document when there is one.
fn document(rest: &str) -> (usize, Option<Here>) {
    let tabs = rest[2..].starts_with('-');
    let begin = 2 + usize::from(tabs);
    let blanks = rest[begin..].len() - rest[begin..].trim_start_matches([' ', '\t']).len();
    let (mut word, mut quoted, mut quote, mut at) = (String::new(), false, None, begin + blanks);
    for c in rest[at..].chars() {
        match (quote, c) {
            (Some(q), c) if q == c => quote = None,
            (Some(_), c) => word.push(c),
            (None, '\'' | '"') => (quote, quoted) = (Some(c), true),
            (None, '\\') => quoted = true,
            (None, c) if c.is_whitespace() || ";|&<>()`".contains(c) => break,
            (None, c) => word.push(c),
        }
        at += c.len_utf8();
    }
    let here = (quoted || !word.is_empty()).then_some(Here { word, quoted, tabs });
    (at, here)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The script as bash gets it, without what gives the variables their values.
    fn text(script: &str) -> Result<String, String> {
        let words = parse(script)?;
        let text = words[4].literal().unwrap_or_default();
        Ok(text.split_once("set --; ").map_or(text, |(_, text)| text).into())
    }

    #[test]
    fn a_place_is_a_quoted_variable_wherever_it_stands() {
        for (script, expected) in [
            ("cat ${inputs.i}/*", "cat \"${V}\"/*"),
            ("cat \"a ${inputs.i}\"", "cat \"a ${V}\""),
            ("x=\"$(cat ${inputs.i} \"${inputs.i}\")\"", "x=\"$(cat \"${V}\" \"${V}\")\""),
            ("x=`cat ${inputs.i}`", "x=`cat \"${V}\"`"),
            ("# don't ${inputs.i}\ncat ${inputs.i} # it's", "# don't ${inputs.i}\ncat \"${V}\" # it's"),
            ("echo ${x:-${inputs.i}} a#b", "echo ${x:-\"${V}\"} a#b"),
            (
                "cat <<E; cat ${inputs.i}\n\"${inputs.i}\" it's\nE\ncat ${inputs.i}",
                "cat <<E; cat \"${V}\"\n\"${V}\" it's\nE\ncat \"${V}\"",
            ),
            ("cat <<-'E'\n$x\n\tE\ncat ${inputs.i}", "cat <<-'E'\n$x\n\tE\ncat \"${V}\""),
            ("echo \\\"${inputs.i} '\"' ${inputs.i}", "echo \\\"\"${V}\" '\"' \"${V}\""),
            ("echo $((1 << 2)) ${inputs.i}", "echo $((1 << 2)) \"${V}\""),
            ("case $x in a) cat ${inputs.i};; esac", "case $x in a) cat \"${V}\";; esac"),
            ("cat <<< ${inputs.i}\n${inputs.i}", "cat <<< \"${V}\"\n\"${V}\""),
            ("echo $'it\\'s' ${inputs.i}", "echo $'it\\'s' \"${V}\""),
        ] {
            let expected = expected.replace('V', "pipeline_inputs_i");
            assert_eq!(text(script).as_ref(), Ok(&expected), "{script}");
        }
    }

    #[test]
    fn what_the_shell_would_take_as_text_is_refused() {
        for (script, error) in [
            ("awk '{print \"${inputs.i}\"}'", "stands inside single quotes"),
            ("cat <<'E'\n${inputs.i}\nE", "stands inside a here-document whose word is quoted"),
            ("echo $((${inputs.i} + 1))", "is a path and stands in arithmetic"),
            ("echo 'a", "the script ends inside quotes"),
            ("cat ${input.i}", "names nothing; did you mean `inputs`?"),
            (" \n", "the script is empty"),
        ] {
            let told = text(script).unwrap_err();
            assert!(told.contains(error), "{script}: {told}");
        }
        let kept = text("echo $((${params.n} + 1)) '$${inputs.i}'").unwrap();
        assert_eq!(kept, "echo $((${pipeline_params_n} + 1)) '${inputs.i}'");
    }

    #[test]
    fn values_are_arguments_of_the_shell() {
        let words: Vec<String> = parse("cp ${inputs.a-b} ${inputs.a_b} ${outputs.o} ${inputs.a-b}")
            .unwrap()
            .iter()
            .map(Word::to_string)
            .collect();
        assert_eq!(words[..4], ["bash", "-euo", "pipefail", "-c"]);
        assert!(
            words[4].starts_with(
                "pipeline_inputs_a_b=$${1} pipeline_inputs_a_b_=$${2} pipeline_outputs_o=$${3}; set --; cp "
            ),
            "{}",
            words[4]
        );
        assert_eq!(words[5..], ["shell", "${inputs.a-b}", "${inputs.a_b}", "${outputs.o}"]);
    }

    #[test]
    fn words_that_may_name_files() {
        assert_eq!(
            words("python3 train.py --c=conf 'a b' > log 2>&1 # not this\nsh \"x.sh\">>ran"),
            ["python3", "train.py", "--c=conf", "a", "b", "2", "sh", "x.sh"]
        );
    }
}
