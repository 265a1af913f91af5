//! What the targets share: an allocator that counts, and the bound that every reader must keep.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// What a reader may use whatever the file's size: buffers of readers and of decompression.
pub const ALLOWANCE: usize = 1 << 20;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

/// The system's allocator, counted. libtorch's own allocations do not come here; libFuzzer's `-malloc_limit_mb` sees them.
struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

// SAFETY: every call is handed on unchanged to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let live = LIVE.fetch_add(layout.size(), Relaxed) + layout.size();
        PEAK.fetch_max(live, Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// Runs a reader and checks that it never held more than `factor` bytes for each byte of the file, and [`ALLOWANCE`].
///
/// # Panics
/// When it did, which is what the fuzzer looks for.
pub fn bounded(size: usize, factor: usize, read: impl FnOnce()) {
    let before = LIVE.load(Relaxed);
    PEAK.store(before, Relaxed);
    read();
    let held = PEAK.load(Relaxed).saturating_sub(before);
    let allowed = factor * size + ALLOWANCE;
    assert!(held <= allowed, "{held} bytes held for a file of {size}; {allowed} are allowed");
}
