//! The factor of the loss that keeps small gradients from vanishing in 16 bits (Micikevicius et al., 2018, section 3.2),
//! found while training: halved when gradients overflow, which skips the update, and doubled after many that did not.

use std::sync::Arc;

use super::layout::Piece;
use super::program::Declared;
use crate::families::Initial;
use crate::graph::{Dtype, Graph, GraphError, RESERVED_PREFIX, Value};

/// Where the scale begins, and its bounds. Powers of two, so that scaling loses nothing.
const INITIAL: f32 = 65_536.0;
const MIN: f64 = 1.0;
const MAX: f64 = 16_777_216.0;

/// Updates in a row without an overflow after which the scale is doubled.
const GROWTH_INTERVAL: i64 = 2000;

/// The states of a scale, as values of a graph.
#[derive(Debug, Clone, Copy)]
pub(super) struct LossScale {
    vector: Value,
    /// The same as a scalar.
    scale: Value,
}

impl LossScale {
    pub fn declare(graph: &mut Graph, declared: &mut Declared) -> Result<Self, GraphError> {
        let piece = Piece {
            name: format!("{RESERVED_PREFIX}loss_scale"),
            shape: vec![1],
            offset: 0,
            initial: Initial::Given(Arc::new(vec![INITIAL])),
            position: 0,
        };
        let vector = declared.vector(graph, "loss_scale", vec![piece])?;
        Ok(Self { vector, scale: graph.reshape(vector, &[])? })
    }

    /// The gradient at the model's output, of the scaled loss.
    pub fn scaled(self, graph: &mut Graph, gradient: Value) -> Result<Value, GraphError> {
        graph.mul(gradient, self.scale)
    }

    /// A gradient of the loss itself, from one of the scaled loss.
    pub fn unscaled(self, graph: &mut Graph, gradient: Value) -> Result<Value, GraphError> {
        let share = graph.reciprocal(self.scale)?;
        graph.mul(gradient, share)
    }

    /// The next scale, after an update by gradients that were finite or not (a scalar of type bool).
    pub fn advance(self, graph: &mut Graph, declared: &mut Declared, finite: Value) -> Result<(), GraphError> {
        let calm = declared.counter(graph, "updates_since_overflow")?;
        let one = graph.int_scalar(1);
        let counted = graph.add(calm, one)?;
        let last = graph.int_scalar(GROWTH_INTERVAL - 1);
        let is_due = graph.greater(counted, last)?;
        let grows = graph.and(finite, is_due)?;

        let none = graph.int_scalar(0);
        let unless_grown = graph.choose(grows, none, counted)?;
        let next_calm = graph.choose(finite, unless_grown, none)?;
        declared.becomes(calm, next_calm);

        let [half, one, two, min, max] = [0.5, 1.0, 2.0, MIN, MAX].map(|number| graph.scalar(Dtype::F32, number));
        let grown = graph.choose(grows, two, one)?;
        let factor = graph.choose(finite, grown, half)?;
        let next = graph.mul(self.vector, factor)?;
        let next = graph.max(next, min)?;
        let next = graph.min(next, max)?;
        declared.becomes(self.vector, next);
        Ok(())
    }
}

/// Whether all elements of all vectors are numbers: a scalar of type bool. What is none, times zero, is none.
pub(super) fn are_finite(graph: &mut Graph, vectors: impl Iterator<Item = Value>) -> Result<Value, GraphError> {
    let zero = graph.scalar(Dtype::F32, 0.0);
    let mut total = zero;
    for vector in vectors {
        let vanished = graph.mul(vector, zero)?;
        let sum = graph.sum_all(vanished)?;
        total = graph.add(total, sum)?;
    }
    graph.equal(total, zero)
}
