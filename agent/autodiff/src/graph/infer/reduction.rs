//! Reductions, and functions that act along an axis.

use super::{Operands, Outputs, Rule, axis_position, like_first};
use crate::graph::{Dtype, Graph, Node};

pub(super) const ROWS: &[(&str, Rule)] = &[
    ("ReduceSum", reduce),
    ("ReduceMean", reduce),
    ("ReduceMax", reduce),
    ("ReduceMin", reduce),
    ("ReduceProd", reduce),
    ("ReduceL1", reduce),
    ("ReduceL2", reduce),
    ("ReduceSumSquare", reduce),
    ("ReduceLogSum", reduce),
    ("ReduceLogSumExp", reduce),
    ("ArgMax", arg_extremum),
    ("ArgMin", arg_extremum),
    ("TopK", top_k),
    ("CumSum", along_constant_axis),
    ("Softmax", along_axis),
    ("LogSoftmax", along_axis),
    ("Hardmax", along_axis),
];

fn reduce(operands: &Operands<'_>) -> Outputs {
    let shape = operands.shape(0)?;
    let axes = reduced_axes(operands.graph, operands.node).ok_or_else(|| operands.shapes_differ())?;
    Ok(vec![(operands.dtype(0)?, reduced_shape(shape, &axes, operands.node.int("keepdims", 1) != 0))])
}

fn axis(operands: &Operands<'_>, default: i64) -> Result<usize, super::GraphError> {
    let axis = operands.node.int("axis", default);
    axis_position(axis, operands.shape(0)?.len()).ok_or_else(|| operands.shapes_differ())
}

fn arg_extremum(operands: &Operands<'_>) -> Outputs {
    let axis = axis(operands, 0)?;
    let keep = operands.node.int("keepdims", 1) != 0;
    Ok(vec![(Dtype::I64, reduced_shape(operands.shape(0)?, &[axis], keep))])
}

/// The values, and their indices along the axis.
fn top_k(operands: &Operands<'_>) -> Outputs {
    let axis = axis(operands, -1)?;
    let mut shape = operands.shape(0)?.to_vec();
    let count = match operands.ints(1)? {
        [count] => usize::try_from(*count).ok().filter(|&count| count <= shape[axis]),
        _ => None,
    };
    shape[axis] = count.ok_or_else(|| operands.invalid("K is not a number of elements of the axis".into()))?;
    Ok(vec![(operands.dtype(0)?, shape.clone()), (Dtype::I64, shape)])
}

fn along_axis(operands: &Operands<'_>) -> Outputs {
    axis(operands, -1)?;
    like_first(operands)
}

fn along_constant_axis(operands: &Operands<'_>) -> Outputs {
    match operands.ints(1)? {
        [axis] if axis_position(*axis, operands.shape(0)?.len()).is_some() => like_first(operands),
        _ => Err(operands.shapes_differ()),
    }
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
