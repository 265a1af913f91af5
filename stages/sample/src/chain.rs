//! Steps of the chain over tensors that stay in their places, and the CUDA graph that repeats one of them without the host.

use crate::step::{Link, Step};
use anyhow::{Result, ensure};
use tch::Tensor;
use torch::graphs::{AGREEMENT, WARM_UP, distance};
use torch::shim::{Graph, Side};

/// What changes from step to step, always in the same memory.
struct Fixed {
    x: Tensor,
    noise: Tensor,
    labels: Tensor,
    step: Step,
}

impl Fixed {
    fn new(x: &Tensor, labels: &Tensor, step: &Step) -> Self {
        Self { x: x.copy(), noise: x.zeros_like(), labels: labels.copy(), step: step.fixed() }
    }

    /// Replaces x by the x before it.
    fn compute(&mut self, link: &Link) -> Result<()> {
        let x = link.step(&self.x, &self.labels, &self.step, Some(&self.noise))?;
        self.x.copy_(&x);
        Ok(())
    }
}

/// Steps over fixed tensors for batches of one size: first computed, then recorded once and repeated.
pub struct Chain {
    /// Where they are recorded; without it they are only computed.
    side: Option<Side>,
    done: usize,
    fixed: Option<Fixed>,
    graph: Option<Graph>,
    fault: Option<anyhow::Error>,
}

impl Chain {
    /// On this stream.
    pub fn new(side: Option<Side>) -> Self {
        Self { side, done: 0, fixed: None, graph: None, fault: None }
    }

    /// All steps of a batch but the last, from x at their beginning to x at their end; nothing for a batch that is not of the
    /// first one's size. `next` gives a step and its noise.
    ///
    /// # Errors
    /// When libtorch fails; those of `next`.
    pub fn run<'a>(
        &mut self,
        link: &Link,
        x: &Tensor,
        labels: &Tensor,
        mut next: impl FnMut() -> Result<Option<(&'a Step, Tensor)>>,
    ) -> Result<Option<Tensor>> {
        if self.fixed.as_ref().is_some_and(|fixed| fixed.x.size() != x.size()) {
            return Ok(None);
        }
        let mut begun = false;
        while let Some((step, noise)) = next()? {
            let fixed = self.fixed.get_or_insert_with(|| Fixed::new(x, labels, step));
            if !begun {
                fixed.x.copy_(x);
                fixed.labels.copy_(labels);
                begun = true;
            }
            self.step(link, step, &noise)?;
        }
        Ok(self.fixed.as_ref().filter(|_| begun).map(|fixed| fixed.x.copy()))
    }

    fn step(&mut self, link: &Link, step: &Step, noise: &Tensor) -> Result<()> {
        let Self { side, done, fixed: Some(fixed), graph, fault } = self else { return Ok(()) };
        fixed.step.fill(step);
        fixed.noise.copy_(noise);
        *done += 1;
        let Some(stream) = side else { return fixed.compute(link) };
        stream.run(|| match graph {
            Some(graph) => graph.replay(),
            None if *done <= WARM_UP => fixed.compute(link),
            None => {
                let before = fixed.x.copy();
                fixed.compute(link)?;
                let usual = fixed.x.copy();
                fixed.x.copy_(&before);
                match record(fixed, link, &usual) {
                    Ok(recorded) => *graph = Some(recorded),
                    Err(e) => *fault = Some(e),
                }
                fixed.x.copy_(&usual);
                Ok(())
            }
        })?;
        if fault.is_some() {
            *side = None;
        }
        Ok(())
    }

    /// Why steps cannot be repeated, told once.
    pub fn take_fault(&mut self) -> Option<anyhow::Error> {
        self.fault.take()
    }
}

/// The step as a graph, once it has been seen to give what the step has given.
fn record(fixed: &mut Fixed, link: &Link, usual: &Tensor) -> Result<Graph> {
    let (graph, ()) = Graph::capture(None, || fixed.compute(link))?;
    graph.replay()?;
    let distance = distance(&fixed.x, usual);
    ensure!(distance < AGREEMENT, "a repeated step is {distance:.1e} of itself from the step");
    Ok(graph)
}

#[cfg(test)]
mod tests;
