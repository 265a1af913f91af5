//! Curves from lines of JSON: each number of each line over the line's step, however long the file is.

use crate::cache::metrics::{is_no_number, parse};
use serde::Serialize;
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use store::digest::Digest;

/// So many points a curve has at most; of more, means of as many neighbours as it takes.
const POINTS: usize = 2000;
/// So many curves a file has at most.
const NAMES: usize = 64;
/// So many bytes of a file are read for its curves.
const MOST: u64 = 512 << 20;
/// A line of more bytes is none of a log.
const LINE: u64 = 1 << 20;
/// So many files' curves are remembered.
const KEPT: usize = 256;
/// What a line may call its place, the first of these that it has.
const PLACES: [&str; 6] = ["step", "iteration", "epoch", "images", "samples", "time"];

/// One curve.
#[derive(Clone, Debug, Serialize)]
pub struct Curve {
    pub name: String,
    pub x_name: String,
    pub x: Vec<f64>,
    /// `None` where it is not finite.
    pub y: Vec<Option<f64>>,
}

/// The curves of contents that were read before: a content never changes.
#[derive(Default)]
pub struct Curves(Mutex<HashMap<Digest, Arc<Vec<Curve>>>>);

impl Curves {
    /// Those of a file of the store.
    pub fn of(&self, digest: &Digest, path: &Path) -> Arc<Vec<Curve>> {
        let lock = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = lock().get(digest) {
            return Arc::clone(known);
        }
        let curves = Arc::new(of_file(path));
        let mut known = lock();
        if known.len() >= KEPT {
            known.clear();
        }
        known.insert(*digest, Arc::clone(&curves));
        curves
    }
}

/// The curves of a file of JSON lines; none of a file of anything else.
pub fn of_file(path: &Path) -> Vec<Curve> {
    let Ok(file) = store::contents::open(path) else { return Vec::new() };
    let mut reader = BufReader::new(file.take(MOST));
    let (mut lines, mut line) = (Lines::new(values), Vec::new());
    loop {
        line.clear();
        match reader.by_ref().take(LINE).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => break,
            Ok(_) => lines.take(&line),
        }
    }
    lines.curves()
}

/// The values of a line, and its step where it is told otherwise than by them.
pub type Numbers = fn(Value) -> Option<(Map<String, Value>, Option<u64>)>;

/// A line is its values.
pub fn values(line: Value) -> Option<(Map<String, Value>, Option<u64>)> {
    match line {
        Value::Object(values) => Some((values, None)),
        _ => None,
    }
}

/// A line is something that a stage reports of itself while it runs.
pub fn measured(line: Value) -> Option<(Map<String, Value>, Option<u64>)> {
    match serde_json::from_value(line) {
        Ok(stage::Event::Metrics { step, values }) => Some((values, Some(step))),
        _ => None,
    }
}

/// The curves of the lines so far.
pub struct Lines {
    numbers: Numbers,
    /// A step that comes again is done again: what was written of it and of later ones before counts no more.
    again: bool,
    curves: Vec<Growing>,
    places: HashMap<String, usize>,
    count: u64,
    /// The first of them was none of a log.
    other: bool,
}

impl Lines {
    /// Of none.
    pub fn new(numbers: Numbers) -> Self {
        let (curves, places) = (Vec::new(), HashMap::new());
        Self { numbers, again: false, curves, places, count: 0, other: false }
    }

    /// The same, of a file in which a task that is tried again goes on.
    pub fn again(numbers: Numbers) -> Self {
        Self { again: true, ..Self::new(numbers) }
    }

    /// Takes the next.
    pub fn take(&mut self, line: &[u8]) {
        let text = line.trim_ascii();
        if text.is_empty() || self.other {
            return;
        }
        let value = Some(text).filter(|text| text[0] == b'{').and_then(|text| parse(text).ok());
        let Some(value) = value else {
            // Not a file of such lines at all, unless some were.
            self.other = self.count == 0;
            return;
        };
        self.count += 1;
        let Some((values, step)) = (self.numbers)(value) else { return };
        let named = PLACES.iter().find_map(|place| Some((*place, values.get(*place)?.as_f64()?)));
        let (x_name, x) = match (step, named) {
            (Some(step), _) => ("step", step as f64),
            (None, Some(named)) => named,
            (None, None) => ("line", self.count as f64),
        };
        for (name, value) in &values {
            let y = match value {
                Value::Number(n) => n.as_f64(),
                Value::String(text) if is_no_number(text) => None,
                _ => continue,
            };
            if name == x_name {
                continue;
            }
            let place = match self.places.get(name) {
                Some(place) => *place,
                None if self.curves.len() < NAMES => {
                    self.curves.push(Growing::new(name, x_name));
                    self.places.insert(name.clone(), self.curves.len() - 1);
                    self.curves.len() - 1
                }
                None => continue,
            };
            if self.again {
                self.curves[place].cut(x);
            }
            self.curves[place].add(x, y);
        }
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Whether they are of something else than a log.
    pub fn is_other(&self) -> bool {
        self.other
    }

    /// Takes them for something else.
    pub fn give_up(&mut self) {
        self.other = true;
    }

    /// What they are by now.
    pub fn curves(&self) -> Vec<Curve> {
        self.curves.iter().map(Growing::curve).collect()
    }
}

/// A curve that grows, in buckets that grow with it.
struct Growing {
    name: String,
    x_name: String,
    /// Points of a bucket.
    width: usize,
    buckets: Vec<Bucket>,
}

#[derive(Clone, Copy, Default)]
struct Bucket {
    points: usize,
    x: f64,
    /// Of those that are finite.
    finite: usize,
    y: f64,
}

impl Growing {
    fn new(name: &str, x_name: &str) -> Self {
        Self { name: name.into(), x_name: x_name.into(), width: 1, buckets: Vec::new() }
    }

    fn add(&mut self, x: f64, y: Option<f64>) {
        if self.buckets.last().is_none_or(|last| last.points >= self.width) {
            if self.buckets.len() >= POINTS {
                self.halve();
            }
            if self.buckets.last().is_none_or(|last| last.points >= self.width) {
                self.buckets.push(Bucket::default());
            }
        }
        let Some(last) = self.buckets.last_mut() else { return };
        last.points += 1;
        last.x += x;
        if let Some(y) = y.filter(|y| y.is_finite()) {
            last.finite += 1;
            last.y += y;
        }
    }

    fn halve(&mut self) {
        let pairs = self.buckets.chunks(2).map(|pair| {
            pair.iter().fold(Bucket::default(), |a, b| Bucket {
                points: a.points + b.points,
                x: a.x + b.x,
                finite: a.finite + b.finite,
                y: a.y + b.y,
            })
        });
        self.buckets = pairs.collect();
        self.width *= 2;
    }

    /// Forgets what is at `x` and beyond.
    fn cut(&mut self, x: f64) {
        while self.buckets.last().is_some_and(|last| last.x / last.points.max(1) as f64 >= x) {
            self.buckets.pop();
        }
    }

    fn curve(&self) -> Curve {
        let x = self.buckets.iter().map(|b| b.x / b.points.max(1) as f64).collect();
        let y = self.buckets.iter().map(|b| (b.finite > 0).then(|| b.y / b.finite as f64)).collect();
        Curve { name: self.name.clone(), x_name: self.x_name.clone(), x, y }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write;

    fn of(text: &str) -> Vec<Curve> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        std::fs::write(&path, text).unwrap();
        of_file(&path)
    }

    #[test]
    fn every_number_of_a_line_is_a_point_of_its_curve() {
        let curves = of(
            "{\"step\":10,\"loss\":2.0,\"word\":\"x\"}\n\n{\"step\":20,\"loss\":\"nan\",\"late\":1}\n{\"step\":3",
        );
        let shown: Vec<_> = curves.iter().map(|c| (c.name.as_str(), c.x.clone(), c.y.clone())).collect();
        assert_eq!(
            shown,
            [("loss", vec![10.0, 20.0], vec![Some(2.0), None]), ("late", vec![20.0], vec![Some(1.0)])]
        );
        assert_eq!(curves[0].x_name, "step");
        // As Python writes it, also in the first line.
        let text = "{\"step\":1,\"loss\":NaN,\"lr\":1}\n{\"step\":2,\"loss\":-Infinity,\"lr\":2}\n{\"step\":3,\"loss\":1,\"lr\":3}\n";
        let curves = of(text);
        assert_eq!(curves[0].y, [None, None, Some(1.0)]);
        assert_eq!(
            (&curves[1].x, &curves[1].y),
            (&vec![1.0, 2.0, 3.0], &vec![Some(1.0), Some(2.0), Some(3.0)])
        );
        assert!(of("hello\n{\"a\":1}\n").is_empty() && of("[1]\n").is_empty() && of("").is_empty());
    }

    #[test]
    fn a_long_log_keeps_its_shape_in_few_points() {
        let mut text = String::new();
        for step in 0..10_001 {
            writeln!(text, "{{\"step\":{step},\"y\":{}}}", step * 2).unwrap();
        }
        let curve = &of(&text)[0];
        assert!((POINTS / 2..=POINTS).contains(&curve.x.len()), "{}", curve.x.len());
        for (x, y) in curve.x.iter().zip(&curve.y) {
            assert!((y.unwrap() - 2.0 * x).abs() < 1e-9);
        }
        assert!(curve.x.is_sorted() && (curve.x.last().unwrap() - 10_000.0).abs() < 8.0);
    }

    #[test]
    fn of_events_the_measured_are_points_and_a_step_that_is_done_again_counts_once() {
        let mut lines = Lines::again(measured);
        lines.take(br#"{"event":"progress","done":1,"total":2,"unit":"s"}"#);
        for (step, loss) in [(5, 0.5), (10, 0.4), (15, 0.3), (10, 0.2)] {
            let line =
                format!(r#"{{"event":"metrics","step":{step},"values":{{"step":{step},"loss":{loss}}}}}"#);
            lines.take(line.as_bytes());
        }
        let curves = lines.curves();
        assert_eq!((curves.len(), curves[0].name.as_str()), (1, "loss"));
        assert_eq!((&curves[0].x, &curves[0].y), (&vec![5.0, 10.0], &vec![Some(0.5), Some(0.2)]));
    }
}
