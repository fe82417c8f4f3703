//! Reverse-mode differentiation: one sweep over a graph, from the last node to the first.
//!
//! What every rule would otherwise repeat lives here: which values need a gradient, the sum over several uses
//! of a value, the way back through broadcasting, and the choice between "no rule" (an error) and "no gradient
//! exists" (the flow stops). A rule in `rules` sees one node and says what flows to its operands.

use std::collections::{BTreeMap, BTreeSet};

use crate::graph::{Composite, Graph, GraphError, LinearMap, Node, Repetition, Segment, Value};
use crate::operators;
use crate::rules::{self, Gradient};

/// Why a graph cannot be differentiated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GradientError {
    #[error("no gradient rule for operator {op} (opset {opset}), needed at node {node:?}: {help}")]
    MissingRule { op: String, node: String, opset: i64, help: &'static str },
    #[error("the gradient rule for operator {op} (opset {opset}) does not cover node {node:?}: {reason}")]
    Unsupported { op: String, node: String, opset: i64, reason: String },
    #[error("no gradient reaches {name:?}: the loss does not depend on it")]
    Unreached { name: String },
    #[error(transparent)]
    Graph(#[from] GraphError),
}

/// What a rule sees: a node, the gradient of each of its outputs, and the graph to write to.
pub(crate) struct Flow<'g> {
    pub graph: &'g mut Graph,
    pub node: Node,
    gradients: Vec<Option<Value>>,
}

impl Flow<'_> {
    /// An operand of the node.
    pub fn x(&self, position: usize) -> Result<Value, GradientError> {
        let operand = self.node.inputs.get(position).copied().flatten();
        operand.ok_or_else(|| self.unsupported(&format!("operand {position} is missing")))
    }

    /// The gradient of an output; `None` where nothing flows to it.
    pub fn gradient(&self, output: usize) -> Option<Value> {
        self.gradients.get(output).copied().flatten()
    }

    /// The first output of the node.
    pub fn y(&self) -> Value {
        self.node.outputs[0]
    }

    /// The gradient of the first output.
    pub fn dy(&self) -> Result<Value, GradientError> {
        self.gradient(0).ok_or_else(|| self.unsupported("only a further output is used"))
    }

    /// A linear map of what lies along an axis.
    pub fn along_axis(&mut self, value: Value, axis: usize, map: &LinearMap) -> Result<Value, GradientError> {
        if let Some(reason) = map.refusal() {
            return Err(self.unsupported(&reason));
        }
        Ok(self.graph.along_axis(value, axis, map)?)
    }

    pub fn unsupported(&self, reason: &str) -> GradientError {
        GradientError::Unsupported {
            op: self.node.op.clone(),
            node: self.node.name.clone(),
            opset: self.graph.opset(),
            reason: reason.into(),
        }
    }
}

/// Adds to `graph` the nodes that carry the `seeds` (pairs of a value and its gradient) back to `wrt`, and
/// returns the gradient of each value of `wrt`, in the same order and of the same shapes.
///
/// Nodes that turn out not to be needed are not encoded, so rules need not ask which operand wants a gradient.
///
/// # Errors
/// An operator on the way has no rule, or its rule does not cover the node; or nothing flows to some `wrt`.
pub fn gradients(graph: &mut Graph, seeds: &[(Value, Value)], wrt: &[Value]) -> Result<Vec<Value>, GradientError> {
    let mut sweep =
        Sweep { needed: needed_for(graph, wrt), parts_by_value: BTreeMap::new(), recomputed: Repetition::default() };
    for &(value, gradient) in seeds {
        sweep.contribute(graph, value, gradient)?;
    }
    let mut unvisited = graph.nodes().len();
    while let Some(position) = unvisited.checked_sub(1) {
        if let Some(segment) = graph.segment_at(position).cloned() {
            sweep.enter(graph, &segment)?;
        }
        unvisited = match graph.composite_at(position).cloned() {
            Some(composite) => sweep.visit_composite(graph, &composite)?,
            None => {
                let node = graph.nodes()[position].clone();
                sweep.visit(graph, node)?;
                position
            }
        };
    }
    wrt.iter()
        .map(|&value| {
            let gradient = sweep.gradient_of(graph, value)?;
            gradient.ok_or_else(|| GradientError::Unreached { name: graph.name(value).into() })
        })
        .collect()
}

/// The values that depend on `wrt` in a differentiable way.
fn needed_for(graph: &Graph, wrt: &[Value]) -> BTreeSet<Value> {
    let mut needed: BTreeSet<Value> = wrt.iter().copied().collect();
    for node in graph.nodes() {
        let stops = matches!(rules::gradient_of(&node.op), Some(Gradient::Stop));
        if !stops && node.inputs.iter().flatten().any(|input| needed.contains(input)) {
            needed.extend(node.outputs.iter().filter(|output| graph.dtype(**output).is_float()));
        }
    }
    needed
}

struct Sweep {
    needed: BTreeSet<Value>,
    /// What has flowed to each value so far; summed when the value's turn comes.
    parts_by_value: BTreeMap<Value, Vec<Value>>,
    /// What rules see instead of nodes whose values are not kept.
    recomputed: Repetition,
}

impl Sweep {
    /// Computes the values of a segment again, before its nodes are visited. The input is tied to the gradient that
    /// arrives: else a runtime would find the values to be those that it has, and keep them, or compute them at once.
    fn enter(&mut self, graph: &mut Graph, segment: &Segment) -> Result<(), GraphError> {
        let Some(gradient) = self.gradient_of(graph, segment.output)? else { return Ok(()) };
        let first = vec![(0, 1); graph.shape(gradient).len()];
        let element = graph.window(gradient, &first)?;
        let element = graph.reshape(element, &[])?;
        let element = graph.cast(element, graph.dtype(segment.input))?;
        let nothing = graph.scale(element, 0.0)?;
        let input = graph.add(segment.input, nothing)?;
        let repetition = graph.repeat(segment, input)?;
        self.recomputed.extend(repetition);
        Ok(())
    }

    /// All nodes of the composite at once; returns the position of the first.
    fn visit_composite(&mut self, graph: &mut Graph, composite: &Composite) -> Result<usize, GradientError> {
        let node = &composite.as_node;
        let mut inner = graph.nodes()[composite.positions()].iter().flat_map(|node| &node.outputs);
        if inner.any(|value| !node.outputs.contains(value) && self.parts_by_value.contains_key(value)) {
            let flow = Flow { graph, node: node.clone(), gradients: Vec::new() };
            return Err(flow.unsupported("a gradient reaches a value within it"));
        }
        self.visit(graph, node.clone())?;
        Ok(composite.first())
    }

    fn visit(&mut self, graph: &mut Graph, node: Node) -> Result<(), GradientError> {
        let is_needed = |value: &Value| self.needed.contains(value);
        if !node.outputs.iter().any(is_needed) || !node.inputs.iter().flatten().any(is_needed) {
            return Ok(());
        }
        let mut gradients = Vec::with_capacity(node.outputs.len());
        for &output in &node.outputs {
            gradients.push(self.gradient_of(graph, output)?);
        }
        if gradients.iter().all(Option::is_none) {
            return Ok(());
        }
        let rule = match rules::gradient_of(&node.op) {
            Some(Gradient::Rule(rule)) => rule,
            Some(Gradient::Stop) => return Ok(()),
            None => {
                let help = operators::help_for(&node.op);
                return Err(GradientError::MissingRule { op: node.op, node: node.name, opset: graph.opset(), help });
            }
        };
        let inputs = node.inputs.clone();
        let node = self.recomputed.of(&node);
        let flowing = rule(&mut Flow { graph, node, gradients })?;
        for (input, gradient) in inputs.into_iter().zip(flowing) {
            if let (Some(input), Some(gradient)) = (input, gradient) {
                self.contribute(graph, input, gradient)?;
            }
        }
        Ok(())
    }

    fn contribute(&mut self, graph: &mut Graph, value: Value, gradient: Value) -> Result<(), GraphError> {
        if self.needed.contains(&value) {
            let shape = graph.shape(value).to_vec();
            let part = fit(graph, gradient, &shape)?;
            self.parts_by_value.entry(value).or_default().push(part);
        }
        Ok(())
    }

    fn gradient_of(&mut self, graph: &mut Graph, value: Value) -> Result<Option<Value>, GraphError> {
        let Some(parts) = self.parts_by_value.get_mut(&value) else {
            return Ok(None);
        };
        let total = graph.sum(parts)?;
        *parts = vec![total];
        Ok(Some(total))
    }
}

/// A gradient in the shape of the value that it belongs to: summed over the axes that broadcasting had added,
/// repeated along those that a rule left out.
fn fit(graph: &mut Graph, gradient: Value, shape: &[usize]) -> Result<Value, GraphError> {
    let from = graph.shape(gradient).to_vec();
    let added = from.len().saturating_sub(shape.len());
    let mut kept: Vec<usize> = from[added..].to_vec();
    let mut axes: Vec<usize> = (0..added).filter(|&axis| from[axis] != 1).collect();
    for (axis, size) in kept.iter_mut().enumerate() {
        if from.len() >= shape.len() && shape[axis] == 1 && *size != 1 {
            axes.push(axis + added);
            *size = 1;
        }
    }
    let summed = if axes.is_empty() { gradient } else { graph.reduce_sum(gradient, &axes)? };
    let aligned = graph.reshape(summed, &kept)?;
    graph.expand(aligned, shape)
}
