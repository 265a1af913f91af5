//! Schedules, single steps and losses.

use super::support::*;
use models::diffusion::{Diffusion, NoiseSchedule, Respacing, Schedule, Weighting};
use stage::Choice;
use tch::{Device, Kind, Tensor};

fn schedule(curve: &str, respacing: &str, steps: usize) -> Schedule {
    let respacing: Respacing = respacing.parse().unwrap();
    Schedule::new(NoiseSchedule::from_word(curve).unwrap(), steps, &respacing).unwrap()
}

fn named(name: &str) -> Schedule {
    let meta = &json("diffusion")["schedules"][name];
    let text = |key: &str| meta[key].as_str().unwrap().to_string();
    let steps = meta["diffusion_steps"].as_u64().unwrap_or(1000) as usize;
    schedule(&text("schedule"), &text("respacing"), steps)
}

#[test]
fn schedules() {
    let (meta, golden) = (json("diffusion"), tensors("diffusion"));
    for (name, about) in meta["schedules"].as_object().unwrap() {
        let ours = named(name);
        let each = |f: fn(f64) -> f64| ours.alphas_cumprod.iter().map(|a| f(*a)).collect::<Vec<f64>>();
        let tables = [
            ("betas", ours.betas.clone()),
            ("alphas_cumprod", ours.alphas_cumprod.clone()),
            ("alphas_cumprod_prev", ours.alphas_cumprod_prev.clone()),
            ("sqrt_alphas_cumprod", each(f64::sqrt)),
            ("sqrt_one_minus_alphas_cumprod", each(|a| (1.0 - a).sqrt())),
            ("log_one_minus_alphas_cumprod", each(|a| (1.0 - a).ln())),
            ("sqrt_recip_alphas_cumprod", each(|a| (1.0 / a).sqrt())),
            ("sqrt_recipm1_alphas_cumprod", each(|a| (1.0 / a - 1.0).sqrt())),
            ("posterior_variance", ours.posterior_variance.clone()),
            ("posterior_log_variance_clipped", ours.posterior_log_variance.clone()),
            ("posterior_mean_coef1", ours.posterior_start.clone()),
            ("posterior_mean_coef2", ours.posterior_current.clone()),
        ];
        // Respaced β is a difference of numbers near 1.
        let respaced = !about["respacing"].as_str().unwrap().is_empty();
        let tolerance = if respaced { 1e-9 } else { 1e-12 };
        let mut left: Vec<&str> =
            golden.names().filter_map(|n| n.strip_prefix(&format!("{name}."))).collect();
        for (table, values) in tables {
            let Some(want) = golden.get(&format!("{name}.{table}")).unwrap() else { continue };
            left.retain(|n| *n != table);
            let want: Vec<f64> = Vec::try_from(want).unwrap();
            assert_eq!(values.len(), want.len(), "{name}.{table}");
            for (i, (ours, want)) in values.iter().zip(&want).enumerate() {
                close(&format!("{name}.{table}[{i}]"), *ours, *want, tolerance);
            }
        }
        let map: Vec<i64> = Vec::try_from(get(&golden, &format!("{name}.timestep_map"))).unwrap();
        assert_eq!(ours.timestep_map, map, "{name}");
        left.retain(|n| *n != "timestep_map");
        assert!(left.is_empty(), "{name}: not compared: {left:?}");
    }
}

#[test]
fn single_steps() {
    let (meta, golden) = (json("diffusion"), tensors("diffusion"));
    for (name, about) in meta["steps"].as_object().unwrap() {
        let diffusion = Diffusion::new(named(name), Device::Cpu);
        let field = |key: &str| get(&golden, &format!("step.{name}.{key}"));
        let (t, x, output, noise) = (field("t"), field("x"), field("model_out"), field("noise"));
        let seen: Vec<i64> =
            integers(&about["t"]).iter().map(|t| diffusion.schedule.timestep_map[*t as usize]).collect();
        assert_eq!(seen, integers(&about["t_seen_by_model"]), "{name}");
        let at = diffusion.at(t);
        let prefix = format!("step.{name}.");
        let outputs: Vec<&str> = golden.names().filter_map(|n| n.strip_prefix(prefix.as_str())).collect();
        for key in outputs.into_iter().filter(|k| !["t", "model_t", "x", "model_out", "noise"].contains(k)) {
            let clip = key.starts_with("clip.");
            let guess = diffusion.predict(&at, x, output, clip);
            let ours = match key.strip_prefix("clip.").unwrap_or(key) {
                "mean" => guess.mean,
                "log_variance" => guess.log_variance,
                "pred_xstart" => guess.start,
                "p_sample" => diffusion.ddpm(&at, &guess, noise),
                "ddim_reverse" => diffusion.ddim_reverse(&at, x, &guess),
                other => {
                    let eta = other.strip_prefix("ddim_eta").unwrap_or_else(|| panic!("{name}: {key}"));
                    diffusion.ddim(&at, x, &guess, eta.parse().unwrap(), noise)
                }
            };
            // The noise is derived again from the clipped x_0, by a difference that cancels at small t.
            let tolerance = if clip && key.contains("ddim") { 5e-4 } else { 1e-5 };
            near_rows(&format!("{name} {key}"), &ours, field(key), tolerance);
        }
    }
}

fn weighting(name: &str) -> Option<Weighting> {
    if name.starts_with("constant") || name == "uw" {
        return Some(Weighting::Constant);
    }
    Some(Weighting::MinSnr { gamma: name.strip_prefix("min_snr_")?.parse().ok()? })
}

#[test]
fn losses() {
    let (meta, golden) = (json("diffusion"), tensors("diffusion"));
    let field = |key: &str| get(&golden, &format!("loss.{key}"));
    let (start, noise, t) = (field("x_start"), field("noise"), field("t"));
    for (name, about) in meta["loss"].as_object().unwrap() {
        // An entry without numbers only says why there are none.
        if about.get("mse").is_none() {
            continue;
        }
        let curve = if name.contains("linear") { "linear" } else { "cosine" };
        let diffusion = Diffusion::new(schedule(curve, "", 1000), Device::Cpu);
        let x = diffusion.noised(&diffusion.at(t), start, noise);
        if curve == "cosine" {
            near("x_t", &x, field("x_t"), 1e-6);
        }
        let weighting = weighting(name).unwrap_or_else(|| panic!("loss {name}"));
        let output = field("model_out").copy().set_requires_grad(true);
        let ours = diffusion.losses(&output, start, &x, noise, t, weighting);
        let rows = |key: &str| Tensor::from_slice(&numbers(&about[key]));
        near_rows(&format!("{name}.mse"), &ours.mse, &rows("mse"), 1e-5);
        near_rows(&format!("{name}.vb"), &ours.vb, &rows("vb"), 1e-5);
        let total = match about.get("loss_scale") {
            None => {
                let total = &ours.mse + &ours.vb;
                near_rows(&format!("{name}.loss"), &total, &rows("loss"), 1e-5);
                total.sum(Kind::Float)
            }
            Some(scale) => {
                let scale = Tensor::from_slice(&numbers(scale)).to_kind(Kind::Float).set_requires_grad(true);
                let total = models::diffusion::losses::uncertainty(&(&ours.mse + &ours.vb), &scale);
                close("uw", total.double_value(&[]), about["loss"].as_f64().unwrap(), 1e-5);
                total.backward();
                let want = Tensor::from_slice(&numbers(&about["grad_loss_scale"]));
                near_relative("uw scales", &scale.grad(), &want, 1e-5);
                near_rows("uw gradient", &output.grad(), field("uw.grad_model_out"), 1e-5);
                continue;
            }
        };
        if let Some(want) = golden.get(&format!("loss.{name}.grad_model_out")).unwrap() {
            total.backward();
            let got = output.grad();
            let scale = want.norm().double_value(&[]) / got.norm().double_value(&[]);
            // Recorded for the mean over the batch.
            close("gradient scale", scale, 1.0 / start.size()[0] as f64, 1e-4);
            near_rows(&format!("{name} gradient"), &(got * (1.0 / start.size()[0] as f64)), want, 1e-5);
        }
    }
}
