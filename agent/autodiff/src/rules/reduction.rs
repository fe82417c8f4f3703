//! Gradients of reductions, and of functions that act along an axis. Sums are the only reductions they are written
//! with: the others need cuDNN on CUDA.

use super::arithmetic::one_where_zero;
use super::{Flowing, Kernel, Row, rule, stop};
use crate::gradient::{Flow, GradientError};
use crate::graph::{self, Attribute, Dtype, Value};
use crate::own;

pub(super) const ROWS: &[Row] = &[
    rule("ReduceSum", reduce_sum, "dy, repeated"),
    rule("ReduceMean", reduce_mean, "dy / n, repeated").cuda(Kernel::CuDnn),
    rule("ReduceMax", reduce_extremum, "dy [x = y] / number of such x").cuda(Kernel::CuDnn),
    rule("ReduceMin", reduce_extremum, "dy [x = y] / number of such x").cuda(Kernel::CuDnn),
    rule("ReduceProd", reduce_prod, "dy times the product of the other elements, right at zeros too")
        .cuda(Kernel::CuDnn),
    rule("ReduceL1", reduce_l1, "dy sign(x)").cuda(Kernel::CuDnn),
    rule("ReduceL2", reduce_l2, "dy x / y, 0 where y = 0").cuda(Kernel::CuDnn),
    rule("ReduceSumSquare", reduce_sum_square, "2 dy x").cuda(Kernel::CuDnn),
    rule("ReduceLogSum", reduce_log_sum, "dy / exp(y), repeated").cuda(Kernel::CuDnn),
    rule("ReduceLogSumExp", reduce_log_sum_exp, "dy exp(x - y)").cuda(Kernel::CuDnn),
    rule("TopK", top_k, "dy, placed where the values came from"),
    rule("CumSum", cum_sum, "the sum of dy from the other end"),
    rule("Softmax", softmax, "(dy - sum(dy y)) y"),
    rule("LogSoftmax", log_softmax, "dy - exp(y) sum(dy)"),
    stop("ArgMax").cuda(Kernel::CuDnn),
    stop("ArgMin").cuda(Kernel::CuDnn),
    stop("Hardmax"),
];

/// The output and its gradient with the reduced axes back at size one.
struct Kept {
    dy: Value,
    y: Value,
    axes: Vec<usize>,
    /// How many elements each result was made of.
    reduced: usize,
}

fn kept(flow: &mut Flow<'_>) -> Result<Kept, GradientError> {
    let (dy, x, y) = (flow.dy()?, flow.x(0)?, flow.y());
    let axes =
        graph::reduced_axes(flow.graph, &flow.node).ok_or_else(|| flow.unsupported("its axes are not constant"))?;
    let mut shape = flow.graph.shape(x).to_vec();
    let reduced = axes.iter().map(|&axis| shape[axis]).product();
    for &axis in &axes {
        shape[axis] = 1;
    }
    let dy = flow.graph.reshape(dy, &shape)?;
    let y = flow.graph.reshape(y, &shape)?;
    Ok(Kept { dy, y, axes, reduced })
}

fn reduce_sum(flow: &mut Flow<'_>) -> Flowing {
    Ok(vec![Some(kept(flow)?.dy), None])
}

fn reduce_mean(flow: &mut Flow<'_>) -> Flowing {
    let kept = kept(flow)?;
    #[expect(clippy::cast_precision_loss, reason = "a tensor has fewer than 2^52 elements")]
    let share = 1.0 / kept.reduced as f64;
    Ok(vec![Some(flow.graph.scale(kept.dy, share)?), None])
}

/// Shared equally among elements that tie, as PyTorch's `amax` does.
fn reduce_extremum(flow: &mut Flow<'_>) -> Flowing {
    let kept = kept(flow)?;
    let x = flow.x(0)?;
    let graph = &mut *flow.graph;
    let equal = graph.equal(x, kept.y)?;
    let mask = graph.cast(equal, graph.dtype(x))?;
    let count = graph.sum_kept(mask, &kept.axes)?;
    let share = graph.div(kept.dy, count)?;
    Ok(vec![Some(graph.mul(mask, share)?), None])
}

/// The product of the others is that of all divided by the element, with zeros counted apart: a zero gets the product
/// of the others where it is the only one, and with two zeros nothing flows.
fn reduce_prod(flow: &mut Flow<'_>) -> Flowing {
    let kept = kept(flow)?;
    let x = flow.x(0)?;
    let graph = &mut *flow.graph;
    let zero = graph.scalar_like(x, 0.0);
    let is_zero = graph.equal(x, zero)?;
    let zeros = graph.cast(is_zero, graph.dtype(x))?;
    let nonzero = graph.add(x, zeros)?;
    let axes = graph.int_vector(kept.axes.iter().map(|&axis| i64::try_from(axis).expect("an axis is small")).collect());
    let attributes = [("keepdims", Attribute::Int(1)), ("noop_with_empty_axes", Attribute::Int(1))];
    let product = graph.node("ReduceProd", &[nonzero, axes], &attributes)?;
    let scaled = graph.mul(kept.dy, product)?;
    let others = graph.div(scaled, nonzero)?;
    let count = graph.sum_kept(zeros, &kept.axes)?;
    let other_zeros = graph.equal(count, zeros)?;
    let mask = graph.cast(other_zeros, graph.dtype(x))?;
    Ok(vec![Some(graph.mul(others, mask)?), None])
}

fn reduce_l1(flow: &mut Flow<'_>) -> Flowing {
    let (kept, x) = (kept(flow)?, flow.x(0)?);
    let sign = flow.graph.sign(x)?;
    Ok(vec![Some(flow.graph.mul(sign, kept.dy)?), None])
}

fn reduce_l2(flow: &mut Flow<'_>) -> Flowing {
    let (kept, x) = (kept(flow)?, flow.x(0)?);
    let norm = one_where_zero(flow.graph, kept.y)?;
    let share = flow.graph.div(kept.dy, norm)?;
    Ok(vec![Some(flow.graph.mul(x, share)?), None])
}

fn reduce_sum_square(flow: &mut Flow<'_>) -> Flowing {
    let (kept, x) = (kept(flow)?, flow.x(0)?);
    let twice = flow.graph.scale(kept.dy, 2.0)?;
    Ok(vec![Some(flow.graph.mul(x, twice)?), None])
}

fn reduce_log_sum(flow: &mut Flow<'_>) -> Flowing {
    let kept = kept(flow)?;
    let sum = flow.graph.exp(kept.y)?;
    Ok(vec![Some(flow.graph.div(kept.dy, sum)?), None])
}

fn reduce_log_sum_exp(flow: &mut Flow<'_>) -> Flowing {
    let (kept, x) = (kept(flow)?, flow.x(0)?);
    let difference = flow.graph.sub(x, kept.y)?;
    let share = flow.graph.exp(difference)?;
    Ok(vec![Some(flow.graph.mul(share, kept.dy)?), None])
}

/// Indices along an axis are distinct, so values are placed, not added.
fn top_k(flow: &mut Flow<'_>) -> Flowing {
    let (dy, x, axis) = (flow.dy()?, flow.x(0)?, flow.node.int("axis", -1));
    let graph = &mut *flow.graph;
    let indices = graph.extend_outputs(&flow.node, 2)?[1];
    let shape = graph.shape(x).to_vec();
    let zero = graph.scalar_like(x, 0.0);
    let zeros = graph.expand(zero, &shape)?;
    let placed = graph.node("ScatterElements", &[zeros, indices, dy], &[("axis", Attribute::Int(axis))])?;
    Ok(vec![Some(placed), None])
}

fn cum_sum(flow: &mut Flow<'_>) -> Flowing {
    let (dy, axis) = (flow.dy()?, flow.x(1)?);
    let attributes = [
        ("reverse", Attribute::Int(1 - flow.node.int("reverse", 0))),
        ("exclusive", Attribute::Int(flow.node.int("exclusive", 0))),
    ];
    Ok(vec![Some(flow.graph.node("CumSum", &[dy, axis], &attributes)?), None])
}

/// `(dy - sum(dy * y)) * y`.
fn softmax(flow: &mut Flow<'_>) -> Flowing {
    let (dy, y, axis) = (flow.dy()?, flow.y(), flow.node.int("axis", -1));
    let graph = &mut *flow.graph;
    if let Some(to_x) = own::softmax_gradient(graph, (dy, y), axis)? {
        return Ok(vec![Some(to_x)]);
    }
    // Sums of 16 bits lose digits.
    let (of, wide) = (graph.dtype(y), if graph.dtype(y) == Dtype::F16 { Dtype::F32 } else { graph.dtype(y) });
    let (dy, y) = (graph.cast(dy, wide)?, graph.cast(y, wide)?);
    let product = graph.mul(dy, y)?;
    let total = graph.sum_along(product, axis)?;
    let centred = graph.sub(dy, total)?;
    let to_x = graph.mul(centred, y)?;
    Ok(vec![Some(graph.cast(to_x, of)?)])
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
