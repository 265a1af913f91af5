//! Why a stage has to run.

use crate::cache::results;
use crate::session::{Session, Unit};

/// Why a stage has to run.
pub fn reasons(session: &Session, unit: &Unit) -> Vec<String> {
    if session.forced.contains(&unit.step) {
        return vec!["forced".into()];
    }
    let Some(last) = results::last(&session.store, &unit.label) else {
        return vec!["it never ran".into()];
    };
    let words = unit.action.differences(&last.action, |digest| session.store.manifest(digest));
    if words.is_empty() {
        vec!["its outputs are no longer in the store, or were changed there".into()]
    } else {
        words
    }
}
