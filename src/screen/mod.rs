//! What a person sees while stages run: one bar per running stage on a terminal, plain lines elsewhere.

pub mod colour;
mod gauge;
pub mod show;

use crate::stderr;
use crate::text::{duration, safe, safe_line, significant};
use colour::Colour;
use gauge::Gauge;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::fmt::Write;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// How often a plain line tells of progress.
const PLAIN_INTERVAL: Duration = Duration::from_secs(15);

/// No more bars than these are shown, whatever runs at the same time.
const MOST_BARS: usize = 16;

/// The screen, or its absence.
pub struct Screen {
    bars: MultiProgress,
    terminal: bool,
    quiet: bool,
    running: HashMap<String, Row>,
    /// How many of them have bars.
    shown: usize,
    done: usize,
    started: Instant,
    /// Some of it is on a cluster; what runs, waits and is done is counted there.
    far: bool,
    total: Option<ProgressBar>,
    counted: Instant,
    /// Since the first stage that has GPUs.
    gauge: Option<Gauge>,
}

/// How fast it goes and how long it takes, once that is known.
fn pace(state: &ProgressState, text: &mut dyn Write) {
    let (rate, left) = (state.per_sec(), state.eta());
    // Nobody can be told when the screen is gone.
    if rate > 0.0 && rate.is_finite() {
        let _ = write!(text, " {}/s", significant(rate));
    }
    if left >= Duration::from_millis(500) {
        let _ = write!(text, " {} left", duration(left.as_secs_f64().round()));
    }
}

struct Row {
    /// Hidden where it is not shown.
    bar: ProgressBar,
    shown: bool,
    /// It waits in the queue of a cluster.
    queued: bool,
    started: Instant,
    told: Instant,
    metrics: String,
    /// The last line of its log, while it says nothing else.
    text: Option<String>,
    gpus: Vec<String>,
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
            queued: false,
            started: now,
            told: now,
            metrics: String::new(),
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
        let style = ProgressStyle::with_template("{prefix:12} {spinner} {elapsed} {wide_msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        bar.set_prefix(safe_line(stage));
        bar.enable_steady_tick(Duration::from_millis(250));
        (row.bar, row.shown) = (bar, true);
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

    /// Where a cluster does something, how many run, wait and are done, and how long all of it has taken.
    fn count(&mut self) {
        if !self.far || !self.terminal || self.running.is_empty() {
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
        format!("{} running, {queued} queued, {} done", self.running.len() - queued, self.done)
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
            let style =
                ProgressStyle::with_template("{prefix:12} {wide_bar} {human_pos}/{human_len} {msg}{pace}");
            let style = style.map(|style| style.with_key("pace", pace));
            row.bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            row.bar.set_length(total);
            // What was done before is no measure of what is done now.
            row.bar.set_position(done);
            row.bar.reset_eta();
        }
        let gpu = self.gauge.as_ref().map(|gauge| gauge.of(&row.gpus)).unwrap_or_default();
        row.bar.set_message(safe_line(format!("{unit} {} {gpu}", row.metrics).trim()));
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
            row.bar.set_message(safe_line(text));
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
        if let Some(total) = self.total.take_if(|_| self.running.is_empty()) {
            total.finish_and_clear();
        }
    }

    /// A stage is over.
    pub fn finish(&mut self, stage: &str, line: &str) {
        self.finish_quietly(stage);
        self.say(&format!("{stage}: {line}"));
    }
}
