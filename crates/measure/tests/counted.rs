//! Memory that is counted, in a program of its own: others' would be counted too.

use measure::{Counted, bounded};

#[global_allocator]
static COUNTED: Counted = Counted;

#[test]
fn what_is_held_is_counted_at_its_peak() {
    const LARGE: usize = 64 << 20;
    let held = || drop(std::hint::black_box(vec![1_u8; LARGE]));
    bounded(LARGE, 1, 1 << 20, held);
    assert!(std::panic::catch_unwind(|| bounded(LARGE / 4, 2, 1 << 20, held)).is_err());
    // What was given back is held no more.
    let twice = || [held(), held()];
    bounded(LARGE, 1, 1 << 20, twice);
}
