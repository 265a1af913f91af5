//! A batch system that is brought up on this machine for a test, and what must hold with each.

use crate::study::{Study, alive, said, until};
use std::process::{Child, Command, Output};
use std::time::Duration;

/// See the module.
pub trait Site: Sync {
    /// What a study says of it, above its stages.
    const STUDY: &str;
    /// What a stage says whose job is to stay in the queue.
    const HELD: &str;

    /// A command that knows where it is.
    fn on(&self, command: Command) -> Command;

    /// What is in its queue, with the jobs' names.
    fn queue(&self) -> String;

    fn study(&self, stages: &str) -> Study {
        Study::new(&format!("name: far\n{}stages:\n{stages}", Self::STUDY))
    }

    fn command(&self, study: &Study, arguments: &[&str]) -> Command {
        self.on(study.command(arguments))
    }

    fn run(&self, study: &Study, arguments: &[&str]) -> Output {
        self.command(study, &[&["run"], arguments].concat()).output().unwrap()
    }

    fn start(&self, study: &Study) -> Child {
        let log = std::fs::File::create(study.path("runner.log")).unwrap();
        self.command(study, &["run"]).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap()
    }
}

/// What is to hold with a batch system, by a name.
pub type Case<S> = (&'static str, fn(&S));

/// Lets cases hold beside each other.
pub fn all_hold<S: Site>(site: &S, cases: &[Case<S>]) {
    std::thread::scope(|scope| {
        let started: Vec<_> =
            cases.iter().map(|(name, case)| (*name, scope.spawn(move || case(site)))).collect();
        let failed: Vec<_> =
            started.into_iter().filter_map(|(name, case)| case.join().is_err().then_some(name)).collect();
        assert!(failed.is_empty(), "failed: {failed:?}");
    });
}

/// A study of one stage that runs a script.
pub fn one(site: &impl Site, script: &str, more: &str) -> Study {
    let stage = "  a:\n    command: sh script.sh ${outputs.x}\n    outputs: [x]\n";
    let study = site.study(&format!("{stage}{more}"));
    study.write("script.sh", script);
    study
}

/// Goes on until it is told to stop, saves, and ends well the next time.
pub const SAVING: &str = "trap 'echo saved >> $PIPELINE_STATE/s; exit 75' TERM
[ -e $PIPELINE_STATE/s ] && { echo resumed > $1; exit 0; }
touch up; while true; do sleep 0.05; done";

/// Ctrl-C.
pub fn interrupt(runner: &Child) {
    assert!(Command::new("kill").args(["-INT", &runner.id().to_string()]).status().unwrap().success());
}

pub fn a_killed_runner_loses_no_job<S: Site>(site: &S) {
    let study =
        one(site, "echo a >> ran; touch up; while [ ! -e go ]; do sleep 0.05; done; echo done > $1", "");
    let mut runner = site.start(&study);
    until("the start", || study.exists("up"));
    runner.kill().unwrap();
    runner.wait().unwrap();
    // While the job runs, the next runner goes on waiting for it.
    let mut runner = site.start(&study);
    until("the next runner", || study.read("runner.log").contains("goes on with the job of an earlier run"));
    let gc = || site.command(&study, &["gc", "--max-size", "0", "--grace", "0s"]).output().unwrap();
    let beside = gc();
    assert_eq!(beside.status.code(), Some(1), "gc beside a run: {}", said(&beside));
    runner.kill().unwrap();
    runner.wait().unwrap();
    let alone = gc();
    assert!(alone.status.success(), "{}", said(&alone));
    // Nobody watches when it ends.
    study.write("go", "");
    until("the end", || {
        let attempts = std::fs::read_dir(study.path(".pipeline/attempts")).unwrap();
        attempts.flatten().any(|a| a.path().join("ended.json").exists())
    });
    let run = site.run(&study, &[]);
    assert!(run.status.success(), "{}", said(&run));
    assert_eq!((study.read("ran").as_str(), study.read("out/a/x").as_str()), ("a\n", "done\n"));
    assert_eq!(std::fs::read_dir(study.path(".pipeline/attempts")).unwrap().count(), 0);
}

pub fn a_first_signal_lets_jobs_save<S: Site>(site: &S) {
    // The second stage waits in the queue.
    let more = format!("  b:\n    command: cp script.sh ${{outputs.x}}\n    outputs: [x]\n{}", S::HELD);
    let study = one(site, SAVING, &more);
    let mut runner = site.start(&study);
    until("the start", || study.exists("up") && study.read("runner.log").contains("b: job "));
    interrupt(&runner);
    assert_eq!(runner.wait().unwrap().code(), Some(130), "{}", study.read("runner.log"));
    until("the queue's end", || !site.queue().contains("far.b."));
    let run = site.run(&study, &["a"]);
    assert!(run.status.success(), "{}", said(&run));
    assert_eq!(study.read("out/a/x"), "resumed\n");
}

pub fn a_second_signal_ends_them<S: Site>(site: &S) {
    let study = one(site, "trap '' TERM; echo $$ > self; while true; do sleep 0.05; done", "");
    let mut runner = site.start(&study);
    until("the start", || study.read("self").ends_with('\n'));
    interrupt(&runner);
    std::thread::sleep(Duration::from_millis(700));
    interrupt(&runner);
    assert_eq!(runner.wait().unwrap().code(), Some(130));
    until("the end", || !alive(&study.read("self")));
}
