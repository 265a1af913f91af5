//! A step's pass over tensors that stay in their places, and the CUDA graphs that repeat it without the host.
//!
//! Three graphs, because the matching is made on the host between them: its costs; the evaluation; the gradients. What is
//! outside of them, the batch's copies, the matching and the optimiser, is given to the GPU at every step.

use crate::pass::{Evaluated, Losses, Pass};
use crate::step_batch::StepBatch;
use anyhow::{Context, Result};
use tch::{Kind, Tensor};
use torch::graphs::{self, Recorder};
use torch::shim::{Graph, SideStream};
use torch::transfer::{self, Readback};

/// The three parts of a pass, computed or repeated.
trait Parts {
    fn costs(&mut self, pass: &Pass) -> Result<Option<Tensor>>;
    fn evaluate(&mut self, pass: &Pass, batch: &StepBatch) -> Result<()>;
    fn backward(&mut self, pass: &Pass, matching: Option<&Tensor>) -> Result<Losses>;
}

/// What changes from step to step, always in the same memory.
struct StaticInputs {
    batch: StepBatch,
    matching: Option<Tensor>,
}

impl StaticInputs {
    /// Tensors like those of this batch, on the network's device.
    fn new(pass: &Pass, batch: &StepBatch) -> Result<Self> {
        let matching = pass.costs()?.map(|costs| costs.size()[0]);
        let matching = matching.map(|size| Tensor::zeros([size], (Kind::Int64, pass.network.device())));
        Ok(Self { batch: batch.upload(pass.network.device())?.copy()?, matching })
    }

    fn step(&mut self, pass: &Pass, batch: &StepBatch, parts: &mut impl Parts) -> Result<Losses> {
        let device = pass.network.device();
        self.batch.fill(&batch.upload(device)?)?;
        let costs = parts.costs(pass)?.map(|costs| Readback::begin(&costs)).transpose()?;
        parts.evaluate(pass, &self.batch)?;
        if let Some((matching, costs)) = self.matching.as_mut().zip(costs) {
            matching.copy_(&transfer::upload(&pass.matching(costs)?, device)?);
        }
        parts.backward(pass, self.matching.as_ref())
    }
}

/// Parts that are computed.
#[derive(Default)]
struct Computed(Option<Evaluated>);

impl Parts for Computed {
    fn costs(&mut self, pass: &Pass) -> Result<Option<Tensor>> {
        pass.costs()
    }
    fn evaluate(&mut self, pass: &Pass, batch: &StepBatch) -> Result<()> {
        self.0 = Some(pass.evaluate(batch)?);
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
    fn new(pass: &Pass, inputs: &StaticInputs) -> Result<Self> {
        let mut parts = Computed::default();
        let costs = match inputs.matching {
            Some(_) => Some(Graph::capture(None, || pass.costs()?.context("a prior without costs"))?),
            None => None,
        };
        let beside = costs.as_ref().map(|(graph, _)| graph);
        let (evaluation, ()) = Graph::capture(beside, || parts.evaluate(pass, &inputs.batch))?;
        let (gradients, losses) =
            Graph::capture(Some(&evaluation), || parts.backward(pass, inputs.matching.as_ref()))?;
        Ok(Self { costs, evaluation, gradients, losses })
    }
}

impl Parts for Recorded {
    fn costs(&mut self, _: &Pass) -> Result<Option<Tensor>> {
        let Some((graph, costs)) = &self.costs else { return Ok(None) };
        graph.replay()?;
        Ok(Some(costs.shallow_clone()))
    }
    fn evaluate(&mut self, _: &Pass, _: &StepBatch) -> Result<()> {
        self.evaluation.replay()
    }
    fn backward(&mut self, _: &Pass, _: Option<&Tensor>) -> Result<Losses> {
        self.gradients.replay()?;
        let Losses { names, values } = &self.losses;
        Ok(Losses { names: names.clone(), values: values.shallow_clone() })
    }
}

/// A step over tensors in their places.
struct InPlace<'a> {
    pass: &'a Pass<'a>,
    batch: &'a StepBatch,
    inputs: &'a mut StaticInputs,
}

impl graphs::Repeatable for InPlace<'_> {
    type Output = Losses;
    type Recorded = Recorded;

    fn compute(&mut self) -> Result<Losses> {
        self.inputs.step(self.pass, self.batch, &mut Computed::default())
    }

    fn record(&mut self) -> Result<Recorded> {
        Recorded::new(self.pass, self.inputs)
    }

    fn replay(&mut self, recorded: &mut Recorded) -> Result<Losses> {
        self.inputs.step(self.pass, self.batch, recorded)
    }

    fn replaced(&self) -> Vec<Tensor> {
        Vec::new()
    }

    fn results(&self, losses: &Losses) -> Vec<(&'static str, Tensor)> {
        vec![("gradients", self.pass.gradient.shallow_clone()), ("losses", losses.values.shallow_clone())]
    }
}

/// Steps over tensors in their places: first computed, then recorded once and repeated.
pub struct GraphedPass {
    inputs: Option<StaticInputs>,
    recorder: Recorder<Recorded>,
}

impl GraphedPass {
    /// Recorded on this stream, if there is one.
    pub fn new(side: Option<SideStream>) -> Self {
        Self { inputs: None, recorder: Recorder::new(side) }
    }

    /// The next step's pass.
    ///
    /// # Errors
    /// Those of the pass.
    pub fn step(&mut self, pass: &Pass, batch: &StepBatch) -> Result<Losses> {
        let inputs = match &mut self.inputs {
            Some(inputs) => inputs,
            empty => empty.insert(StaticInputs::new(pass, batch)?),
        };
        self.recorder.run(&mut InPlace { pass, batch, inputs })
    }

    /// Why steps cannot be repeated, told once.
    pub fn take_fault(&mut self) -> Option<anyhow::Error> {
        self.recorder.take_fault()
    }
}

#[cfg(test)]
mod tests;
