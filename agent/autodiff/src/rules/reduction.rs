//! Gradients of reductions, and of the functions that normalise along an axis.

use super::{Flowing, Row, rule, stop};
use crate::gradient::{Flow, GradientError};
use crate::graph::{self, Value};

pub(super) const ROWS: &[Row] = &[
    rule("ReduceSum", reduce_sum, "dy, repeated"),
    rule("ReduceMean", reduce_mean, "dy / n, repeated"),
    rule("Softmax", softmax, "(dy - sum(dy y)) y"),
    rule("LogSoftmax", log_softmax, "dy - exp(y) sum(dy)"),
    stop("ArgMax"),
];

fn reduce_sum(flow: &mut Flow<'_>) -> Flowing {
    let (kept, _) = with_reduced_axes(flow)?;
    Ok(vec![Some(kept), None])
}

fn reduce_mean(flow: &mut Flow<'_>) -> Flowing {
    let (kept, reduced) = with_reduced_axes(flow)?;
    #[expect(clippy::cast_precision_loss, reason = "a tensor has fewer than 2^52 elements")]
    let share = 1.0 / reduced as f64;
    Ok(vec![Some(flow.graph.scale(kept, share)?), None])
}

/// The output's gradient with the reduced axes back at size one, and how many elements each sum had.
fn with_reduced_axes(flow: &mut Flow<'_>) -> Result<(Value, usize), GradientError> {
    let (dy, x) = (flow.dy()?, flow.x(0)?);
    let axes =
        graph::reduced_axes(flow.graph, &flow.node).ok_or_else(|| flow.unsupported("its axes are not constant"))?;
    let mut shape = flow.graph.shape(x).to_vec();
    let reduced = axes.iter().map(|&axis| shape[axis]).product();
    for axis in axes {
        shape[axis] = 1;
    }
    Ok((flow.graph.reshape(dy, &shape)?, reduced))
}

/// `(dy - sum(dy * y)) * y`.
fn softmax(flow: &mut Flow<'_>) -> Flowing {
    let (dy, y, axis) = (flow.dy()?, flow.y(), flow.node.int("axis", -1));
    let graph = &mut *flow.graph;
    let product = graph.mul(dy, y)?;
    let total = graph.sum_along(product, axis)?;
    let centred = graph.sub(dy, total)?;
    Ok(vec![Some(graph.mul(centred, y)?)])
}

/// `dy - exp(y) * sum(dy)`.
fn log_softmax(flow: &mut Flow<'_>) -> Flowing {
    let (dy, y, axis) = (flow.dy()?, flow.y(), flow.node.int("axis", -1));
    let graph = &mut *flow.graph;
    let probability = graph.exp(y)?;
    let total = graph.sum_along(dy, axis)?;
    let expected = graph.mul(probability, total)?;
    Ok(vec![Some(graph.sub(dy, expected)?)])
}
