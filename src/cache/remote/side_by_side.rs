//! Results on their way side by side: each waits for the network most of its time.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Results that are on their way at the same time.
pub const MOST: usize = 64;

/// What `act` makes of each item, in their order, or the first error. After one, nothing more is begun.
pub fn side_by_side<T, R, E>(items: &[T], act: impl Fn(&T) -> Result<R, E> + Sync) -> Result<Vec<R>, E>
where
    T: Sync,
    R: Send,
    E: Send,
{
    let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let made = items.iter().map(|_| Mutex::new(None)).collect::<Vec<_>>();
    std::thread::scope(|scope| {
        for _ in 0..MOST.min(items.len()) {
            scope.spawn(|| {
                while !failed.load(Ordering::Relaxed)
                    && let Some((item, place)) = at(items, &made, next.fetch_add(1, Ordering::Relaxed))
                {
                    let result = act(item);
                    if result.is_err() {
                        failed.store(true, Ordering::Relaxed);
                    }
                    if let Ok(mut place) = place.lock() {
                        *place = Some(result);
                    }
                }
            });
        }
    });
    made.into_iter().filter_map(|place| place.into_inner().ok().flatten()).collect()
}

fn at<'a, T, P>(items: &'a [T], places: &'a [P], index: usize) -> Option<(&'a T, &'a P)> {
    items.get(index).zip(places.get(index))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn results_are_in_order_and_made_side_by_side() {
        let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let items: Vec<usize> = (0..300).collect();
        let made = side_by_side(&items, |item| {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(2));
            now.fetch_sub(1, Ordering::SeqCst);
            Ok::<_, ()>(2 * item)
        });
        assert_eq!(made.unwrap(), items.iter().map(|item| 2 * item).collect::<Vec<_>>());
        assert!((2..=MOST).contains(&most.load(Ordering::SeqCst)));
    }

    #[test]
    fn the_first_error_ends_it() {
        let begun = AtomicUsize::new(0);
        let items: Vec<usize> = (0..10_000).collect();
        let made = side_by_side(&items, |item| {
            begun.fetch_add(1, Ordering::SeqCst);
            if *item == 5 { Err("no") } else { Ok(()) }
        });
        assert_eq!(made, Err("no"));
        assert!(begun.load(Ordering::SeqCst) < items.len());
    }
}
