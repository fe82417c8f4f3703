//! Reductions, and functions that normalise along an axis.

use super::{Operands, Outputs, Rule, axis_position, like_first};
use crate::graph::{Dtype, Graph, Node};

pub(super) const ROWS: &[(&str, Rule)] = &[
    ("ReduceSum", reduce),
    ("ReduceMean", reduce),
    ("ArgMax", arg_max),
    ("Softmax", like_first),
    ("LogSoftmax", like_first),
];

fn reduce(operands: &Operands<'_>) -> Outputs {
    let shape = operands.shape(0)?;
    let axes = reduced_axes(operands.graph, operands.node).ok_or_else(|| operands.shapes_differ())?;
    Ok(vec![(operands.dtype(0)?, reduced_shape(shape, &axes, operands.node.int("keepdims", 1) != 0))])
}

fn arg_max(operands: &Operands<'_>) -> Outputs {
    let shape = operands.shape(0)?;
    let axis = axis_position(operands.node.int("axis", 0), shape.len()).ok_or_else(|| operands.shapes_differ())?;
    Ok(vec![(Dtype::I64, reduced_shape(shape, &[axis], operands.node.int("keepdims", 1) != 0))])
}

/// The positions of the axes that a reduction removes; `None` where the node is not well formed.
pub(crate) fn reduced_axes(graph: &Graph, node: &Node) -> Option<Vec<usize>> {
    let rank = graph.shape(node.inputs.first().copied().flatten()?).len();
    let axes = match node.inputs.get(1).copied().flatten() {
        Some(axes) => graph.constant_ints(axes)?,
        None => &[],
    };
    if axes.is_empty() {
        let all = node.int("noop_with_empty_axes", 0) == 0;
        return Some(if all { (0..rank).collect() } else { Vec::new() });
    }
    axes.iter().map(|&axis| axis_position(axis, rank)).collect()
}

fn reduced_shape(shape: &[usize], axes: &[usize], keep: bool) -> Vec<usize> {
    let kept = shape.iter().enumerate().filter(|(axis, _)| keep || !axes.contains(axis));
    kept.map(|(axis, &dimension)| if axes.contains(&axis) { 1 } else { dimension }).collect()
}
