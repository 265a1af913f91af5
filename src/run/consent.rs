//! Asking before a long stage runs again only because its program changed.

use crate::action::Action;
use crate::cache::results;
use crate::cache::runs::Fate;
use crate::run::state::Runner;
use crate::session::Unit;
use crate::text::duration;

impl Runner<'_> {
    /// How long a unit took last time, when that was long and only its program is different now.
    pub(super) fn costly(&self, unit: &Unit) -> Option<f64> {
        let last = results::last(&self.session.store, &unit.label)?;
        let same = Action { program: last.action.program, ..unit.action.clone() } == last.action;
        let only_program = same && unit.action.program != last.action.program;
        let long = last.seconds > self.session.graph.ask_above.as_secs_f64();
        (only_program && long && !self.options.yes && !self.session.forced.contains(&unit.step))
            .then_some(last.seconds)
    }

    /// Asks whether a costly unit is to run again. Where nobody can be asked, it is not run.
    pub(super) fn ask(&mut self, unit: &Unit, seconds: f64) {
        let (label, took) = (&unit.label, duration(seconds));
        let question = format!("{label} took {took}, and only its program changed. Run it again? [y/N] ");
        if self.screen.ask(&question) {
            return;
        }
        let stage = &self.session.graph.steps[unit.step].stage;
        let text = format!(
            "not run: it took {took} and only its program changed; `--yes` runs it, `pipeline accept {stage}` keeps its outputs"
        );
        self.screen.say(&format!("{label}: {text}"));
        let progress = &mut self.progress[unit.step];
        progress.failed = Some(Fate::Failed);
        progress.reason = text;
    }
}
