//! Normalisations that exist as one node; the others are written as simpler operators.

use super::{Operands, Outputs, Rule, axis_position, broadcast_shapes};
use crate::graph::Dtype;

pub(super) const ROWS: &[(&str, Rule)] = &[("LayerNormalization", layer)];

/// The result, and for each normalised slice the mean and the inverse of the standard deviation, in f32.
fn layer(operands: &Operands<'_>) -> Outputs {
    let shape = operands.shape(0)?;
    let axis = axis_position(operands.node.int("axis", -1), shape.len()).ok_or_else(|| operands.shapes_differ())?;
    for &affine in operands.node.inputs.iter().skip(1).flatten() {
        if broadcast_shapes(operands.graph.shape(affine), &shape[axis..]).as_deref() != Some(&shape[axis..]) {
            return Err(operands.shapes_differ());
        }
    }
    operands.value(1)?;
    let mut statistics = shape.to_vec();
    statistics[axis..].fill(1);
    let float = (Dtype::F32, statistics);
    Ok(vec![(operands.dtype(0)?, shape.to_vec()), float.clone(), float])
}
