//! Gradients of operators that only move elements.

use super::{Flowing, Kernel, Row, rule, stop};
use crate::gradient::{Flow, GradientError};
use crate::graph::{self, Attribute, Graph, GraphError, LinearMap, SliceRange, Value};

pub(super) const ROWS: &[Row] = &[
    rule("Reshape", reshape, "dy, in the operand's shape"),
    rule("Flatten", reshape, "dy, in the operand's shape"),
    rule("Squeeze", reshape, "dy, in the operand's shape"),
    rule("Unsqueeze", reshape, "dy, in the operand's shape"),
    rule("Expand", expand, "dy, summed over what was repeated"),
    rule("Tile", tile, "dy, summed over what was repeated"),
    rule("Transpose", transpose, "dy, by the inverse permutation"),
    rule("Concat", concat, "the part of dy at each operand's place"),
    rule("Split", split, "the parts' gradients joined, zeros where none flows"),
    rule("Slice", slice, "dy at the place that it was taken from, zeros around it"),
    rule("Pad", pad, "the part of dy that is not padding, and what was copied added to where it came from"),
    rule("DepthToSpace", depth_to_space, "dy, by the inverse permutation"),
    rule("SpaceToDepth", space_to_depth, "dy, by the inverse permutation"),
    rule("ReverseSequence", reverse_sequence, "dy, reversed again"),
    rule("Trilu", trilu, "the same triangle of dy"),
    stop("Shape").cuda(Kernel::Known),
    stop("Size").cuda(Kernel::Known),
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

fn tile(flow: &mut Flow<'_>) -> Flowing {
    let (dy, x) = (flow.dy()?, flow.x(0)?);
    let graph = &mut *flow.graph;
    let shape = graph.shape(x).to_vec();
    if graph.shape(dy).contains(&0) {
        return Ok(vec![Some(graph.zeros_like(x, &shape)?), None]);
    }
    let (mut apart, mut repeats) = (Vec::new(), Vec::new());
    for (axis, &size) in shape.iter().enumerate() {
        let repeated = graph.shape(dy)[axis] / size;
        if repeated > 1 {
            repeats.push(apart.len());
            apart.push(repeated);
        }
        apart.push(size);
    }
    if repeats.is_empty() {
        return Ok(vec![Some(dy), None]);
    }
    let apart = graph.reshape(dy, &apart)?;
    Ok(vec![Some(graph.reduce_sum(apart, &repeats)?), None])
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
                flow.graph.zeros_like(output, &shape)?
            }
        });
    }
    let joined = flow.graph.node("Concat", &parts, &[("axis", Attribute::Int(axis))])?;
    Ok(vec![Some(joined), None])
}

/// Steps by zeros between the elements, then zeros around them all: no scatter, and no table of indices.
fn slice(flow: &mut Flow<'_>) -> Flowing {
    let (dy, x) = (flow.dy()?, flow.x(0)?);
    let ranges = graph::slice_ranges(flow.graph, &flow.node);
    let ranges = ranges.ok_or_else(|| flow.unsupported("its bounds are not constant"))?;
    let graph = &mut *flow.graph;
    let shape = graph.shape(x).to_vec();
    if graph.shape(dy).contains(&0) {
        return Ok(vec![Some(graph.zeros_like(x, &shape)?)]);
    }
    let backwards: Vec<usize> = (0..shape.len()).filter(|&axis| ranges[axis].step < 0).collect();
    let mut spread = graph.reversed(dy, &backwards)?;
    let mut zeros = Vec::with_capacity(shape.len());
    for (axis, range) in ranges.iter().enumerate() {
        let (first, step) = ascending(range);
        spread = with_zeros_between(graph, spread, axis, step)?;
        zeros.push((first, shape[axis] - first - graph.shape(spread)[axis]));
    }
    Ok(vec![Some(graph.pad(spread, &zeros)?)])
}

/// The first element of a range that is not empty, and the step, from the front.
fn ascending(range: &SliceRange) -> (usize, usize) {
    let step = usize::try_from(range.step.unsigned_abs()).unwrap_or(usize::MAX);
    // Of a single element the step does not matter, and may be greater than any size.
    match (range.count, range.step < 0) {
        (1, _) => (range.start, 1),
        (_, false) => (range.start, step),
        (count, true) => (range.start - (count - 1) * step, step),
    }
}

/// `step - 1` zeros between neighbours along an axis.
fn with_zeros_between(graph: &mut Graph, value: Value, axis: usize, step: usize) -> Result<Value, GraphError> {
    if step == 1 {
        return Ok(value);
    }
    let mut shape = graph.shape(value).to_vec();
    let count = shape[axis];
    shape.insert(axis + 1, 1);
    let column = graph.reshape(value, &shape)?;
    let mut zeros = vec![(0, 0); shape.len()];
    zeros[axis + 1] = (0, step - 1);
    let padded = graph.pad(column, &zeros)?;
    shape.remove(axis + 1);
    shape[axis] = count * step;
    let spread = graph.reshape(padded, &shape)?;
    let mut kept: Vec<(usize, usize)> = shape.iter().map(|&size| (0, size)).collect();
    kept[axis] = (0, (count - 1) * step + 1);
    graph.window(spread, &kept)
}

fn pad(flow: &mut Flow<'_>) -> Flowing {
    let (dy, x) = (flow.dy()?, flow.x(0)?);
    let paddings = graph::paddings(flow.graph, &flow.node);
    let paddings = paddings.ok_or_else(|| flow.unsupported("its pads are not constant"))?;
    let mode = flow.node.text("mode").unwrap_or("constant").to_owned();
    if mode == "constant" {
        let graph = &mut *flow.graph;
        let (inner, to_x) = unpadded(graph, dy, &paddings)?;
        let (all, kept) = (graph.sum_all(dy)?, graph.sum_all(inner)?);
        return Ok(vec![Some(to_x), None, Some(graph.sub(all, kept)?)]);
    }
    let mut to_x = dy;
    for (axis, &(before, after)) in paddings.iter().enumerate() {
        if (before, after) != (0, 0) {
            let copies = copies(&mode, flow.graph.shape(x)[axis], flow.graph.shape(dy)[axis], before);
            to_x = flow.along_axis(to_x, axis, &copies)?;
        }
    }
    Ok(vec![Some(to_x)])
}

/// The part of `dy` that is not padding, and the same with zeros where elements were taken away.
fn unpadded(graph: &mut Graph, dy: Value, paddings: &[(i64, i64)]) -> Result<(Value, Value), GraphError> {
    let size = |padding: i64| usize::try_from(padding).unwrap_or(0);
    let kept: Vec<_> = std::iter::zip(paddings, graph.shape(dy))
        .map(|(&(before, after), &padded)| (size(before), padded - size(after)))
        .collect();
    let taken: Vec<_> = paddings.iter().map(|&(before, after)| (size(-before), size(-after))).collect();
    let inner = graph.window(dy, &kept)?;
    Ok((inner, graph.pad(inner, &taken)?))
}

/// Which element of the padded axis is a copy of which one.
fn copies(mode: &str, size: usize, padded: usize, before: i64) -> LinearMap {
    let size = i64::try_from(size).expect("a size fits in an i64");
    let shares = (0..padded).zip(-before..).map(|(to, at)| {
        let from = match mode {
            "edge" => at.clamp(0, size - 1),
            "wrap" => at.rem_euclid(size),
            _ if at < 0 => -at,
            _ if at >= size => 2 * (size - 1) - at,
            _ => at,
        };
        (usize::try_from(from).expect("padding copies elements of the operand"), to, 1.0)
    });
    LinearMap::new(usize::try_from(size).expect("a size fits in a usize"), padded, shares)
}

fn depth_to_space(flow: &mut Flow<'_>) -> Flowing {
    let (dy, x, block) = (flow.dy()?, flow.x(0)?, flow.node.int("blocksize", 1));
    let channels_first = graph::blocks_mode(&flow.node).ok_or_else(|| flow.unsupported("its mode is not known"))?;
    let graph = &mut *flow.graph;
    if !channels_first {
        return Ok(vec![Some(graph.node("SpaceToDepth", &[dy], &[("blocksize", Attribute::Int(block))])?)]);
    }
    let shape = graph.shape(x).to_vec();
    let block = usize::try_from(block).expect("its shape was inferred with this block");
    let apart = [shape[0], shape[1] / (block * block), shape[2], block, shape[3], block];
    let apart = graph.reshape(dy, &apart)?;
    let blocks = graph.transpose(apart, &[0, 1, 3, 5, 2, 4])?;
    Ok(vec![Some(graph.reshape(blocks, &shape)?)])
}

fn space_to_depth(flow: &mut Flow<'_>) -> Flowing {
    let (dy, block) = (flow.dy()?, flow.node.int("blocksize", 1));
    Ok(vec![Some(flow.graph.node("DepthToSpace", &[dy], &[("blocksize", Attribute::Int(block))])?)])
}

fn reverse_sequence(flow: &mut Flow<'_>) -> Flowing {
    Ok(vec![Some(again(flow)?), None])
}

fn trilu(flow: &mut Flow<'_>) -> Flowing {
    Ok(vec![Some(again(flow)?), None])
}

/// The operator itself, applied to the gradient instead of the first operand.
fn again(flow: &mut Flow<'_>) -> Result<Value, GradientError> {
    let mut operands = flow.node.inputs.clone();
    operands[0] = Some(flow.dy()?);
    let attributes: Vec<_> = flow.node.attributes.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
    Ok(flow.graph.nodes_of(&flow.node.op, &operands, 1, &attributes)?[0])
}
