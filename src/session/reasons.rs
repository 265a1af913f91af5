//! Why a stage has to run.

use crate::cache::results;
use crate::session::{Session, Task};

/// Why a stage has to run.
pub fn reasons(session: &Session, task: &Task) -> Vec<String> {
    if session.forced.contains(&task.step) {
        return vec!["forced".into()];
    }
    let Some(last) = results::last(&session.store, &task.label) else {
        return vec!["it never ran".into()];
    };
    let words = task.action.differences(&last.action, |digest| session.store.manifest(digest));
    if words.is_empty() {
        vec!["its outputs are no longer in the store, or were changed there".into()]
    } else {
        words
    }
}
