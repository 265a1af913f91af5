//! What is predicted in the place of noise: targets, losses and x_0, each from its definition.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use models::diffusion::{Diffusion, NoiseSchedule, PredictionType, Respacing, Schedule, Weighting};
use stage::Choice;
use tch::{Device, Kind, Tensor};
use torch::random::normal;

/// f32 rounding, relative.
const ROUNDING: f64 = 2e-5;

fn diffusion(prediction: PredictionType, curve: NoiseSchedule) -> Diffusion {
    let schedule = Schedule::new(curve, 1000, &Respacing::All).unwrap();
    Diffusion::of(prediction, schedule, Device::Cpu)
}

struct Input {
    start: Tensor,
    noise: Tensor,
    output: Tensor,
    t: Tensor,
}

fn input() -> Input {
    let draw = |name: &str, channels: i64| normal(1, name, 0, &[5, channels, 4, 4]);
    let t = Tensor::from_slice(&[0i64, 1, 250, 700, 990]);
    Input { start: draw("start", 4), noise: draw("noise", 4), output: draw("output", 8), t }
}

/// The weights of x_0 and of the noise in x_t, in f64 from the definitions: `[B, 1, 1, 1]`.
fn parts(prediction: PredictionType, curve: NoiseSchedule, t: &Tensor) -> [Tensor; 2] {
    let t = Vec::<i64>::try_from(t).unwrap();
    let pair = |t: &i64| match prediction {
        PredictionType::Velocity => [1.0 - (t + 1) as f64 / 1000.0, (t + 1) as f64 / 1000.0],
        _ => {
            let signal: f64 = curve.betas(1000)[..=*t as usize].iter().map(|beta| 1.0 - beta).product();
            [signal.sqrt(), (1.0 - signal).sqrt()]
        }
    };
    let pairs: Vec<[f64; 2]> = t.iter().map(pair).collect();
    [0, 1].map(|i| Tensor::from_slice(&pairs.iter().map(|p| p[i]).collect::<Vec<_>>()).view([-1, 1, 1, 1]))
}

fn near(what: &str, ours: &Tensor, wanted: &Tensor) {
    assert_eq!(ours.size(), wanted.size(), "{what}");
    let off = ((ours.to_kind(Kind::Double) - wanted).norm() / wanted.norm()).double_value(&[]);
    assert!(off < ROUNDING, "{what}: {off:.1e}");
}

#[test]
fn losses_and_starts_are_as_defined() {
    let Input { start, noise, output, t } = input();
    for (_, prediction) in PredictionType::ALL {
        for (_, curve) in NoiseSchedule::ALL {
            let name = format!("{prediction} {curve}");
            let diffusion = diffusion(*prediction, *curve);
            let at = diffusion.at(&t);
            let [a, s] = parts(*prediction, *curve, &t);
            let x = diffusion.noised(&at, &start, &noise);
            near(&format!("{name} x_t"), &x, &(&a * &start + &s * &noise));

            let target = match prediction {
                PredictionType::Noise => noise.to_kind(Kind::Double),
                PredictionType::V => &a * &noise - &s * &start,
                PredictionType::Velocity => (&noise - &start).to_kind(Kind::Double),
            };
            let wanted =
                (target - output.narrow(1, 0, 4)).square().mean_dim([1i64, 2, 3].as_slice(), false, None);
            let constant = diffusion.losses(&output, &start, &x, &noise, &t, Weighting::Constant);
            near(&format!("{name} error"), &constant.error, &wanted);
            near(&format!("{name} mse"), &constant.mse, &wanted);
            if *prediction == PredictionType::Velocity {
                assert_eq!(constant.vb.abs().max().double_value(&[]), 0.0);
            } else {
                let ratio = ((&a / &s).square()).view([-1]);
                let below = if *prediction == PredictionType::V { &ratio + 1.0 } else { ratio.copy() };
                let weighted = &wanted * ratio.clamp_max(5.0) / below;
                let min_snr = Weighting::MinSnr { gamma: 5.0 };
                let losses = diffusion.losses(&output, &start, &x, &noise, &t, min_snr);
                near(&format!("{name} min-snr"), &losses.mse, &weighted);
            }
            // What a network would say that knows the picture gives the picture back, but where it is lost in rounding.
            let exact = match prediction {
                PredictionType::Noise => noise.shallow_clone(),
                PredictionType::V => (&a * &noise - &s * &start).to_kind(Kind::Float),
                PredictionType::Velocity => &noise - &start,
            };
            let clear = |x: &Tensor| x.narrow(0, 0, 4);
            near(
                &format!("{name} x_0"),
                &clear(&diffusion.start(&at, &x, &exact)),
                &clear(&start).to_kind(Kind::Double),
            );
        }
    }
}

/// The variance term of v is that of the noise which it says.
#[test]
fn the_variance_term_of_v_is_that_of_its_noise() {
    let Input { start, noise, output, t } = input();
    let curve = NoiseSchedule::Linear;
    let (of_v, of_noise) = (diffusion(PredictionType::V, curve), diffusion(PredictionType::Noise, curve));
    let [a, s] = parts(PredictionType::V, curve, &t);
    let x = of_v.noised(&of_v.at(&t), &start, &noise);
    let said = &s * &x + &a * output.narrow(1, 0, 4);
    let same = Tensor::cat(&[said.to_kind(Kind::Float), output.narrow(1, 4, 4)], 1);
    let vb = |diffusion: &Diffusion, output: &Tensor| {
        let losses = diffusion.losses(output, &start, &x, &noise, &t, Weighting::Constant);
        losses.vb.to_kind(Kind::Double)
    };
    let (ours, wanted) = (vb(&of_v, &output), vb(&of_noise, &same));
    // Differences of nearly equal means, in f32.
    let off = ((ours - &wanted) / &wanted).abs().max().double_value(&[]);
    assert!(off < 1e-3, "{off:.1e}");
}
