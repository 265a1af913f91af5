//! Questions that a program answers in place of its work.

/// Something that a program answers in place of its work: `train --summary …`.
pub struct Question {
    /// The flag, without its dashes.
    pub name: &'static str,
    /// What is answered.
    pub help: &'static str,
    /// The answer, from the other words of the command line.
    pub answer: fn(&[String]) -> anyhow::Result<String>,
}

/// The answer to the question on the command line, if there is one.
pub(crate) fn answer(questions: &[Question]) -> Option<anyhow::Result<String>> {
    let mut words: Vec<String> = std::env::args().skip(1).collect();
    let asked = |word: &String| word.strip_prefix("--").and_then(|w| questions.iter().find(|q| q.name == w));
    let at = words.iter().position(|word| asked(word).is_some())?;
    let question = asked(&words.remove(at))?;
    Some((question.answer)(&words))
}

/// The question whose answer is the parameters in force.
pub const CHECK: &str = "check";
