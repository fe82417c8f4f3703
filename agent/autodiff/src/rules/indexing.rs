//! Gradients of operators that pick or place elements by index.

use super::{Flowing, Row, rule, stop};
use crate::gradient::Flow;
use crate::graph::{Attribute, Constant, Dtype, Elements, Graph, GraphError, Provider, Value, axis_position};

pub(super) const ROWS: &[Row] = &[
    rule("Gather", gather, "dy, added at the places that were picked"),
    rule("GatherElements", gather_elements, "dy, added at the places that were picked"),
    rule("GatherND", gather_nd, "dy, added at the places that were picked"),
    rule("ScatterElements", scatter_elements, "dy, with zeros at the places that were set; dy at these places"),
    rule("ScatterND", scatter_nd, "dy, with zeros at the places that were set; dy at these places"),
    stop("OneHot"),
];

/// Rows are added where they came from along the first axis; another axis is brought to the front and back.
fn gather(flow: &mut Flow<'_>) -> Flowing {
    let (dy, data, indices) = (flow.dy()?, flow.x(0)?, flow.x(1)?);
    let shape = flow.graph.shape(data).to_vec();
    let axis = axis_position(flow.node.int("axis", 0), shape.len()).ok_or_else(|| flow.unsupported("no such axis"))?;
    let graph = &mut *flow.graph;
    let index_rank = graph.shape(indices).len();
    if let (0, Some(&[index])) = (index_rank, graph.constant_ints(indices)) {
        return Ok(vec![Some(single(graph, dy, &shape, axis, index)?), None]);
    }
    let moved = |from: usize, count: usize, to: usize, rank: usize| {
        let mut axes: Vec<usize> = (0..rank).collect();
        let picked: Vec<usize> = axes.drain(from..from + count).collect();
        axes.splice(to..to, picked);
        axes
    };
    let rank = graph.shape(dy).len();
    let dy = if axis == 0 { dy } else { graph.transpose(dy, &moved(axis, index_rank, 0, rank))? };
    let front = moved(axis, 1, 0, shape.len());
    let front_shape: Vec<usize> = front.iter().map(|&axis| shape[axis]).collect();
    let indices = graph.cast(indices, Dtype::I64)?;
    let added = match added_by_product(graph, (indices, dy), &front_shape)? {
        Some(added) => added,
        None => {
            let zeros = graph.zeros_like(data, &front_shape)?;
            let mut column = graph.shape(indices).to_vec();
            column.push(1);
            let indices = graph.reshape(indices, &column)?;
            graph.scatter_add(zeros, indices, dy)?
        }
    };
    let back = if axis == 0 { added } else { graph.transpose(added, &moved(0, 1, axis, shape.len()))? };
    Ok(vec![Some(back), None])
}

/// On CUDA, rows added up at the places that indices name, as a product with a matrix that has a one where a row goes:
/// ScatterND adds in any order there, so that no two runs are equal, and one row after the other.
fn added_by_product(
    graph: &mut Graph,
    (indices, rows): (Value, Value),
    shape: &[usize],
) -> Result<Option<Value>, GraphError> {
    /// 64 MiB of ones and zeros at once, and as many matrices of them as there are for a vocabulary of 256,000 and 4,096
    /// tokens.
    const ELEMENTS_MAX: usize = 1 << 24;
    const MATRICES_MAX: usize = 64;

    let (places, count) = (shape[0], graph.shape(indices).iter().product::<usize>());
    let width: usize = shape[1..].iter().product();
    let run = ELEMENTS_MAX / count.max(1);
    if graph.provider() != Provider::Cuda || places.div_ceil(run.max(1)) > MATRICES_MAX || run * count * width == 0 {
        return Ok(None);
    }
    // An index below zero counts from the end.
    let end = graph.int_scalar(i64::try_from(places).expect("a size fits in an i64"));
    let shifted = graph.add(indices, end)?;
    let indices = graph.modulo(shifted, end)?;
    let indices = graph.reshape(indices, &[1, count])?;
    let rows = graph.reshape(rows, &[count, width])?;
    let mut added = Vec::new();
    for first in (0..places).step_by(run) {
        let own: Vec<usize> = (first..places.min(first + run)).collect();
        let column = graph.sizes(&own);
        let column = graph.reshape(column, &[own.len(), 1])?;
        let goes_there = graph.equal(column, indices)?;
        let goes_there = graph.cast(goes_there, graph.dtype(rows))?;
        added.push(graph.node("MatMul", &[goes_there, rows], &[])?);
    }
    let added = graph.concat(&added, 0)?;
    graph.reshape(added, shape).map(Some)
}

/// The gradient of one known slice: zeros around it.
fn single(graph: &mut Graph, dy: Value, shape: &[usize], axis: usize, index: i64) -> Result<Value, GraphError> {
    let position = axis_position(index, shape[axis]).ok_or_else(|| GraphError::InvalidOperands {
        op: "Gather".into(),
        reason: format!("index {index} of {} elements", shape[axis]),
    })?;
    let mut one = shape.to_vec();
    one[axis] = 1;
    let slice = graph.reshape(dy, &one)?;
    let mut zeros = vec![(0, 0); shape.len()];
    zeros[axis] = (position, shape[axis] - position - 1);
    graph.pad(slice, &zeros)
}

fn gather_elements(flow: &mut Flow<'_>) -> Flowing {
    let (dy, data, indices) = (flow.dy()?, flow.x(0)?, flow.x(1)?);
    let graph = &mut *flow.graph;
    let shape = graph.shape(data).to_vec();
    let zeros = graph.zeros_like(data, &shape)?;
    let attributes = [("axis", Attribute::Int(flow.node.int("axis", 0))), ("reduction", Attribute::Text("add".into()))];
    Ok(vec![Some(graph.node("ScatterElements", &[zeros, indices, dy], &attributes)?), None])
}

fn gather_nd(flow: &mut Flow<'_>) -> Flowing {
    let (dy, data, indices) = (flow.dy()?, flow.x(0)?, flow.x(1)?);
    let batch = usize::try_from(flow.node.int("batch_dims", 0)).map_err(|_| flow.unsupported("batch_dims"))?;
    let graph = &mut *flow.graph;
    let shape = graph.shape(data).to_vec();
    let zeros = graph.zeros_like(data, &shape)?;
    let indices = with_batch_indices(graph, indices, batch)?;
    Ok(vec![Some(graph.scatter_add(zeros, indices, dy)?), None])
}

/// Index tuples that begin with the position in the leading `batch` axes, which `GatherND` leaves out.
fn with_batch_indices(graph: &mut Graph, indices: Value, batch: usize) -> Result<Value, GraphError> {
    let mut shape = graph.shape(indices).to_vec();
    let last = shape.len() - 1;
    shape[last] = 1;
    let mut parts = Vec::with_capacity(batch + 1);
    for axis in 0..batch {
        let mut column = vec![1; shape.len()];
        column[axis] = shape[axis];
        let positions = (0i64..).take(shape[axis]).collect();
        let positions =
            graph.constant(Constant { dtype: Dtype::I64, shape: column, elements: Elements::Int(positions) });
        parts.push(graph.expand(positions, &shape)?);
    }
    parts.push(indices);
    graph.concat(&parts, last)
}

fn scatter_elements(flow: &mut Flow<'_>) -> Flowing {
    let (dy, indices, updates) = (flow.dy()?, flow.x(1)?, flow.x(2)?);
    let added = is_added(flow)?;
    let axis = [("axis", Attribute::Int(flow.node.int("axis", 0)))];
    let graph = &mut *flow.graph;
    let to_updates = graph.node("GatherElements", &[dy, indices], &axis)?;
    if added {
        return Ok(vec![Some(dy), None, Some(to_updates)]);
    }
    let shape = graph.shape(updates).to_vec();
    let zeros = graph.zeros_like(updates, &shape)?;
    let to_data = graph.node("ScatterElements", &[dy, indices, zeros], &axis)?;
    Ok(vec![Some(to_data), None, Some(to_updates)])
}

fn scatter_nd(flow: &mut Flow<'_>) -> Flowing {
    let (dy, indices, updates) = (flow.dy()?, flow.x(1)?, flow.x(2)?);
    let added = is_added(flow)?;
    let graph = &mut *flow.graph;
    let to_updates = graph.node("GatherND", &[dy, indices], &[])?;
    if added {
        return Ok(vec![Some(dy), None, Some(to_updates)]);
    }
    let shape = graph.shape(updates).to_vec();
    let zeros = graph.zeros_like(updates, &shape)?;
    let to_data = graph.node("ScatterND", &[dy, indices, zeros], &[])?;
    Ok(vec![Some(to_data), None, Some(to_updates)])
}

/// Whether the updates of a scatter are added; else they replace, and no place may be named twice.
fn is_added(flow: &Flow<'_>) -> Result<bool, crate::gradient::GradientError> {
    match flow.node.text("reduction") {
        None | Some("none") => Ok(false),
        Some("add") => Ok(true),
        Some(_) => Err(flow.unsupported("of the reductions only add is differentiated")),
    }
}
