//! Gradient clipping over flat vectors, with the formulas of `torch.nn.utils`.

use super::optimizer::norm;
use crate::graph::{Graph, GraphError, Value};

/// Which clippings are in a graph; their thresholds are inputs. By value first, then by norm.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Clip {
    /// By the joint norm of all gradients.
    pub norm: bool,
    /// Element by element.
    pub value: bool,
}

/// Added to the norm of the gradients before dividing by it, as in `torch.nn.utils.clip_grad_norm_`.
const NORM_EPSILON: f64 = 1e-6;

/// Scales all gradients so that their joint norm stays within the threshold.
pub(super) fn by_norm(graph: &mut Graph, gradients: &mut [Value], threshold: Value) -> Result<(), GraphError> {
    let norm = norm(graph, gradients)?;
    let epsilon = graph.scalar_like(norm, NORM_EPSILON);
    let divisor = graph.add(norm, epsilon)?;
    let ratio = graph.div(threshold, divisor)?;
    let one = graph.scalar_like(ratio, 1.0);
    let factor = graph.min(ratio, one)?;
    for gradient in gradients {
        *gradient = graph.mul(*gradient, factor)?;
    }
    Ok(())
}

/// Cuts each element to `-threshold ..= threshold`.
pub(super) fn by_value(graph: &mut Graph, gradients: &mut [Value], threshold: Value) -> Result<(), GraphError> {
    let lowest = graph.neg(threshold)?;
    for gradient in gradients {
        let above = graph.max(*gradient, lowest)?;
        *gradient = graph.min(above, threshold)?;
    }
    Ok(())
}
