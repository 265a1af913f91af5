//! What the targets share: the bound that every reader must keep. libtorch's own allocations are not counted; libFuzzer's
//! `-malloc_limit_mb` sees them.

#[global_allocator]
static COUNTED: measure::Counted = measure::Counted;

/// What a reader may use whatever the file's size: buffers of readers and of decompression.
pub const ALLOWANCE: usize = 1 << 20;

/// Runs a reader and checks that it never held more than `factor` bytes for each byte of the file, and [`ALLOWANCE`].
///
/// # Panics
/// When it did, which is what the fuzzer looks for.
pub fn bounded(size: usize, factor: usize, read: impl FnOnce()) {
    measure::bounded(size, factor, ALLOWANCE, read);
}
