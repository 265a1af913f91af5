//! Timestep relations: the code's prior maps, the paper's, and DTR's masks.

use super::support::*;
use models::relations::Relations;

#[test]
fn prior_maps() {
    let meta = json("priors");
    for c in meta["configs"].as_array().unwrap() {
        let whole = |name: &str| c[name].as_i64().unwrap();
        let (blocks, experts, top_k, steps) = (whole("N"), whole("M"), whole("k"), whole("T"));
        let alpha = c["alpha"].as_f64().unwrap();
        let what = format!("N {blocks}, M {experts}, k {top_k}, T {steps}");
        let ours = Relations::prior(blocks, experts, top_k, alpha, steps);
        let code = &c["code"];
        let (start, ones) = (integers(&code["start"]), code["ones_per_row"].as_i64().unwrap());
        assert_eq!(ours.start, start, "{what}");
        assert_eq!(ours.end, start.iter().map(|s| s + ones).collect::<Vec<_>>(), "{what}");
        let paper = Relations::paper(blocks, experts, top_k, alpha, steps);
        for (ours, name) in [(&paper.start, "lo_rle"), (&paper.end, "hi_rle")] {
            assert_eq!(&rle(ours), &c["paper_eq7"][name], "{what}, {name}");
        }
    }
}

fn rle(values: &[i64]) -> serde_json::Value {
    let mut runs: Vec<[i64; 2]> = Vec::new();
    for (i, &value) in values.iter().enumerate() {
        if runs.last().is_none_or(|run| run[1] != value) {
            runs.push([i as i64, value]);
        }
    }
    serde_json::json!(runs)
}

#[test]
fn truncated_counts() {
    let meta = json("priors");
    let hazard = &meta["truncation_hazard"];
    for list in hazard.as_object().unwrap().values().filter_map(|v| v.as_array()) {
        for row in list {
            let r = integers(row);
            let ours = Relations::prior(r[0], r[1], r[2], 4.0, 10);
            assert_eq!(ours.end[0] - ours.start[0], r[3], "N {}, M {}, k {}", r[0], r[1], r[2]);
        }
    }
}

#[test]
fn channel_masks() {
    for c in json("priors")["dtr_masks"].as_array().unwrap() {
        let ours = Relations::reference(
            c["unit_count"].as_i64().unwrap(),
            c["beta"].as_f64().unwrap(),
            c["alpha"].as_f64().unwrap(),
            c["T"].as_i64().unwrap(),
        );
        assert_eq!(ours.start, integers(&c["start"]));
        assert_eq!(ours.end[0] - ours.start[0], c["ones_per_row"].as_i64().unwrap());
    }
}
