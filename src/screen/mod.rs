//! What a person sees while stages run: one bar per running stage on a terminal, plain lines elsewhere.

pub mod colour;
mod gauge;
pub mod pace;
pub mod show;

use crate::stderr;
use crate::text::{duration, safe, safe_line, significant};
use colour::Colour;
use gauge::Gauge;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use pace::Pace;
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// How often a plain line tells of progress.
const PLAIN_INTERVAL: Duration = Duration::from_secs(15);

/// No more bars than these are shown, whatever runs at the same time.
const MOST_BARS: usize = 16;

/// A terminal of fewer columns has no room for a bar beside its words.
const NARROW: u16 = 60;

/// The screen, or its absence.
pub struct Screen {
    bars: MultiProgress,
    terminal: bool,
    quiet: bool,
    running: HashMap<String, Row>,
    /// How many of them have bars.
    shown: usize,
    done: usize,
    /// Stages of the run, and those of them that have ended.
    stages: [usize; 2],
    started: Instant,
    /// Some of it is on a cluster; what runs, waits and is done is counted there.
    far: bool,
    total: Option<ProgressBar>,
    counted: Instant,
    /// Since the first stage that has GPUs.
    gauge: Option<Gauge>,
}

struct Row {
    /// Hidden where it is not shown.
    bar: ProgressBar,
    shown: bool,
    /// Its words alone are shown.
    narrow: bool,
    /// It waits in the queue of a cluster.
    queued: bool,
    started: Instant,
    told: Instant,
    metrics: String,
    pace: Pace,
    /// The last line of its log, while it says nothing else.
    text: Option<String>,
    gpus: Vec<String>,
}

impl Row {
    /// What it says of itself.
    fn word(&self, stage: &str, text: &str) {
        let named = if self.narrow { format!("{stage} {text}") } else { text.into() };
        self.bar.set_message(safe_line(&named));
    }
}

/// How wide the terminal is, where there is one.
fn columns() -> Option<u16> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the call writes what it was given room for.
    let known = unsafe { libc::ioctl(libc::STDERR_FILENO, libc::TIOCGWINSZ, &raw mut size) } == 0;
    Some(size.ws_col).filter(|columns| known && *columns > 0)
}

impl Screen {
    /// `quiet` shows nothing but what goes wrong.
    pub fn new(quiet: bool) -> Self {
        let terminal = std::io::stderr().is_terminal() && !quiet;
        let target = if terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        Self {
            bars: MultiProgress::with_draw_target(target),
            terminal,
            quiet,
            running: HashMap::new(),
            shown: 0,
            done: 0,
            stages: [0; 2],
            started: Instant::now(),
            far: false,
            total: None,
            counted: Instant::now(),
            gauge: None,
        }
    }

    /// Says a line above the bars.
    pub fn say(&self, line: &str) {
        if !self.quiet {
            self.insist(line);
        }
    }

    /// Says a line that also those want to read who want quiet.
    pub fn insist(&self, line: &str) {
        self.tell(&safe(line));
    }

    /// Says that something is wrong.
    pub fn warn(&self, line: &str, colour: Colour) {
        let coloured = colour::wanted(std::io::stderr().is_terminal());
        let line = safe(line);
        self.tell(&if coloured { colour.paint(&line) } else { line });
    }

    fn tell(&self, line: &str) {
        if self.terminal {
            // Without a terminal to draw on there is nobody to tell.
            let _ = self.bars.println(line);
        } else {
            stderr::write(&format!("{line}\n"));
        }
    }

    /// Asks a person; where there is none, the answer is no.
    pub fn ask(&self, question: &str) -> bool {
        if !std::io::stderr().is_terminal() || !std::io::stdin().is_terminal() {
            return false;
        }
        // Not `suspend`, which panics when the terminal has gone away.
        let _ = self.bars.clear();
        self.bars.set_draw_target(ProgressDrawTarget::hidden());
        stderr::write(&safe(question));
        let mut answer = String::new();
        let read = std::io::stdin().read_line(&mut answer);
        if self.terminal {
            self.bars.set_draw_target(ProgressDrawTarget::stderr());
        }
        read.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes")
    }

    /// A stage starts.
    pub fn start(&mut self, stage: &str, line: &str) {
        self.say(&format!("{stage}: {line}"));
        let now = Instant::now();
        let row = Row {
            bar: ProgressBar::hidden(),
            shown: false,
            narrow: false,
            queued: false,
            started: now,
            told: now,
            metrics: String::new(),
            pace: Pace::default(),
            text: None,
            gpus: Vec::new(),
        };
        self.running.insert(stage.into(), row);
        self.fill(stage);
    }

    /// Shows the bar of what runs, where there is room for one more.
    fn fill(&mut self, stage: &str) {
        let room = self.shown < MOST_BARS;
        let Some(row) = self.running.get_mut(stage).filter(|row| room && !row.queued && !row.shown) else {
            return;
        };
        let bar = self.bars.insert(0, ProgressBar::new_spinner().with_elapsed(row.started.elapsed()));
        row.narrow = columns().is_some_and(|columns| columns < NARROW);
        let template = if row.narrow { "{wide_msg}" } else { "{prefix:12} {spinner} {elapsed} {wide_msg}" };
        let style = ProgressStyle::with_template(template);
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        bar.set_prefix(safe_line(stage));
        bar.enable_steady_tick(Duration::from_millis(250));
        (row.bar, row.shown) = (bar, true);
        row.word(stage, "");
        self.shown += 1;
    }

    /// A stage waits in the queue of a cluster; it has no bar.
    fn queued(&mut self, stage: &str) {
        self.far = true;
        if let Some(row) = self.running.get_mut(stage) {
            row.queued = true;
            self.hide(stage);
        }
    }

    /// Its job begins.
    fn runs(&mut self, stage: &str) {
        if let Some(row) = self.running.get_mut(stage) {
            (row.queued, row.started) = (false, Instant::now());
        }
        self.fill(stage);
    }

    /// Takes a bar away, and shows one of those that had no room.
    fn hide(&mut self, stage: &str) {
        let Some(row) = self.running.get_mut(stage).filter(|row| row.shown) else {
            return;
        };
        row.bar.finish_and_clear();
        (row.bar, row.shown) = (ProgressBar::hidden(), false);
        self.shown -= 1;
        let next =
            self.running.iter().find(|(_, row)| !row.queued && !row.shown).map(|(name, _)| name.clone());
        if let Some(next) = next.filter(|next| next != stage) {
            self.fill(&next);
        }
    }

    /// Where a cluster does something, or there is more than can be shown, how many run, wait and are done, and how long all of it has
    /// taken.
    fn count(&mut self) {
        let many = self.stages[0].max(self.running.len() + self.done) > MOST_BARS;
        if !(self.far || many) || !self.terminal || self.running.is_empty() {
            return;
        }
        let line = self.counted();
        let style = ProgressStyle::with_template("{elapsed} {wide_msg}");
        let total = self.total.get_or_insert_with(|| {
            let bar = self.bars.add(ProgressBar::new_spinner().with_elapsed(self.started.elapsed()));
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
            bar
        });
        total.set_message(line);
    }

    fn counted(&self) -> String {
        let queued = self.running.values().filter(|row| row.queued).count();
        let running = self.running.len() - queued;
        match self.stages {
            _ if self.far => format!("{running} running, {queued} queued, {} done", self.done),
            [all, ended] if all > 1 => format!("{running} running, {ended} of {all} stages ended"),
            _ => format!("{running} running, {} done", self.done),
        }
    }

    /// A run of so many stages begins.
    fn begin(&mut self, stages: usize) {
        self.stages = [stages, 0];
    }

    /// One of them has ended.
    fn ended(&mut self) {
        // One that is made again ends again.
        self.stages[1] = self.stages[0].min(self.stages[1] + 1);
    }

    /// All is over.
    fn close(&mut self) {
        if let Some(total) = self.total.take() {
            total.finish_and_clear();
        }
    }

    /// A stage that was started has GPUs; how busy they are is shown with its progress.
    pub fn uses(&mut self, stage: &str, gpus: &[String]) {
        if let Some(row) = self.running.get_mut(stage).filter(|_| !gpus.is_empty() && !self.quiet) {
            row.gpus = gpus.to_vec();
            self.gauge.get_or_insert_with(Gauge::start);
        }
    }

    /// A stage is so far.
    pub fn progress(&mut self, stage: &str, done: u64, total: u64, unit: &str) {
        let Some(row) = self.running.get_mut(stage) else { return };
        row.text = None;
        if total > 0 && row.bar.length() != Some(total) {
            let template = match row.narrow {
                true => "{wide_msg}",
                false => "{prefix:12} {wide_bar} {human_pos}/{human_len} {msg}",
            };
            let style = ProgressStyle::with_template(template);
            row.bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            row.bar.set_length(total);
            row.pace.clear();
        }
        row.pace.take(Instant::now(), done);
        let rate = row.pace.rate().map(|rate| format!("{}/s", significant(rate)));
        let left = row.pace.left(total).filter(|left| *left >= 0.5);
        let left = left.map(|left| format!("{} left", duration(left.round())));
        let pace: Vec<String> = rate.into_iter().chain(left).collect();
        let gpu = self.gauge.as_ref().map(|gauge| gauge.of(&row.gpus)).unwrap_or_default();
        let counts = if row.narrow { format!("{done}/{total} ") } else { String::new() };
        row.word(stage, format!("{counts}{unit} {} {gpu} {}", row.metrics, pace.join(" ")).trim());
        row.bar.set_position(done);
        if row.told.elapsed() >= PLAIN_INTERVAL {
            row.told = Instant::now();
            let seconds = row.started.elapsed().as_secs();
            let line = format!("{stage}: {done}/{total} {unit}, {seconds} s {} {gpu}", row.metrics);
            if !self.terminal {
                self.say(line.trim());
            }
        }
    }

    /// Bytes of a transfer that are moved, of all; its bar comes with the first and goes with the last.
    pub fn track(&mut self, name: &str, what: &str, done: u64, total: u64) {
        if !self.running.contains_key(name) && self.terminal {
            self.start(name, what);
        }
        self.progress(name, done, total, "bytes");
        if done == total {
            self.finish_quietly(name);
        }
    }

    /// A stage measured something.
    pub fn metrics(&mut self, stage: &str, values: &Map<String, Value>) {
        let Some(row) = self.running.get_mut(stage) else { return };
        let words = values.iter().filter_map(|(name, value)| {
            let number = value.as_f64()?;
            Some(format!("{name} {}", significant(number)))
        });
        row.metrics = words.take(4).collect::<Vec<_>>().join(" ");
    }

    /// The last line of the log of a stage that says nothing else.
    fn log_line(&mut self, stage: &str, text: &str) {
        if let Some(row) = self.running.get_mut(stage) {
            row.word(stage, text);
            row.text = Some(text.to_string());
        }
    }

    /// Time has passed: where there are no bars, what runs is told of now and then.
    pub fn tick(&mut self) {
        if self.terminal || self.quiet {
            self.count();
            return;
        }
        if self.far && self.counted.elapsed() >= PLAIN_INTERVAL && !self.running.is_empty() {
            self.counted = Instant::now();
            stderr::line(format!("{}, {} s", self.counted(), self.started.elapsed().as_secs()));
        }
        for (stage, row) in &mut self.running {
            if let Some(text) = row.text.as_ref().filter(|_| row.told.elapsed() >= PLAIN_INTERVAL) {
                row.told = Instant::now();
                stderr::line(format!("{stage}: {text}"));
            }
        }
    }

    /// Whether this is being shown.
    fn has(&self, name: &str) -> bool {
        self.running.contains_key(name)
    }

    /// Work is over of which there is nothing to say.
    pub fn finish_quietly(&mut self, stage: &str) {
        self.hide(stage);
        if self.running.remove(stage).is_some() {
            self.done += 1;
        }
        if self.stages[0] == 0 && self.running.is_empty() {
            self.close();
        }
    }

    /// A stage is over.
    pub fn finish(&mut self, stage: &str, line: &str) {
        self.finish_quietly(stage);
        self.say(&format!("{stage}: {line}"));
    }
}
