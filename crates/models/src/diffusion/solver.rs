//! Samplers of second order and of straight paths: which timesteps they keep, and how they weigh what the network says.

use super::schedule::{NoiseSchedule, Schedule};

/// Half the logarithm of the signal-to-noise ratio below which DPM-Solver++ does not begin. Near pure noise x_0 is predicted as a
/// difference of numbers e^−λ times as large: at the end of the cosine schedule (λ = −9.9) any error of the noise is multiplied
/// by 20,000. Just below the linear schedule's end, so that this keeps all of it.
const LEAST_LAMBDA: f64 = -5.1;

/// λ = ln(α / σ) of a share of the signal's variance.
fn lambda(signal: f64) -> f64 {
    0.5 * (signal / (1.0 - signal)).ln()
}

/// The timesteps of `steps` steps of DPM-Solver++, rising: evenly spaced in λ, as in its paper, from the last timestep that is not
/// almost pure noise to 0; more of the noisy ones only where that many steps are wanted. Timesteps are whole numbers, so that
/// many steps stand closer together near 0 than the spacing would have it.
pub fn dpm_solver_timesteps(curve: NoiseSchedule, timesteps: usize, steps: usize) -> Vec<usize> {
    let mut signal = 1.0;
    let all = curve.betas(timesteps).into_iter().map(|beta| {
        signal *= 1.0 - beta;
        lambda(signal)
    });
    let lambdas: Vec<f64> = all.collect();
    let begins = lambdas.partition_point(|lambda| *lambda >= LEAST_LAMBDA);
    let last = begins.max(steps) - 1;
    let nearest = |wanted: f64| {
        let after = lambdas.partition_point(|lambda| *lambda > wanted).clamp(1, last);
        if lambdas[after - 1] - wanted < wanted - lambdas[after] { after - 1 } else { after }
    };
    if steps == 1 {
        return vec![last];
    }
    let mut kept: Vec<usize> = Vec::new();
    for i in 0..steps {
        let share = i as f64 / (steps - 1) as f64;
        let least = kept.last().map_or(0, |before| before + 1);
        let most = last - (steps - 1 - i);
        kept.push(nearest(lambdas[0] + (lambdas[last] - lambdas[0]) * share).clamp(least, most));
    }
    kept
}

/// DPM-Solver++(2M), Algorithm 2 of its paper, for every step of a schedule: what x, the x_0 that is predicted at this step, and
/// the x_0 that was predicted at the step before (of more noise) are multiplied by. The first step taken, the schedule's last, is of
/// first order; step 0 gives the predicted x_0.
pub fn dpm_solver(schedule: &Schedule) -> Vec<[f64; 3]> {
    let signal = &schedule.alphas_cumprod;
    let weights = |i: usize| {
        if i == 0 {
            return [0.0, 1.0, 0.0];
        }
        let (here, to) = (signal[i], signal[i - 1]);
        let length = lambda(to) - lambda(here);
        let x = ((1.0 - to) / (1.0 - here)).sqrt();
        let start = -to.sqrt() * (-length).exp_m1();
        match signal.get(i + 1) {
            None => [x, start, 0.0],
            Some(before) => {
                let change = start * length / (lambda(here) - lambda(*before)) / 2.0;
                [x, start + change, -change]
            }
        }
    };
    (0..signal.len()).map(weights).collect()
}

/// The timesteps of `steps` equal steps along the straight path of rectified flow, rising; the last is pure noise.
pub fn flow_timesteps(timesteps: usize, steps: usize) -> Vec<usize> {
    let place = |i: usize| (timesteps as f64 * i as f64 / steps as f64).round_ties_even() as usize;
    (1..=steps).map(|i| place(i) - 1).collect()
}

/// How far along the path a timestep is: 0 is the picture, 1 the noise.
pub fn flow_time(timestep: usize, timesteps: usize) -> f64 {
    (timestep + 1) as f64 / timesteps as f64
}
