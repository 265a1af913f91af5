//! What the fuzz targets share: how much memory a reader may hold.

#[global_allocator]
static COUNTED: measure::Counted = measure::Counted;

/// A reader may hold so many bytes for each that it is given: the smallest entry of a list has 6, and stands as a path, a kind, a
/// digest and a size.
const FACTOR: usize = 64;
/// And so many whatever it is given: a reader of bytes by itself.
pub const READER: usize = 128 << 10;
/// One that also writes into a store, with its buffers and threads.
pub const STORE: usize = 16 << 20;

/// Does the work on so many bytes.
///
/// # Panics
/// When it held more memory than `FACTOR` times them and `fixed`.
pub fn bounded<T>(bytes: usize, fixed: usize, work: impl FnOnce() -> T) -> T {
    measure::bounded(bytes, FACTOR, fixed, work)
}
