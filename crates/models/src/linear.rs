//! The affine layer.

use crate::parameters::{Builder, Init};
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use tch::Tensor;
use torch::shim::fused::{self, Layout};

/// `x Wᵀ + b`, `W` stored as `[outputs, inputs]`.
pub struct Linear {
    /// `[outputs, inputs]`.
    pub weight: Tensor,
    /// `[outputs]`.
    pub bias: Tensor,
}

impl Linear {
    /// The layer at `path`, its bias 0 when fresh.
    pub fn new(builder: &mut Builder, path: &str, inputs: i64, outputs: i64, init: Init) -> Result<Self> {
        Ok(Self {
            weight: builder.parameter(&format!("{path}.weight"), &[outputs, inputs], init)?,
            bias: builder.parameter(&format!("{path}.bias"), &[outputs], Init::Zero)?,
        })
    }

    /// Xavier-uniform, as every layer that has no rule of its own.
    pub fn xavier(builder: &mut Builder, path: &str, inputs: i64, outputs: i64) -> Result<Self> {
        Self::new(builder, path, inputs, outputs, Init::Xavier { inputs, outputs })
    }

    /// The layer at `path` among tensors, without copying them.
    pub fn among(tensors: &BTreeMap<String, Tensor>, path: &str) -> Result<Self> {
        let part = |name: &str| {
            let name = format!("{path}.{name}");
            tensors.get(&name).map(Tensor::shallow_clone).with_context(|| format!("no tensor {name}"))
        };
        Ok(Self { weight: part("weight")?, bias: part("bias")? })
    }

    /// # Shapes
    /// `[…, inputs]` to `[…, outputs]`.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        self.of(x, Some(&self.bias))
    }

    /// The same without the bias, for callers that add it in a pass of their own.
    ///
    /// # Shapes
    /// `[…, inputs]` to `[…, outputs]`.
    pub fn product(&self, x: &Tensor) -> Tensor {
        self.of(x, None)
    }

    fn of(&self, x: &Tensor, bias: Option<&Tensor>) -> Tensor {
        fused::product(x, &self.weight, bias, Layout::OutputsFirst)
            .unwrap_or_else(|| x.linear(&self.weight, bias))
    }
}
