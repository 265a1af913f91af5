//! Values that a command pastes into the text of a shell (`sh -c 'cat ${inputs.x}'`), where a blank splits them and a `$(…)`
//! in a file name is run.

use crate::error::{Error, Result};
use crate::graph::{Call, Graph, Source, Step};
use crate::template::{Group, Part, Word};

/// Refuses a value that a shell may read as more than one plain word.
pub fn refuse(graph: &Graph) -> Result<()> {
    graph.steps.iter().try_for_each(|step| check(graph, step))
}

fn check(graph: &Graph, step: &Step) -> Result<()> {
    let Call::Command(mark, words) = &step.call else { return Ok(()) };
    let Some(script) = script(words) else { return Ok(()) };
    for part in &script.0 {
        let Part::Slot(group, name) = part else { continue };
        let Some(why) = unsafe_value(graph, step, *group, name) else { continue };
        let text = format!(
            "`${{{}.{name}}}` is pasted into the text of a shell, and {why}; write `shell:`, or `\"$1\"` in the text and \
             the place after it",
            group.name()
        );
        return Err(Error::mistake(mark, text));
    }
    Ok(())
}

/// The word that a shell reads as its program.
fn script(words: &[Word]) -> Option<&Word> {
    let literal = |i: usize| words.get(i).and_then(Word::literal);
    let shell = |word: &str| {
        let name = word.rsplit('/').next().unwrap_or(word);
        ["sh", "bash", "dash", "zsh", "ksh", "ash"].contains(&name)
    };
    let at = (0..words.len()).find(|i| literal(*i).is_some_and(shell))?;
    let flag = (at + 1..words.len())
        .take_while(|i| literal(*i).is_some_and(|w| w.starts_with('-') || w == "pipefail"))
        .find(|i| literal(*i).is_some_and(|w| !w.starts_with("--") && w.contains('c')))?;
    // After `-euo pipefail -c`, or `-c -e`.
    (flag + 1..words.len())
        .find(|i| !literal(*i).is_some_and(|w| w.starts_with('-') && w != "--"))
        .map(|i| &words[i])
}

/// What a value may hold beside plain characters.
fn unsafe_value(graph: &Graph, step: &Step, group: Group, name: &str) -> Option<String> {
    let odd = |what: &str, text: &str| {
        let plain = |c: char| c.is_alphanumeric() || "-_./=:,+@%".contains(c);
        (!text.chars().all(plain)).then(|| format!("{what} `{text}` would not stay one word there"))
    };
    let value = |pairs: &[(String, crate::de::Marked<crate::de::Text>)]| {
        pairs.iter().find(|(n, _)| n == name).and_then(|(_, value)| odd("its value", &value.0))
    };
    match group {
        Group::Params => value(&step.params),
        Group::Tuning => value(&step.tuning),
        Group::Job => None,
        Group::Outputs => {
            step.outputs.iter().find(|o| o.name == name).and_then(|o| odd("its file name", &o.file))
        }
        Group::Inputs => {
            let index = step.inputs.iter().position(|i| i.name == name)?;
            match &step.inputs[index].source {
                _ if step.each == Some(index) => {
                    Some("the names of the entries that it stands for may be anything".into())
                }
                Source::Path(path) => odd("its path", &path.display().to_string()),
                Source::Output(from, output) => {
                    odd("its file name", &graph.steps[*from].outputs[*output].file)
                }
                Source::Lineage | Source::Across(_) => None,
            }
        }
    }
}
