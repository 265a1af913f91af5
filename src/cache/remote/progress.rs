//! Who is told how a transfer gets on.

/// Who is told how a transfer gets on.
pub trait Progress: Sync {
    /// Bytes that have been moved, of all.
    fn moved(&self, done: u64, total: u64);
    /// A line for people.
    fn say(&self, text: &str);
    /// Whether it is to end.
    fn stopped(&self) -> bool;
}

/// Tells warnings only.
pub struct Quiet;

impl Progress for Quiet {
    fn moved(&self, _: u64, _: u64) {}
    fn say(&self, text: &str) {
        crate::stderr::line(text);
    }
    fn stopped(&self) -> bool {
        false
    }
}
