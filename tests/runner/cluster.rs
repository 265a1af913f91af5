//! Stages as jobs of any batch system, by four commands: here those of a stand-in of a few lines.

mod grid_engine;
mod nodes;
mod presets;

use crate::study::{Study, alive, said, stderr, until};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Output};

/// A stand-in for a cluster, in a folder of a study.
struct Fake {
    study: Study,
    work: Option<Child>,
}

/// The cluster of the studies below; its folder has a blank and a quote in its name.
const CLUSTER: &str = r#"cluster:
  submit: |
    "fa ke's/bin/submit" ${job.name} ${job.worker} ${job.log} "${job.array}" \
      "cpus=${job.cpus} gpus=${job.gpus} memory=${job.memory} time=${job.time} stage=${job.stage}" "$@"
  ask: '"fa ke''s/bin/ask" "$@"'
  signal: '"fa ke''s/bin/signal" "$@"'
  cancel: '"fa ke''s/bin/cancel" "$@"'
  states: {pending: [PD], running: [R], ended: [CD], cancelled: [CA], again: [NF], stuck: [ERR]}
  array: 10
  index: FAKE_TASK
  busy: [queue is full]
  interval: 1s
"#;

impl Fake {
    /// `stages` of a study; `more` belongs to its cluster.
    fn new(stages: &str, more: &str) -> Self {
        let study = Study::new(&format!("name: far\nengine: cluster\n{CLUSTER}{more}stages:\n{stages}"));
        std::fs::create_dir_all(study.path("fa ke's/bin")).unwrap();
        for name in ["submit", "ask", "signal", "cancel", "work"] {
            let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/runner/cluster/fake");
            std::os::unix::fs::symlink(program, study.path("fa ke's/bin").join(name)).unwrap();
        }
        Self { study, work: None }
    }

    /// The same, where jobs run, so many at a time.
    fn working(stages: &str, more: &str, at_once: u32) -> Self {
        let mut fake = Self::new(stages, more);
        fake.work(at_once);
        fake
    }

    fn work(&mut self, at_once: u32) {
        let mut command = Command::new(self.study.path("fa ke's/bin/work"));
        self.work = Some(command.arg(at_once.to_string()).spawn().unwrap());
    }

    fn put(&self, name: &str, text: &str) {
        self.study.write(&format!("fa ke's/{name}"), text);
    }

    fn take(&self, name: &str) {
        std::fs::remove_file(self.study.path("fa ke's").join(name)).unwrap();
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.study.call(&[&["run"], arguments].concat())
    }

    fn start(&self, log: &str) -> Child {
        let log = std::fs::File::create(self.study.path(log)).unwrap();
        self.study.command(&["run"]).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap()
    }

    /// The arguments of every call of a command.
    fn calls(&self, name: &str) -> Vec<String> {
        let calls = self.study.read("fa ke's/calls");
        let words = calls.lines().filter_map(|line| line.split_once(' ')?.1.split_once(' '));
        words.filter(|(called, _)| *called == name).map(|(_, words)| words.trim().to_string()).collect()
    }

    fn jobs(&self) -> Vec<serde_json::Value> {
        let jobs = serde_json::from_str(&self.study.read("fa ke's/jobs")).unwrap_or_default();
        let serde_json::Value::Object(jobs) = jobs else { return Vec::new() };
        jobs.into_iter().map(|(_, job)| job).collect()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.put("stop", "");
        if let Some(mut work) = self.work.take() {
            let _ = work.wait();
        }
    }
}

const ONE: &str = "  a:\n    command: sh script.sh ${outputs.x}\n    outputs: [x]\n";

/// A stage that runs a script.
fn one(script: &str, more: &str, at_once: u32) -> Fake {
    let mut fake = Fake::new(&format!("{ONE}{more}"), "");
    fake.study.write("script.sh", script);
    if at_once > 0 {
        fake.work(at_once);
    }
    fake
}

#[test]
fn a_job_gets_what_the_stage_asks_for_and_the_environment_that_it_has_here() {
    let script = r#"echo a >> ran; echo '{"event": "message", "text": "half way"}' >> $PIPELINE_EVENTS
stat -c %a .pipeline/attempts/*/environ > mode
echo spoken; echo $OMP_NUM_THREADS $DECLARED $SECRET x$OTHER$LEFTOVER $TMPDIR > $1"#;
    let more = "    resources: {cpus: 3, memory: 1GiB, gpus: 2}\n    timeout: 1h\n    cluster: {options: [-q, 'a b']}\n    \
                env: {DECLARED: yes}\n    pass-env: [SECRET]\n";
    let fake = one(script, more, 1);
    let mut command = fake.study.command(&["run"]);
    let run = command.env("SECRET", "s3cret").env("OTHER", "1").env_remove("TMPDIR").output().unwrap();
    assert!(run.status.success(), "{}", said(&run));
    let text = stderr(&run);
    for part in ["a: submitted as job 1\n", "a: runs on ", "a: half way\n"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let job = &fake.jobs()[0];
    assert_eq!(job["resources"], "cpus=3 gpus=2 memory=1024 time=1:02:00 stage=a");
    assert_eq!(job["options"], serde_json::json!(["-q", "a b"]));
    assert_eq!(fake.study.read("out/a/x"), "3 yes s3cret x /tmp\n");
    assert_eq!(fake.study.call(&["log", "a"]).stdout, b"spoken\n");
    // A secret is in a file that nobody else can read, as long as the job lives.
    assert_eq!(fake.study.read("mode"), "600\n");
    let mut grep = Command::new("grep");
    grep.args(["-rq", "s3cret", ".pipeline/attempts", ".pipeline/logs", ".pipeline/runs"])
        .current_dir(fake.study.path(""));
    assert_eq!(grep.status().unwrap().code(), Some(1));
    // Where it runs, and how, is not part of what it is.
    let yaml =
        fake.study.read("pipeline.yaml").replace("interval: 1s", "interval: 2s").replace("a b", "other");
    fake.study.write("pipeline.yaml", &yaml);
    for engine in ["local", "cluster"] {
        let mut again = fake.study.command(&["run", "--engine", engine]);
        let again = again.env("CUDA_VISIBLE_DEVICES", "0,1").env("SECRET", "s3cret").output().unwrap();
        assert!(said(&again).contains("a  cached"), "{}", said(&again));
    }
}

#[test]
fn exit_codes_and_signals_come_back_and_retries_count() {
    let fake = one("echo broken >&2; exit 7", "", 1);
    let failed = fake.run(&[]);
    assert_eq!(failed.status.code(), Some(1));
    assert!(stderr(&failed).contains("a: failed with exit code 7\n  | broken\n"), "{}", stderr(&failed));
    fake.study.write("script.sh", "kill -SEGV $$");
    let failed = fake.run(&[]);
    assert!(stderr(&failed).contains("a: killed by signal 11\n"), "{}", stderr(&failed));
    fake.study.write("script.sh", "echo try >> tries; [ $(wc -l < tries) -ge 2 ] || exit 75; echo ok > $1");
    fake.study.write("pipeline.yaml", &(fake.study.read("pipeline.yaml") + "    retries: 1\n"));
    let run = fake.run(&[]);
    assert!(run.status.success() && fake.study.read("out/a/x") == "ok\n", "{}", said(&run));
    fake.study.write("script.sh", "sleep 60; echo > $1");
    fake.study
        .write("pipeline.yaml", &fake.study.read("pipeline.yaml").replace("retries: 1", "timeout: 0.5s"));
    let failed = fake.run(&[]);
    assert!(stderr(&failed).contains("stopped after its time limit"), "{}", stderr(&failed));
}

const MANY: &str =
    "  a:\n    command: sh -c 'echo ${params.shard} > ${outputs.x}'\n    shards: 25\n    outputs: [x]\n";

#[test]
fn instances_are_arrays_as_large_as_the_cluster_takes_and_asked_about_at_once() {
    let fake = Fake::working(MANY, "", 8);
    fake.put("hold", "");
    let mut runner = fake.start("1.log");
    let all = |words: &String| words.split(' ').count() == 25;
    until("a question about all", || fake.calls("ask").iter().any(all));
    fake.take("hold");
    assert!(runner.wait().unwrap().success(), "{}", fake.study.read("1.log"));
    assert_eq!((fake.calls("submit").len(), fake.jobs().len()), (3, 25));
    for shard in ["00", "09", "10", "24"] {
        let number: u32 = shard.parse().unwrap();
        assert_eq!(fake.study.read(&format!("out/a/x/{shard}")), format!("{number}\n"));
    }
    // Without arrays, each is a job.
    let fake = Fake::working(&MANY.replace("25", "3"), "", 8);
    fake.study.write(
        "pipeline.yaml",
        &fake.study.read("pipeline.yaml").replace("  array: 10\n  index: FAKE_TASK\n", ""),
    );
    let run = fake.run(&[]);
    assert!(run.status.success(), "{}", said(&run));
    assert_eq!((fake.calls("submit").len(), fake.study.read("out/a/x/2")), (3, "2\n".into()));
}

#[test]
fn a_killed_runner_loses_no_job_and_submits_none_twice() {
    let fake = one("echo a >> ran; touch up; while [ ! -e go ]; do sleep 0.05; done; echo done > $1", "", 1);
    // Killed while the job is there, and its id not yet.
    fake.put("slow", "1");
    let mut runner = fake.start("1.log");
    until("the job", || !fake.jobs().is_empty());
    runner.kill().unwrap();
    runner.wait().unwrap();
    let mut runner = fake.start("2.log");
    until("the next runner", || fake.study.read("2.log").contains("goes on with the job of an earlier run"));
    until("the start", || fake.study.exists("up"));
    let gc = fake.study.call(&["gc", "--max-size", "0", "--grace", "0s"]);
    assert_eq!(gc.status.code(), Some(1), "gc beside a run: {}", said(&gc));
    runner.kill().unwrap();
    runner.wait().unwrap();
    // What the job still writes is not swept away.
    let gc = fake.study.call(&["gc", "--max-size", "0", "--grace", "0s"]);
    assert!(gc.status.success(), "{}", said(&gc));
    fake.study.write("go", "");
    until("the end", || fake.jobs().iter().all(|job| job["state"] == "CD"));
    // The study may name no cluster any more: the attempt knows where its job is.
    let here =
        fake.study.read("pipeline.yaml").replace(CLUSTER, "").replace("engine: cluster", "engine: local");
    fake.study.write("pipeline.yaml", &here);
    let run = fake.run(&[]);
    assert!(run.status.success(), "{}", said(&run));
    assert_eq!((fake.study.read("ran").as_str(), fake.study.read("out/a/x").as_str()), ("a\n", "done\n"));
    assert_eq!((fake.jobs().len(), fake.calls("submit").len()), (1, 1));
    assert_eq!(std::fs::read_dir(fake.study.path(".pipeline/attempts")).unwrap().count(), 0);
}

const SAVING: &str = "trap 'echo saved >> $PIPELINE_STATE/s; exit 75' TERM
[ -e $PIPELINE_STATE/s ] && { echo resumed > $1; exit 0; }
touch up; while true; do sleep 0.05; done";

#[test]
fn a_first_signal_lets_jobs_save_and_cancels_what_waits() {
    // Either may be submitted first.
    let more = "  b:\n    command: bash script.sh ${outputs.x}\n    outputs: [x]\n";
    let fake = one(SAVING, more, 1);
    let mut runner = fake.start("1.log");
    until("the start", || {
        fake.study.exists("up") && fake.study.read("1.log").contains(": job 2 waits: nobody is quick enough")
    });
    assert!(Command::new("kill").args(["-INT", &runner.id().to_string()]).status().unwrap().success());
    assert_eq!(runner.wait().unwrap().code(), Some(130), "{}", fake.study.read("1.log"));
    assert_eq!((fake.calls("signal"), fake.calls("cancel")), (vec!["1".into()], vec!["2".into()]));
    let first = if fake.study.read("1.log").contains("a: submitted as job 1\n") { "a" } else { "b" };
    let run = fake.run(&[first]);
    assert!(run.status.success(), "{}", said(&run));
    assert_eq!(fake.study.read(&format!("out/{first}/x")), "resumed\n");
}

#[test]
fn a_second_signal_ends_what_will_not_stop() {
    let fake = one("trap '' TERM; echo $$ > self; while true; do sleep 0.05; done", "", 1);
    let mut runner = fake.start("1.log");
    until("the start", || fake.study.read("self").ends_with('\n'));
    let interrupt = || Command::new("kill").args(["-INT", &runner.id().to_string()]).status().unwrap();
    assert!(interrupt().success());
    until("the first signal", || !fake.calls("signal").is_empty());
    assert!(interrupt().success());
    // The stand-in's `cancel` is no more than SIGTERM: the job itself kills the stage.
    assert_eq!(runner.wait().unwrap().code(), Some(130));
    assert!(!alive(&fake.study.read("self")));
}

#[test]
fn where_the_cluster_refuses_more_fewer_are_submitted_and_the_rest_waits() {
    let mut fake = Fake::new(&MANY.replace("25", "12"), "");
    fake.put("most", "4");
    fake.work(4);
    let run = fake.run(&[]);
    assert!(run.status.success(), "{}", said(&run));
    assert_eq!(fake.jobs().len(), 12);
    let fake = Fake::working(&MANY.replace("25", "12"), "  max-submitted: 4\n", 4);
    fake.put("most", "4");
    let run = fake.run(&[]);
    assert!(run.status.success() && !stderr(&run).contains("queue is full"), "{}", said(&run));
    // What is no matter of time is told, and the stage fails.
    let yaml = fake
        .study
        .read("pipeline.yaml")
        .replace("busy: [queue is full]", "busy: [other]")
        .replace("  max-submitted: 4\n", "");
    fake.study.write("pipeline.yaml", &yaml.replace("echo ${params", "echo  ${params"));
    let failed = fake.run(&[]);
    assert_eq!(failed.status.code(), Some(1));
    assert!(stderr(&failed).contains("submit failed: submit: your queue is full"), "{}", stderr(&failed));
}

#[test]
fn a_job_that_cannot_begin_is_cancelled_and_told_of() {
    let fake = one("echo > $1", "", 0);
    fake.put("fate", "ERR");
    let mut fake = fake;
    fake.work(1);
    let failed = fake.run(&[]);
    assert_eq!(failed.status.code(), Some(1));
    let text = stderr(&failed);
    assert!(text.contains("job 1 never began, and it is ERR: either the cluster could not start it, or its node does not see /"), "{text}");
    assert_eq!(fake.calls("cancel"), ["1"]);
}

#[test]
fn a_job_whose_node_went_is_submitted_again_and_one_that_is_forgotten_is_lost() {
    let mut fake = one("echo a >> ran; echo > $1", "", 0);
    fake.put("fate", "NF");
    fake.work(1);
    let mut runner = fake.start("1.log");
    until("the second job", || {
        fake.study.read("1.log").contains("job 1 ended as NF; submitting again, to go on from its state")
    });
    fake.take("fate");
    assert!(runner.wait().unwrap().success(), "{}", fake.study.read("1.log"));
    assert_eq!(fake.study.read("ran"), "a\n");
    // A job that ended where nobody looked, without a word, and that its system forgot.
    let mut fake = one("echo a >> ran; echo > $1", "", 0);
    let mut runner = fake.start("1.log");
    until("the queue", || fake.study.read("1.log").contains("a: job 1 waits"));
    runner.kill().unwrap();
    runner.wait().unwrap();
    fake.put("fate", "CD");
    fake.put("forget", "");
    fake.work(1);
    until("the end", || fake.jobs().iter().all(|job| job["state"] == "CD"));
    fake.take("fate");
    let run = fake.run(&[]);
    assert!(
        run.status.success() && stderr(&run).contains("goes on with the job of an earlier run"),
        "{}",
        said(&run)
    );
    assert_eq!((fake.study.read("ran").as_str(), fake.jobs().len()), ("a\n", 2));
}

#[test]
fn a_cluster_that_does_not_answer_is_asked_on() {
    let mut fake = one("echo > $1", "", 0);
    fake.put("broken", "");
    fake.work(1);
    let mut runner = fake.start("1.log");
    let text = "`ask` of the cluster of the study failed: ask: no answer from the master; asking on";
    until("the failure", || fake.study.read("1.log").contains(text));
    fake.take("broken");
    assert!(runner.wait().unwrap().success(), "{}", fake.study.read("1.log"));
}

#[test]
fn a_job_that_was_given_up_does_nothing() {
    let mut fake = one("echo a >> ran; echo > $1", "", 0);
    let mut runner = fake.start("1.log");
    until("the queue", || fake.study.read("1.log").contains("a: job 1 waits"));
    runner.kill().unwrap();
    runner.wait().unwrap();
    // Its attempt is lost, and made again, with a job of another name.
    let attempt =
        std::fs::read_dir(fake.study.path(".pipeline/attempts")).unwrap().flatten().next().unwrap().path();
    let worker = fake.jobs()[0]["worker"].as_str().unwrap().to_string();
    let old = std::fs::read_to_string(worker).unwrap();
    std::fs::remove_dir_all(&attempt).unwrap();
    let mut runner = fake.start("2.log");
    until("the second job", || fake.study.read("2.log").contains("a: job 2 waits"));
    fake.study.program("old", &old);
    let given_up = Command::new(fake.study.path("old")).output().unwrap();
    assert_eq!(given_up.status.code(), Some(127), "{}", said(&given_up));
    assert!(stderr(&given_up).contains("was it given up?"), "{}", stderr(&given_up));
    assert_eq!(fake.study.read("ran"), "");
    // The first job begins after all, too.
    fake.work(2);
    assert!(runner.wait().unwrap().success(), "{}", fake.study.read("2.log"));
    assert_eq!(fake.study.read("ran"), "a\n");
}

#[test]
fn check_shows_what_would_be_sent_and_mistakes_are_refused() {
    let fake = one("echo > $1", "    resources: {cpus: 2}\n    cluster: {options: [\"it's\"]}\n", 0);
    let check = said(&fake.study.call(&["check"]));
    assert!(
        check.contains(
            "\na would be submitted by\n    set -- 'it'\\''s'\n    \"fa ke's/bin/submit\" 'far.a.ID' '/"
        ),
        "{check}"
    );
    assert!(check.contains("cpus='2' gpus='' "), "{check}");
    assert!(fake.calls("submit").is_empty());
    let yaml = fake.study.read("pipeline.yaml");
    for (from, to, text) in [
        ("${job.worker}", "x", "error: pipeline.yaml:5: `submit`: it never names ${job.worker}"),
        ("  array: 10\n", "  array: 0\n", "error: pipeline.yaml:11: an array of 0 tasks is none"),
        (CLUSTER, "", "error: pipeline.yaml:8: the cluster has no `submit`; it needs"),
        (
            CLUSTER,
            "cluster: unheard-of\n",
            "error: pipeline.yaml:3: there is no preset `unheard-of` of a cluster; there is grid-engine, htcondor",
        ),
        (
            "    resources: {cpus: 2}\n",
            "    processes: 2x2\n",
            "error: pipeline.yaml:16: stage a: it asks for 2 nodes, and `submit` of the cluster of the study names no \
             ${job.nodes}; let it have ${job.worker} started once on each of so many, or say `processes: 4`\n",
        ),
    ] {
        assert!(yaml.contains(from), "{from}");
        fake.study.write("pipeline.yaml", &yaml.replace(from, to));
        let refused = fake.run(&[]);
        assert_eq!(
            (refused.status.code(), stderr(&refused).contains(text)),
            (Some(2), true),
            "{text}: {}",
            stderr(&refused)
        );
    }
    fake.study
        .write("pipeline.yaml", "name: a\nstages:\n  a: {command: 'touch ${outputs.x}', outputs: [x]}\n");
    let refused = fake.run(&["--engine", "cluster"]);
    assert!(stderr(&refused).contains("`pipeline clusters` lists them"), "{}", stderr(&refused));
}

#[test]
fn presets_are_listed_printed_and_a_users_own_comes_first() {
    let fake = one("echo ok > $1", "", 1);
    let listed = said(&fake.study.call(&["clusters"]));
    assert!(
        listed.contains(
            "\npbs          PBS Professional and OpenPBS, by qsub, qstat, qsig and qdel; not tried\n"
        ),
        "{listed}"
    );
    let printed = said(&fake.study.call(&["clusters", "grid-engine"]));
    assert!(printed.contains("\nsubmit: |\n"), "{printed}");
    let unknown = fake.study.call(&["clusters", "grid"]);
    assert_eq!(
        (unknown.status.code(), stderr(&unknown).contains("did you mean `grid-engine`?")),
        (Some(2), true)
    );
    // The same commands, in a file of the user's own; and in a file of the study's.
    let own: String = CLUSTER.lines().skip(1).map(|line| format!("{}\n", &line[2..])).collect();
    fake.study.write("config/pipeline/clusters/site.yaml", &format!("about: ours\n{own}"));
    fake.study.write("site.yaml", &own);
    for (name, stage) in [("site", "a"), ("./site.yaml", "b")] {
        let yaml = format!("name: far\nengine: cluster\ncluster: {name}\nstages:\n{ONE}")
            .replace("  a:", &format!("  {stage}:"));
        fake.study.write("pipeline.yaml", &yaml);
        let mut command = fake.study.command(&["run", "--force", stage]);
        let run = command.env("XDG_CONFIG_HOME", fake.study.path("config")).output().unwrap();
        assert!(run.status.success(), "{}", said(&run));
        assert_eq!(fake.study.read(&format!("out/{stage}/x")), "ok\n");
    }
    let mut command = fake.study.command(&["clusters"]);
    let listed = said(&command.env("XDG_CONFIG_HOME", fake.study.path("config")).output().unwrap());
    assert!(listed.contains("\nsite         ours ("), "{listed}");
}

#[test]
fn credentials_are_in_no_file_that_others_can_read() {
    let stages = "  a:\n    command: sh -c 'echo $1 > $2; touch up; while [ ! -e go ]; do sleep 0.05; done' -- ${params.url} ${outputs.x}\n    \
                  params: {url: 'https://me:hunter2@host/x'}\n    outputs: [x]\n";
    for (more, ranks) in [("", false), ("    processes: 2\n", true)] {
        let fake = Fake::working(&format!("{stages}{more}"), "", 1);
        let mut runner = fake.start("1.log");
        until("the start", || fake.study.exists("up"));
        let find = "find .pipeline -type f -not -path '*/out.*/*' -exec grep -l hunter2 {} +";
        let found = Command::new("sh").args(["-c", find]).current_dir(fake.study.path("")).output().unwrap();
        let found = String::from_utf8(found.stdout).unwrap();
        for path in found.lines() {
            let mode = std::fs::metadata(fake.study.path(path)).unwrap().permissions().mode();
            assert!(path.ends_with("/environ") && mode & 0o777 == 0o600, "{path} {mode:o}");
        }
        assert_eq!(found.lines().count(), 1, "{ranks}: {found}");
        fake.study.write("go", "");
        assert!(runner.wait().unwrap().success(), "{}", fake.study.read("1.log"));
        assert_eq!(fake.study.read("out/a/x"), "https://me:hunter2@host/x\n");
        let found = Command::new("grep")
            .args(["-rl", "hunter2", ".pipeline"])
            .current_dir(fake.study.path(""))
            .output();
        assert!(!String::from_utf8(found.unwrap().stdout).unwrap().contains("environ"));
    }
}
