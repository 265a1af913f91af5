//! Other runs of the study that are under way: what they give appears under the same names in `out/`.

use crate::cache::events::RunEvent;
use crate::cache::runs::Asked;
use crate::run::journal::is_left;
use crate::run::logs::started;
use crate::run::stream::Stream;
use crate::session::Session;
use crate::text::shown;
use store::{Area, Store, name};

/// A run of another process.
struct Other {
    run: String,
    asked: Asked,
}

/// Tells of runs with other values that are under way, unless they are among those that were `told` of.
pub fn tell(session: &Session, run: &str, told: &mut Vec<String>, stream: &mut Stream) {
    let differs = |other: &Other| values(&other.asked) != values(&session.asked);
    for other in others(&session.store, run).into_iter().filter(differs) {
        if told.contains(&other.run) {
            continue;
        }
        let words = values(&other.asked);
        let words = if words.is_empty() { "the study as it stands".into() } else { shown(&words) };
        let text = format!(
            "another run of this study is going on, {} ({words}): out/ will show the outputs of the one that ends last; \
             variants have folders of their own",
            other.run
        );
        stream.emit(RunEvent::Warning { text });
        told.push(other.run);
    }
}

/// What decides the outputs of a run.
fn values(asked: &Asked) -> Vec<String> {
    let profile = asked.profile.iter().map(|name| ("--profile", name));
    let set = asked.set.iter().map(|text| ("--set", text));
    let with = asked.with.iter().map(|text| ("--with", text));
    profile.chain(set).chain(with).flat_map(|(flag, value)| [flag.to_string(), value.clone()]).collect()
}

/// Those of this study that write a journal and have no record yet.
fn others(store: &Store, run: &str) -> Vec<Other> {
    let folders = store.list(Area::Logs);
    let names = folders.iter().filter_map(|path| path.file_name()).map(name::text);
    let open =
        names.filter(|name| name != run && !store.run(name).is_file() && !is_left(&store.journal(name)));
    let other = |run: String| match started(store, &run)? {
        RunEvent::RunStarted { study, asked, .. } if study == store.study => Some(Other { run, asked }),
        _ => None,
    };
    open.filter_map(other).collect()
}
