//! AdamW's state as torch keeps it: under the numbers of the parameters, in the order of `model.parameters()`.

use crate::Network;
use crate::diffusion::losses::LOG_VARIANCES_RATE;
use anyhow::{Context, Result};
use stage::bad_input;
use std::collections::BTreeMap;
use tch::{Kind, Tensor};
use torch::shim::AdamW;
use weights::Weights;
use weights::pickle::{Found, Item};

/// The moments, as our checkpoints and as torch call them.
const MOMENTS: [(&str, &str); 2] = [("optimizer.first.", "exp_avg"), ("optimizer.second.", "exp_avg_sq")];
/// The learned log variances of uncertainty weighting and their moments in our checkpoints.
const LOG_VARIANCES: [&str; 3] = ["uw.scales", "uw.first", "uw.second"];
/// Where the reference has the log variances: in a module that is wrapped for several GPUs.
pub const REFERENCE_LOG_VARIANCES: &str = "module.loss_scale";

/// The state after some steps.
pub struct Optimiser {
    /// Steps done.
    pub step: usize,
    /// Learning rate of the network's parameters.
    pub learning_rate: f64,
    /// Weight decay of the network's parameters.
    pub weight_decay: f64,
    /// The parameters in order, with both moments where they are trained.
    parameters: Vec<(String, Option<[Tensor; 2]>)>,
    /// Uncertainty weighting's log variances with their moments.
    log_variances: Option<[Tensor; 3]>,
}

impl Optimiser {
    /// Takes the state from a checkpoint of ours, if it has one.
    ///
    /// # Errors
    /// Bad input when a tensor is missing or misshapen, or moments are left over.
    pub fn take(
        weights: &mut Weights,
        network: &Network,
        step: usize,
        training: &serde_json::Value,
    ) -> Result<Option<Self>> {
        let [mut first, mut second] = MOMENTS.map(|(prefix, _)| weights.split_off(prefix));
        if first.names().next().is_none() {
            return Ok(None);
        }
        let mut parameters = Vec::new();
        for parameter in network.parameters() {
            let (name, shape) = (&parameter.name, parameter.tensor.size());
            let moment = |of: &mut Weights, kind: &str| {
                of.take(name, &shape).with_context(|| format!("taking the tensors {kind}*"))
            };
            let moments = match parameter.trained {
                true => Some([moment(&mut first, MOMENTS[0].0)?, moment(&mut second, MOMENTS[1].0)?]),
                false => None,
            };
            parameters.push((name.clone(), moments));
        }
        first.finish()?;
        second.finish()?;
        let log_variances = match weights.size(LOG_VARIANCES[0]) {
            Some(shape) => Some(taken(weights, &LOG_VARIANCES, &shape)?),
            None => None,
        };
        let setting = |name: &str, standard| training.get(name).and_then(|v| v.as_f64()).unwrap_or(standard);
        let AdamW { learning_rate, weight_decay, .. } = AdamW::default();
        let learning_rate = setting("learning-rate", learning_rate);
        let weight_decay = setting("weight-decay", weight_decay);
        Ok(Some(Self { step, learning_rate, weight_decay, parameters, log_variances }))
    }

    /// Takes the state from `opt` and `uw` of a file of torch, if it has one.
    ///
    /// # Errors
    /// Bad input when a tensor is missing, misshapen or left over, or it is no AdamW of ours.
    pub fn take_torch(found: &mut Found, network: &Network) -> Result<Option<Self>> {
        let Found { tensors, numbers, .. } = found;
        if !tensors.names().any(|name| name.starts_with("opt.")) {
            return Ok(None);
        }
        let source = tensors.source().to_string();
        let weighted = format!("uw.{REFERENCE_LOG_VARIANCES}");
        let log_variances = tensors.size(&weighted);
        let count = network.parameters().len();
        let wanted = if log_variances.is_some() { vec![count, 1] } else { vec![count] };
        if groups(numbers) != wanted {
            bad_input!(
                "{source}: the optimiser has groups of {:?} parameters, wanted {wanted:?}",
                groups(numbers)
            )
        }
        let setting = |name: &str| -> Result<f64> {
            match numbers.get(&format!("opt.param_groups.0.{name}")) {
                Some(value) => Ok(*value),
                None => bad_input!("{source}: the optimiser does not say its {name}"),
            }
        };
        let AdamW { beta1, beta2, epsilon, .. } = AdamW::default();
        for (name, fixed) in [("betas.0", beta1), ("betas.1", beta2), ("eps", epsilon)] {
            if setting(name)? != fixed {
                bad_input!("{source}: the optimiser's {name} is {}, wanted {fixed}", setting(name)?)
            }
        }
        let (learning_rate, weight_decay) = (setting("lr")?, setting("weight_decay")?);
        let mut step = None;
        let mut moments = |index: usize, name: &str, shape: &[i64]| -> Result<[Tensor; 2]> {
            let place = |what: &str| format!("opt.state.{index}.{what}");
            let context = || format!("the optimiser's state of {name}");
            let [(_, first), (_, second)] = MOMENTS;
            let both = taken(tensors, &[&place(first), &place(second)], shape).with_context(context)?;
            // A tensor, or a plain number in files of older torch.
            let done = match numbers.get(&place("step")) {
                Some(number) => *number,
                None => tensors.take(&place("step"), &[]).with_context(context)?.double_value(&[]),
            };
            let others = *step.get_or_insert(done);
            if done != others || done < 0.0 || done.fract() != 0.0 {
                bad_input!("{source}: the optimiser has done {done} steps with {name}, {others} with others")
            }
            Ok(both)
        };
        let mut parameters = Vec::new();
        for (index, parameter) in network.parameters().iter().enumerate() {
            let (name, shape) = (parameter.name.clone(), parameter.tensor.size());
            let both = parameter.trained.then(|| moments(index, &name, &shape)).transpose()?;
            parameters.push((name, both));
        }
        let log_variances = match log_variances {
            Some(shape) => {
                let [first, second] = moments(count, &weighted, &shape)?;
                Some([tensors.take(&weighted, &shape)?, first, second])
            }
            None => None,
        };
        let step = step.unwrap_or_default() as usize;
        Ok(Some(Self { step, learning_rate, weight_decay, parameters, log_variances }))
    }

    /// Its tensors under their names in our checkpoints.
    pub fn tensors(self) -> BTreeMap<String, Tensor> {
        let mut tensors = BTreeMap::new();
        for (name, moments) in self.parameters {
            for ((prefix, _), tensor) in MOMENTS.iter().zip(moments.into_iter().flatten()) {
                tensors.insert(format!("{prefix}{name}"), tensor);
            }
        }
        tensors.extend(
            self.log_variances.into_iter().flat_map(|s| LOG_VARIANCES.map(String::from).into_iter().zip(s)),
        );
        tensors
    }

    /// The log variances themselves.
    pub fn log_variances(&self) -> Option<&Tensor> {
        self.log_variances.as_ref().map(|[log_variances, ..]| log_variances)
    }

    /// What `AdamW.state_dict()` gives. `step` is [`Optimiser::step`] as a tensor of one number.
    pub fn item<'a>(&'a self, step: &'a Tensor) -> Item<'a> {
        let moments = |moments: [&'a Tensor; 2]| {
            let both = MOMENTS.iter().zip(moments).map(|((_, name), tensor)| (*name, Item::Tensor(tensor)));
            Item::named([("step", Item::Tensor(step))].into_iter().chain(both))
        };
        let count = self.parameters.len();
        let network = self.parameters.iter().enumerate();
        let network = network.filter_map(|(i, (_, both))| Some((i, moments(both.as_ref()?.each_ref()))));
        let log_variances =
            self.log_variances.iter().map(|[_, first, second]| (count, moments([first, second])));
        let state = network.chain(log_variances).map(|(i, item)| (Item::Integer(i as i64), item)).collect();
        let mut groups = vec![group(self.learning_rate, self.weight_decay, 0..count)];
        groups.extend(self.log_variances.as_ref().map(|_| group(LOG_VARIANCES_RATE, 0.0, count..count + 1)));
        Item::named([("state", Item::Dict(state)), ("param_groups", Item::List(groups))])
    }

    /// The number of steps as torch keeps it.
    pub fn step_tensor(&self) -> Tensor {
        Tensor::from(self.step as f32).to_kind(Kind::Float)
    }
}

/// Takes tensors of one shape.
fn taken<const N: usize>(weights: &mut Weights, names: &[&str; N], shape: &[i64]) -> Result<[Tensor; N]> {
    let tensors = names.iter().map(|name| weights.take(name, shape)).collect::<Result<Vec<_>>>()?;
    tensors.try_into().ok().context("one tensor for each name")
}

/// Parameters of each group, which torch numbers one after the other.
fn groups(numbers: &BTreeMap<String, f64>) -> Vec<usize> {
    let of = |group: usize| {
        let prefix = format!("opt.param_groups.{group}.params.");
        numbers.keys().filter(|name| name.starts_with(&prefix)).count()
    };
    (0..).map(of).take_while(|count| *count > 0).collect()
}

/// A group with everything that AdamW's constructor would put there.
fn group<'a>(learning_rate: f64, weight_decay: f64, parameters: std::ops::Range<usize>) -> Item<'a> {
    let AdamW { beta1, beta2, epsilon, .. } = AdamW::default();
    Item::named([
        ("lr", Item::Float(learning_rate)),
        ("betas", Item::Tuple(vec![Item::Float(beta1), Item::Float(beta2)])),
        ("eps", Item::Float(epsilon)),
        ("weight_decay", Item::Float(weight_decay)),
        ("amsgrad", Item::Bool(false)),
        ("maximize", Item::Bool(false)),
        ("foreach", Item::None),
        ("capturable", Item::Bool(false)),
        ("differentiable", Item::Bool(false)),
        ("fused", Item::None),
        ("decoupled_weight_decay", Item::Bool(true)),
        ("params", Item::List(parameters.map(|i| Item::Integer(i as i64)).collect())),
    ])
}
