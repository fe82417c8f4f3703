//! A typed ONNX graph with static shapes: values, nodes and constants, always in topological order.
//!
//! Names are the graph's own business: a model names its inputs, everything else gets a reserved prefix,
//! and a name that is taken is refused, because ONNX Runtime accepts duplicates and then computes nonsense.
//! It knows nothing of gradients.

mod along;
mod build;
mod composite;
mod encode;
mod infer;
mod mixed;
mod padded;
mod recorded;
mod segment;

pub(crate) use along::LinearMap;
pub use build::Transposed;
pub(crate) use composite::Composite;
pub(crate) use encode::{dtype_code, dtype_of};
pub(crate) use infer::{
    SliceRange, Windows, blocks_mode, paddings, permutation, pooling_windows, reduced_axes, resized, slice_ranges,
};
pub use infer::{axis_position, broadcast_shapes, knows_shape_of};
pub(crate) use recorded::is_safe_to_record;
pub(crate) use segment::{Repetition, Segment};

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::{fuse, own};

/// The opset that graphs of this crate are written in: the first with a kernel for `Gelu`.
pub const OPSET: i64 = 20;

/// What every name begins with that this crate adds to a model.
pub const RESERVED_PREFIX: &str = "regatta.";

/// A refused addition to a graph.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GraphError {
    #[error("the name {name:?} is already taken in this graph")]
    DuplicateName { name: String },
    #[error("the name {name:?} begins with {RESERVED_PREFIX:?}, which is kept for generated names")]
    ReservedName { name: String },
    #[error("{op} cannot take these operands: {reason}")]
    InvalidOperands { op: String, reason: String },
    #[error("the tensor {name:?} would have more elements than can be counted")]
    TooLarge { name: String },
    #[error("the output shape of {op} is not known here")]
    UnknownShape { op: String },
}

/// The element type of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dtype {
    F16,
    Bf16,
    F32,
    F64,
    U8,
    I32,
    I64,
    Bool,
}

impl Dtype {
    /// Whether a gradient can exist for values of this type.
    pub fn is_float(self) -> bool {
        matches!(self, Self::F16 | Self::Bf16 | Self::F32 | Self::F64)
    }

    /// The type of ONNX's number for it, where it is one of these.
    pub fn of_code(code: i64) -> Option<Self> {
        dtype_of(code)
    }
}

/// Where a graph will run. Both compute the same; the formulations that are fast differ.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Provider {
    #[default]
    Cpu,
    Cuda,
}

/// A tensor in a [`Graph`]; meaningful only together with the graph that made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Value(usize);

/// What is known of a value before anything runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValueInfo {
    pub name: String,
    pub dtype: Dtype,
    pub shape: Vec<usize>,
}

/// A constant tensor. Numbers are held in the widest type and rounded when the graph is encoded.
#[derive(Debug, Clone, PartialEq)]
pub struct Constant {
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    pub elements: Elements,
}

/// The elements of a [`Constant`], in row-major order.
#[derive(Debug, Clone, PartialEq)]
pub enum Elements {
    Float(Vec<f64>),
    Int(Vec<i64>),
}

/// An attribute of a node.
#[derive(Debug, Clone, PartialEq)]
pub enum Attribute {
    Int(i64),
    Ints(Vec<i64>),
    Float(f64),
    Floats(Vec<f64>),
    Text(String),
    Texts(Vec<String>),
}

/// One application of an ONNX operator.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Node {
    pub name: String,
    /// Empty for ONNX's own operators.
    pub domain: String,
    pub op: String,
    /// `None` where an optional operand is left out.
    pub inputs: Vec<Option<Value>>,
    pub outputs: Vec<Value>,
    pub attributes: BTreeMap<String, Attribute>,
}

impl Node {
    pub fn int(&self, attribute: &str, default: i64) -> i64 {
        match self.attributes.get(attribute) {
            Some(Attribute::Int(value)) => *value,
            _ => default,
        }
    }

    pub fn float(&self, attribute: &str, default: f64) -> f64 {
        match self.attributes.get(attribute) {
            Some(Attribute::Float(value)) => *value,
            _ => default,
        }
    }

    pub fn floats(&self, attribute: &str) -> Option<&[f64]> {
        match self.attributes.get(attribute) {
            Some(Attribute::Floats(values)) => Some(values),
            _ => None,
        }
    }

    pub fn ints(&self, attribute: &str) -> Option<&[i64]> {
        match self.attributes.get(attribute) {
            Some(Attribute::Ints(values)) => Some(values),
            _ => None,
        }
    }

    pub fn text(&self, attribute: &str) -> Option<&str> {
        match self.attributes.get(attribute) {
            Some(Attribute::Text(text)) => Some(text),
            _ => None,
        }
    }
}

/// The key by which equal constants are found: type, shape, bits.
type ConstantKey = (Dtype, Vec<usize>, Vec<u64>);

/// A graph under construction. Nodes can only use values that exist, so its order is topological.
#[derive(Debug, Clone, Default)]
pub struct Graph {
    provider: Provider,
    allows_own_operators: bool,
    allows_own_products: bool,
    /// What matrix products compute in, where that is not what they are given.
    low: Option<Dtype>,
    values: Vec<ValueInfo>,
    names: BTreeSet<String>,
    nodes: Vec<Node>,
    inputs: Vec<Value>,
    outputs: Vec<Value>,
    constant_by_value: BTreeMap<Value, Constant>,
    value_by_constant: BTreeMap<ConstantKey, Value>,
    /// By the position of their last node.
    composite_by_last: BTreeMap<usize, Composite>,
    /// By the position of their last node.
    segment_by_last: BTreeMap<usize, Segment>,
    /// The same numbers in the other of two precisions.
    cast_by_value: BTreeMap<Value, Value>,
    /// Those that are zero but for a part, along one axis.
    padded_by_value: BTreeMap<Value, padded::Padded>,
}

impl Graph {
    pub fn new(provider: Provider) -> Self {
        Self { provider, ..Self::default() }
    }

    /// For which rules and families choose among formulations.
    pub fn provider(&self) -> Provider {
        self.provider
    }

    /// Allows operators of the domain [`own::DOMAIN`](crate::own::DOMAIN), which only sessions of an agent have.
    pub fn allow_own_operators(&mut self) {
        self.allows_own_operators = true;
    }

    /// Allows products of large matrices to be operators of that domain as well, where operators are: not every processor
    /// computes them faster so.
    pub fn allow_own_products(&mut self) {
        self.allows_own_products = true;
    }

    pub(crate) fn has_own_products(&self) -> bool {
        self.allows_own_products && self.has_own_operators()
    }

    /// Whether rules may write the operators that there are for the CPU.
    pub fn has_own_operators(&self) -> bool {
        self.allows_own_operators && self.provider == Provider::Cpu
    }

    /// Whether runs of nodes become kernels of their own when the graph is encoded.
    pub fn is_fused(&self) -> bool {
        self.allows_own_operators && self.provider == Provider::Cuda
    }

    /// The graph as it is encoded: of the nodes that an output depends on, with operators of our own where they are allowed.
    pub fn to_run(&self) -> Self {
        let nodes: Vec<Node> = self.live_nodes().into_iter().map(|node| own::replaced(self, node)).collect();
        let nodes = match self.has_own_operators() {
            true => own::joined(self, nodes),
            false => nodes,
        };
        let graph = Self { nodes, ..self.clone() };
        let graph = if self.provider == Provider::Cuda { graph.to_record() } else { graph };
        if self.is_fused() { fuse::fused(graph) } else { graph }
    }

    /// The same graph with other nodes.
    pub(crate) fn with_nodes(self, nodes: Vec<Node>) -> Self {
        Self { nodes, ..self }
    }

    pub fn opset(&self) -> i64 {
        OPSET
    }

    /// Declares an input under the model's own name.
    ///
    /// # Errors
    /// The name is taken or begins with [`RESERVED_PREFIX`], or the shape has more elements than an i64 counts.
    pub fn input(&mut self, name: &str, dtype: Dtype, shape: &[usize]) -> Result<Value, GraphError> {
        if name.starts_with(RESERVED_PREFIX) {
            return Err(GraphError::ReservedName { name: name.into() });
        }
        self.declare(name.into(), dtype, shape)
    }

    /// Declares an input that is not the model's: its name gets the reserved prefix.
    ///
    /// # Errors
    /// The name is taken, or the shape has more elements than an i64 counts.
    pub fn reserved_input(&mut self, name: &str, dtype: Dtype, shape: &[usize]) -> Result<Value, GraphError> {
        self.declare(format!("{RESERVED_PREFIX}{name}"), dtype, shape)
    }

    fn declare(&mut self, name: String, dtype: Dtype, shape: &[usize]) -> Result<Value, GraphError> {
        let value = self.add_value(name, dtype, shape.to_vec())?;
        self.inputs.push(value);
        Ok(value)
    }

    /// A constant; an equal one that is already there is used again.
    pub fn constant(&mut self, constant: Constant) -> Value {
        let bits = match &constant.elements {
            Elements::Float(floats) => floats.iter().map(|float| float.to_bits()).collect(),
            Elements::Int(ints) => ints.iter().map(|int| int.cast_unsigned()).collect(),
        };
        let key = (constant.dtype, constant.shape.clone(), bits);
        if let Some(&value) = self.value_by_constant.get(&key) {
            return value;
        }
        let name = self.fresh_name("constant");
        let value = self.add_value(name, constant.dtype, constant.shape.clone()).expect("a fresh name is not taken");
        self.constant_by_value.insert(value, constant);
        self.value_by_constant.insert(key, value);
        value
    }

    /// Applies an operator and takes its first output, whose type and shape are inferred.
    ///
    /// # Errors
    /// The operands do not fit the operator, or its shape rule is not known.
    pub fn node(&mut self, op: &str, inputs: &[Value], attributes: &[(&str, Attribute)]) -> Result<Value, GraphError> {
        let inputs: Vec<_> = inputs.iter().copied().map(Some).collect();
        Ok(self.nodes_of(op, &inputs, 1, attributes)?[0])
    }

    /// Applies an operator and takes its first `outputs` outputs; operands that are `None` are left out.
    ///
    /// # Errors
    /// The operands do not fit the operator, it has fewer outputs, or its shape rule is not known.
    pub fn nodes_of(
        &mut self,
        op: &str,
        inputs: &[Option<Value>],
        outputs: usize,
        attributes: &[(&str, Attribute)],
    ) -> Result<Vec<Value>, GraphError> {
        if let Some(biased) = self.biased_apart(op, inputs, attributes)? {
            return Ok(vec![biased]);
        }
        if let Some(cropped) = self.cropped(op, inputs, attributes)? {
            return Ok(vec![cropped]);
        }
        let inputs = self.in_precision(op, inputs)?;
        let mut node = Node {
            name: self.fresh_name(op),
            domain: String::new(),
            op: op.into(),
            inputs,
            outputs: Vec::new(),
            attributes: attributes.iter().map(|(name, value)| ((*name).into(), value.clone())).collect(),
        };
        infer::settle(self, &mut node, outputs);
        let inferred = infer::infer(self, &node, outputs)?;
        if outputs == 0 || inferred.len() < outputs {
            let reason = format!("{outputs} outputs wanted of {}", inferred.len());
            return Err(GraphError::InvalidOperands { op: op.into(), reason });
        }
        self.add_node(&mut node, inferred.into_iter().take(outputs))?;
        Ok(node.outputs)
    }

    /// A product or a convolution, and its bias by itself, where a kernel adds that with what comes after.
    fn biased_apart(
        &mut self,
        op: &str,
        inputs: &[Option<Value>],
        attributes: &[(&str, Attribute)],
    ) -> Result<Option<Value>, GraphError> {
        let &[Some(x), Some(weight), Some(bias)] = inputs else { return Ok(None) };
        let is_scaled = attributes.iter().any(|(name, _)| *name == "beta");
        if !self.is_fused() || is_scaled || !matches!(op, "Conv" | "Gemm") {
            return Ok(None);
        }
        let product = self.nodes_of(op, &[Some(x), Some(weight)], 1, attributes)?[0];
        let mut shape = self.shape(bias).to_vec();
        if op == "Conv" {
            shape.resize(self.shape(product).len() - 1, 1);
        }
        let bias = self.in_type_of(bias, product)?;
        let bias = self.reshape(bias, &shape)?;
        self.add(product, bias).map(Some)
    }

    /// A transposed convolution that is cropped by more on one side than on the other, and by itself what cuDNN does not
    /// crop: ONNX Runtime has no kernel for it on CUDA.
    fn cropped(
        &mut self,
        op: &str,
        inputs: &[Option<Value>],
        attributes: &[(&str, Attribute)],
    ) -> Result<Option<Value>, GraphError> {
        let (Provider::Cuda, "ConvTranspose", &[Some(response), Some(kernel), ..]) = (self.provider, op, inputs) else {
            return Ok(None);
        };
        let node = Node {
            op: op.into(),
            attributes: attributes.iter().map(|(name, value)| ((*name).into(), value.clone())).collect(),
            ..Node::default()
        };
        let spatial = |value| Some((self.shape(value).get(2..)?, self.shape(kernel).get(2..)?));
        let placed = spatial(response).and_then(|(counts, kernel)| Windows::transposed(&node, counts, kernel));
        let Some((windows, image)) = placed.filter(|(windows, _)| windows.before != windows.after) else {
            return Ok(None);
        };
        let both = windows.before.iter().zip(&windows.after).map(|(before, after)| *before.min(after));
        let both: Vec<usize> = both.collect();
        let pads = both.iter().chain(&both).map(|&pad| i64::try_from(pad).expect("a pad was read from an i64"));
        let is_kept = |name: &str| !["pads", "auto_pad", "output_shape"].contains(&name);
        let mut kept: Vec<_> = attributes.iter().filter(|(name, _)| is_kept(name)).cloned().collect();
        kept.push(("pads", Attribute::Ints(pads.collect())));
        let whole = self.nodes_of(op, inputs, 1, &kept)?[0];
        let mut ranges: Vec<_> = self.shape(whole)[..2].iter().map(|&size| (0, size)).collect();
        let first = windows.before.iter().zip(&both).map(|(before, both)| before - both);
        ranges.extend(first.zip(image).map(|(first, size)| (first, first + size)));
        self.window(whole, &ranges).map(Some)
    }

    /// Applies an operator of another domain, whose outputs the caller knows.
    ///
    /// # Errors
    /// An output has more elements than an i64 counts.
    pub fn custom(
        &mut self,
        (domain, op): (&str, &str),
        inputs: &[Value],
        attributes: &[(&str, Attribute)],
        outputs: &[(Dtype, Vec<usize>)],
    ) -> Result<Vec<Value>, GraphError> {
        let mut node = Node {
            name: self.fresh_name(op),
            domain: domain.into(),
            op: op.into(),
            inputs: inputs.iter().copied().map(Some).collect(),
            outputs: Vec::new(),
            attributes: attributes.iter().map(|(name, value)| ((*name).into(), value.clone())).collect(),
        };
        self.add_node(&mut node, outputs.iter().cloned())?;
        Ok(node.outputs)
    }

    /// Adds a node whose outputs are there already.
    pub(crate) fn add_again(&mut self, node: Node) {
        self.nodes.push(node);
    }

    fn add_node(
        &mut self,
        node: &mut Node,
        outputs: impl Iterator<Item = (Dtype, Vec<usize>)>,
    ) -> Result<(), GraphError> {
        for (position, (dtype, shape)) in outputs.enumerate() {
            let name = if position == 0 { node.name.clone() } else { format!("{}.{position}", node.name) };
            node.outputs.push(self.add_value(name, dtype, shape)?);
        }
        self.nodes.push(node.clone());
        Ok(())
    }

    /// Makes a value an output of the graph; twice the same is once.
    pub fn output(&mut self, value: Value) {
        if !self.outputs.contains(&value) {
            self.outputs.push(value);
        }
    }

    pub fn info(&self, value: Value) -> &ValueInfo {
        &self.values[value.0]
    }

    pub fn name(&self, value: Value) -> &str {
        &self.info(value).name
    }

    pub fn dtype(&self, value: Value) -> Dtype {
        self.info(value).dtype
    }

    pub fn shape(&self, value: Value) -> &[usize] {
        &self.info(value).shape
    }

    /// The constant behind a value, where there is one.
    pub fn constant_of(&self, value: Value) -> Option<&Constant> {
        self.constant_by_value.get(&value)
    }

    /// The integers of a constant, where the value is a constant of integers.
    pub fn constant_ints(&self, value: Value) -> Option<&[i64]> {
        match &self.constant_of(value)?.elements {
            Elements::Int(ints) => Some(ints),
            Elements::Float(_) => None,
        }
    }

    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    pub fn inputs(&self) -> &[Value] {
        &self.inputs
    }

    pub fn outputs(&self) -> &[Value] {
        &self.outputs
    }

    /// The nodes that an output depends on, in order.
    pub fn live_nodes(&self) -> Vec<&Node> {
        let mut wanted: BTreeSet<Value> = self.outputs.iter().copied().collect();
        let mut live = Vec::new();
        for node in self.nodes.iter().rev() {
            if node.outputs.iter().any(|output| wanted.contains(output)) {
                wanted.extend(node.inputs.iter().flatten());
                live.push(node);
            }
        }
        live.reverse();
        live
    }

    fn fresh_name(&self, stem: &str) -> String {
        format!("{RESERVED_PREFIX}{stem}_{}", self.values.len())
    }

    fn add_value(&mut self, name: String, dtype: Dtype, shape: Vec<usize>) -> Result<Value, GraphError> {
        let elements = shape.iter().try_fold(1usize, |product, &size| product.checked_mul(size.max(1)));
        if elements.is_none_or(|elements| i64::try_from(elements).is_err()) {
            return Err(GraphError::TooLarge { name });
        }
        if !self.names.insert(name.clone()) {
            return Err(GraphError::DuplicateName { name });
        }
        self.values.push(ValueInfo { name, dtype, shape });
        Ok(Value(self.values.len() - 1))
    }
}

impl fmt::Display for ValueInfo {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {:?}{:?}", self.name, self.dtype, self.shape)
    }
}
