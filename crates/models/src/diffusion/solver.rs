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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diffusion::Respacing;

    const CURVES: [NoiseSchedule; 2] = [NoiseSchedule::Cosine, NoiseSchedule::Linear];

    #[test]
    fn any_number_of_steps_has_as_many_timesteps() {
        for steps in 1..=1000 {
            let flow = flow_timesteps(1000, steps);
            assert_eq!((flow.len(), flow[steps - 1]), (steps, 999));
            assert!(flow.windows(2).all(|pair| pair[0] < pair[1]), "{steps}");
            for curve in CURVES {
                let kept = dpm_solver_timesteps(curve, 1000, steps);
                assert_eq!(kept.len(), steps);
                assert!(kept.windows(2).all(|pair| pair[0] < pair[1]), "{steps} {curve}");
                let last = if curve == NoiseSchedule::Linear { 999 } else { 995.max(steps - 1) };
                assert_eq!(kept[steps - 1], last, "{steps} {curve}");
                assert!(steps == 1 || kept[0] == 0);
            }
        }
    }

    /// Pictures of one number with this mean and deviation, for which everything is known: the x that is as far from the mean as
    /// Z says, and the x_0 that is expected of an x. `[α, σ]`.
    const MEAN: f64 = 0.7;
    const DEVIATION: f64 = 0.5;
    const Z: f64 = 1.3;

    fn exact([a, s]: [f64; 2]) -> f64 {
        a * MEAN + (a * a * DEVIATION * DEVIATION + s * s).sqrt() * Z
    }

    fn expected([a, s]: [f64; 2], x: f64) -> f64 {
        let square = DEVIATION * DEVIATION;
        MEAN + a * square / (a * a * square + s * s) * (x - a * MEAN)
    }

    /// Orders of convergence of a method's errors with each number of steps and twice that.
    fn orders(error: impl Fn(usize) -> f64, from: usize) -> [f64; 3] {
        [1, 2, 4].map(|more| (error(from * more).abs() / error(2 * from * more).abs()).log2())
    }

    fn diffused(schedule: &Schedule, i: usize) -> [f64; 2] {
        let signal = schedule.alphas_cumprod[i];
        [signal.sqrt(), (1.0 - signal).sqrt()]
    }

    #[test]
    fn dpm_solver_is_of_second_order_and_one_of_its_steps_alone_of_first() {
        let solve = |curve: NoiseSchedule, steps: usize, second: bool| {
            let kept = dpm_solver_timesteps(curve, 1000, steps);
            let schedule = Schedule::new(curve, 1000, &Respacing::Timesteps(kept)).unwrap();
            let (mut x, mut previous) = (exact(diffused(&schedule, steps - 1)), 0.0);
            for (i, [of_x, of_start, of_previous]) in dpm_solver(&schedule).into_iter().enumerate().rev() {
                let start = expected(diffused(&schedule, i), x);
                let (of_start, of_previous) =
                    if second { (of_start, of_previous) } else { (of_start + of_previous, 0.0) };
                x = of_x * x + of_start * start + of_previous * previous;
                previous = start;
            }
            // What is left at the last timestep is predicted in one step, whatever the number of steps.
            x - expected(diffused(&schedule, 0), exact(diffused(&schedule, 0)))
        };
        for curve in CURVES {
            let [second, first] = [true, false].map(|second| orders(|n| solve(curve, n, second), 8));
            assert!(second.iter().all(|order| (1.7..2.6).contains(order)), "{curve}: {second:?}");
            assert!(first.iter().all(|order| (0.8..1.2).contains(order)), "{curve}: {first:?}");
            let [few, simple] = [true, false].map(|second| solve(curve, 10, second).abs());
            assert!(few < 0.2 * simple, "{curve}: {few} and {simple}");
        }
    }

    #[test]
    fn straight_steps_are_of_first_order_and_corrected_ones_of_second() {
        let solve = |steps: usize, corrected: bool| {
            let at = |t: f64| [1.0 - t, t];
            let velocity = |x: f64, t: f64| (x - expected(at(t), x)) / t;
            let times: Vec<f64> =
                flow_timesteps(1000, steps).into_iter().map(|t| flow_time(t, 1000)).collect();
            let mut x = exact(at(1.0));
            for i in (0..steps).rev() {
                let (here, there) = (times[i], if i == 0 { 0.0 } else { times[i - 1] });
                let v = velocity(x, here);
                let ahead = x + (there - here) * v;
                let after = if corrected && i > 0 { velocity(ahead, there) } else { v };
                x += (there - here) * (v + after) / 2.0;
            }
            x - exact(at(0.0))
        };
        let [heun, euler] = [true, false].map(|corrected| orders(|n| solve(n, corrected), 10));
        assert!(heun.iter().all(|order| (1.8..2.4).contains(order)), "{heun:?}");
        assert!(euler.iter().all(|order| (0.9..1.1).contains(order)), "{euler:?}");
    }
}
