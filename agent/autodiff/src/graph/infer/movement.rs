//! Operators that only move elements.

use super::{Operands, Outputs, Rule, axis_position, broadcast_shapes, like_first};
use crate::graph::{Dtype, Graph, GraphError, Node};

pub(super) const ROWS: &[(&str, Rule)] = &[
    ("Reshape", reshape),
    ("Flatten", flatten),
    ("Squeeze", squeeze),
    ("Unsqueeze", unsqueeze),
    ("Expand", expand),
    ("Tile", tile),
    ("Transpose", transpose),
    ("Concat", concat),
    ("Split", split),
    ("Slice", slice),
    ("Pad", pad),
    ("DepthToSpace", depth_to_space),
    ("SpaceToDepth", space_to_depth),
    ("ReverseSequence", reverse_sequence),
    ("Trilu", trilu),
    ("Shape", shape_of),
    ("Size", size_of),
];

fn reshape(operands: &Operands<'_>) -> Outputs {
    let shape = operands.shape(0)?;
    let zero_is_zero = operands.node.int("allowzero", 0) != 0;
    let mut output = Vec::new();
    for (axis, &dimension) in operands.ints(1)?.iter().enumerate() {
        output.push(match dimension {
            -1 => None,
            0 if !zero_is_zero => Some(*shape.get(axis).ok_or_else(|| operands.shapes_differ())?),
            _ => Some(usize::try_from(dimension).map_err(|_| operands.shapes_differ())?),
        });
    }
    let elements: usize = shape.iter().product();
    let known = output.iter().flatten().try_fold(1usize, |product, &size| product.checked_mul(size));
    let known = known.ok_or_else(|| operands.shapes_differ())?;
    let rest = match output.iter().filter(|dimension| dimension.is_none()).count() {
        0 => 1,
        1 => elements.checked_div(known).ok_or_else(|| operands.shapes_differ())?,
        _ => return Err(operands.invalid("more than one free dimension".into())),
    };
    if known.checked_mul(rest) != Some(elements) {
        return Err(operands.shapes_differ());
    }
    Ok(vec![(operands.dtype(0)?, output.into_iter().map(|dimension| dimension.unwrap_or(rest)).collect())])
}

fn flatten(operands: &Operands<'_>) -> Outputs {
    let shape = operands.shape(0)?;
    let axis = match operands.node.int("axis", 1) {
        axis if usize::try_from(axis) == Ok(shape.len()) => shape.len(),
        axis => axis_position(axis, shape.len()).ok_or_else(|| operands.invalid(format!("axis {axis}")))?,
    };
    let (rows, columns) = shape.split_at(axis);
    Ok(vec![(operands.dtype(0)?, vec![rows.iter().product(), columns.iter().product()])])
}

fn squeeze(operands: &Operands<'_>) -> Outputs {
    let shape = operands.shape(0)?;
    let removed = match operands.optional_ints(1)? {
        Some(axes) => distinct_positions(axes, shape.len()).ok_or_else(|| operands.shapes_differ())?,
        None => (0..shape.len()).filter(|&axis| shape[axis] == 1).collect(),
    };
    if removed.iter().any(|&axis| shape[axis] != 1) {
        return Err(operands.shapes_differ());
    }
    let kept = (0..shape.len()).filter(|axis| !removed.contains(axis));
    Ok(vec![(operands.dtype(0)?, kept.map(|axis| shape[axis]).collect())])
}

fn unsqueeze(operands: &Operands<'_>) -> Outputs {
    let shape = operands.shape(0)?;
    let axes = operands.ints(1)?;
    let rank = shape.len() + axes.len();
    let added = distinct_positions(axes, rank).ok_or_else(|| operands.shapes_differ())?;
    let mut sizes = shape.iter().copied();
    let output = (0..rank).filter_map(|axis| if added.contains(&axis) { Some(1) } else { sizes.next() });
    Ok(vec![(operands.dtype(0)?, output.collect())])
}

pub(super) fn distinct_positions(axes: &[i64], rank: usize) -> Option<Vec<usize>> {
    let mut positions = Vec::with_capacity(axes.len());
    for &axis in axes {
        let position = axis_position(axis, rank)?;
        if positions.contains(&position) {
            return None;
        }
        positions.push(position);
    }
    Some(positions)
}

fn expand(operands: &Operands<'_>) -> Outputs {
    let target: Option<Vec<_>> = operands.ints(1)?.iter().map(|&dimension| usize::try_from(dimension).ok()).collect();
    let shape = target.and_then(|target| broadcast_shapes(operands.shape(0).ok()?, &target));
    Ok(vec![(operands.dtype(0)?, shape.ok_or_else(|| operands.shapes_differ())?)])
}

fn tile(operands: &Operands<'_>) -> Outputs {
    let (shape, repeats) = (operands.shape(0)?, operands.ints(1)?);
    let repeated = |(&size, &repeats): (&usize, &i64)| size.checked_mul(usize::try_from(repeats).ok()?);
    let output: Option<Vec<_>> = shape.iter().zip(repeats).map(repeated).collect();
    let output = output.filter(|output| output.len() == repeats.len() && output.len() == shape.len());
    Ok(vec![(operands.dtype(0)?, output.ok_or_else(|| operands.shapes_differ())?)])
}

fn transpose(operands: &Operands<'_>) -> Outputs {
    let shape = operands.shape(0)?;
    let permutation = permutation(operands.node, shape.len()).ok_or_else(|| operands.shapes_differ())?;
    Ok(vec![(operands.dtype(0)?, permutation.into_iter().map(|axis| shape[axis]).collect())])
}

/// The permutation of a `Transpose`: reversed where none is given.
pub(crate) fn permutation(node: &Node, rank: usize) -> Option<Vec<usize>> {
    let Some(axes) = node.ints("perm") else {
        return Some((0..rank).rev().collect());
    };
    distinct_positions(axes, rank).filter(|positions| positions.len() == rank)
}

fn concat(operands: &Operands<'_>) -> Outputs {
    let mut shape = operands.shape(0)?.to_vec();
    let axis = operands.axis("axis", 0, shape.len())?;
    for position in 1..operands.node.inputs.len() {
        let other = operands.shape(position)?;
        let fits = other.len() == shape.len() && (0..shape.len()).all(|at| at == axis || other[at] == shape[at]);
        if !fits || operands.dtype(position)? != operands.dtype(0)? {
            return Err(operands.shapes_differ());
        }
        shape[axis] = shape[axis].checked_add(other[axis]).ok_or_else(|| operands.shapes_differ())?;
    }
    Ok(vec![(operands.dtype(0)?, shape)])
}

/// By given lengths, or into equal parts of which the last may be shorter.
fn split(operands: &Operands<'_>) -> Outputs {
    let (dtype, shape) = (operands.dtype(0)?, operands.shape(0)?);
    let axis = operands.axis("axis", 0, shape.len())?;
    let lengths: Vec<usize> = match operands.optional_ints(1)? {
        Some(lengths) => {
            let lengths = lengths.iter().map(|&length| usize::try_from(length).ok());
            lengths.collect::<Option<_>>().ok_or_else(|| operands.shapes_differ())?
        }
        None => {
            let parts = operands.node.int("num_outputs", i64::try_from(operands.outputs).unwrap_or(i64::MAX));
            let parts = usize::try_from(parts).ok().filter(|parts| (1..=shape[axis].max(1)).contains(parts));
            let parts = parts.ok_or_else(|| operands.shapes_differ())?;
            let length = shape[axis].div_ceil(parts);
            (0..parts).map(|at| shape[axis].saturating_sub(at * length).min(length)).collect()
        }
    };
    let total = lengths.iter().try_fold(0usize, |sum, &length| sum.checked_add(length));
    if total != Some(shape[axis]) {
        return Err(operands.shapes_differ());
    }
    let part = |length: usize| {
        let mut part = shape.to_vec();
        part[axis] = length;
        (dtype, part)
    };
    Ok(lengths.into_iter().map(part).collect())
}

/// What a `Slice` takes along one axis: `count` elements from `start` on, `step` apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SliceRange {
    pub start: usize,
    pub step: i64,
    pub count: usize,
}

/// What a `Slice` takes along every axis; `None` where the node is not well formed or its bounds are not constant.
pub(crate) fn slice_ranges(graph: &Graph, node: &Node) -> Option<Vec<SliceRange>> {
    let ints = |position: usize| match node.inputs.get(position).copied().flatten() {
        Some(value) => graph.constant_ints(value).map(Some),
        None => Some(None),
    };
    let shape = graph.shape(node.inputs.first().copied().flatten()?);
    let (starts, ends) = (ints(1)??, ints(2)??);
    let axes = match ints(3)? {
        Some(axes) => distinct_positions(axes, shape.len())?,
        None => (0..starts.len()).collect(),
    };
    let steps = ints(4)?;
    let fits = |length: usize| length == axes.len();
    if !fits(starts.len()) || !fits(ends.len()) || !steps.is_none_or(|steps| fits(steps.len())) {
        return None;
    }
    let mut ranges: Vec<_> = shape.iter().map(|&count| SliceRange { start: 0, step: 1, count }).collect();
    for (at, &axis) in axes.iter().enumerate() {
        let step = steps.map_or(1, |steps| steps[at]);
        let size = i64::try_from(*shape.get(axis)?).ok()?;
        ranges[axis] = slice_range(size, starts[at], ends[at], step)?;
    }
    Some(ranges)
}

fn slice_range(size: i64, start: i64, end: i64, step: i64) -> Option<SliceRange> {
    let from_front = |bound: i64| if bound < 0 { bound.saturating_add(size) } else { bound };
    let (start, end) = (from_front(start), from_front(end));
    let (start, span) = match step {
        0 => return None,
        1.. => (start.clamp(0, size), end.clamp(0, size) - start.clamp(0, size)),
        _ if size == 0 => (0, 0),
        _ => (start.clamp(0, size - 1), start.clamp(0, size - 1) - end.clamp(-1, size - 1)),
    };
    let count = span.max(0).unsigned_abs().div_ceil(step.unsigned_abs());
    Some(SliceRange { start: usize::try_from(start).ok()?, step, count: usize::try_from(count).ok()? })
}

fn slice(operands: &Operands<'_>) -> Outputs {
    let ranges = slice_ranges(operands.graph, operands.node).ok_or_else(|| operands.shapes_differ())?;
    Ok(vec![(operands.dtype(0)?, ranges.iter().map(|range| range.count).collect())])
}

/// What a `Pad` adds before and after each axis, negative where it takes away.
pub(crate) fn paddings(graph: &Graph, node: &Node) -> Option<Vec<(i64, i64)>> {
    let rank = graph.shape(node.inputs.first().copied().flatten()?).len();
    let pads = graph.constant_ints(node.inputs.get(1).copied().flatten()?)?;
    let axes = match node.inputs.get(3).copied().flatten() {
        Some(axes) => distinct_positions(graph.constant_ints(axes)?, rank)?,
        None => (0..rank).collect(),
    };
    if pads.len() != 2 * axes.len() {
        return None;
    }
    let mut paddings = vec![(0, 0); rank];
    for (at, &axis) in axes.iter().enumerate() {
        paddings[axis] = (pads[at], pads[at + axes.len()]);
    }
    Some(paddings)
}

fn pad(operands: &Operands<'_>) -> Outputs {
    let shape = operands.shape(0)?;
    let paddings = paddings(operands.graph, operands.node).ok_or_else(|| operands.shapes_differ())?;
    let mode = operands.node.text("mode").unwrap_or("constant");
    let padded = |(&size, &(before, after)): (&usize, &(i64, i64))| {
        let size = i64::try_from(size).ok()?;
        let allowed = match mode {
            "constant" => -size..=i64::MAX,
            "edge" if size > 0 => 0..=i64::MAX,
            "reflect" => 0..=size - 1,
            "wrap" => 0..=size,
            _ => return None,
        };
        let fits = allowed.contains(&before) && allowed.contains(&after);
        let padded = size.checked_add(before)?.checked_add(after)?;
        usize::try_from(padded).ok().filter(|_| fits)
    };
    let output: Option<Vec<_>> = shape.iter().zip(&paddings).map(padded).collect();
    Ok(vec![(operands.dtype(0)?, output.ok_or_else(|| operands.shapes_differ())?)])
}

/// Batch, channels, height, width, and the size of the blocks that are moved.
fn blocks(operands: &Operands<'_>) -> Result<([usize; 4], usize), GraphError> {
    let shape = <[usize; 4]>::try_from(operands.shape(0)?).map_err(|_| operands.shapes_differ())?;
    let block = usize::try_from(operands.node.int("blocksize", 0)).ok().filter(|&block| block > 0);
    let block = block.filter(|block| block.checked_mul(*block).is_some());
    Ok((shape, block.ok_or_else(|| operands.invalid("blocksize is not a size".into()))?))
}

fn depth_to_space(operands: &Operands<'_>) -> Outputs {
    let ([batch, channels, height, width], block) = blocks(operands)?;
    let sides = height.checked_mul(block).zip(width.checked_mul(block));
    let sides = sides.filter(|_| channels % (block * block) == 0 && blocks_mode(operands.node).is_some());
    let (height, width) = sides.ok_or_else(|| operands.shapes_differ())?;
    Ok(vec![(operands.dtype(0)?, vec![batch, channels / (block * block), height, width])])
}

fn space_to_depth(operands: &Operands<'_>) -> Outputs {
    let ([batch, channels, height, width], block) = blocks(operands)?;
    let depth = channels.checked_mul(block * block).filter(|_| height % block == 0 && width % block == 0);
    let depth = depth.ok_or_else(|| operands.shapes_differ())?;
    Ok(vec![(operands.dtype(0)?, vec![batch, depth, height / block, width / block])])
}

/// Whether the channels of a `DepthToSpace` vary slowest within the depth (`CRD`); `None` for an unknown mode.
pub(crate) fn blocks_mode(node: &Node) -> Option<bool> {
    match node.text("mode") {
        None | Some("DCR") => Some(false),
        Some("CRD") => Some(true),
        Some(_) => None,
    }
}

fn reverse_sequence(operands: &Operands<'_>) -> Outputs {
    let shape = operands.shape(0)?;
    let (batch, time) = (operands.node.int("batch_axis", 1), operands.node.int("time_axis", 0));
    let fits = shape.len() >= 2 && matches!((batch, time), (0, 1) | (1, 0));
    let batch = usize::try_from(batch).ok().filter(|_| fits).ok_or_else(|| operands.shapes_differ())?;
    if operands.shape(1)? != [shape[batch]] {
        return Err(operands.shapes_differ());
    }
    like_first(operands)
}

fn trilu(operands: &Operands<'_>) -> Outputs {
    if operands.shape(0)?.len() < 2 {
        return Err(operands.shapes_differ());
    }
    like_first(operands)
}

fn shape_of(operands: &Operands<'_>) -> Outputs {
    let rank = i64::try_from(operands.shape(0)?.len()).map_err(|_| operands.shapes_differ())?;
    let bound = |attribute: &str, default: i64| {
        let bound = operands.node.int(attribute, default);
        (if bound < 0 { bound.saturating_add(rank) } else { bound }).clamp(0, rank)
    };
    let length = usize::try_from(bound("end", rank) - bound("start", 0)).unwrap_or(0);
    Ok(vec![(Dtype::I64, vec![length])])
}

fn size_of(operands: &Operands<'_>) -> Outputs {
    operands.shape(0)?;
    Ok(vec![(Dtype::I64, vec![])])
}
