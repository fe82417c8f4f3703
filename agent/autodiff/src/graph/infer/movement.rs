//! Operators that only move elements.

use super::{Operands, Outputs, Rule, axis_position, broadcast_shapes};
use crate::graph::Node;

pub(super) const ROWS: &[(&str, Rule)] =
    &[("Reshape", reshape), ("Expand", expand), ("Transpose", transpose), ("Concat", concat), ("Split", split)];

fn reshape(operands: &Operands<'_>) -> Outputs {
    let shape = operands.shape(0)?;
    let target = operands.ints(1)?;
    let elements: usize = shape.iter().product();
    let mut output = Vec::with_capacity(target.len());
    for (axis, &dimension) in target.iter().enumerate() {
        output.push(match dimension {
            -1 => None,
            0 => Some(*shape.get(axis).ok_or_else(|| operands.shapes_differ())?),
            _ => Some(usize::try_from(dimension).map_err(|_| operands.shapes_differ())?),
        });
    }
    let known: usize = output.iter().flatten().product();
    let free = output.iter().filter(|dimension| dimension.is_none()).count();
    let rest = if free == 1 && known > 0 { elements / known } else { 1 };
    if free > 1 || known * rest != elements {
        return Err(operands.shapes_differ());
    }
    Ok(vec![(operands.dtype(0)?, output.into_iter().map(|dimension| dimension.unwrap_or(rest)).collect())])
}

fn expand(operands: &Operands<'_>) -> Outputs {
    let target: Option<Vec<_>> = operands.ints(1)?.iter().map(|&dimension| usize::try_from(dimension).ok()).collect();
    let shape = target.and_then(|target| broadcast_shapes(operands.shape(0).ok()?, &target));
    Ok(vec![(operands.dtype(0)?, shape.ok_or_else(|| operands.shapes_differ())?)])
}

fn transpose(operands: &Operands<'_>) -> Outputs {
    let shape = operands.shape(0)?;
    let permutation = permutation(operands.node, shape.len()).ok_or_else(|| operands.shapes_differ())?;
    Ok(vec![(operands.dtype(0)?, permutation.into_iter().map(|axis| shape[axis]).collect())])
}

fn concat(operands: &Operands<'_>) -> Outputs {
    let mut shape = operands.shape(0)?.to_vec();
    let axis = axis_position(operands.node.int("axis", 0), shape.len()).ok_or_else(|| operands.shapes_differ())?;
    for position in 1..operands.node.inputs.len() {
        let other = operands.shape(position)?;
        let fits = other.len() == shape.len() && (0..shape.len()).all(|at| at == axis || other[at] == shape[at]);
        if !fits || operands.dtype(position)? != operands.dtype(0)? {
            return Err(operands.shapes_differ());
        }
        shape[axis] += other[axis];
    }
    Ok(vec![(operands.dtype(0)?, shape)])
}

/// By given lengths, or into equal parts of which the last may be shorter.
fn split(operands: &Operands<'_>) -> Outputs {
    let (dtype, shape) = (operands.dtype(0)?, operands.shape(0)?);
    let axis = axis_position(operands.node.int("axis", 0), shape.len()).ok_or_else(|| operands.shapes_differ())?;
    let lengths: Vec<usize> = match operands.node.inputs.get(1) {
        Some(Some(_)) => {
            let lengths = operands.ints(1)?.iter().map(|&length| usize::try_from(length).ok());
            lengths.collect::<Option<_>>().ok_or_else(|| operands.shapes_differ())?
        }
        _ => {
            let length = shape[axis].div_ceil(operands.outputs.max(1));
            let part = |at: usize| shape[axis].saturating_sub(at * length).min(length);
            (0..operands.outputs).map(part).collect()
        }
    };
    if lengths.iter().sum::<usize>() != shape[axis] {
        return Err(operands.shapes_differ());
    }
    let part = |length: usize| {
        let mut part = shape.to_vec();
        part[axis] = length;
        (dtype, part)
    };
    Ok(lengths.into_iter().map(part).collect())
}

/// The permutation of a `Transpose`: reversed where none is given.
pub(crate) fn permutation(node: &Node, rank: usize) -> Option<Vec<usize>> {
    let Some(axes) = node.ints("perm") else {
        return Some((0..rank).rev().collect());
    };
    let permutation: Vec<usize> = axes.iter().map(|&axis| axis_position(axis, rank)).collect::<Option<_>>()?;
    let mut sorted = permutation.clone();
    sorted.sort_unstable();
    sorted.into_iter().eq(0..rank).then_some(permutation)
}
