//! The frozen TensorFlow graph that ADM's evaluator loads (`classify_image_graph_def.pb`), read without TensorFlow.
//!
//! Only the messages and fields that weights are in; everything else in the file is skipped.

use super::names::tensorflow_scope;
use super::{BATCH_NORM_EPSILON, first_dimension};
use anyhow::{Context, Result, bail, ensure};
use prost::Message;
use stage::{BadInputExt, bad_input};
use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use tch::{Kind, Tensor};
use weights::Weights;

/// TensorFlow's number for f32.
const DT_FLOAT: i32 = 1;
/// Most numbers in one tensor; the largest of the real graph has 2.1 million.
const MOST_NUMBERS: i64 = 1 << 25;
/// Tensors whose last value stands for many may together be this many times the file.
const MOST_EXPANDED: u64 = 1 << 10;

/// A graph.
#[derive(Clone, PartialEq, Message)]
pub struct GraphDef {
    /// Its nodes.
    #[prost(message, repeated, tag = "1")]
    pub node: Vec<NodeDef>,
}

/// One operation.
#[derive(Clone, PartialEq, Message)]
pub struct NodeDef {
    /// Its name, with scopes.
    #[prost(string, tag = "1")]
    pub name: String,
    /// What it does; `Const` for weights.
    #[prost(string, tag = "2")]
    pub op: String,
    /// Its attributes.
    #[prost(map = "string, message", tag = "5")]
    pub attr: HashMap<String, AttrValue>,
}

/// The value of an attribute.
#[derive(Clone, PartialEq, Message)]
pub struct AttrValue {
    /// A number.
    #[prost(float, optional, tag = "4")]
    pub f: Option<f32>,
    /// A flag.
    #[prost(bool, optional, tag = "5")]
    pub b: Option<bool>,
    /// A tensor.
    #[prost(message, optional, tag = "8")]
    pub tensor: Option<TensorProto>,
}

/// A tensor.
#[derive(Clone, PartialEq, Message)]
pub struct TensorProto {
    /// Element type.
    #[prost(int32, tag = "1")]
    pub dtype: i32,
    /// Extents.
    #[prost(message, optional, tag = "2")]
    pub tensor_shape: Option<TensorShapeProto>,
    /// All elements, little-endian.
    #[prost(bytes = "vec", tag = "4")]
    pub tensor_content: Vec<u8>,
    /// The first elements; the last of them stands for all that follow.
    #[prost(float, repeated, tag = "5")]
    pub float_val: Vec<f32>,
}

/// Extents of a tensor.
#[derive(Clone, PartialEq, Message)]
pub struct TensorShapeProto {
    /// One for each dimension.
    #[prost(message, repeated, tag = "2")]
    pub dim: Vec<Dim>,
}

/// Extent of one dimension.
#[derive(Clone, PartialEq, Message)]
pub struct Dim {
    /// Its size.
    #[prost(int64, tag = "1")]
    pub size: i64,
}

/// The `Const` nodes of a graph, and the attributes of its batch norms.
pub struct Graph {
    source: String,
    nodes: HashMap<String, NodeDef>,
    /// Bytes that may still be written out for values the file does not repeat.
    expandable: Cell<u64>,
}

impl Graph {
    /// Reads a file.
    ///
    /// # Errors
    /// Bad input when it is missing or no GraphDef.
    pub fn read(path: &Path) -> Result<Self> {
        let source = path.display().to_string();
        let bytes = std::fs::read(path).bad_input(|| format!("reading {source}"))?;
        Self::parse(&source, &bytes)
    }

    /// Parses a GraphDef; `source` names it in errors.
    ///
    /// # Errors
    /// Bad input when it is none.
    pub fn parse(source: &str, bytes: &[u8]) -> Result<Self> {
        let graph =
            GraphDef::decode(bytes).bad_input(|| format!("reading {source} as a TensorFlow graph"))?;
        if graph.node.is_empty() {
            bad_input!("{source}: a TensorFlow graph without nodes")
        }
        let nodes = graph.node.into_iter().map(|node| (node.name.clone(), node)).collect();
        let expandable = Cell::new(MOST_EXPANDED.saturating_mul(bytes.len() as u64));
        Ok(Self { source: source.into(), nodes, expandable })
    }

    /// How many nodes there are.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The f32 constant called `name`.
    ///
    /// # Errors
    /// Bad input when it is missing, of another type, or its values do not fit its shape.
    pub fn constant(&self, name: &str) -> Result<Tensor> {
        let Some(node) = self.nodes.get(name) else {
            let near = stage::nearest(name, self.nodes.keys().map(String::as_str));
            let hint = near.map(|n| format!("; the nearest name is {n}")).unwrap_or_default();
            bad_input!("{}: no node {name}{hint}", self.source)
        };
        let value = node.attr.get("value").and_then(|v| v.tensor.as_ref());
        let tensor = value.context("it holds no tensor").and_then(|v| tensor_of(v, &self.expandable));
        tensor.bad_input(|| format!("{}: node {name}", self.source))
    }

    /// The weights under torch's names, in torch's layouts.
    ///
    /// # Errors
    /// Bad input that names the first node missing or unusable.
    pub fn weights(&self) -> Result<Weights> {
        let mut tensors = BTreeMap::new();
        for name in super::names::convolutions()? {
            let scope = tensorflow_scope(&name).with_context(|| format!("{name} has no TensorFlow name"))?;
            let kernel = self.constant(&format!("{scope}/conv2d_params"))?;
            if kernel.dim() != 4 {
                bad_input!(
                    "{}: node {scope}/conv2d_params has shape {:?}, wanted four extents",
                    self.source,
                    { kernel.size() }
                )
            }
            // HWIO to OIHW.
            tensors.insert(format!("{name}.conv.weight"), kernel.f_permute([3, 2, 0, 1])?);
            let part = |part: &str| self.constant(&format!("{scope}/batchnorm/{part}"));
            let gamma = match self.scales(&scope)? {
                true => part("gamma")?,
                // The operation then leaves gamma out.
                false => part("gamma")?.f_ones_like()?,
            };
            tensors.insert(format!("{name}.bn.weight"), gamma);
            tensors.insert(format!("{name}.bn.bias"), part("beta")?);
            tensors.insert(format!("{name}.bn.running_mean"), part("moving_mean")?);
            tensors.insert(format!("{name}.bn.running_var"), part("moving_variance")?);
        }
        let classifier = self.constant("softmax/weights")?;
        if classifier.dim() != 2 {
            bad_input!("{}: node softmax/weights has shape {:?}", self.source, classifier.size())
        }
        tensors.insert("fc.weight".into(), classifier.f_tr()?);
        if self.nodes.contains_key("softmax/biases") {
            tensors.insert("fc.bias".into(), self.constant("softmax/biases")?);
        }
        let weights = Weights::new(&self.source, tensors);
        first_dimension(&weights, "fc.weight")?;
        Ok(weights)
    }

    /// Whether a batch norm multiplies by gamma; also checks its epsilon.
    fn scales(&self, scope: &str) -> Result<bool> {
        let Some(node) = self.nodes.get(&format!("{scope}/batchnorm")) else { return Ok(true) };
        let epsilon = node.attr.get("variance_epsilon").and_then(|a| a.f);
        if let Some(epsilon) = epsilon.filter(|e| (f64::from(*e) - BATCH_NORM_EPSILON).abs() > 1e-6) {
            bad_input!(
                "{}: node {scope}/batchnorm has epsilon {epsilon}, the FID graph has {BATCH_NORM_EPSILON}",
                self.source
            )
        }
        Ok(node.attr.get("scale_after_normalization").and_then(|a| a.b).unwrap_or(true))
    }
}

fn tensor_of(proto: &TensorProto, expandable: &Cell<u64>) -> Result<Tensor> {
    ensure!(proto.dtype == DT_FLOAT, "its type is number {}, wanted {DT_FLOAT} (f32)", proto.dtype);
    let shape: Vec<i64> = proto.tensor_shape.iter().flat_map(|s| &s.dim).map(|d| d.size).collect();
    ensure!(shape.len() <= 8, "{} dimensions", shape.len());
    let count = shape.iter().try_fold(1i64, |n, &d| if d > 0 { n.checked_mul(d) } else { None });
    let count =
        count.filter(|n| *n <= MOST_NUMBERS).with_context(|| format!("the shape {shape:?} is impossible"))?;
    if !proto.tensor_content.is_empty() {
        let (have, want) = (proto.tensor_content.len() as i64, 4 * count);
        ensure!(have == want, "{have} bytes for the shape {shape:?}, wanted {want}");
        return Ok(Tensor::f_from_data_size(&proto.tensor_content, &shape, Kind::Float)?);
    }
    let values = &proto.float_val;
    ensure!(values.len() as i64 <= count, "{} values for the shape {shape:?}", values.len());
    match values.as_slice() {
        [] => bail!("no values"),
        // One value for all needs no memory for each.
        [all] => Ok(Tensor::f_from_slice(&[*all])?.f_reshape([0i64; 0])?.f_expand(&shape, true)?),
        [.., last] => {
            let left = expandable.get().checked_sub(4 * count as u64);
            expandable.set(left.context("far more values are implied than the file holds")?);
            let mut full = values.clone();
            full.resize(usize::try_from(count)?, *last);
            Ok(Tensor::f_from_slice(&full)?.f_reshape(&shape)?)
        }
    }
}
