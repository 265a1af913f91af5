//! Who is told how a transfer gets on.

/// Who is told how a transfer gets on.
pub trait Watch: Sync {
    /// Bytes that have been moved, of all.
    fn progress(&self, done: u64, total: u64);
    /// A line for people.
    fn say(&self, text: &str);
    /// Whether it is to end.
    fn stopped(&self) -> bool;
}

/// Tells warnings only.
pub struct Quiet;

impl Watch for Quiet {
    fn progress(&self, _: u64, _: u64) {}
    fn say(&self, text: &str) {
        crate::stderr::line(text);
    }
    fn stopped(&self) -> bool {
        false
    }
}
