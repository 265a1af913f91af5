//! tch's operators panic where libtorch throws; where that is expected it becomes an error.

use anyhow::{Result, anyhow};
use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

thread_local! {
    /// Whether a panic of this thread says nothing by itself.
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Does work whose panic is an error, told by whoever gets it and nobody else.
///
/// # Errors
/// Those of `work`, and what libtorch has thrown.
pub(crate) fn caught<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !QUIET.get() {
                usual(panic);
            }
        }));
    });
    let outer = QUIET.replace(true);
    let result = catch_unwind(AssertUnwindSafe(work));
    QUIET.set(outer);
    result.unwrap_or_else(|panic| Err(anyhow!("{}", reason(panic.as_ref()))))
}

/// The first line of what libtorch has thrown, or of what was said otherwise.
fn reason(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
    let text = text.unwrap_or("a panic without a word");
    let text = text.split_once("Torch(\"").map_or(text, |(_, thrown)| thrown);
    text.split("\\n").next().and_then(|text| text.lines().next()).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind, Tensor};

    #[test]
    fn a_panic_says_why() {
        let error = |work: &dyn Fn() -> Result<()>| caught(work).unwrap_err().to_string();
        assert_eq!(error(&|| panic!("one\ntwo")), "one");
        let two = Tensor::zeros([2], (Kind::Float, Device::Cpu));
        let thrown = error(&|| two.view([3]).f_fill_(0.0).map(drop).map_err(Into::into));
        assert!(thrown.starts_with("shape '[3]' is invalid"), "{thrown}");
        assert_eq!(caught(|| Ok(1)).unwrap(), 1);
        let inner = caught(|| Ok(caught::<()>(|| anyhow::bail!("inner")).unwrap_err().to_string())).unwrap();
        assert_eq!(inner, "inner");
    }
}
