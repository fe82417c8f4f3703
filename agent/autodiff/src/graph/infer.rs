//! The types and shapes of an operator's outputs from those of its operands, for the operators that graphs of
//! this crate may have. Semantics are those of this crate's opset. A family a file, each with its own rows.

mod convolution;
mod elementwise;
mod indexing;
mod linear;
mod movement;
mod normalization;
mod pooling;
mod reduction;
mod resize;

use super::{Attribute, Dtype, Graph, GraphError, Node, Value};

pub(crate) use convolution::Windows;
pub(crate) use movement::{SliceRange, blocks_mode, paddings, permutation, slice_ranges};
pub(crate) use pooling::pooling_windows;
use pooling::without_windows_in_padding;
pub(crate) use reduction::reduced_axes;
pub(crate) use resize::resized;

type Inferred = (Dtype, Vec<usize>);

/// All outputs that the operator can have, optional ones last.
type Outputs = Result<Vec<Inferred>, GraphError>;

type Rule = fn(&Operands<'_>) -> Outputs;

const FAMILIES: &[&[(&str, Rule)]] = &[
    convolution::ROWS,
    elementwise::ROWS,
    indexing::ROWS,
    linear::ROWS,
    movement::ROWS,
    normalization::ROWS,
    pooling::ROWS,
    reduction::ROWS,
    resize::ROWS,
];

fn rule_of(op: &str) -> Option<Rule> {
    FAMILIES.iter().copied().flatten().find(|(name, _)| *name == op).map(|(_, rule)| *rule)
}

/// Whether nodes of this operator can be added to a graph.
pub fn knows_shape_of(op: &str) -> bool {
    rule_of(op).is_some()
}

/// Says in a node's attributes what ONNX Runtime would otherwise not know, or take for something else.
pub(super) fn settle(graph: &Graph, node: &mut Node, outputs: usize) {
    match (node.op.as_str(), &node.inputs[..]) {
        ("Split", [Some(_)]) if node.int("num_outputs", 0) == 0 => {
            let parts = i64::try_from(outputs).unwrap_or(i64::MAX);
            node.attributes.insert("num_outputs".into(), Attribute::Int(parts));
        }
        ("MaxPool" | "AveragePool", &[Some(image), ..]) => without_windows_in_padding(node, graph.shape(image)),
        _ => {}
    }
}

/// At least `outputs` of the node's outputs, where it has that many.
pub(super) fn infer(graph: &Graph, node: &Node, outputs: usize) -> Outputs {
    let rule = rule_of(&node.op).ok_or_else(|| GraphError::UnknownShape { op: node.op.clone() })?;
    rule(&Operands { graph, node, outputs })
}

/// The shape that two shapes broadcast to, by NumPy's rules.
pub fn broadcast_shapes(left: &[usize], right: &[usize]) -> Option<Vec<usize>> {
    let rank = left.len().max(right.len());
    let dimension = |shape: &[usize], axis: usize| {
        let missing = rank - shape.len();
        if axis < missing { 1 } else { shape[axis - missing] }
    };
    (0..rank)
        .map(|axis| match (dimension(left, axis), dimension(right, axis)) {
            (one, other) if one == other => Some(one),
            (1, other) => Some(other),
            (one, 1) => Some(one),
            _ => None,
        })
        .collect()
}

/// An axis counted from either end as a position.
pub fn axis_position(axis: i64, rank: usize) -> Option<usize> {
    let rank = i64::try_from(rank).ok()?;
    let position = if axis < 0 { axis + rank } else { axis };
    if (0..rank).contains(&position) { usize::try_from(position).ok() } else { None }
}

/// A node whose outputs are wanted.
struct Operands<'a> {
    graph: &'a Graph,
    node: &'a Node,
    /// How many outputs are wanted; decides where their number is not the operator's.
    outputs: usize,
}

impl Operands<'_> {
    fn value(&self, position: usize) -> Result<Value, GraphError> {
        let value = self.node.inputs.get(position).copied().flatten();
        value.ok_or_else(|| self.invalid(format!("operand {position} is missing")))
    }

    fn dtype(&self, position: usize) -> Result<Dtype, GraphError> {
        Ok(self.graph.dtype(self.value(position)?))
    }

    fn shape(&self, position: usize) -> Result<&[usize], GraphError> {
        Ok(self.graph.shape(self.value(position)?))
    }

    fn ints(&self, position: usize) -> Result<&[i64], GraphError> {
        let ints = self.graph.constant_ints(self.value(position)?);
        ints.ok_or_else(|| self.invalid(format!("operand {position} must be a constant")))
    }

    fn is_given(&self, position: usize) -> bool {
        self.node.inputs.get(position).copied().flatten().is_some()
    }

    /// The constant integers of an operand that may be left out.
    fn optional_ints(&self, position: usize) -> Result<Option<&[i64]>, GraphError> {
        if self.is_given(position) { self.ints(position).map(Some) } else { Ok(None) }
    }

    /// The position of the axis that an attribute names.
    fn axis(&self, attribute: &str, default: i64, rank: usize) -> Result<usize, GraphError> {
        let axis = self.node.int(attribute, default);
        axis_position(axis, rank).ok_or_else(|| self.invalid(format!("{attribute} {axis} with {rank} dimensions")))
    }

    fn invalid(&self, reason: String) -> GraphError {
        GraphError::InvalidOperands { op: self.node.op.clone(), reason }
    }

    fn shapes_differ(&self) -> GraphError {
        let shapes: Vec<_> =
            self.node.inputs.iter().flatten().map(|value| self.graph.info(*value).to_string()).collect();
        self.invalid(shapes.join(", "))
    }

    fn broadcast_shape(&self) -> Result<Vec<usize>, GraphError> {
        broadcast_shapes(self.shape(0)?, self.shape(1)?).ok_or_else(|| self.shapes_differ())
    }
}

/// One output, of the type and shape of the first operand.
fn like_first(operands: &Operands<'_>) -> Outputs {
    Ok(vec![(operands.dtype(0)?, operands.shape(0)?.to_vec())])
}
