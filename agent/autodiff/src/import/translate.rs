//! A cleaned-up ONNX graph written anew, node by node, into a [`Graph`] of this crate.
//!
//! Most operators stay what they are. Those of older opsets get the form of ours (`modern`), what is a matter of
//! training — normalisation, dropout — gets its training form (`training`), and composite operators are written as
//! their parts.

mod modern;
mod noise;
pub(super) mod refused;
mod sequence;
mod training;

use std::collections::BTreeMap;

use super::tensor::{attributes_of, constant_of, tensor_attribute};
use super::{ImportError, OTHER_SIZES, fold, malformed};
use crate::families::{Forward, Parameter};
use crate::graph::{Attribute, Constant, Dtype, Elements, Graph, GraphError, Node, Value};
use crate::onnx::{GraphProto, NodeProto};
use crate::{lower, operators};

/// What a name of the file stands for.
#[derive(Debug, Clone, PartialEq)]
enum Bound {
    Value(Value),
    Sequence(Vec<Value>),
    Noise(noise::Noise),
}

/// What a translation comes to.
pub(super) struct Translated {
    pub output: Value,
    /// Of the dropouts.
    pub rates: Vec<f64>,
    /// Of each node of the file, how many nodes there were once it was translated.
    ends: Vec<usize>,
}

impl Translated {
    /// The name that the file has for what a node of the graph was made of.
    pub fn name_in<'f>(&self, file: &'f GraphProto, graph: &Graph, node: &str) -> Option<&'f str> {
        let position = graph.nodes().iter().position(|known| known.name == node)?;
        file.node.get(self.ends.partition_point(|end| *end <= position)).map(node_name)
    }
}

/// A node of the file, its operands found.
pub(super) struct Old {
    pub op: String,
    pub name: String,
    pub inputs: Vec<Option<Value>>,
    /// How many outputs it names.
    pub outputs: usize,
    pub attributes: BTreeMap<String, Attribute>,
}

impl Old {
    pub fn input(&self, position: usize) -> Option<Value> {
        self.inputs.get(position).copied().flatten()
    }

    pub fn int(&self, name: &str, default: i64) -> i64 {
        match self.attributes.get(name) {
            Some(Attribute::Int(int)) => *int,
            _ => default,
        }
    }

    pub fn float(&self, name: &str, default: f64) -> f64 {
        match self.attributes.get(name) {
            Some(Attribute::Float(float)) => *float,
            _ => default,
        }
    }

    pub fn take_ints(&mut self, name: &str) -> Option<Vec<i64>> {
        match self.attributes.remove(name) {
            Some(Attribute::Ints(ints)) => Some(ints),
            _ => None,
        }
    }

    fn as_node(&self) -> Node {
        Node {
            name: self.name.clone(),
            domain: String::new(),
            op: self.op.clone(),
            inputs: self.inputs.clone(),
            outputs: Vec::new(),
            attributes: self.attributes.clone(),
        }
    }

    /// Puts an operand at a position, after operands that are left out.
    pub fn set_input(&mut self, position: usize, value: Value) {
        if self.inputs.len() <= position {
            self.inputs.resize(position + 1, None);
        }
        self.inputs[position] = Some(value);
    }
}

pub(super) struct Translator<'f, 'g> {
    context: &'f mut Forward<'g>,
    bound_by_name: BTreeMap<String, Bound>,
    opset: i64,
    rates: Vec<f64>,
    /// Whether dropouts are of different rates.
    has_own_rates: bool,
}

impl<'f, 'g> Translator<'f, 'g> {
    pub fn new(context: &'f mut Forward<'g>, opset: i64, has_own_rates: bool) -> Self {
        Self { context, bound_by_name: BTreeMap::new(), opset, rates: Vec::new(), has_own_rates }
    }

    /// Binds a feature, brought to the type that the file wants.
    pub fn feature(&mut self, name: &str, dtype: Dtype, value: Value) -> Result<(), ImportError> {
        let value = self.context.graph.cast(value, dtype)?;
        self.bind(name, Bound::Value(value));
        Ok(())
    }

    pub fn parameter(&mut self, parameter: &Parameter) -> Result<(), ImportError> {
        let value = self.context.declared(parameter.clone())?;
        self.bind(&parameter.name, Bound::Value(value));
        Ok(())
    }

    pub fn buffer(&mut self, statistics: &Parameter) -> Result<(), ImportError> {
        let value = self.context.buffer(&statistics.name, &statistics.shape, statistics.initial.clone())?;
        self.bind(&statistics.name, Bound::Value(value));
        Ok(())
    }

    /// Translates all nodes.
    pub fn graph(mut self, graph: &GraphProto) -> Result<Translated, ImportError> {
        for tensor in &graph.initializer {
            let value = self.context.graph.constant(constant_of(tensor)?);
            self.bind(tensor.name(), Bound::Value(value));
        }
        let mut ends = Vec::with_capacity(graph.node.len());
        for node in &graph.node {
            let given = self.node(node)?;
            ends.push(self.context.graph.nodes().len());
            for (name, bound) in node.output.iter().zip(given) {
                if let Some(bound) = bound {
                    self.bind(name, bound);
                }
            }
        }
        let output = graph.output.first().ok_or_else(|| malformed("it has no output"))?;
        Ok(Translated { output: self.value(output.name())?, rates: self.rates, ends })
    }

    fn bind(&mut self, name: &str, bound: Bound) {
        self.bound_by_name.insert(name.into(), bound);
    }

    fn bound(&self, name: &str) -> Result<&Bound, ImportError> {
        self.bound_by_name.get(name).ok_or_else(|| malformed(format!("{name:?} is used but not given")))
    }

    fn value(&self, name: &str) -> Result<Value, ImportError> {
        match self.bound(name)? {
            Bound::Value(value) => Ok(*value),
            Bound::Sequence(_) => Err(malformed(format!("{name:?} is a sequence where a tensor is needed"))),
            Bound::Noise(_) => Err(malformed(format!("{name:?} is random, and no dropout that is known here"))),
        }
    }

    /// What a node gives; `None` for an output that cannot be had.
    fn node(&mut self, node: &NodeProto) -> Result<Vec<Option<Bound>>, ImportError> {
        if !super::is_own(node.domain()) {
            return Err(self.refused(node, "it is not one of ONNX's own operators", refused::STANDARD));
        }
        if let Some(error) = refused::error(node, self.opset) {
            // What its result's size depends on may be known already.
            let old = self.old(node).map_err(|_| error.clone())?;
            let constant = fold::folded(self.context.graph, &old, None).ok_or(error)?;
            return Ok(vec![Some(Bound::Value(self.context.graph.constant(constant)))]);
        }
        if let Some(bound) = self.sequence(node)? {
            return Ok(vec![Some(bound)]);
        }
        if let Some(noise) = self.noise(node)? {
            return Ok(vec![Some(noise)]);
        }
        let values = match node.op_type() {
            "Constant" => vec![Some(self.constant(node)?)],
            _ => self.values(node)?,
        };
        Ok(values.into_iter().map(|value| value.map(Bound::Value)).collect())
    }

    /// The outputs of a node between tensors.
    fn values(&mut self, node: &NodeProto) -> Result<Vec<Option<Value>>, ImportError> {
        let mut old = self.old(node)?;
        modern::modernise(self.context.graph, self.opset, &mut old)
            .map_err(|error| self.explained(node, error.into()))?;
        let fill = tensor_attribute(node, "value").map(constant_of).transpose()?;
        if let Some(constant) = fold::folded(self.context.graph, &old, fill.as_ref()) {
            return Ok(vec![Some(self.context.graph.constant(constant))]);
        }
        if let Some(value) = self.trained(&old).map_err(|error| self.explained(node, error))? {
            return Ok(vec![Some(value)]);
        }
        let lowered = lower::lower(self.context.graph, &old.as_node());
        if let Some(values) = lowered.map_err(|error| self.explained(node, error.into()))? {
            return Ok(values);
        }
        let attributes: Vec<(&str, Attribute)> =
            old.attributes.iter().map(|(name, attribute)| (name.as_str(), attribute.clone())).collect();
        let values = self.context.graph.nodes_of(&old.op, &old.inputs, old.outputs.max(1), &attributes);
        Ok(values.map_err(|error| self.explained(node, error.into()))?.into_iter().map(Some).collect())
    }

    fn old(&self, node: &NodeProto) -> Result<Old, ImportError> {
        let input = |name: &String| if name.is_empty() { Ok(None) } else { self.value(name).map(Some) };
        let mut inputs = node.input.iter().map(input).collect::<Result<Vec<_>, _>>()?;
        while inputs.last() == Some(&None) {
            inputs.pop();
        }
        Ok(Old {
            op: node.op_type().into(),
            name: node.name().into(),
            inputs,
            outputs: node.output.iter().rposition(|name| !name.is_empty()).map_or(0, |last| last + 1),
            attributes: attributes_of(node),
        })
    }

    /// The tensor of a `Constant` node, in whichever of its attributes it lies.
    fn constant(&mut self, node: &NodeProto) -> Result<Value, ImportError> {
        if let Some(tensor) = tensor_attribute(node, "value") {
            return Ok(self.context.graph.constant(constant_of(tensor)?));
        }
        let constant = |dtype, shape, elements| Constant { dtype, shape, elements };
        let found = attributes_of(node).into_iter().find_map(|(_, attribute)| match attribute {
            Attribute::Int(int) => Some(constant(Dtype::I64, vec![], Elements::Int(vec![int]))),
            Attribute::Ints(ints) => Some(constant(Dtype::I64, vec![ints.len()], Elements::Int(ints))),
            Attribute::Float(float) => Some(constant(Dtype::F32, vec![], Elements::Float(vec![float]))),
            Attribute::Floats(floats) => Some(constant(Dtype::F32, vec![floats.len()], Elements::Float(floats))),
            Attribute::Text(_) | Attribute::Texts(_) => None,
        });
        match found {
            Some(constant) => Ok(self.context.graph.constant(constant)),
            None => Err(self.refused(node, "it holds no numbers", refused::STANDARD)),
        }
    }

    fn refused(&self, node: &NodeProto, reason: &str, help: &'static str) -> ImportError {
        ImportError::Operator {
            op: node.op_type().into(),
            node: node_name(node).into(),
            opset: self.opset,
            reason: reason.into(),
            help,
        }
    }

    /// An error of the graph with the file's own name of the node.
    fn explained(&self, node: &NodeProto, error: ImportError) -> ImportError {
        match error {
            ImportError::Graph(GraphError::UnknownShape { .. }) => {
                let (op, help) = (node.op_type(), operators::help_for(node.op_type()));
                ImportError::Unknown { op: op.into(), node: node_name(node).into(), opset: self.opset, help }
            }
            ImportError::Graph(GraphError::InvalidOperands { reason, .. }) => self.refused(node, &reason, OTHER_SIZES),
            other => other,
        }
    }

    fn graph_mut(&mut self) -> &mut Graph {
        self.context.graph
    }
}

/// The node's name, or that of what it gives where it has none.
pub(super) fn node_name(node: &NodeProto) -> &str {
    match node.name() {
        "" => node.output.first().map_or("", String::as_str),
        name => name,
    }
}
