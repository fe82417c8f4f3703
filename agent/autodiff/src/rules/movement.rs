//! Gradients of operators that only move elements.

use super::{Flowing, Row, rule};
use crate::gradient::Flow;
use crate::graph::{self, Attribute, Value};

pub(super) const ROWS: &[Row] = &[
    rule("Reshape", reshape, "dy, in the operand's shape"),
    rule("Expand", expand, "dy, summed over what was repeated"),
    rule("Transpose", transpose, "dy, by the inverse permutation"),
    rule("Concat", concat, "the part of dy at each operand's place"),
    rule("Split", split, "the parts' gradients joined, zeros where none flows"),
];

fn reshape(flow: &mut Flow<'_>) -> Flowing {
    let (dy, x) = (flow.dy()?, flow.x(0)?);
    let shape = flow.graph.shape(x).to_vec();
    Ok(vec![Some(flow.graph.reshape(dy, &shape)?), None])
}

/// The sweep sums over what was repeated.
fn expand(flow: &mut Flow<'_>) -> Flowing {
    Ok(vec![Some(flow.dy()?), None])
}

fn transpose(flow: &mut Flow<'_>) -> Flowing {
    let (dy, x) = (flow.dy()?, flow.x(0)?);
    let rank = flow.graph.shape(x).len();
    let permutation = graph::permutation(&flow.node, rank).ok_or_else(|| flow.unsupported("perm is no permutation"))?;
    let mut inverse = vec![0; rank];
    for (to, &from) in permutation.iter().enumerate() {
        inverse[from] = to;
    }
    Ok(vec![Some(flow.graph.transpose(dy, &inverse)?)])
}

fn concat(flow: &mut Flow<'_>) -> Flowing {
    let (dy, axis) = (flow.dy()?, flow.node.int("axis", 0));
    if flow.node.inputs.len() == 1 {
        return Ok(vec![Some(dy)]);
    }
    let graph = &mut *flow.graph;
    let position = graph::axis_position(axis, graph.shape(dy).len()).expect("its shape was inferred with this axis");
    let length = |value: &Value| i64::try_from(graph.shape(*value)[position]).expect("a size fits in an i64");
    let lengths = flow.node.inputs.iter().flatten().map(length).collect();
    let lengths = graph.int_vector(lengths);
    let attributes = [("axis", Attribute::Int(axis))];
    let parts = graph.nodes_of("Split", &[Some(dy), Some(lengths)], flow.node.inputs.len(), &attributes)?;
    Ok(parts.into_iter().map(Some).collect())
}

fn split(flow: &mut Flow<'_>) -> Flowing {
    let axis = flow.node.int("axis", 0);
    let mut parts = Vec::with_capacity(flow.node.outputs.len());
    for (position, &output) in flow.node.outputs.clone().iter().enumerate() {
        parts.push(match flow.gradient(position) {
            Some(gradient) => gradient,
            None => {
                let shape = flow.graph.shape(output).to_vec();
                let zero = flow.graph.scalar_like(output, 0.0);
                flow.graph.expand(zero, &shape)?
            }
        });
    }
    let joined = flow.graph.node("Concat", &parts, &[("axis", Attribute::Int(axis))])?;
    Ok(vec![Some(joined), None])
}
