//! An allocator that counts, so that a reader's memory is held to a factor of what it reads.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

/// The system's allocator, counted: for a program's `#[global_allocator]`. What libraries of other languages take does not come
/// here.
pub struct Counted;

// SAFETY: every call is handed on unchanged to the system's allocator; the counting allocates nothing.
unsafe impl GlobalAlloc for Counted {
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

/// Runs a reader of `size` bytes and checks that it never held more than `factor` bytes for each of them, and `fixed`.
///
/// # Panics
/// When it did, which is what a fuzzer looks for.
pub fn bounded<T>(size: usize, factor: usize, fixed: usize, read: impl FnOnce() -> T) -> T {
    let before = LIVE.load(Relaxed);
    PEAK.store(before, Relaxed);
    let read = read();
    let held = PEAK.load(Relaxed).saturating_sub(before);
    let allowed = factor * size + fixed;
    assert!(held <= allowed, "{held} bytes held for {size} that were read; {allowed} are allowed");
    read
}
