//! What the stages that would run are expected to cost: by earlier runs of the same program with the same parameters, else
//! by what the study says.

use crate::cache::results::ActionResult;
use crate::name_map::NameMap;
use crate::session::Session;
use crate::session::plan::{Planned, State};
use rayon::prelude::*;
use serde::Serialize;
use std::collections::BTreeMap;
use store::{Area, record};
use study::file::Cost;
use study::graph::{Call, Step};
use study::sharded;

/// What a unit of work is called, where a program says of a parameter that it counts some. Of several parameters in one
/// unit the largest is the work; the others are parts of it.
const WORK: [&str; 4] = ["steps", "images", "rows", "samples"];
/// Parameters that cost nothing.
const FREE: &str = "seed";

/// What one stage is expected to cost.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Estimate {
    pub stage: String,
    /// How many parts of it would run; of one that is mapped over what is not there yet that is not known.
    pub parts: Option<usize>,
    /// How long one part takes.
    pub seconds: Option<f64>,
    pub gpu_hours: Option<f64>,
    pub cpu_hours: Option<f64>,
    /// Bytes of its outputs.
    pub disk: Option<u64>,
    /// GPUs that one part takes.
    pub gpus: u32,
    pub basis: Basis,
}

/// What an estimate rests on.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "from")]
pub enum Basis {
    /// Earlier results of the program with these parameters, or with more or less of the work.
    Runs {
        count: usize,
        newest: u64,
        host: Option<String>,
        scaled: Option<f64>,
    },
    /// The study's `cost:`.
    Study,
    Nothing,
}

/// All of them together.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Total {
    pub gpu_hours: f64,
    pub cpu_hours: f64,
    pub disk: u64,
    /// From the first to the last stage, when none waits for room.
    pub seconds: f64,
    /// The most GPUs that one part takes.
    pub gpus: u32,
    /// Stages of which something is not known, which the sums lack.
    pub unknown: Vec<String>,
}

/// What the stages of a plan that would run are expected to cost, and all of them together.
pub fn estimate(session: &Session, planned: &[Planned]) -> (Vec<Estimate>, Total) {
    let runs = |of: &&Planned| matches!(of.state, State::ToRun { .. } | State::Waiting { .. });
    let planned: BTreeMap<&str, &Planned> =
        planned.iter().filter(runs).map(|of| (of.stage.as_str(), of)).collect();
    let past = if planned.is_empty() { Vec::new() } else { results(session) };
    let (mut all, mut total, mut ends) =
        (Vec::new(), Total::default(), vec![0.0_f64; session.graph.steps.len()]);
    if planned.contains_key("build") {
        total.unknown.push("build".into());
    }
    for (i, step) in session.graph.steps.iter().enumerate() {
        let begins = step.needs().map(|need| ends[need]).fold(0.0, f64::max);
        ends[i] = begins;
        let Some(of) = planned.get(step.id.as_str()) else { continue };
        let estimate = one(session, i, of, &past);
        ends[i] += estimate.seconds.unwrap_or(0.0);
        total.add(&estimate);
        all.push(estimate);
    }
    total.seconds = ends.into_iter().fold(0.0, f64::max);
    (all, total)
}

impl Total {
    fn add(&mut self, one: &Estimate) {
        self.gpu_hours += one.gpu_hours.unwrap_or(0.0);
        self.cpu_hours += one.cpu_hours.unwrap_or(0.0);
        self.disk += one.disk.unwrap_or(0);
        self.gpus = self.gpus.max(one.gpus);
        if one.gpu_hours.is_none() || one.cpu_hours.is_none() || one.disk.is_none() {
            self.unknown.push(one.stage.clone());
        }
    }
}

/// Every result that the store has a record of.
fn results(session: &Session) -> Vec<ActionResult> {
    let records = session.store.list(Area::Results);
    records.par_iter().filter_map(|path| record::read::<ActionResult>(path)).collect()
}

fn one(session: &Session, i: usize, planned: &Planned, past: &[ActionResult]) -> Estimate {
    let step = &session.graph.steps[i];
    let processes = study::Processes::of(step.processes);
    let (gpus, cpus) = (step.resources.gpus * processes, step.resources.cpus.unwrap_or(1) * processes);
    let params = params(session, i);
    let of_past = by_past(step, &params, &counted(session, i, &params), past);
    let of_study = || by_study(step.cost.as_ref()?, &params, gpus, cpus);
    let (guess, basis) = match of_past {
        Some((guess, basis)) => (guess, basis),
        None => of_study().map_or((Guess::default(), Basis::Nothing), |guess| (guess, Basis::Study)),
    };
    let parts = planned.parts;
    let hours = |each: u32| guess.seconds.zip(parts).map(|(s, n)| s * n as f64 * f64::from(each) / 3600.0);
    let none = |each: u32| (each == 0).then_some(0.0);
    Estimate {
        stage: planned.stage.clone(),
        parts,
        seconds: guess.seconds,
        gpu_hours: hours(gpus).or(none(gpus)),
        cpu_hours: hours(cpus),
        disk: guess.disk.zip(parts).map(|(bytes, n)| bytes * n as u64),
        gpus,
        basis,
    }
}

/// What one part of a stage takes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Guess {
    seconds: Option<f64>,
    disk: Option<u64>,
}

/// The parameters of a step: all in use where its program is there to say, else those of the study.
fn params(session: &Session, i: usize) -> BTreeMap<String, String> {
    let given = || session.graph.steps[i].params.iter().map(|(name, value)| (name.clone(), value.0.clone()));
    session.programs[i].as_ref().map_or_else(|| given().collect(), |program| program.params.clone())
}

/// The parameters that count the work of a step.
fn counted(session: &Session, i: usize, params: &BTreeMap<String, String>) -> Vec<String> {
    let said = session.graph.steps[i].cost.iter().flat_map(Cost::counted);
    let said: Vec<String> = said.map(|name| name.value.clone()).collect();
    if !said.is_empty() {
        return said;
    }
    let Some(program) = &session.programs[i] else { return said };
    let largest = |unit: &str| {
        let of = program.units.iter().filter(|(_, counts)| *counts == unit).map(|(name, _)| name);
        let valued = of.filter_map(|name| Some((params.get(name)?.parse::<f64>().ok()?, name)));
        valued.max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, name)| name.clone())
    };
    WORK.into_iter().filter_map(largest).collect()
}

/// By results of the same program with the same parameters, as far as they are no count of work. Of several the nearest
/// in work, and of those the newest.
fn by_past(
    step: &Step,
    params: &BTreeMap<String, String>,
    counted: &[String],
    past: &[ActionResult],
) -> Option<(Guess, Basis)> {
    let alike = past.iter().filter_map(|result| {
        let same = match &step.call {
            Call::Run(name) => result.action.template.first() == Some(&name.value),
            Call::Command(..) => result.action.stage == step.stage,
        };
        let scale = if same { scale(params, &result.action.params, counted)? } else { return None };
        // A result of no work says nothing of more.
        (scale.is_finite() && scale > 0.0).then_some((result, scale))
    });
    let alike: Vec<(&ActionResult, f64)> = alike.collect();
    let far = |scale: f64| scale.ln().abs();
    let (nearest, scale) = alike
        .iter()
        .min_by(|a, b| far(a.1).total_cmp(&far(b.1)).then(b.0.finished.cmp(&a.0.finished)))
        .copied()?;
    let processes = |said| f64::from(study::Processes::of(said));
    let faster = processes(step.processes) / processes(nearest.processes);
    let seconds = Some(nearest.seconds * scale / faster);
    let disk = Some(nearest.outputs.values().map(|output| output.bytes).sum());
    let basis = Basis::Runs {
        count: alike.len(),
        newest: nearest.finished,
        host: nearest.ran.as_ref().map(|ran| ran.machine.host.clone()).filter(|host| !host.is_empty()),
        scaled: (scale != 1.0 || faster != 1.0).then_some(scale / faster),
    };
    Some((Guess { seconds, disk }, basis))
}

/// How much more work `now` is than `then`; `None` where they differ in more than that.
fn scale(now: &BTreeMap<String, String>, then: &NameMap<String>, counted: &[String]) -> Option<f64> {
    let free = |name: &str| name == FREE || sharded::PARAMS.contains(&name);
    let names = now.keys().chain(then.keys().filter(|name| !now.contains_key(*name)));
    let mut scale = 1.0;
    for name in names.filter(|name| !free(name)) {
        let (now, then) = (now.get(name), then.get(name));
        if now == then {
            continue;
        }
        if !counted.contains(name) {
            return None;
        }
        scale *= now?.parse::<f64>().ok()? / then?.parse::<f64>().ok()?;
    }
    Some(scale)
}

/// By what the study says; `None` where it says nothing of these parameters.
fn by_study(cost: &Cost, params: &BTreeMap<String, String>, gpus: u32, cpus: u32) -> Option<Guess> {
    if cost.when.iter().any(|(name, value)| params.get(name.as_str()) != Some(&value.0)) {
        return None;
    }
    let work = |(name, each): (&str, f64)| Some(each * params.get(name)?.parse::<f64>().ok()?);
    let gpu = cost.gpu_seconds_per.iter().map(|(name, each)| work((name.as_str(), *each)));
    let cpu = cost.cpu_seconds_per.iter().map(|(name, each)| work((name.as_str(), *each)));
    let of_gpus = cost.gpu_hours * 3600.0 + gpu.sum::<Option<f64>>()?;
    let of_cpus = cost.cpu_hours * 3600.0 + cpu.sum::<Option<f64>>()?;
    // Work on the processor that goes on beside a GPU's takes no time of its own.
    let time = f64::max(of_gpus / f64::from(gpus.max(1)), of_cpus / f64::from(cpus.max(1)));
    let seconds = (time > 0.0).then_some(time);
    Some(Guess { seconds, disk: cost.disk.map(|bytes| bytes.0) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
    }

    #[test]
    fn only_work_and_seeds_may_differ() {
        let counted = ["iterations".to_string()];
        let then = map(&[("iterations", "2000"), ("model", "s"), ("seed", "0")]);
        let then: NameMap<String> = then.into_iter().collect();
        let of = |now: &[(&str, &str)]| scale(&map(now), &then, &counted);
        assert_eq!(of(&[("iterations", "2000"), ("model", "s"), ("seed", "0")]), Some(1.0));
        assert_eq!(of(&[("iterations", "5000"), ("model", "s"), ("seed", "7")]), Some(2.5));
        assert_eq!(of(&[("iterations", "5000"), ("model", "xl"), ("seed", "0")]), None);
        assert_eq!(of(&[("iterations", "5000"), ("seed", "0")]), None);
        assert_eq!(of(&[("iterations", "many"), ("model", "s")]), None);
        assert_eq!(of(&[("iterations", "2000"), ("model", "s"), ("precision", "bf16")]), None);
    }
}
