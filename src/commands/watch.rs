//! `pipeline watch STAGE`.

use super::run::run_name;
use crate::cli::Global;
use crate::error::{Error, Result};
use crate::run::report::{Fate, Report};
use crate::run::screen::Screen;
use crate::run::stop::Stop;
use crate::run::watch::{Follower, LOOK};
use crate::run::{RunOptions, build};
use crate::session::Session;
use crate::survey::survey;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use store::lock;
use study::graph::Source;

/// An output that is followed: its step and its place among the step's outputs.
type Place = (usize, usize);

/// Runs stages on what a running stage has published so far, again and again until it is done; then once more on
/// all that it gave.
pub fn watch(global: &Global, stages: &[String], once: bool) -> Result<()> {
    let mut session = Session::open(&global.options(stages))?;
    let places = streams(&session, stages)?;
    let stop = Stop::on_signals()?;
    let mut screen = Screen::new(false);
    let busy = || screen.say("waiting for a gc of the store");
    let shared = lock::wait(&session.store.at("locks/store"), true, busy, || stop.asked())?;
    let Some(_shared) = shared else { return Err(Error::Interrupted) };
    build::build(&session, &run_name(), &mut screen, &stop)?;
    session.find_programs(false)?;
    let mut followers: BTreeMap<Place, (String, Follower)> = BTreeMap::new();
    let mut tried: HashSet<(Place, String)> = HashSet::new();
    let mut waits = false;
    let mut failed = Vec::new();
    while !stop.asked() {
        let found = survey(&session, |unit| session.lookup(unit))?;
        let open: Vec<Place> =
            places.iter().copied().filter(|(step, _)| found[*step].known.is_none()).collect();
        if open.is_empty() {
            followers.clear();
            let report = round(&session, global, &stop)?;
            return report.verdict(&stop);
        }
        for place in &open {
            let Some([(unit, _)]) = found[place.0].units.as_deref() else {
                if !std::mem::replace(&mut waits, true) {
                    screen.say(&format!("waiting until {} can start", session.graph.steps[place.0].id));
                }
                continue;
            };
            if followers.get(place).is_none_or(|(key, _)| *key != unit.key) {
                let output = &session.graph.steps[place.0].outputs[place.1];
                let Some(stream) = &output.stream else { continue };
                let name = format!("{}.{}", unit.label, output.name);
                let follower = Follower::start(&session, unit, output, stream)?
                    .ok_or_else(|| Error::Usage(format!("{name} is watched already")))?;
                screen.say(&format!("watching {name}"));
                followers.insert(*place, (unit.key.clone(), follower));
            }
        }
        let fresh = |(place, (_, follower)): (&Place, &(String, Follower))| {
            follower.entries().into_iter().any(|name| !tried.contains(&(*place, name)))
        };
        if followers.len() == open.len() && followers.iter().any(fresh) {
            let kept = session.wanted.clone();
            let mut names = BTreeMap::new();
            for (place, (_, follower)) in &followers {
                let entries = follower.entries();
                let folder = follower.snapshot(&session.store, &entries)?;
                let produced = session.store.adopt(&folder)?;
                let output = session.graph.steps[place.0].outputs[place.1].name.clone();
                session.replaced.entry(place.0).or_default().insert(output, produced);
                tried.extend(entries.iter().map(|name| (*place, name.clone())));
                names.insert(*place, entries);
            }
            session.want(stages)?;
            let report = round(&session, global, &stop)?;
            failed.extend(report.stages.into_iter().filter(|r| r.fate == Fate::Failed).map(|r| r.stage));
            for (place, entries) in names {
                followers[&place].1.forget(&entries)?;
                session.replaced.remove(&place.0);
            }
            session.wanted = kept;
        } else if once {
            break;
        }
        std::thread::sleep(LOOK);
    }
    failed.sort();
    failed.dedup();
    match failed.as_slice() {
        _ if stop.asked() => Err(Error::Interrupted),
        [] => Ok(()),
        _ => Err(Error::Failed(failed)),
    }
}

/// The streamed outputs that the wanted stages read.
fn streams(session: &Session, stages: &[String]) -> Result<Vec<Place>> {
    let steps = &session.graph.steps;
    let mut places = Vec::new();
    for (reader, _) in steps.iter().zip(&session.wanted).filter(|(_, wanted)| **wanted) {
        for input in &reader.inputs {
            if let Source::Output(step, output) = input.source
                && steps[step].outputs[output].stream.is_some()
                && !session.replaced.contains_key(&step)
            {
                places.push((step, output));
            }
        }
    }
    places.sort_unstable();
    places.dedup();
    if let Some((step, _)) = places.iter().find(|(step, _)| steps[*step].mapped()) {
        let text = format!("stage {} runs in several pieces; its outputs cannot be watched", steps[*step].id);
        return Err(Error::study(&steps[*step].mark, text));
    }
    if places.is_empty() {
        let text = format!("{} reads no output that is declared with `stream`", stages.join(", "));
        return Err(Error::Usage(text + "; e.g. `outputs: {checkpoints: {stream: true}}`"));
    }
    Ok(places)
}

/// One run over what is there.
fn round(session: &Session, global: &Global, stop: &Arc<Stop>) -> Result<Report> {
    let jobs = global.jobs.map(|n| n as usize);
    let options = RunOptions { jobs, yes: true, keep_going: true, gpus_from_top: true };
    let report = crate::run::run(session, &options, run_name(), stop, Screen::new(false))?;
    session.store.stats.save();
    Ok(report)
}
