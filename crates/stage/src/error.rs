//! Errors that choose the exit code, and the code of any error.

/// The caller's mistake or bad data, not ours: exit code 2. The text names the thing, the place and the way out.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct BadInput(pub String);

/// Stopped on request, with everything needed to go on saved: exit code 75.
#[derive(Debug, thiserror::Error)]
#[error("stopped on request; run again to go on")]
pub struct Stopped;

/// Failed for a reason that may pass, such as a busy server: exit code 75.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct TryAgain(pub String);

/// Makes any error the caller's: `read(path).bad_input(|| format!("reading {path}"))`.
pub trait BadInputExt<T> {
    /// Turns an error into [`BadInput`] with this context before its cause.
    ///
    /// # Errors
    /// The same ones, as exit code 2.
    fn bad_input<S: std::fmt::Display>(self, context: impl FnOnce() -> S) -> anyhow::Result<T>;
}

impl<T, E: Into<anyhow::Error>> BadInputExt<T> for Result<T, E> {
    fn bad_input<S: std::fmt::Display>(self, context: impl FnOnce() -> S) -> anyhow::Result<T> {
        self.map_err(|e| {
            let e: anyhow::Error = e.into();
            // A stop or a passing fault stays what it is; everything else becomes the caller's.
            match exit_code(&e) {
                1 => e.context(BadInput(context().to_string())),
                _ => e.context(context().to_string()),
            }
        })
    }
}

/// The exit code for an error: 2 for [`BadInput`], 75 for [`Stopped`] and [`TryAgain`], else 1.
pub fn exit_code(error: &anyhow::Error) -> u8 {
    if error.downcast_ref::<BadInput>().is_some() {
        2
    } else if error.downcast_ref::<Stopped>().is_some() || error.downcast_ref::<TryAgain>().is_some() {
        75
    } else {
        1
    }
}

/// Returns early with [`BadInput`], formatted like `bail!`.
#[macro_export]
macro_rules! bad_input {
    ($($format:tt)*) => { return Err($crate::BadInput(format!($($format)*)).into()) };
}
pub(crate) use bad_input;

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::{Context as _, anyhow};

    #[test]
    fn context_keeps_the_code() {
        let bad: anyhow::Error = BadInput("no such file".into()).into();
        assert_eq!(exit_code(&bad.context("reading x")), 2);
        let io: anyhow::Result<()> = Err(anyhow!("short"));
        let e = io.bad_input(|| "reading shard 3").unwrap_err();
        assert_eq!((exit_code(&e), format!("{e:#}")), (2, "reading shard 3: short".into()));
        assert_eq!(e.root_cause().to_string(), "short");
        let stop: anyhow::Result<()> = Err(Stopped.into());
        assert_eq!(exit_code(&stop.bad_input(|| "x").unwrap_err()), 75);
        assert_eq!(exit_code(&anyhow!("x")), 1);
        assert_eq!(exit_code(&Err::<(), _>(TryAgain("busy".into())).context("y").unwrap_err()), 75);
    }
}
