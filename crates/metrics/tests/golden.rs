//! The scores against ADM's evaluator, scipy and numpy.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../../extractors/tests/recipe/mod.rs"]
mod recipe;

use metrics::{Blocks, Distances, Moments, Statistics, frechet, inception_score, precision_recall};
use recipe::{Stream, big_features, get, json, seed};
use serde_json::Value as Json;
use tch::{Kind, Tensor};

/// ADM's `sqrtm` differs by 2.3e-7 where the problem is well posed and by 1.8e-6 where N < D.
const FID_RELATIVE: f64 = 1e-5;
const FID_ABSOLUTE: f64 = 1e-4;
/// f32 sums in the reference.
const INCEPTION_SCORE: f64 = 3e-6;

fn features(name: &str) -> Tensor {
    get(&recipe::tensors("metrics_features.safetensors"), name)
}

fn statistics(rows: &Tensor) -> Statistics {
    let mut moments = Moments::new(rows.size()[1]);
    moments.add(rows).unwrap();
    moments.statistics().unwrap()
}

fn number(json: &Json, key: &str) -> Option<f64> {
    json.get(key)?.as_f64()
}

/// The two sets of a case, by its name (`derived_inputs` of the golden data).
fn fid_inputs(name: &str, n: [i64; 2], d: i64) -> (Tensor, Tensor) {
    let (x, y) = (features("ref"), features("smp"));
    let constant = |rows: &Tensor, n: i64| rows.narrow(0, 0, 1).repeat([n, 1]);
    match name {
        "sfid_D48" => (features("spatial_ref"), features("spatial_smp")),
        _ if name.starts_with("main_D64_swapped") => (y, x),
        "identical_D64" => (x.shallow_clone(), x),
        "identical_rank_deficient_40_D64" => (x.narrow(0, 0, n[0]), x.narrow(0, 0, n[1])),
        "constant_vs_constant_D64" => (constant(&x, n[0]), constant(&y, n[1])),
        "constant_vs_main_D64" => (constant(&x, n[0]), y),
        "D1" => (x.narrow(1, 0, 1), y.narrow(1, 0, 1)),
        "one_dead_feature_D64" => {
            let dead = |t: &Tensor| {
                let t = t.copy();
                let _ = t.narrow(1, 5, 1).fill_(0.0);
                t
            };
            (dead(&x), dead(&y))
        }
        _ if name.starts_with("big_") => {
            let make = |which, n: i64| big_features(seed(), which, n as usize, d as usize);
            (make("ref", n[0]), make("smp", n[1]))
        }
        _ => (x.narrow(0, 0, n[0]), y.narrow(0, 0, n[1])),
    }
}

fn check_fid(wanted: impl Fn(&str) -> bool) {
    let adm = json("metrics_adm.json");
    let mut checked = 0;
    for (name, case) in adm["fid"].as_object().unwrap().iter().filter(|(name, _)| wanted(name)) {
        let whole = |key: &str| case[key].as_i64().unwrap();
        let (n, d) = ([whole("n1"), whole("n2")], whole("d"));
        let (x, y) = fid_inputs(name, n, d);
        assert_eq!((x.size(), y.size()), (vec![n[0], d], vec![n[1], d]), "{name}");
        checked += 1;
        if n.contains(&1) {
            let mut moments = Moments::new(d);
            moments.add(&x).unwrap();
            assert_eq!(stage::exit_code(&moments.statistics().err().unwrap()), 2, "{name}");
            continue;
        }
        let (one, two) = (statistics(&x), statistics(&y));
        let ours = frechet(&one, &two).unwrap();
        // Without the rows themselves, as from a file of statistics.
        let bare = |s: &Statistics| Statistics::new(name, &s.mean, &s.covariance).unwrap();
        let from_file = frechet(&bare(&one), &bare(&two)).unwrap();
        for theirs in ["adm_frechet_distance", "exact_eigh_f64"] {
            let Some(theirs) = number(case, theirs) else { continue };
            let allowed = (FID_RELATIVE * theirs.abs()).max(FID_ABSOLUTE);
            for ours in [&ours, &from_file] {
                let off = (ours.distance - theirs).abs();
                assert!(off <= allowed, "{name}: {} and {theirs}, off by {off:.1e}", ours.distance);
            }
        }
        if name.starts_with("identical") {
            assert!(ours.distance.abs() <= 1e-6, "{name}: {}", ours.distance);
        }
    }
    assert!(checked > 0);
}

#[test]
fn frechet_distances_and_their_edges() {
    check_fid(|name| !name.starts_with("big_"));
}

#[test]
fn frechet_distance_at_full_width() {
    check_fid(|name| name.starts_with("big_"));
}

#[test]
fn covariances_are_numpys() {
    let recorded = recipe::tensors("metrics_adm.safetensors");
    for (name, i) in [("ref", 1), ("smp", 2)] {
        let ours = statistics(&features(name));
        recipe::near("mean", &ours.mean, &get(&recorded, &format!("main_D64/mu{i}")), 1e-5);
        recipe::near("covariance", &ours.covariance, &get(&recorded, &format!("main_D64/sigma{i}")), 1e-12);
    }
}

#[test]
fn order_and_sharding_do_not_matter() {
    let rows = features("ref");
    let whole = statistics(&rows);
    let count = rows.size()[0];
    let order: Vec<i64> = (0..count).map(|i| (i * 7 + 3) % count).collect();
    let shuffled = rows.index_select(0, &Tensor::from_slice(&order));
    let mut shards: Vec<Moments> = Vec::new();
    for (start, length) in [(0, 500), (500, 1), (501, count - 501)] {
        let mut shard = Moments::new(rows.size()[1]);
        for row in (start..start + length).step_by(97) {
            shard.add(&shuffled.narrow(0, row, 97.min(start + length - row))).unwrap();
        }
        shards.push(shard);
    }
    let mut all = shards.pop().unwrap();
    shards.into_iter().for_each(|shard| all.merge(shard).unwrap());
    assert_eq!(all.count(), count);
    let merged = all.statistics().unwrap();
    recipe::near("mean", &merged.mean, &whole.mean, 1e-12);
    recipe::near("covariance", &merged.covariance, &whole.covariance, 1e-12);
    let other = statistics(&features("smp"));
    let (a, b) = (frechet(&whole, &other).unwrap(), frechet(&merged, &other).unwrap());
    assert!((a.distance - b.distance).abs() <= 1e-10 * a.distance);
}

#[test]
fn inception_scores() {
    let adm = json("metrics_adm.json");
    for (name, case) in adm["is"].as_object().unwrap() {
        let whole = |key: &str| case[key].as_u64().unwrap() as usize;
        let (n, classes) = (whole("n"), whole("classes"));
        let stream = Stream::new(seed(), &format!("is/{name}"));
        let gain = case["gain"].as_f64().unwrap() as f32;
        let mut logits: Vec<f32> = (0..n * classes).map(|j| gain * stream.v(j)).collect();
        (0..n).for_each(|i| logits[i * classes + i % classes] += 3.0);
        if case["logits"].as_str().unwrap().contains("-2000") {
            logits[7 * classes + 3] = -2000.0;
        }
        let logits = Tensor::from_slice(&logits).reshape([n as i64, classes as i64]);
        let ours = inception_score(&logits, whole("split_size") as i64).unwrap();
        match case["adm"].as_f64() {
            Some(theirs) => {
                assert!((ours - theirs).abs() <= INCEPTION_SCORE * theirs, "{name}: {ours} and {theirs}");
                let exact = case["f64_mean_of_splits"].as_f64().unwrap();
                assert!((ours - exact).abs() <= INCEPTION_SCORE * exact, "{name}: {ours} and {exact}");
            }
            None => assert!(ours.is_nan(), "{name}: {ours}"),
        }
    }
}

/// The two sets of a case of precision and recall.
fn pr_inputs(name: &str, n: [i64; 2]) -> (Tensor, Tensor) {
    let (x, y) = (features("ref"), features("smp"));
    let (first, second) = (|n| x.narrow(0, 0, n), |n| y.narrow(0, 0, n));
    if name.starts_with("outliers") {
        let (x, y) = (first(n[0]).copy(), second(n[1]).copy());
        (0..n[0]).step_by(97).for_each(|i| x.get(i).copy_(&(x.get(i) * 60.0)));
        y.get(5).copy_(&(y.get(5) * 80.0));
        (x, y)
    } else if name.contains("x60") {
        (x * 60.0, y * 60.0)
    } else if name.starts_with("identical") {
        (first(n[0]), first(n[1]))
    } else if name.starts_with("disjoint") {
        (first(n[0]), second(n[1]) + 8.0)
    } else if name.starts_with("duplicates") {
        (Tensor::cat(&[first(40), first(10).repeat([4, 1])], 0), second(n[1]))
    } else if name.starts_with("ints") {
        (features("ints_ref"), features("ints_smp"))
    } else if name.starts_with("big_") {
        let make = |which, n: i64| big_features(seed(), which, n as usize, 2048);
        (make("ref", n[0]), make("smp", n[1]))
    } else {
        (first(n[0]), second(n[1]))
    }
}

#[test]
fn precision_and_recall_in_both_arithmetics() {
    let adm = json("metrics_adm.json");
    for (name, case) in adm["pr"].as_object().unwrap() {
        if name.starts_with("clamp_percentile") {
            continue; // A feature that ADM never uses.
        }
        let whole = |key: &str| case[key].as_i64().unwrap();
        let n = [whole("n_ref"), whole("n_smp")];
        let blocks = Blocks { rows: whole("row_batch"), columns: whole("col_batch") };
        let (x, y) = pr_inputs(name, n);
        assert_eq!([x.size()[0], y.size()[0]], n, "{name}");
        for (i, k) in case["k"].as_array().unwrap().iter().map(|k| k.as_i64().unwrap()).enumerate() {
            let ours = precision_recall(&x, &y, k, Distances::Adm, blocks);
            if n[0].min(n[1]) <= k {
                assert_eq!(stage::exit_code(&ours.err().unwrap()), 2, "{name}");
                continue;
            }
            let ours = ours.unwrap();
            let adm = |key: &str| case[key][i].as_f64().unwrap();
            assert_eq!(
                (ours.precision, ours.recall),
                (adm("precision"), adm("recall")),
                "{name}, k {k}, ADM"
            );
            let exact = &case["exact_f64"];
            if i == 0 {
                let ours = precision_recall(&x, &y, k, Distances::Exact, blocks).unwrap();
                let theirs = (exact["precision"].as_f64().unwrap(), exact["recall"].as_f64().unwrap());
                assert_eq!((ours.precision, ours.recall), theirs, "{name}, k {k}, exact");
            }
        }
    }
}

#[test]
fn big_features_are_the_recorded_ones() {
    let adm = json("metrics_adm.json");
    let recorded = recipe::tensors("metrics_adm.safetensors");
    let big = &adm["big_features"];
    let size = |key: &str| big[key].as_u64().unwrap() as usize;
    for (which, sum) in [("ref", "ref_sum_f64"), ("smp", "smp_sum_f64")] {
        let rows = big_features(seed(), which, size("n"), size("d"));
        let ours = rows.to_kind(Kind::Double).sum(Kind::Double).double_value(&[]);
        let theirs = big[sum].as_f64().unwrap();
        assert!((ours - theirs).abs() <= 1e-10 * theirs, "{which}");
        let (name, start) =
            if which == "ref" { ("big/ref_first2", 0) } else { ("big/smp_last2", size("n") as i64 - 2) };
        recipe::near(name, &rows.narrow(0, start, 2), &get(&recorded, name), 0.0);
    }
}

/// torch-fidelity makes a distance in f32, as a difference of three mean values of the kernel: off by some roundings of a number of
/// the kernel's size, however small the distance is. `x` and `y` are the sets.
fn kernel_rounding(x: &Tensor, y: &Tensor) -> f64 {
    const ROUNDINGS: f64 = 8.0;
    let mean = |x: &Tensor| {
        let x = x.to_kind(Kind::Double);
        let kernel: Tensor = x.matmul(&x.tr()) / x.size()[1] as f64 + 1.0;
        kernel.pow_tensor_scalar(3).mean(Kind::Double).double_value(&[])
    };
    ROUNDINGS * f64::from(f32::EPSILON) / 2.0 * mean(x).max(mean(y))
}

#[test]
fn kernel_distances_and_their_subsets() {
    let extra = json("metrics_extra.json");
    let recorded = recipe::tensors("metrics_extra.safetensors");
    let (reference, samples) = (features("ref"), features("smp"));
    let counts = [&samples, &reference].map(|t| t.size()[0] as usize);
    let near = |what: &str, ours: f64, theirs: f64, tolerance: f64| {
        assert!((ours - theirs).abs() <= tolerance, "{what}: {ours} and {theirs}");
    };
    let close = |what: &str, ours: f64, theirs: f64, relative: f64| {
        near(what, ours, theirs, relative * theirs.abs());
    };
    let rounding = kernel_rounding(&samples, &reference);
    for (name, wanted) in extra["kid"].as_object().unwrap() {
        let number = |key: &str| {
            let after = name.split_once(&format!("{key}=")).unwrap().1;
            after.split([',', ')']).next().unwrap().parse::<usize>().unwrap()
        };
        let (subsets, size, seed) = (number("subsets"), number("subset_size"), number("rng_seed") as u32);
        let ours = metrics::kid(&samples, &reference, subsets, size, seed).unwrap();
        let theirs = |key: &str| wanted[key].as_f64().unwrap();
        near(name, ours.mean, theirs("kernel_inception_distance_mean"), rounding);
        near(name, ours.deviation, theirs("kernel_inception_distance_std"), rounding);
    }
    // The stored rows of five subsets, and their exact values.
    let explicit = &extra["kid_explicit_subsets"];
    let wanted: Vec<f64> =
        explicit["mmd2_f64"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect();
    let (of_reference, of_samples) =
        (get(&recorded, "kid/subset_idx_ref"), get(&recorded, "kid/subset_idx_smp"));
    for (i, theirs) in wanted.iter().enumerate() {
        let x = samples.index_select(0, &of_samples.get(i as i64));
        let y = reference.index_select(0, &of_reference.get(i as i64));
        close("subset", metrics::squared_mmd(&x, &y).unwrap(), *theirs, 1e-10);
    }
    let size = explicit["size"].as_u64().unwrap() as usize;
    for (i, [of_smp, of_ref]) in metrics::kernel::draw(counts, wanted.len(), size, 2020).enumerate() {
        assert_eq!(Tensor::from_slice(&of_smp), of_samples.get(i as i64));
        assert_eq!(Tensor::from_slice(&of_ref), of_reference.get(i as i64));
    }
    let part = |rows: &Tensor, from: i64, to: i64| rows.narrow(0, from, to - from);
    let all = reference.size()[0];
    for (name, x, y) in [
        ("kid_full_unbiased_mmd2_f64(ref,smp)", reference.shallow_clone(), samples.shallow_clone()),
        (
            "kid_full_unbiased_mmd2_f64(ref[:900],smp)",
            part(&reference, 0, 900.min(all)),
            samples.shallow_clone(),
        ),
        (
            "kid_full_unbiased_mmd2_f64(ref[:600],ref[600:])",
            part(&reference, 0, 600),
            part(&reference, 600, all),
        ),
    ] {
        close(name, metrics::squared_mmd(&x, &y).unwrap(), extra[name].as_f64().unwrap(), 1e-10);
    }
}

#[test]
fn density_and_coverage() {
    let extra = json("metrics_extra.json");
    for (name, wanted) in extra.as_object().unwrap().iter().filter(|(name, _)| name.starts_with("prdc_f64_k"))
    {
        let k = name["prdc_f64_k".len()..].split('_').next().unwrap().parse().unwrap();
        let (reference, samples) = if name.contains("ints") {
            (features("ints_ref"), features("ints_smp"))
        } else {
            (features("ref"), features("smp"))
        };
        let ours = metrics::density_coverage(&reference, &samples, k).unwrap();
        let theirs = |key: &str| wanted[key].as_f64().unwrap();
        assert!((ours.density - theirs("density")).abs() <= 1e-12, "{name}: {ours:?}");
        assert!((ours.coverage - theirs("coverage")).abs() <= 1e-12, "{name}: {ours:?}");
    }
}
