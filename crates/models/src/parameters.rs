//! The named parameters of a network: drawn fresh or taken from a file, in one pass over its layers.

use anyhow::Result;
use tch::{Device, Kind, Tensor};
use torch::{Parameter, random};
use weights::Weights;

/// How a fresh parameter begins.
pub enum Init {
    /// All zero.
    Zero,
    /// Normal with this standard deviation.
    Normal(f64),
    /// Uniform in ±√(6 / (inputs + outputs)) (Xavier).
    Xavier {
        /// Inputs.
        inputs: i64,
        /// Outputs.
        outputs: i64,
    },
}

enum ParameterSource<'a> {
    Draw(u64),
    Take(&'a mut Weights),
}

/// Hands out the parameters while a network is put together.
pub struct Builder<'a> {
    source: ParameterSource<'a>,
    device: Device,
    trained: bool,
    parameters: Vec<Parameter>,
}

impl<'a> Builder<'a> {
    /// Draws every parameter from (seed, its name).
    pub fn fresh(seed: u64, device: Device) -> Self {
        Self { source: ParameterSource::Draw(seed), device, trained: true, parameters: Vec::new() }
    }

    /// Takes every parameter from `weights`; `trained` says whether gradients will be wanted.
    pub fn stored(weights: &'a mut Weights, trained: bool, device: Device) -> Self {
        Self { source: ParameterSource::Take(weights), device, trained, parameters: Vec::new() }
    }

    /// The parameter called `name`, f32.
    ///
    /// # Errors
    /// When the weights lack it or have it in another shape.
    pub fn parameter(&mut self, name: &str, shape: &[i64], init: Init) -> Result<Tensor> {
        let tensor = match &mut self.source {
            ParameterSource::Take(weights) => weights.take(name, shape)?.to_kind(Kind::Float),
            ParameterSource::Draw(seed) => match init {
                Init::Zero => Tensor::zeros(shape, (Kind::Float, Device::Cpu)),
                Init::Normal(std) => random::normal(*seed, &format!("init/{name}"), 0, shape) * std,
                Init::Xavier { inputs, outputs } => {
                    let bound = (6.0 / (inputs + outputs) as f64).sqrt();
                    random::uniform(*seed, &format!("init/{name}"), 0, shape) * (2.0 * bound) - bound
                }
            },
        };
        // A leaf of its own: the weights may be another network's too.
        let tensor = tensor.detach().to_device(self.device).set_requires_grad(self.trained);
        self.push(name, &tensor, self.trained);
        Ok(tensor)
    }

    /// A parameter with one right value, such as the position table: stored, never trained.
    ///
    /// # Errors
    /// When the weights lack it or have it in another shape.
    pub fn frozen(&mut self, name: &str, value: &Tensor) -> Result<Tensor> {
        let tensor = match &mut self.source {
            ParameterSource::Take(weights) => weights.take(name, &value.size())?.to_kind(Kind::Float),
            ParameterSource::Draw(_) => value.copy(),
        };
        let tensor = tensor.to_device(self.device);
        self.push(name, &tensor, false);
        Ok(tensor)
    }

    fn push(&mut self, name: &str, tensor: &Tensor, trained: bool) {
        self.parameters.push(Parameter { name: name.into(), tensor: tensor.shallow_clone(), trained });
    }

    /// Where the parameters live.
    pub fn device(&self) -> Device {
        self.device
    }

    /// All of them, in the order they were handed out.
    pub fn finish(self) -> Vec<Parameter> {
        self.parameters
    }
}
