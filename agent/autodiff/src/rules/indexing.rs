//! Gradients of operators that pick elements by index.

use super::{Flowing, Row, rule, stop};
use crate::gradient::Flow;
use crate::graph::{Dtype, axis_position};

pub(super) const ROWS: &[Row] = &[rule("Gather", gather, "dy, added at the rows that were picked"), stop("OneHot")];

/// Rows picked along axis 0: each row's gradient is added where it came from.
fn gather(flow: &mut Flow<'_>) -> Flowing {
    let (dy, data, indices) = (flow.dy()?, flow.x(0)?, flow.x(1)?);
    let rank = flow.graph.shape(data).len();
    if axis_position(flow.node.int("axis", 0), rank) != Some(0) {
        return Err(flow.unsupported("only axis 0 is differentiated"));
    }
    let graph = &mut *flow.graph;
    let shape = graph.shape(data).to_vec();
    let zero = graph.scalar_like(data, 0.0);
    let zeros = graph.expand(zero, &shape)?;
    let mut column = graph.shape(indices).to_vec();
    column.push(1);
    let indices = graph.cast(indices, Dtype::I64)?;
    let indices = graph.reshape(indices, &column)?;
    Ok(vec![Some(graph.scatter_add(zeros, indices, dy)?), None])
}
