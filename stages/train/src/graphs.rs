//! A step's pass over tensors that stay in their places, and the CUDA graphs that repeat it without the host.
//!
//! Three graphs, because the matching is made on the host between them: its costs; the evaluation; the gradients. What is
//! outside of them, the draws' copies, the matching and the optimiser, is given to the GPU at every step.

use crate::draws::Draws;
use crate::pass::{Evaluated, Losses, Pass};
use anyhow::{Context, Result, ensure};
use tch::{Kind, Tensor};
use torch::graphs::{AGREEMENT, WARM_UP, distance};
use torch::shim::{Graph, Side};
use torch::transfer::{self, Readback};

/// The three parts of a pass, computed or repeated.
trait Parts {
    fn costs(&mut self, pass: &Pass) -> Result<Option<Tensor>>;
    fn evaluate(&mut self, pass: &Pass, draws: &Draws) -> Result<()>;
    fn backward(&mut self, pass: &Pass, matching: Option<&Tensor>) -> Result<Losses>;
}

/// What changes from step to step, always in the same memory.
pub struct Fixed {
    draws: Draws,
    matching: Option<Tensor>,
}

impl Fixed {
    /// Tensors like these draws, on the network's device.
    ///
    /// # Errors
    /// When the device has no memory left.
    pub fn new(pass: &Pass, draws: &Draws) -> Result<Self> {
        let matching = pass.costs()?.map(|costs| costs.size()[0]);
        let matching = matching.map(|size| Tensor::zeros([size], (Kind::Int64, pass.network.device())));
        Ok(Self { draws: draws.upload(pass.network.device())?.copy()?, matching })
    }

    fn step(&mut self, pass: &Pass, draws: &Draws, parts: &mut impl Parts) -> Result<Losses> {
        let device = pass.network.device();
        self.draws.fill(&draws.upload(device)?)?;
        let costs = parts.costs(pass)?.map(|costs| Readback::begin(&costs)).transpose()?;
        parts.evaluate(pass, &self.draws)?;
        if let Some((matching, costs)) = self.matching.as_mut().zip(costs) {
            matching.copy_(&transfer::upload(&pass.matching(costs)?, device)?);
        }
        parts.backward(pass, self.matching.as_ref())
    }

    /// The whole pass, given to the device anew.
    ///
    /// # Errors
    /// When libtorch fails.
    pub fn compute(&mut self, pass: &Pass, draws: &Draws) -> Result<Losses> {
        self.step(pass, draws, &mut Computed::default())
    }
}

/// Parts that are computed.
#[derive(Default)]
struct Computed(Option<Evaluated>);

impl Parts for Computed {
    fn costs(&mut self, pass: &Pass) -> Result<Option<Tensor>> {
        pass.costs()
    }
    fn evaluate(&mut self, pass: &Pass, draws: &Draws) -> Result<()> {
        self.0 = Some(pass.evaluate(draws)?);
        Ok(())
    }
    fn backward(&mut self, pass: &Pass, matching: Option<&Tensor>) -> Result<Losses> {
        pass.clear();
        pass.backward(&self.0.take().context("no evaluation")?, matching, None)
    }
}

/// Parts that are repeated, with what they leave in their memory.
struct Recorded {
    costs: Option<(Graph, Tensor)>,
    evaluation: Graph,
    gradients: Graph,
    losses: Losses,
}

impl Recorded {
    fn new(pass: &Pass, fixed: &Fixed) -> Result<Self> {
        let mut parts = Computed::default();
        let costs = match fixed.matching {
            Some(_) => Some(Graph::capture(None, || pass.costs()?.context("a prior without costs"))?),
            None => None,
        };
        let beside = costs.as_ref().map(|(graph, _)| graph);
        let (evaluation, ()) = Graph::capture(beside, || parts.evaluate(pass, &fixed.draws))?;
        let (gradients, losses) =
            Graph::capture(Some(&evaluation), || parts.backward(pass, fixed.matching.as_ref()))?;
        Ok(Self { costs, evaluation, gradients, losses })
    }
}

impl Parts for Recorded {
    fn costs(&mut self, _: &Pass) -> Result<Option<Tensor>> {
        let Some((graph, costs)) = &self.costs else { return Ok(None) };
        graph.replay()?;
        Ok(Some(costs.shallow_clone()))
    }
    fn evaluate(&mut self, _: &Pass, _: &Draws) -> Result<()> {
        self.evaluation.replay()
    }
    fn backward(&mut self, _: &Pass, _: Option<&Tensor>) -> Result<Losses> {
        self.gradients.replay()?;
        let Losses { names, values } = &self.losses;
        Ok(Losses { names: names.clone(), values: values.shallow_clone() })
    }
}

/// Steps over fixed tensors: first computed, then recorded once and repeated.
pub struct Graphs {
    /// Where they are recorded; without it they are only computed.
    side: Option<Side>,
    done: usize,
    fixed: Option<Fixed>,
    recorded: Option<Recorded>,
}

/// How a step was done.
pub enum Outcome {
    /// As it should be.
    Done(Losses),
    /// Its gradients are good, but it cannot be repeated.
    Unrepeatable(Losses, anyhow::Error),
}

impl Graphs {
    /// On this stream.
    pub fn new(side: Option<Side>) -> Self {
        Self { side, done: 0, fixed: None, recorded: None }
    }

    /// The next step's pass.
    ///
    /// # Errors
    /// When libtorch fails.
    pub fn step(&mut self, pass: &Pass, draws: &Draws) -> Result<Outcome> {
        let Self { side, done, fixed, recorded } = self;
        let fixed = match fixed {
            Some(fixed) => fixed,
            None => fixed.insert(Fixed::new(pass, draws)?),
        };
        let Some(side) = side else { return Ok(Outcome::Done(fixed.compute(pass, draws)?)) };
        side.run(|| {
            if let Some(recorded) = recorded {
                return Ok(Outcome::Done(fixed.step(pass, draws, recorded)?));
            }
            let losses = fixed.compute(pass, draws)?;
            *done += 1;
            if *done <= WARM_UP {
                return Ok(Outcome::Done(losses));
            }
            let usual = pass.gradient.copy();
            match record(pass, fixed, [&usual, &losses.values]) {
                Ok(repeatable) => *recorded = Some(repeatable),
                Err(e) => {
                    pass.gradient.shallow_clone().copy_(&usual);
                    return Ok(Outcome::Unrepeatable(losses, e));
                }
            }
            Ok(Outcome::Done(losses))
        })
    }
}

/// The pass as graphs, once they have been seen to give the gradient and the losses that the same draws have given before.
fn record(pass: &Pass, fixed: &Fixed, usual: [&Tensor; 2]) -> Result<Recorded> {
    let mut recorded = Recorded::new(pass, fixed)?;
    drop(recorded.costs(pass)?);
    recorded.evaluate(pass, &fixed.draws)?;
    let losses = recorded.backward(pass, fixed.matching.as_ref())?;
    for (what, repeated, usual) in
        [("gradients are", pass.gradient, usual[0]), ("losses are", &losses.values, usual[1])]
    {
        let distance = distance(repeated, usual);
        ensure!(
            distance < AGREEMENT,
            "a repeated step's {what} {distance:.1e} of themselves from the step's"
        );
    }
    Ok(recorded)
}

#[cfg(test)]
mod tests;
