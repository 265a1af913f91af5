//! The gating map, its matching to the prior, and what is read from them.

use super::support::*;
use models::analysis::Gating;
use tch::Kind;
use weights::Weights;

fn each(check: impl Fn(&str, Gating, Weights)) {
    let mut checked = 0;
    for variant in variants() {
        let Some(gating) = Gating::of(&network(&variant)) else {
            assert_ne!(json(&format!("model_{variant}"))["kind"], "Switch", "{variant}");
            continue;
        };
        check(&variant, gating, tensors(&format!("model_{variant}.io")));
        checked += 1;
    }
    assert!(checked > 0);
}

#[test]
fn the_map_and_its_cost_are_the_recorded_ones() {
    each(|variant, gating, io| {
        let map = get(&io, "gate.topk_map_all_t").to_kind(Kind::Float);
        assert_eq!(map.size(), [gating.timesteps as i64, gating.columns() as i64], "{variant}");
        let map: Vec<f32> = Vec::try_from(map.flatten(0, -1)).unwrap();
        assert_eq!(gating.chosen, map.iter().map(|v| *v > 0.5).collect::<Vec<_>>(), "{variant}");
        let probabilities: Vec<f32> = Vec::try_from(get(&io, "gate.probs_all_t").flatten(0, -1)).unwrap();
        let worst = gating.probabilities.iter().zip(&probabilities).map(|(a, b)| f64::from((a - b).abs()));
        assert!(worst.fold(0.0, f64::max) < 2e-5, "{variant}");

        // The cells that differ from the matched prior are the cost of the assignment, and no assignment is cheaper.
        let cost = get(&io, "prior.C").to_kind(Kind::Double);
        let sum: f64 =
            gating.matching.iter().enumerate().map(|(i, j)| cost.double_value(&[i as i64, *j as i64])).sum();
        assert_eq!(gating.cost() as f64, sum, "{variant}");
        let meta = json(&format!("model_{variant}"));
        assert_eq!(Some(sum), meta["prior"]["optimal_cost"].as_f64(), "{variant}");
        assert!(gating.patterns() <= gating.timesteps, "{variant}");
    });
}

#[test]
fn paths_and_affinity_follow_from_the_map() {
    each(|variant, gating, _| {
        let n = gating.timesteps;
        let affinity = gating.affinity();
        for t in [0, n / 3, n - 1] {
            assert_eq!(affinity[t * n + t], 1.0, "{variant}");
            assert!(gating.path(t).iter().all(|kept| kept.len() == gating.top_k), "{variant}");
            let other = n / 2;
            assert_eq!(affinity[t * n + other], affinity[other * n + t], "{variant}");
            let (a, b) = (gating.path(t), gating.path(other));
            let common = a.iter().zip(&b).flat_map(|(a, b)| a.iter().filter(|e| b.contains(e))).count();
            let want = common as f32 / (gating.blocks * gating.top_k) as f32;
            assert_eq!(affinity[t * n + other], want, "{variant}");
        }
        let shared = gating.shared();
        for (column, load) in gating.load().into_iter().enumerate() {
            assert_eq!(shared[column], load == n, "{variant}");
        }
    });
}
