//! All parameters as one vector: what updates, averages or measures them is then one operation.

use crate::Parameter;
use crate::shim::{AdamW, lerp};
use anyhow::Result;
use std::collections::BTreeMap;
use tch::{Device, Kind, Tensor};

/// Parameters begin at multiples of this many numbers, so that vector loads stay aligned.
const ALIGNMENT: i64 = 16;

/// The trained parameters of a network as one vector, and their gradients as another. The network's own tensors become
/// views of it, so that one operation updates, averages or measures all of them.
pub struct Flat {
    /// All parameters.
    pub values: Tensor,
    /// All gradients; backward passes add to it.
    pub gradient: Tensor,
    places: Vec<Place>,
}

struct Place {
    name: String,
    start: i64,
    shape: Vec<i64>,
}

impl Flat {
    /// Moves the trained ones of these parameters into one buffer.
    pub fn new(parameters: &[Parameter]) -> Self {
        let trained: Vec<&Parameter> = parameters.iter().filter(|p| p.trained).collect();
        let mut places = Vec::new();
        let mut length = 0;
        for parameter in &trained {
            places.push(Place {
                name: parameter.name.clone(),
                start: length,
                shape: parameter.tensor.size(),
            });
            length += (parameter.tensor.numel() as i64 + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
        }
        let device = trained.first().map_or(Device::Cpu, |p| p.tensor.device());
        let values = Tensor::zeros([length], (Kind::Float, device));
        let gradient = values.zeros_like();
        for (parameter, place) in trained.iter().zip(&places) {
            let mut view = place.of(&values);
            view.copy_(&parameter.tensor.detach());
            parameter.tensor.shallow_clone().set_data(&view);
        }
        collect(&trained, &places, &gradient);
        Self { values, gradient, places }
    }

    /// Gradients of another network over these values, as one vector like this one's.
    pub fn gradient_of(&self, parameters: &[Parameter]) -> Tensor {
        let trained: Vec<&Parameter> = parameters.iter().filter(|p| p.trained).collect();
        let gradient = self.zeros();
        collect(&trained, &self.places, &gradient);
        gradient
    }

    /// A vector of the same length, all zero.
    pub fn zeros(&self) -> Tensor {
        self.values.zeros_like()
    }

    /// The named parts of a vector laid out like the parameters.
    pub fn split(&self, vector: &Tensor) -> BTreeMap<String, Tensor> {
        self.places.iter().map(|place| (place.name.clone(), place.of(vector))).collect()
    }

    /// Names and shapes of the parts.
    pub fn parts(&self) -> impl Iterator<Item = (&str, &[i64])> {
        self.places.iter().map(|p| (p.name.as_str(), p.shape.as_slice()))
    }

    /// Forgets the gradients.
    pub fn clear(&mut self) {
        let _ = self.gradient.zero_();
    }
}

/// Makes the gradients of parameters parts of a vector.
fn collect(trained: &[&Parameter], places: &[Place], gradient: &Tensor) {
    // A backward pass of zeros makes every `.grad`, which then becomes a view.
    if let Some(sum) = (trained.iter().map(|p| p.tensor.sum(Kind::Float) * 0.0)).reduce(|a, b| a + b) {
        sum.backward();
    }
    for (parameter, place) in trained.iter().zip(places) {
        parameter.tensor.grad().set_data(&place.of(gradient));
    }
}

impl Place {
    fn of(&self, vector: &Tensor) -> Tensor {
        vector.narrow(0, self.start, self.shape.iter().product()).view(self.shape.as_slice())
    }
}

/// AdamW's moments, laid out like the parameters.
pub struct AdamMoments {
    /// Moving average of the gradient.
    pub first: Tensor,
    /// Moving average of its square.
    pub second: Tensor,
}

impl Flat {
    /// AdamW's update number `step`, counted from 1.
    pub fn update(&mut self, adam: &AdamW, moments: &mut AdamMoments, step: usize) -> Result<()> {
        let one = |tensor: &Tensor| [tensor.shallow_clone()];
        let step = count(step, self.values.device())?;
        adam.step(
            &one(&self.values),
            &one(&self.gradient),
            &one(&moments.first),
            &one(&moments.second),
            &step,
        )
    }

    /// Moves an average towards the parameters: `decay · average + (1 − decay) · values`.
    pub fn average(&self, average: &mut Tensor, decay: f64) -> Result<()> {
        lerp(&[average.shallow_clone()], &[self.values.shallow_clone()], 1.0 - decay)
    }
}

/// The number of a step as AdamW takes it. Made on the device: a copy from the host would make it wait for all that the
/// device has been given.
pub fn count(step: usize, device: Device) -> Result<Tensor> {
    Ok(Tensor::f_full([0i64; 0], step as f64, (Kind::Float, device))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn views_gradients_and_updates() {
        let tensor = Tensor::from_slice(&[1f32, -2.0, 3.0]).set_requires_grad(true);
        let other = Tensor::from_slice(&[5f32]).set_requires_grad(true);
        let parameters = [("a", &tensor), ("b", &other)].map(|(name, t)| Parameter {
            name: name.into(),
            tensor: t.shallow_clone(),
            trained: true,
        });
        let mut flat = Flat::new(&parameters);
        let mut moments = AdamMoments { first: flat.zeros(), second: flat.zeros() };
        for step in 1..=2 {
            flat.clear();
            (tensor.square().sum(Kind::Float) + &other * 3.0).sum(Kind::Float).backward();
            let parts = flat.split(&flat.gradient);
            assert_eq!(Vec::<f32>::try_from(&parts["b"]).unwrap(), [3.0]);
            let adam = AdamW { learning_rate: 0.1, ..AdamW::default() };
            flat.update(&adam, &mut moments, step).unwrap();
        }
        // By hand: with gradients that barely change, each update is close to the learning rate.
        let a: Vec<f32> = Vec::try_from(&tensor).unwrap();
        for (got, want) in a.iter().zip([0.8004, -1.8001, 2.8001]) {
            assert!((got - want).abs() < 1e-3, "{a:?}");
        }
        assert!((other.double_value(&[0]) - 4.8).abs() < 1e-5);
        let mut mean = flat.zeros();
        flat.average(&mut mean, 0.75).unwrap();
        assert!((flat.split(&mean)["b"].double_value(&[0]) - 1.2).abs() < 1e-5);
    }
}
