//! Gradients of operators that only move elements.

use super::{Flowing, Row, rule};
use crate::gradient::Flow;
use crate::graph;

pub(super) const ROWS: &[Row] = &[
    rule("Reshape", reshape, "dy, in the operand's shape"),
    rule("Expand", expand, "dy, summed over what was repeated"),
    rule("Transpose", transpose, "dy, by the inverse permutation"),
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
