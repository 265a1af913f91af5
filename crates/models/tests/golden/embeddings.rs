//! Timestep sinusoids and position tables.

use super::support::*;
use models::patch::position_table;
use models::timestep::sinusoid;

#[test]
fn sinusoids() {
    let golden = tensors("embeddings");
    let t = get(&golden, "timestep.t");
    let mut checked = 0;
    for name in golden.names().filter(|n| n.starts_with("timestep.dim")) {
        let width: i64 = name["timestep.dim".len()..].parse().unwrap();
        near_sinusoid(name, &sinusoid(t, width), get(&golden, name), t);
        checked += 1;
    }
    assert!(checked > 0);
}

#[test]
fn positions() {
    let (golden, meta) = (tensors("embeddings"), json("embeddings"));
    let mut checked = 0;
    for name in golden.names().filter(|n| n.ends_with(".rows")) {
        let key = name.strip_suffix(".rows").unwrap();
        let (width, grid) = key.strip_prefix("pos.D").unwrap().split_once(".grid").unwrap();
        let table = position_table(width.parse().unwrap(), grid.parse().unwrap());
        near(key, &table.index_select(0, get(&golden, name)), get(&golden, &format!("{key}.values")), 1e-6);
        let double = table.to_kind(tch::Kind::Double);
        let square = double.square().sum(tch::Kind::Double).double_value(&[]);
        close(key, square, meta[key]["sum_sq"].as_f64().unwrap(), 1e-6);
        let sum = double.sum(tch::Kind::Double).double_value(&[]);
        close(key, sum, meta[key]["sum"].as_f64().unwrap(), 1e-6);
        checked += 1;
    }
    assert!(checked > 0);
}
