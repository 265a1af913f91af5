//! Steps of the chain over tensors that stay in their places, and the CUDA graph that repeats one of them without the host.

use crate::reverse_step::{ReverseStep, Step, Stepped};
use anyhow::Result;
use tch::Tensor;
use torch::graphs::{self, Recorder};
use torch::shim::{Graph, SideStream};

/// What changes from step to step, always in the same memory.
struct StaticInputs {
    x: Tensor,
    /// The x_0 that the step before has predicted; read where methods are of several steps.
    previous: Tensor,
    noise: Option<Tensor>,
    labels: Tensor,
    step: Step,
}

impl StaticInputs {
    fn new(x: &Tensor, labels: &Tensor, step: &Step, noise: Option<&Tensor>) -> Self {
        let noise = noise.map(Tensor::zeros_like);
        Self { x: x.copy(), previous: x.zeros_like(), noise, labels: labels.copy(), step: step.copy() }
    }
}

/// A step over them, which replaces x by the x before it.
struct InPlace<'a> {
    step: &'a ReverseStep<'a>,
    inputs: &'a mut StaticInputs,
}

impl graphs::Repeatable for InPlace<'_> {
    type Output = ();
    type Recorded = Graph;

    fn compute(&mut self) -> Result<()> {
        let StaticInputs { x, previous, noise, labels, step } = &mut *self.inputs;
        let stepped = self.step.run(x, labels, step, noise.as_ref(), Some(previous))?;
        x.copy_(&stepped.x);
        if let Some(start) = stepped.start {
            previous.copy_(&start);
        }
        Ok(())
    }

    fn record(&mut self) -> Result<Graph> {
        Ok(Graph::capture(None, || self.compute())?.0)
    }

    fn replay(&mut self, recorded: &mut Graph) -> Result<()> {
        recorded.replay()
    }

    fn replaced(&self) -> Vec<Tensor> {
        vec![self.inputs.x.shallow_clone(), self.inputs.previous.shallow_clone()]
    }

    fn results(&self, (): &()) -> Vec<(&'static str, Tensor)> {
        vec![("latents", self.inputs.x.shallow_clone())]
    }
}

/// Steps of a batch, for batches of one size.
pub struct GraphedStep {
    inputs: Option<StaticInputs>,
    recorder: Recorder<Graph>,
}

impl GraphedStep {
    /// Recorded on this stream, if there is one.
    pub fn new(side: Option<SideStream>) -> Self {
        Self { inputs: None, recorder: Recorder::new(side) }
    }

    /// All steps of a batch but the last, from x at their beginning to x at their end, and the x_0 that the last of them predicted;
    /// nothing for a batch that is not of the first one's size. `next` gives a step and its noise, if it takes any.
    ///
    /// # Errors
    /// Those of the steps and of `next`.
    pub fn run<'a>(
        &mut self,
        reverse: &ReverseStep,
        x: &Tensor,
        labels: &Tensor,
        mut next: impl FnMut() -> Result<Option<(&'a Step, Option<Tensor>)>>,
    ) -> Result<Option<Stepped>> {
        if self.inputs.as_ref().is_some_and(|inputs| inputs.x.size() != x.size()) {
            return Ok(None);
        }
        let mut begun = false;
        while let Some((step, noise)) = next()? {
            let inputs =
                self.inputs.get_or_insert_with(|| StaticInputs::new(x, labels, step, noise.as_ref()));
            if !begun {
                inputs.x.copy_(x);
                drop(inputs.previous.zero_());
                inputs.labels.copy_(labels);
                begun = true;
            }
            inputs.step.fill(step);
            if let Some((own, noise)) = inputs.noise.as_mut().zip(noise) {
                own.copy_(&noise);
            }
            self.recorder.run(&mut InPlace { step: reverse, inputs })?;
        }
        let end = |inputs: &StaticInputs| Stepped { x: inputs.x.copy(), start: Some(inputs.previous.copy()) };
        Ok(self.inputs.as_ref().filter(|_| begun).map(end))
    }

    /// Why steps cannot be repeated, told once.
    pub fn take_fault(&mut self) -> Option<anyhow::Error> {
        self.recorder.take_fault()
    }
}

#[cfg(test)]
mod tests;
