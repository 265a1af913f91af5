//! How fast something goes, over its last seconds. What was done before anybody looked is no measure of it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Over how long a rate is taken, and from how long on.
const WINDOW: Duration = Duration::from_secs(15);
const LEAST: Duration = Duration::from_millis(500);

/// See the module.
#[derive(Default)]
pub struct Pace(VecDeque<(Instant, u64)>);

impl Pace {
    /// It was so far at a time.
    pub fn take(&mut self, at: Instant, done: u64) {
        // It began anew.
        if self.0.back().is_some_and(|(_, last)| *last > done) {
            self.0.clear();
        }
        self.0.push_back((at, done));
        while self.0.len() > 2 && at.duration_since(self.0[0].0) > WINDOW {
            self.0.pop_front();
        }
    }

    /// Another thing is counted.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// A second, once that is known.
    pub fn rate(&self) -> Option<f64> {
        let ((from, first), (at, done)) = (self.0.front()?, self.0.back()?);
        let time = at.duration_since(*from);
        (time >= LEAST && done > first).then(|| (done - first) as f64 / time.as_secs_f64())
    }

    /// How many seconds it takes still.
    pub fn left(&self, total: u64) -> Option<f64> {
        let (_, done) = self.0.back()?;
        self.rate().filter(|_| total > *done).map(|rate| (total - done) as f64 / rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_done_before_does_not_count() {
        let (mut pace, began) = (Pace::default(), Instant::now());
        let mut take = |millis: u64, done| {
            pace.take(began + Duration::from_millis(millis), done);
            (pace.rate(), pace.left(2000))
        };
        assert_eq!(take(0, 1000), (None, None));
        assert_eq!(take(100, 1001), (None, None), "two reports in a row say nothing");
        assert_eq!(take(1000, 1010), (Some(10.0), Some(99.0)));
        // Of long ago nothing counts either.
        take(20_000, 1020);
        assert_eq!(take(30_000, 1040), (Some(2.0), Some(480.0)));
        assert_eq!(take(31_000, 2000).1, None);
        assert_eq!(take(32_000, 5), (None, None), "it began anew");
    }
}
