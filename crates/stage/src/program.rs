//! The `main` of every stage: arguments in, exit code out.

use crate::question::{CHECK, Question, answer};
use crate::{Arguments, Context, Values, contract, exit_code};
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

/// Reads the command line, answers `--describe`, checks that the inputs are there and that the outputs may be written, and calls
/// `work`.
///
/// An error is printed once, on one line, with its chain of causes.
pub fn main<A: Arguments>(work: impl FnOnce(&A, &Context) -> anyhow::Result<()>) -> ExitCode {
    main_with(&[], work)
}

/// The same for a program that also answers questions.
pub fn main_with<A: Arguments>(
    questions: &[Question],
    work: impl FnOnce(&A, &Context) -> anyhow::Result<()>,
) -> ExitCode {
    if let Some(answer) = answer(questions) {
        return match answer {
            Ok(text) => {
                // A reader that closes the pipe early has seen enough.
                let _ = std::io::stdout().write_all(text.as_bytes());
                ExitCode::SUCCESS
            }
            Err(e) => failed(&e),
        };
    }
    let mut spec = A::spec();
    spec.check = questions.iter().any(|question| question.name == CHECK);
    let values = match Values::parse(&spec, questions, std::env::args_os().skip(1)) {
        Ok(Some(values)) => values,
        Ok(None) => return ExitCode::SUCCESS,
        Err(code) => return code,
    };
    let done = A::from_values(&values).and_then(|args| {
        let state = A::state().map(|layout| Context::state_of(&spec, &values, layout));
        let events = Context::events();
        contract::check(&args, &spec, &values, state.as_ref(), events.as_deref())?;
        let context = Context::new(events.as_deref(), state)?;
        let result = catch_unwind(AssertUnwindSafe(|| work(&args, &context)));
        let result = result.unwrap_or_else(|_| Err(anyhow::anyhow!("stopped by the fault reported above")));
        context.finish(&result);
        result
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => failed(&e),
    }
}

/// The `main` of a bench with arguments of its own: no context, no `--describe`, the same errors and exit codes.
pub fn bench<A: Arguments>(work: impl FnOnce(&A) -> anyhow::Result<()>) -> ExitCode {
    // cargo says that this is a bench.
    let words = std::env::args_os().skip(1).filter(|word| word != "--bench");
    let values = match Values::from_command_line(&A::spec(), words) {
        Ok(Some(values)) => values,
        Ok(None) => return ExitCode::SUCCESS,
        Err(code) => return code,
    };
    match A::from_values(&values).and_then(|args| work(&args)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => failed(&e),
    }
}

fn failed(e: &anyhow::Error) -> ExitCode {
    eprintln!("error: {}", line(&format!("{e:#}")));
    ExitCode::from(exit_code(e))
}

/// An error on one line. What a library has thrown goes on with where in its own code it was, which helps nobody here.
fn line(text: &str) -> String {
    let said = text.split("\nException raised from ").next().unwrap_or(text);
    said.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_line() {
        let thrown = "linalg.eigh: failed\nException raised from apply at Linalg.cpp:12 (most recent call first):\nframe #0: x\n";
        assert_eq!(line(thrown), "linalg.eigh: failed");
        assert_eq!(line("reading a\n  b: no\n"), "reading a b: no");
    }
}
