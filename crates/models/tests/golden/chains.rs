//! Whole chains back from noise.

use super::support::*;
use models::diffusion::{Diffusion, NoiseSchedule, Schedule};
use stage::Choice;
use tch::{Device, Tensor};

#[test]
fn chains() {
    let (meta, golden) = (json("sample_chain"), tensors("sample_chain"));
    for (name, about) in meta.as_object().unwrap().iter().filter(|(_, v)| v.get("respacing").is_some()) {
        let network = network(name.split('.').next().unwrap());
        let respacing = about["respacing"].as_str().unwrap().parse().unwrap();
        let curve = NoiseSchedule::from_word(about["schedule"].as_str().unwrap()).unwrap();
        let diffusion = Diffusion::new(Schedule::new(curve, 1000, &respacing).unwrap(), Device::Cpu);
        assert_eq!(diffusion.schedule.timestep_map, integers(&about["timestep_map"]));
        let clip = about["clip_denoised"].as_bool().unwrap();
        let want = get(&golden, &format!("{name}.out"));
        let images = want.size()[0];
        let mut x = get(&golden, &format!("{name}.z")).narrow(0, 0, images);
        let y = get(&golden, &format!("{name}.y")).narrow(0, 0, images);
        let noises = golden.get(&format!("{name}.noise")).unwrap();
        let steps = diffusion.schedule.steps() as i64;
        let _guard = tch::no_grad_guard();
        for i in (0..steps).rev() {
            let step = Tensor::from_slice(&[i]);
            let seen = Tensor::from_slice(&[diffusion.schedule.timestep_map[i as usize]]);
            let timesteps = network.timesteps(&seen);
            let output = match about["cfg_scale"].as_f64() {
                Some(scale) => network.guided(&x, &timesteps, &y, scale),
                None => network.forward_at(&x, &timesteps, &y),
            };
            let at = diffusion.at(&step);
            let guess = diffusion.predict(&at, &x, &output, clip);
            let noise = noises.map(|n| n.get(steps - 1 - i).narrow(0, 0, images));
            x = match about["eta"].as_f64() {
                Some(eta) => diffusion.ddim(&at, &x, &guess, eta, &noise.unwrap_or(x.zeros_like())),
                None => diffusion.ddpm(&at, &guess, &noise.expect("noise")),
            };
        }
        near_relative(name, &x, want, 1e-5);
    }
}
