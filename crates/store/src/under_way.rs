//! How far the reader of a folder may be ahead of those who look at what it lists.

use std::sync::{Condvar, Mutex, PoisonError};

/// So many batches wait or are looked at, for each core; then the folder is not read on before one is done. Names that wait
/// take as much memory as what becomes of them.
const WAITING: usize = 2;

/// How many batches are under way.
#[derive(Default)]
pub(crate) struct UnderWay {
    count: Mutex<usize>,
    fewer: Condvar,
}

/// The end of a batch, however it comes.
pub(crate) struct Ends<'a>(&'a UnderWay);

impl UnderWay {
    /// Waits until one more may begin. On one of the threads that look at them nobody waits: what there is no room for is
    /// done at once.
    pub fn begin(&self) -> bool {
        let most = WAITING * rayon::current_num_threads();
        let mut count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        if *count >= most && rayon::current_thread_index().is_some() {
            return false;
        }
        while *count >= most {
            count = self.fewer.wait(count).unwrap_or_else(PoisonError::into_inner);
        }
        *count += 1;
        true
    }

    /// Is held until a batch that has begun has ended.
    pub fn end(&self) -> Ends<'_> {
        Ends(self)
    }
}

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        *self.0.count.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        self.0.fewer.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn no_more_are_under_way_than_may_be_and_all_come_to_their_end() {
        let (under_way, now, most) = (UnderWay::default(), AtomicUsize::new(0), AtomicUsize::new(0));
        let look = || {
            most.fetch_max(now.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
            std::thread::yield_now();
            now.fetch_sub(1, Ordering::Relaxed);
        };
        rayon::in_place_scope(|scope| {
            for _ in 0..500 {
                assert!(under_way.begin(), "a thread that looks at nothing waits");
                scope.spawn(|_| {
                    let _ends = under_way.end();
                    look();
                });
            }
        });
        assert!(most.load(Ordering::Relaxed) <= WAITING * rayon::current_num_threads());
        // One that would wait for itself does it at once.
        rayon::scope(|_| {
            let begun = (0..1000).filter(|_| under_way.begin()).count();
            assert_eq!(begun, WAITING * rayon::current_num_threads());
            (0..begun).for_each(|_| drop(under_way.end()));
        });
        assert_eq!(*under_way.count.lock().unwrap(), 0);
    }
}
