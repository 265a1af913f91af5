//! The stream of a run's events: each is written down, then shown, by whoever wants to.

use crate::cache::events::RunEvent;
use crate::cache::runs::{AttemptReport, Report, StageReport, Status};
use crate::screen::Screen;
use std::borrow::Cow;
use std::collections::HashMap;
use study::hidden;

/// Somebody who is told of every event.
pub type Listener = Box<dyn FnMut(&RunEvent)>;

/// Where the events of a run go.
pub struct Stream {
    screen: Screen,
    listeners: Vec<Listener>,
    recorder: Recorder,
}

impl Stream {
    /// A stream that a person sees.
    pub fn new(screen: Screen) -> Self {
        Self { screen, listeners: Vec::new(), recorder: Recorder::default() }
    }

    /// Adds somebody who is told of every event from now on.
    pub fn listen(&mut self, listener: Listener) {
        self.listeners.push(listener);
    }

    /// Something happened.
    pub fn emit(&mut self, mut event: RunEvent) {
        if let RunEvent::Message { text, .. } | RunEvent::Warning { text } | RunEvent::LogLine { text, .. } =
            &mut event
            && let Cow::Owned(shown) = hidden(text)
        {
            *text = shown;
        }
        self.screen.show(&event);
        self.listeners.iter_mut().for_each(|listener| listener(&event));
        self.recorder.take(event);
    }

    /// Something for people to read.
    pub fn say(&mut self, of: &str, text: impl Into<String>) {
        self.emit(RunEvent::Message { of: Some(of.into()), text: text.into() });
    }

    /// The person before the screen.
    pub fn screen(&mut self) -> &mut Screen {
        &mut self.screen
    }

    /// The record of the run so far.
    pub fn report(self) -> Report {
        self.recorder.report()
    }

    /// Whether more happened than looking, or a person wants to know of it.
    pub fn worth_keeping(&self) -> bool {
        let looked = |row: &StageReport| matches!(row.status, Status::Cached | Status::Replaced);
        let named = self.recorder.report.as_ref().is_some_and(|r| r.name.is_some() || r.note.is_some());
        named || !self.recorder.attempts.is_empty() || self.recorder.rows.iter().flatten().any(|r| !looked(r))
    }
}

/// Makes the record of a run from its events.
#[derive(Default)]
struct Recorder {
    report: Option<Report>,
    /// The places of the stages, and what became of each so far.
    places: HashMap<String, usize>,
    rows: Vec<Option<StageReport>>,
    attempts: Vec<AttemptReport>,
}

impl Recorder {
    fn take(&mut self, event: RunEvent) {
        match event {
            RunEvent::RunStarted { run, study, started, stages, name, note, asked } => {
                self.rows = vec![None; stages.len()];
                self.places = stages.into_iter().enumerate().map(|(place, stage)| (stage, place)).collect();
                let runner = env!("CARGO_PKG_VERSION").into();
                let report = Report { run, study, started, finished: started, ..Report::default() };
                self.report = Some(Report { name, note, asked, runner, ..report });
            }
            RunEvent::StageEnded { row } => {
                // One that is made again ends again; what comes last counts.
                if let Some(place) = self.places.get(&row.stage) {
                    self.rows[*place] = Some(row);
                }
            }
            RunEvent::AttemptEnded { report } => self.attempts.push(report),
            RunEvent::RunEnded { finished, facts, error } => {
                if let Some(report) = &mut self.report {
                    (report.finished, report.error) = (finished, error);
                    report.facts = facts.unwrap_or_default();
                }
            }
            _ => {}
        }
    }

    fn report(self) -> Report {
        let stages = self.rows.into_iter().flatten().collect();
        Report { stages, attempts: self.attempts, ..self.report.unwrap_or_default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_what_the_events_say_in_the_order_of_the_stages() {
        let mut recorder = Recorder::default();
        let stages = vec!["a".to_string(), "b".into(), "c".into()];
        let (run, study) = ("r".to_string(), "s".to_string());
        let (name, note, asked) = (None, None, crate::cache::runs::Asked::default());
        recorder.take(RunEvent::RunStarted { run, study, started: 5, stages, name, note, asked });
        for (stage, status) in [("b", Status::Cached), ("a", Status::Ran), ("b", Status::Ran)] {
            let row = StageReport { stage: stage.into(), status, ..StageReport::default() };
            recorder.take(RunEvent::StageEnded { row });
        }
        recorder.take(RunEvent::RunEnded { finished: 9, facts: None, error: None });
        let report = recorder.report();
        assert_eq!((report.started, report.finished, report.study.as_str()), (5, 9, "s"));
        let rows: Vec<_> = report.stages.iter().map(|row| (row.stage.as_str(), row.status.clone())).collect();
        assert_eq!(rows, [("a", Status::Ran), ("b", Status::Ran)]);
    }
}
