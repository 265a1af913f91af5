//! The same graph with live batch norms and gradients: how narrow members of the family are trained.

use super::graph::{Conv, Walk, channels, walk};
use super::{BATCH_NORM_EPSILON, average_pool, max_pool};
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use tch::{Device, Kind, Tensor, nn};

/// A network of a fraction of the width, to be trained as a classifier.
pub struct Trainable {
    store: nn::VarStore,
    classifier: Tensor,
    classifier_bias: Tensor,
}

impl Trainable {
    /// Parameters from `normal(name, shape)`, which must give unit normal numbers; convolutions are scaled as He et al. do.
    ///
    /// `width` is given the full network's number of channels of each layer.
    pub fn new(
        classes: i64,
        width: impl Fn(i64) -> i64,
        mut normal: impl FnMut(&str, &[i64]) -> Result<Tensor>,
    ) -> Result<Self> {
        let store = nn::VarStore::new(Device::Cpu);
        let mut layers = Vec::new();
        let last = channels(|conv, inputs| {
            let width = width(conv.width);
            layers.push((conv.name, [width, inputs, conv.kernel[0], conv.kernel[1]]));
            Ok(width)
        })?;
        for (name, shape) in layers {
            let path = name.split('.').fold(store.root(), |path, part| path / part);
            let inputs = (shape[1] * shape[2] * shape[3]) as f64;
            let weight = normal(&name, &shape)?.f_mul_scalar((2.0 / inputs).sqrt())?;
            let _ = (&path / "conv").add("weight", weight, true);
            let norm = &path / "bn";
            let _ = norm.ones("weight", &shape[..1]);
            let _ = norm.zeros("bias", &shape[..1]);
            let _ = norm.zeros_no_train("running_mean", &shape[..1]);
            let _ = norm.ones_no_train("running_var", &shape[..1]);
        }
        let head = store.root() / "fc";
        let weight = normal("fc", &[classes, last])?.f_mul_scalar((1.0 / last as f64).sqrt())?;
        let classifier = head.add("weight", weight, true);
        let classifier_bias = head.zeros("bias", &[classes]);
        Ok(Self { store, classifier, classifier_bias })
    }

    /// What an optimizer needs.
    pub fn store(&self) -> &nn::VarStore {
        &self.store
    }

    /// The logits, with bias, batch norms on the batch's own statistics, which also move the running ones.
    ///
    /// # Shapes
    /// `pictures`: `[B, 3, 299, 299]`; returns `[B, classes]`.
    pub fn forward(&self, pictures: &Tensor, momentum: f64) -> Result<Tensor> {
        let variables = self.store.variables().into_iter().collect();
        let last = walk(&mut Train { variables, momentum }, pictures)?.last;
        let pool = last.f_mean_dim([2i64, 3].as_slice(), false, None::<Kind>)?;
        Ok(pool.f_matmul(&self.classifier.f_tr()?)?.f_add(&self.classifier_bias)?)
    }

    /// Its parameters by name, as [`super::Inception::load`] takes them.
    pub fn tensors(&self) -> BTreeMap<String, Tensor> {
        self.store.variables().into_iter().map(|(name, t)| (name, t.detach())).collect()
    }
}

struct Train {
    variables: BTreeMap<String, Tensor>,
    momentum: f64,
}

impl Train {
    fn of(&self, name: &str, part: &str) -> Result<&Tensor> {
        let key = format!("{name}.{part}");
        self.variables.get(&key).with_context(|| format!("the network has no {key}"))
    }
}

impl Walk for Train {
    type X = Tensor;

    fn conv(&mut self, conv: Conv, x: &Tensor) -> Result<Tensor> {
        let n = &conv.name;
        let stride = [conv.stride, conv.stride];
        let y = x.f_conv2d(self.of(n, "conv.weight")?, None::<Tensor>, stride, conv.pad, [1, 1], 1)?;
        let y = y.f_batch_norm(
            Some(self.of(n, "bn.weight")?),
            Some(self.of(n, "bn.bias")?),
            Some(self.of(n, "bn.running_mean")?),
            Some(self.of(n, "bn.running_var")?),
            true,
            self.momentum,
            BATCH_NORM_EPSILON,
            false,
        )?;
        Ok(y.f_relu()?)
    }

    fn max_pool(&mut self, _: &str, x: &Tensor, stride: i64, pad: i64) -> Result<Tensor> {
        max_pool(x, stride, pad)
    }

    fn average_pool(&mut self, x: &Tensor) -> Result<Tensor> {
        average_pool(x)
    }

    fn join(&mut self, _: &str, parts: &[Tensor]) -> Result<Tensor> {
        Ok(Tensor::f_cat(parts, 1)?)
    }
}
