//! What a step computes on the device before the weights move: the costs of the matching, evaluations, gradients.

use crate::TrainingConfig;
use crate::step_batch::StepBatch;
use anyhow::{Context, Result};
use models::config::TIMESTEPS;
use models::diffusion::Diffusion;
use models::prior::Prior;
use models::{Network, Timesteps};
use std::ops::Range;
use tch::{Kind, Tensor, no_grad_guard};
use torch::parallel::Reducer;
use torch::transfer::{self, Readback};

/// What a step computes with, and where its gradients go.
pub struct Pass<'a> {
    pub config: &'a TrainingConfig,
    pub network: &'a Network,
    pub diffusion: &'a Diffusion,
    /// The log variances of uncertainty weighting.
    pub log_variances: Option<&'a Tensor>,
    /// The gradients of all parameters.
    pub gradient: &'a Tensor,
    /// Steps done.
    pub step: u64,
    /// The share of the step's images that are given here.
    pub share: f64,
}

/// A batch, or a part of one, behind the network.
pub struct Evaluated {
    start: Tensor,
    noise: Tensor,
    t: Tensor,
    x: Tensor,
    timesteps: Timesteps,
    output: Tensor,
}

/// The losses of a batch, without gradient.
pub struct Losses {
    /// Of the terms.
    pub names: Vec<&'static str>,
    /// One number each.
    pub values: Tensor,
}

impl Pass<'_> {
    fn prior(&self) -> Option<&Prior> {
        self.network.prior().filter(|_| self.config.objective.matches())
    }

    /// All of it: gradients of the batch's parts add up in place, and travel once.
    ///
    /// # Errors
    /// When another process is gone.
    pub fn run(&self, batch: &StepBatch, reducer: Option<&Reducer>) -> Result<Losses> {
        // The matching's costs travel to the host while the device evaluates the network, which does not need them.
        let mut costs = self.costs()?.map(|costs| Readback::begin(&costs)).transpose()?;
        let mut matching = None;
        self.clear();
        let parts = self.config.accumulate as i64;
        let (mut names, mut values) = (Vec::new(), Vec::new());
        for part in 0..parts {
            let evaluated = self.evaluate(&batch.part(part, parts)?)?;
            if let Some(costs) = costs.take() {
                matching = Some(transfer::upload(&self.matching(costs)?, self.network.device())?);
            }
            let reducer = reducer.filter(|_| part + 1 == parts);
            let losses = self.backward(&evaluated, matching.as_ref(), reducer)?;
            names = losses.names;
            values.push(losses.values);
        }
        let values = Tensor::stack(&values, 0).mean_dim([0i64].as_slice(), false, Kind::Float);
        Ok(Losses { names, values })
    }

    /// All of it but the matching, which is given.
    ///
    /// # Errors
    /// When libtorch fails.
    pub fn run_matched(&self, batch: &StepBatch, matching: Option<&Tensor>) -> Result<Losses> {
        self.clear();
        self.backward(&self.evaluate(batch)?, matching, None)
    }

    /// Forgets the gradients.
    pub fn clear(&self) {
        let _ = self.gradient.shallow_clone().zero_();
        if let Some(log_variances) = self.log_variances {
            log_variances.shallow_clone().zero_grad();
        }
    }

    /// The costs of the matching, which is over all timesteps and carries no gradient (Eqs. 8 and 9); none without a prior.
    ///
    /// # Shapes
    /// `[L·E, L·E]`.
    ///
    /// # Errors
    /// When the network has no gates.
    pub fn costs(&self) -> Result<Option<Tensor>> {
        self.costs_of(0..TIMESTEPS)
    }

    /// What these timesteps add to them.
    ///
    /// # Errors
    /// When the network has no gates.
    pub fn costs_of(&self, timesteps: Range<i64>) -> Result<Option<Tensor>> {
        let Some(prior) = self.prior() else { return Ok(None) };
        let _guard = no_grad_guard();
        let first = timesteps.start;
        let gates = self.network.timesteps_of(timesteps).gates.context("a prior without gates")?;
        Ok(Some(prior.cost_from(&gates.chosen, first)))
    }

    /// The step's matching, in memory from which the device copies by itself.
    ///
    /// # Shapes
    /// `[L·E]` i64.
    ///
    /// # Errors
    /// When the device has failed.
    pub fn matching(&self, costs: Readback) -> Result<Tensor> {
        let matched = Prior::matching(&costs.wait()?, self.config.seed, self.step);
        transfer::pin(matched, self.network.device())
    }

    /// The network on a batch that is on its device.
    pub fn evaluate(&self, batch: &StepBatch) -> Result<Evaluated> {
        let StepBatch { latents: start, noise, timesteps: t, .. } = batch;
        let x = self.diffusion.noised(&self.diffusion.at(t), start, noise);
        let timesteps = self.network.noisy_timesteps(t, batch.gates.as_ref());
        let labels = self.labels(batch);
        let output = (self.config.precision)
            .run(self.network.device(), || self.network.forward_at(&x, &timesteps, &labels))?;
        let [start, noise, t] = [start, noise, t].map(Tensor::shallow_clone);
        Ok(Evaluated { start, noise, t, x, timesteps, output })
    }

    /// The labels, hidden where the draw says so.
    fn labels(&self, batch: &StepBatch) -> Tensor {
        let config = self.network.config();
        if !config.conditional() || config.label_dropout == 0.0 {
            return batch.labels.shallow_clone();
        }
        batch.labels.masked_fill(&batch.label_dropout.lt(config.label_dropout), config.null_label())
    }

    /// Adds to the gradients.
    ///
    /// # Errors
    /// When another process is gone.
    pub fn backward(
        &self,
        evaluated: &Evaluated,
        matching: Option<&Tensor>,
        reducer: Option<&Reducer>,
    ) -> Result<Losses> {
        let Evaluated { start, noise, t, x, timesteps, output } = evaluated;
        let objective = &self.config.objective;
        let losses = self.diffusion.losses(output, start, x, noise, t, objective.noise_weighting());
        let prior = self.prior().zip(matching);
        let terms = objective.terms(&losses, timesteps.gates.as_ref(), prior, t, self.log_variances);
        let loss = terms.loss / (self.config.accumulate as f64 / self.share);
        match reducer {
            None => loss.backward(),
            Some(reducer) => {
                reducer.begin()?;
                loss.backward();
                reducer.finish()?;
            }
        }
        let values: Vec<&Tensor> = terms.log.iter().map(|(_, value)| value).collect();
        let names = terms.log.iter().map(|(name, _)| *name).collect();
        Ok(Losses { names, values: Tensor::stack(&values, 0) })
    }
}
