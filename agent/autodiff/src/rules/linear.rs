//! Gradients of matrix products, as matrix products with transposed operands: no `Transpose` nodes for matrices.

use super::{Flowing, Row, rule};
use crate::gradient::{Flow, GradientError};
use crate::graph::{Graph, Transposed, Value};

pub(super) const ROWS: &[Row] =
    &[rule("Gemm", gemm, "alpha dy B'; alpha A' dy; beta dy"), rule("MatMul", matmul, "dy B'; A' dy")];

/// With `Y = alpha A' B' + beta C`, where `'` is a transposition by attribute.
fn gemm(flow: &mut Flow<'_>) -> Flowing {
    let (dy, left, right) = (flow.dy()?, flow.x(0)?, flow.x(1)?);
    let (alpha, beta) = (flow.node.float("alpha", 1.0), flow.node.float("beta", 1.0));
    let (left_t, right_t) = (flow.node.int("transA", 0) != 0, flow.node.int("transB", 0) != 0);
    let graph = &mut *flow.graph;
    let to_left = match left_t {
        false => graph.gemm(dy, right, Transposed { left: false, right: !right_t })?,
        true => graph.gemm(right, dy, Transposed { left: right_t, right: true })?,
    };
    let to_right = match right_t {
        false => graph.gemm(left, dy, Transposed { left: !left_t, right: false })?,
        true => graph.gemm(dy, left, Transposed { left: true, right: left_t })?,
    };
    let to_addend = graph.scale(dy, beta)?;
    Ok(vec![Some(graph.scale(to_left, alpha)?), Some(graph.scale(to_right, alpha)?), Some(to_addend)])
}

/// Vectors count as a row on the left and as a column on the right; leading axes are broadcast batches.
fn matmul(flow: &mut Flow<'_>) -> Flowing {
    let (dy, left, right) = (flow.dy()?, flow.x(0)?, flow.x(1)?);
    let graph = &mut *flow.graph;
    let (left_is_vector, right_is_vector) = (graph.shape(left).len() == 1, graph.shape(right).len() == 1);
    let left = if left_is_vector { with_axis(graph, left, 0)? } else { left };
    let right = if right_is_vector { with_axis(graph, right, 1)? } else { right };
    let rank = graph.shape(dy).len();
    let dy = if right_is_vector { with_axis(graph, dy, rank)? } else { dy };
    let rank = graph.shape(dy).len();
    let dy = if left_is_vector { with_axis(graph, dy, rank - 1)? } else { dy };

    let right_shape = graph.shape(right).to_vec();
    let (to_left, to_right) = match batches(&right_shape) {
        1 => matrix_on_the_right(graph, dy, left, right)?,
        _ => batched(graph, dy, left, right)?,
    };
    if !right_is_vector {
        return Ok(vec![Some(to_left), Some(to_right)]);
    }
    let mut shape = graph.shape(to_right).to_vec();
    shape.pop();
    Ok(vec![Some(to_left), Some(graph.reshape(to_right, &shape)?)])
}

/// How many matrices a tensor of this shape holds.
fn batches(shape: &[usize]) -> usize {
    shape[..shape.len() - 2].iter().product()
}

/// All rows of all batches in one product.
fn matrix_on_the_right(
    graph: &mut Graph,
    dy: Value,
    left: Value,
    right: Value,
) -> Result<(Value, Value), GradientError> {
    let (left_shape, right_shape) = (graph.shape(left).to_vec(), graph.shape(right).to_vec());
    let (inner, columns) = (right_shape[right_shape.len() - 2], right_shape[right_shape.len() - 1]);
    let rows = left_shape[..left_shape.len() - 1].iter().product();
    let flat_dy = graph.reshape(dy, &[rows, columns])?;
    let flat_left = graph.reshape(left, &[rows, inner])?;
    let matrix = graph.reshape(right, &[inner, columns])?;
    let to_left = graph.gemm(flat_dy, matrix, Transposed { left: false, right: true })?;
    let to_right = graph.gemm(flat_left, flat_dy, Transposed { left: true, right: false })?;
    Ok((graph.reshape(to_left, &left_shape)?, graph.reshape(to_right, &right_shape)?))
}

fn batched(graph: &mut Graph, dy: Value, left: Value, right: Value) -> Result<(Value, Value), GradientError> {
    let left_transposed = last_axes_swapped(graph, left)?;
    let to_right = graph.matmul(left_transposed, dy)?;
    if batches(graph.shape(left)) == 1 {
        return Ok((matrix_on_the_left(graph, dy, left, right)?, to_right));
    }
    let right_transposed = last_axes_swapped(graph, right)?;
    Ok((graph.matmul(dy, right_transposed)?, to_right))
}

/// The sum over all batches by one product: the batches side by side.
fn matrix_on_the_left(graph: &mut Graph, dy: Value, left: Value, right: Value) -> Result<Value, GradientError> {
    let shape = graph.shape(left).to_vec();
    let dy = side_by_side(graph, dy)?;
    let right = side_by_side(graph, right)?;
    let to_left = graph.gemm(dy, right, Transposed { left: false, right: true })?;
    Ok(graph.reshape(to_left, &shape)?)
}

/// `[batches..., rows, columns]` as `[rows, batches * columns]`.
fn side_by_side(graph: &mut Graph, value: Value) -> Result<Value, GradientError> {
    let shape = graph.shape(value).to_vec();
    let rows = shape.len() - 2;
    let permutation: Vec<usize> = [rows].into_iter().chain(0..rows).chain([rows + 1]).collect();
    let moved = graph.transpose(value, &permutation)?;
    Ok(graph.reshape(moved, &[shape[rows], batches(&shape) * shape[rows + 1]])?)
}

fn last_axes_swapped(graph: &mut Graph, value: Value) -> Result<Value, GradientError> {
    let rank = graph.shape(value).len();
    let mut permutation: Vec<usize> = (0..rank).collect();
    permutation.swap(rank - 2, rank - 1);
    Ok(graph.transpose(value, &permutation)?)
}

fn with_axis(graph: &mut Graph, value: Value, position: usize) -> Result<Value, GradientError> {
    let mut shape = graph.shape(value).to_vec();
    shape.insert(position, 1);
    Ok(graph.reshape(value, &shape)?)
}
