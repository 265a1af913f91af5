//! The `main` of every stage: arguments in, exit code out.

use crate::{Arguments, BadInput, Context, Role, Values, exit_code};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::ExitCode;

/// Reads the command line, answers `--describe`, checks that the inputs exist, and calls `work`.
///
/// An error is printed once, on one line, with its chain of causes.
pub fn main<A: Arguments>(work: impl FnOnce(&A, &Context) -> anyhow::Result<()>) -> ExitCode {
    let spec = A::spec();
    let values = match Values::from_command_line(&spec, std::env::args_os().skip(1)) {
        Ok(Some(values)) => values,
        Ok(None) => return ExitCode::SUCCESS,
        Err(code) => return code,
    };
    let done = A::from_values(&values).and_then(|args| {
        for arg in spec.of(Role::Input) {
            if let Some(path) = values.text(&arg.name).filter(|p| !Path::new(p).exists()) {
                return Err(BadInput(format!("--{} {path}: no such file or folder", arg.name)).into());
            }
        }
        let context = Context::from_environment(&spec, &values)?;
        let result = catch_unwind(AssertUnwindSafe(|| work(&args, &context)));
        let result = result.unwrap_or_else(|_| Err(anyhow::anyhow!("stopped by the fault reported above")));
        context.finish(result.is_ok());
        result
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e:#}");
            ExitCode::from(exit_code(&e))
        }
    }
}
