//! A whole network: Switch-DiT, DTR or plain DiT.

mod guidance;

pub use guidance::{Guidance, GuidedChannels};

use crate::block::{Block, Entry};
use crate::config::{Allocation, Architecture, Config, Draws, Form, Integration, TIMESTEPS};
use crate::final_layer::FinalLayer;
use crate::label::LabelEmbedding;
use crate::linear::Linear;
use crate::parameters::Builder;
use crate::patch::PatchEmbedding;
use crate::prior::Prior;
use crate::relations::Relations;
use crate::router::{Gates, Mixture, Router};
use crate::timestep::TimestepEmbedding;
use anyhow::Result;
use stage::bad_input;
use std::collections::BTreeMap;
use std::ops::Range;
use tch::{Device, IndexOp, Kind, Tensor};
use torch::Parameter;
use weights::Weights;

/// Patches, timesteps and labels in; blocks; noise and variance out.
pub struct Network {
    config: Config,
    patches: PatchEmbedding,
    timestep: TimestepEmbedding,
    label: LabelEmbedding,
    routers: Vec<Router>,
    blocks: Vec<Block>,
    final_layer: FinalLayer,
    prior: Option<Prior>,
    /// DTR's channel masks minus 1, `[L, T, D]`, or `[1, T, D]` where all blocks have the same.
    masks: Option<Tensor>,
    /// A random allocation of experts, `[T, L, E]`.
    fixed: Option<Tensor>,
    parameters: Vec<Parameter>,
    device: Device,
}

/// Everything that depends on the timestep alone; one row per image, or one row for all.
pub struct Timesteps {
    /// `[B, D]`.
    pub embedding: Tensor,
    /// The routers' gates (Switch-DiT).
    pub gates: Option<Gates>,
    /// What the blocks use of the gates, `[B, L, E]`.
    kept: Option<Tensor>,
    /// The channel masks minus 1, `[L or 1, B, 1, D]` (DTR).
    mask: Option<Tensor>,
}

impl Timesteps {
    /// What an evaluation reads of it, in tensors of their own, into which [`Timesteps::fill`] copies others.
    pub fn copy(&self) -> Self {
        let copy = |tensor: &Option<Tensor>| tensor.as_ref().map(Tensor::copy);
        Self { embedding: self.embedding.copy(), gates: None, kept: copy(&self.kept), mask: copy(&self.mask) }
    }

    /// Takes other values of the same shapes.
    pub fn fill(&mut self, other: &Self) {
        self.embedding.copy_(&other.embedding);
        let pairs = [(&mut self.kept, &other.kept), (&mut self.mask, &other.mask)];
        for (own, other) in pairs.into_iter().filter_map(|(own, other)| own.as_mut().zip(other.as_ref())) {
            own.copy_(other);
        }
    }
}

impl Network {
    /// A fresh network; every parameter is drawn from (seed, its name).
    ///
    /// # Errors
    /// When the sizes do not fit together.
    pub fn fresh(config: &Config, seed: u64, device: Device) -> Result<Self> {
        Self::build(config, Builder::fresh(seed, device))
    }

    /// A network from stored weights under the reference's names. The reference's buffers may be among them.
    ///
    /// # Errors
    /// Bad input that names what is missing, misshapen or left over.
    pub fn load(config: &Config, mut weights: Weights, trained: bool, device: Device) -> Result<Self> {
        let network = Self::build(config, Builder::stored(&mut weights, trained, device))?;
        for (name, value) in network.buffers() {
            let Some(stored) = weights.get(&name)? else { continue };
            if stored.size() != value.size() || !close(stored, &value) {
                bad_input!("{}: tensor {name} holds other timestep relations", weights.source())
            }
            drop(weights.take(&name, &value.size())?);
        }
        weights.finish()?;
        Ok(network)
    }

    /// The same network over the same memory, with gradients of its own.
    ///
    /// # Errors
    /// When libtorch fails.
    pub fn twin(&self) -> Result<Self> {
        Self::load(&self.config, Weights::new("a network", self.state()), true, self.device)
    }

    fn build(config: &Config, mut builder: Builder) -> Result<Self> {
        config.check()?;
        let b = &mut builder;
        let Config { width, blocks, experts, top_k, alpha, beta, .. } = *config;
        let patches = PatchEmbedding::new(b, config)?;
        let timestep = TimestepEmbedding::new(b, width)?;
        let label = LabelEmbedding::new(b, config)?;
        let routed = if config.routed() { blocks } else { 0 };
        let routers = (0..routed).map(|i| Router::new(b, config, i)).collect::<Result<_>>()?;
        let blocks_ = (0..blocks).map(|i| Block::new(b, config, i)).collect::<Result<_>>()?;
        let final_layer = FinalLayer::new(b, config)?;
        let device = builder.device();
        let relations = match config.relations {
            Form::Reference => Relations::prior(blocks, experts, top_k, alpha, TIMESTEPS),
            Form::Paper => Relations::paper(blocks, experts, top_k, alpha, TIMESTEPS),
        };
        let Config { allocation_seed: seed, allocation_draws: draws, .. } = *config;
        let random = config.allocation == Allocation::Random;
        let fixed = (config.routed() && random)
            .then(|| relations.random_allocation(blocks, seed, draws).to_device(device));
        let prior = config.routed().then(|| Prior::new(&relations, blocks, device));
        let masks = (config.architecture == Architecture::Dtr).then(|| {
            let relations = Relations::reference(width, beta, alpha, TIMESTEPS);
            let masks = match (random, draws) {
                (false, _) => vec![relations.map(device)],
                (true, Draws::Shared) => vec![relations.random_routing(seed, 0)],
                (true, Draws::Independent) => {
                    (0..blocks as u64).map(|block| relations.random_routing(seed, block)).collect()
                }
            };
            Tensor::stack(&masks, 0).to_device(device) - 1.0
        });
        Ok(Self {
            config: config.clone(),
            patches,
            timestep,
            label,
            routers,
            blocks: blocks_,
            final_layer,
            prior,
            masks,
            fixed,
            parameters: builder.finish(),
            device,
        })
    }

    /// What it is made of.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Where it lives.
    pub fn device(&self) -> Device {
        self.device
    }

    /// Its parameters, in the reference's order.
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// Whether gates learn which experts a timestep keeps.
    pub fn learns_to_choose(&self) -> bool {
        !self.routers.is_empty() && self.fixed.is_none()
    }

    /// The prior its gates are trained towards (Switch-DiT).
    pub fn prior(&self) -> Option<&Prior> {
        self.prior.as_ref()
    }

    /// The reference's buffers, by name.
    pub fn buffers(&self) -> BTreeMap<String, Tensor> {
        let mut buffers = BTreeMap::new();
        if let Some(prior) = &self.prior {
            buffers.insert("full_time".into(), Tensor::arange(TIMESTEPS, (Kind::Int64, self.device)));
            buffers.insert("prior._unit_mapping".into(), prior.map.shallow_clone());
        }
        if let Some(masks) = &self.masks {
            for i in 0..self.config.blocks {
                buffers.insert(format!("routers.{i}._unit_mapping"), of_block(masks, i) + 1.0);
            }
        }
        buffers
    }

    /// The reference's state dict: parameters and buffers, by name.
    pub fn state(&self) -> BTreeMap<String, Tensor> {
        let parameters = self.parameters.iter().map(|p| (p.name.clone(), p.tensor.detach()));
        parameters.chain(self.buffers()).collect()
    }

    /// What depends on the timestep alone, for a few timesteps or all.
    ///
    /// # Shapes
    /// `t` `[B]` i64, each in `0..T`.
    pub fn timesteps(&self, t: &Tensor) -> Timesteps {
        self.noisy_timesteps(t, None)
    }

    /// The same with standard normal noise for the gates, which noisy gates use in training.
    ///
    /// # Shapes
    /// `t` `[B]` i64, `noise` `[B, L, E]`.
    pub fn noisy_timesteps(&self, t: &Tensor, noise: Option<&Tensor>) -> Timesteps {
        let embedding = self.timestep.forward(t);
        let fixed = self.fixed.as_ref().map(|map| map.index_select(0, t));
        let gates = (!self.routers.is_empty()).then(|| {
            let layers: Vec<_> = self.routers.iter().map(Router::gate).collect();
            let deviations: Vec<_> = self.routers.iter().filter_map(Router::noise).collect();
            Gates::new(&layers, &deviations, &embedding, self.config.top_k, noise, fixed)
        });
        let mask = self.masks.as_ref().map(|m| m.index_select(1, t).unsqueeze(2));
        Timesteps { embedding, kept: gates.as_ref().map(Gates::kept), gates, mask }
    }

    /// What depends on the timestep alone, for every timestep in order.
    pub fn all_timesteps(&self) -> Timesteps {
        self.timesteps_of(0..TIMESTEPS)
    }

    /// The same for consecutive ones.
    pub fn timesteps_of(&self, timesteps: Range<i64>) -> Timesteps {
        self.timesteps(&Tensor::arange_start(timesteps.start, timesteps.end, (Kind::Int64, self.device)))
    }

    /// Which experts every timestep keeps where these weights, named as the network's own, stand in its place: an average's gates.
    ///
    /// # Shapes
    /// To `[T, L, E]`.
    ///
    /// # Errors
    /// When one is missing.
    pub fn chosen_with(&self, weights: &BTreeMap<String, Tensor>) -> Result<Tensor> {
        let all = Tensor::arange(TIMESTEPS, (Kind::Int64, self.device));
        let part = |path: &str| Linear::among(weights, path);
        let timestep = self.timestep.with(part("t_embedder.mlp.0")?, part("t_embedder.mlp.2")?);
        let path = |i| format!("routers.{i}.f_gate.1");
        let layers = (0..self.routers.len()).map(|i| part(&path(i))).collect::<Result<Vec<_>>>()?;
        let layers: Vec<&Linear> = layers.iter().collect();
        let fixed = self.fixed.as_ref().map(Tensor::shallow_clone);
        Ok(Gates::new(&layers, &[], &timestep.forward(&all), self.config.top_k, None, fixed).chosen)
    }

    /// # Shapes
    /// `x` `[B, C, S, S]`, `t` `[B]` and `y` `[B]` i64, to `[B, 2C, S, S]`: noise, then variance values.
    pub fn forward(&self, x: &Tensor, t: &Tensor, y: &Tensor) -> Tensor {
        self.forward_at(x, &self.timesteps(t), y)
    }

    /// The same with what depends on the timestep alone computed before; its tensors may have one row for all images.
    ///
    /// # Shapes
    /// `x` `[B, C, S, S]`, `y` `[B]` i64, to `[B, 2C, S, S]`.
    pub fn forward_at(&self, x: &Tensor, timesteps: &Timesteps, y: &Tensor) -> Tensor {
        let activated = (&timesteps.embedding + self.label.forward(y)).silu(); // [B, D]
        let mut z = self.patches.forward(x); // [B, N, D]
        for (i, block) in self.blocks.iter().enumerate() {
            let mixture = self.mixture(i, &z, timesteps);
            z = self.block((i, block), &z, mixture, timesteps, &activated);
        }
        // Nothing to do but in mixed precision.
        self.final_layer.forward(&z, &activated).to_kind(Kind::Float)
    }

    /// Keeps the weights of the blocks' products in `kind`, for evaluations in that precision that need no gradient: they are
    /// then cast once, not at every use. What [`Network::timesteps`] reads stays f32.
    pub fn store_products(&self, kind: Kind) {
        let product = |p: &&Parameter| {
            let name = p.name.as_str();
            let inside =
                name.starts_with("blocks.") || name.starts_with("final_layer.") || name.contains(".experts.");
            inside && p.tensor.dim() > 1
        };
        for parameter in self.parameters.iter().filter(product) {
            let tensor = parameter.tensor.detach().to_kind(kind);
            parameter.tensor.shallow_clone().set_data(&tensor);
        }
    }

    /// The mixture of block `i`'s experts, if it has any.
    fn mixture(&self, i: usize, z: &Tensor, timesteps: &Timesteps) -> Option<Mixture> {
        let (router, kept) = (self.routers.get(i)?, timesteps.kept.as_ref()?);
        Some(router.forward(z, &kept.select(1, i as i64)))
    }

    /// A block with its mixture or mask, if it has one.
    fn block(
        &self,
        (i, block): (usize, &Block),
        z: &Tensor,
        mixture: Option<Mixture>,
        timesteps: &Timesteps,
        activated: &Tensor,
    ) -> Tensor {
        let excess = |tensor: &Tensor| Mixture { tokens: None, shared: tensor.shallow_clone() };
        let entry = |excess, skip| Entry { z, excess, skip };
        let entry = match (mixture, self.config.integration) {
            (None, _) => entry(timesteps.mask.as_ref().map(|masks| excess(&of_block(masks, i as i64))), true),
            (Some(mixture), Integration::MaskSkipOne) => entry(Some(mixture), true),
            (Some(mixture), Integration::MaskSkip) => entry(Some(mixture.excess()), true),
            (Some(mixture), Integration::Mask) => entry(Some(mixture.excess()), false),
            (Some(mixture), Integration::Replace) => {
                return block.forward(&Entry { z: &mixture.sum(), excess: None, skip: false }, activated);
            }
        };
        block.forward(&entry, activated)
    }

    /// The values inside one evaluation, by name, for tests and figures.
    ///
    /// # Shapes
    /// As [`Network::forward`].
    pub fn trace(&self, x: &Tensor, t: &Tensor, y: &Tensor) -> BTreeMap<String, Tensor> {
        let mut seen = BTreeMap::new();
        let timesteps = self.timesteps(t);
        let label = self.label.forward(y);
        let c = &timesteps.embedding + &label;
        let activated = c.silu();
        let mut z = self.patches.forward(x);
        seen.insert("t_emb".to_string(), timesteps.embedding.shallow_clone());
        seen.insert("y_emb".to_string(), label);
        seen.insert("c".to_string(), c);
        seen.insert("tokens_in".to_string(), z.shallow_clone());
        for (i, block) in self.blocks.iter().enumerate() {
            let mixture = self.mixture(i, &z, &timesteps);
            if let Some(mixture) = &mixture {
                let one = f64::from(self.config.integration == Integration::MaskSkipOne);
                seen.insert(format!("router{i}_m"), mixture.sum() + one);
            }
            z = self.block((i, block), &z, mixture, &timesteps, &activated);
            if let Some(gates) = &timesteps.gates {
                seen.insert(format!("router{i}_probs"), gates.probabilities.i((.., i as i64)));
            }
            seen.insert(format!("block{i}_out"), z.shallow_clone());
        }
        seen.insert("final_tokens".to_string(), self.final_layer.tokens(&z, &activated));
        seen
    }
}

/// A block's own of what all may share.
fn of_block(all: &Tensor, block: i64) -> Tensor {
    all.get(block.min(all.size()[0] - 1))
}

fn close(a: &Tensor, b: &Tensor) -> bool {
    let (a, b) =
        (a.to_device(Device::Cpu).to_kind(Kind::Double), b.to_device(Device::Cpu).to_kind(Kind::Double));
    (a - b).abs().max().double_value(&[]) < 1e-6
}
