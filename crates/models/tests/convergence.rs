//! Which timesteps a solver takes, and how fast its error falls where the solution is known.

use models::diffusion::solver::{dpm_solver, dpm_solver_timesteps, flow_time, flow_timesteps};
use models::diffusion::{NoiseSchedule, Respacing, Schedule};

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
        let [second, first] = [true, false].map(|second| orders(|n| solve(curve, n, second), 16));
        assert!(second.iter().all(|order| (1.8..2.2).contains(order)), "{curve}: {second:?}");
        assert!(first.iter().all(|order| (0.9..1.1).contains(order)), "{curve}: {first:?}");
        let [few, simple] = [true, false].map(|second| solve(curve, 10, second).abs());
        assert!(few < 0.2 * simple, "{curve}: {few} and {simple}");
    }
}

#[test]
fn straight_steps_are_of_first_order_and_corrected_ones_of_second() {
    let solve = |steps: usize, corrected: bool| {
        let at = |t: f64| [1.0 - t, t];
        let velocity = |x: f64, t: f64| (x - expected(at(t), x)) / t;
        let times: Vec<f64> = flow_timesteps(1000, steps).into_iter().map(|t| flow_time(t, 1000)).collect();
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
