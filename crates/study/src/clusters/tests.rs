//! Clusters as studies and presets have them.

use super::*;
use crate::de;
use crate::tree;

const WHOLE: &str = "submit: go ${job.worker} \"$@\"\nask: list \"$@\"\ncancel: end \"$@\"\n";

fn said(text: &str) -> Result<Marked<ClusterSaid>> {
    de::from_node(&tree::parse(&Arc::from("c.yaml"), text)?)
}

fn read(text: &str) -> Result<Arc<Cluster>> {
    of(Some(&said(text)?), None, Path::new("/")).map(|cluster| cluster.unwrap())
}

#[test]
fn every_preset_can_be_read_and_says_whether_it_was_tried() {
    for preset in presets::all().into_iter().filter(|preset| preset.file.is_none()) {
        let cluster = read(&preset.name).unwrap();
        assert_eq!(cluster.name, preset.name);
        let about = preset.keys().unwrap().about.unwrap();
        let tried = preset.text.contains("\n# Tried: ");
        assert!(tried != preset.text.contains("\n# NOT TRIED: "), "{}", preset.name);
        assert!(tried != about.contains("not tried"), "{}", preset.name);
    }
}

#[test]
fn a_value_is_one_word_of_the_script_whatever_is_in_it() {
    let cluster = read(WHOLE).unwrap();
    let value = |name: &str| format!("{name} '$(date)' \"x");
    let words = cluster.command(Act::Submit, value, &["-q".into(), "a b".into()]).unwrap();
    assert_eq!(words[..4], ["bash", "-euo", "pipefail", "-c"]);
    assert!(words[4].ends_with("; shift 1; go \"${pipeline_job_worker}\" \"$@\""), "{}", words[4]);
    assert_eq!(words[5..], ["submit", "worker '$(date)' \"x", "-q", "a b"]);
    let words = cluster.command(Act::Cancel, value, &["12".into()]).unwrap();
    assert_eq!(words[4..], ["end \"$@\"", "cancel", "12"]);
    assert_eq!(cluster.command(Act::Signal, value, &[]), None);
}

#[test]
fn a_stage_is_put_over_the_study_and_a_preset_of_its_own_stands_alone() {
    let study = said(&format!("{WHOLE}options: [a]\ntime: 1h\n")).unwrap();
    let stage = said("options: [b]\ntime: 2h\n").unwrap();
    let cluster = of(Some(&study), Some(&stage), Path::new("/")).unwrap().unwrap();
    assert_eq!((cluster.options.join(" "), cluster.time.unwrap().as_secs()), ("a b".into(), 7200));
    let stage = said("{preset: lsf, options: [b]}").unwrap();
    let cluster = of(Some(&study), Some(&stage), Path::new("/")).unwrap().unwrap();
    assert_eq!((cluster.options.join(" "), cluster.name.as_str()), ("b".into(), "lsf"));
    assert_eq!(cluster.state("PEND"), Some(State::Pending));
    assert_eq!((cluster.state("running"), cluster.state("other")), (Some(State::Running), None));
}

#[test]
fn mistakes_have_their_lines_and_a_way_out() {
    for (text, error) in [
        ("grid", "c.yaml:1: there is no preset `grid` of a cluster; did you mean `grid-engine`?"),
        ("./x.yaml", "c.yaml:1: there is no file /./x.yaml"),
        (
            "submit: go ${job.worker}\n",
            "c.yaml:1: the cluster has no `ask`; it needs `submit`, `ask` and `cancel`, or",
        ),
        (
            "submit: go\nask: a\ncancel: c $1\n",
            "c.yaml:1: `submit`: it never names ${job.worker}, so its jobs would do nothing",
        ),
        (
            "ask: a\nsubmit: go ${job.worker} ${job.cpu}\ncancel: c $1\n",
            "c.yaml:2: `submit`: there is no ${job.cpu}; did you mean `cpus`?",
        ),
        (
            "submit: go ${job.worker}\nask: a ${job.name}\ncancel: c $1",
            "c.yaml:2: `ask`: only `submit` has ${job.name}; the ids of jobs are \"$@\"",
        ),
        ("submit: go ${job.worker}\nask: a\ncancel: c", "c.yaml:3: `cancel`: it never names \"$@\""),
        (
            "submit: go '${job.worker}'\nask: a\ncancel: c $1",
            "c.yaml:1: `submit`: `${job.worker}` stands inside single quotes",
        ),
        ("submit: go ${inputs.x}\nask: a\ncancel: c $1", "c.yaml:1: `submit`: `${inputs.x}` names nothing"),
        (
            "submit: go ${job.worker}\nask: a\ncancel: c $1\narray: 9",
            "c.yaml:4: `submit` names neither ${job.array} nor ${job.tasks}",
        ),
        (
            "submit: go ${job.worker} ${job.array}\nask: a\ncancel: c $1\narray: 9",
            "c.yaml:4: `array` needs `index`",
        ),
        (
            "submit: go ${job.worker}\nask: a\ncancel: c $1\nindex: a b",
            "c.yaml:4: `a b` is no name of an environment variable",
        ),
        (
            "submit: go ${job.worker}\nask: a\ncancel: c $1\nstates:\n  running: [r]\n  ended: [r]",
            "c.yaml:6: `r` is in another list already",
        ),
        (
            "submit: go ${job.worker}\nask: a\ncancel: c $1\nmax-submitted: 0",
            "c.yaml:4: with `max-submitted: 0` no job",
        ),
        ("sumbit: x", "c.yaml:1: unknown key `sumbit`"),
        ("[a]", "expected the name of a preset, or a mapping of commands"),
    ] {
        let told = read(text).map(|_| ()).unwrap_err().to_string();
        assert!(told.contains(error), "{text}: {told}");
        assert_eq!(told.lines().count(), 1);
    }
}
