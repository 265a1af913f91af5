//! How often a batch system is asked about jobs: once in an interval, once more in it for what is new, and never more often,
//! whatever comes and goes. It is on disk, so that a runner that comes after a killed one keeps to it as well.

use serde::{Deserialize, Serialize};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use store::record;

/// Calls in any stretch of time as long as the interval.
const MOST: usize = 2;

/// When a system was asked.
#[derive(Debug, Default)]
pub struct Pace {
    /// When the last calls were over, the latest last.
    over: Vec<Instant>,
    /// What is known is out of date: the next question does not wait for its time.
    stale: bool,
}

/// The same on disk.
#[derive(Default, Serialize, Deserialize)]
struct Noted {
    /// Seconds since 1970.
    over: Vec<f64>,
    /// One call was being made.
    under_way: bool,
}

impl Pace {
    /// That of whoever wrote the file last, as far as it still counts.
    pub fn after(file: &Path) -> Self {
        let (now, clock) = (Instant::now(), clock());
        let noted: Noted = record::read(file).unwrap_or_default();
        // Another machine's clock may be ahead.
        let age = |at: f64| Duration::try_from_secs_f64((clock - at).max(0.0)).ok();
        let mut pace = Self::default();
        let over = noted.over.into_iter().filter_map(|at| now.checked_sub(age(at)?));
        over.chain(noted.under_way.then_some(now)).for_each(|at| pace.called(at));
        pace
    }

    /// Makes a call, and notes it in a file before and after.
    pub fn call<T>(&mut self, file: &Path, ask: impl FnOnce() -> T) -> T {
        self.note(file, true);
        let answer = ask();
        self.called(Instant::now());
        self.note(file, false);
        answer
    }

    fn note(&self, file: &Path, under_way: bool) {
        let over = self.over.iter().map(|at| clock() - at.elapsed().as_secs_f64()).collect();
        // At worst the next runner asks once too often.
        let _ = record::write(file, &Noted { over, under_way }, false);
    }

    /// Whether it is time for a question of so many calls. `fresh` says that there are jobs of which nothing is known.
    pub fn is_due(&self, now: Instant, interval: Duration, calls: usize, fresh: bool) -> bool {
        let since = |at: &Instant| now.saturating_duration_since(*at);
        let Some(last) = self.over.last() else { return true };
        let pause = match fresh {
            true => (interval / 2).min(Duration::from_secs(1).max(interval / 4)),
            false => interval,
        };
        let recent = self.over.iter().filter(|at| since(at) < interval).count();
        (self.stale || since(last) >= pause) && recent + calls <= MOST
    }

    /// A call is over.
    fn called(&mut self, now: Instant) {
        if self.over.len() == MOST {
            self.over.remove(0);
        }
        self.over.push(now);
        self.stale = false;
    }

    /// Something was done that changes what is known.
    pub fn hurry(&mut self) {
        self.stale = true;
    }
}

fn clock() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Asks whenever it may, every 10 ms of a minute; when the questions were.
    fn asked(interval: u64, calls: usize, fresh: bool, hurry: bool) -> Vec<u64> {
        let (begun, mut pace, mut all) = (Instant::now(), Pace::default(), Vec::new());
        for ms in (0..60_000).step_by(10) {
            let now = begun + Duration::from_millis(ms);
            if hurry {
                pace.hurry();
            }
            if pace.is_due(now, Duration::from_millis(interval), calls, fresh) {
                (0..calls).for_each(|_| pace.called(now));
                all.extend(std::iter::repeat_n(ms, calls));
            }
        }
        all
    }

    #[test]
    fn no_interval_sees_more_than_two_calls() {
        for interval in [1000, 2000, 5000, 20_000] {
            for (calls, fresh, hurry) in
                [(1, false, false), (1, true, false), (1, true, true), (2, true, true), (2, false, false)]
            {
                let all = asked(interval, calls, fresh, hurry);
                let close = all.windows(3).find(|three| three[2] - three[0] < interval);
                assert_eq!(close, None, "every {interval} ms, {calls} at a time, fresh {fresh}");
                let one = u64::from(!(fresh || hurry || calls == 2));
                assert!(all.len() as u64 >= 120_000 / interval - one * 60_000 / interval, "{all:?}");
            }
        }
    }

    #[test]
    fn a_runner_after_a_killed_one_keeps_to_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("asked");
        let due = |ms| Pace::after(&file).is_due(Instant::now(), Duration::from_millis(ms), 1, true);
        assert!(due(60_000));
        let mut pace = Pace::default();
        pace.call(&file, || pace_of_the_killed(&file));
        assert!(!due(60_000) && due(0));
        pace.call(&file, || ());
        std::thread::sleep(Duration::from_millis(10));
        // Two calls were made; in an interval that is over, one more is allowed.
        assert!(!due(60_000) && due(8));
    }

    /// While the call is made, it counts as one.
    fn pace_of_the_killed(file: &Path) {
        assert_eq!(Pace::after(file).over.len(), 1);
    }

    #[test]
    fn what_is_new_is_asked_about_sooner() {
        assert_eq!(asked(5000, 1, true, false)[..4], [0, 1250, 5000, 6250]);
        assert_eq!(asked(5000, 1, false, true)[..4], [0, 10, 5000, 5010]);
        assert_eq!(asked(5000, 1, false, false)[..3], [0, 5000, 10_000]);
    }
}
