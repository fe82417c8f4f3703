//! Operators written as simpler ones: those that the graphs' opset lacks, that an execution provider has no kernel for,
//! or whose parts are cheaper to differentiate.
//!
//! It knows nothing of where a model comes from. What it writes uses only operators with a shape rule and a gradient
//! rule; where a closed form is cheaper than the parts' own gradients, the parts are declared as one.

mod activation;
mod attention;
mod einsum;
mod loss;
mod normalization;
mod recurrent;

pub use normalization::{BatchNormalized, batch_norm, frozen_batch_norm, group_norm, instance_norm, rms_norm};

use crate::graph::{Attribute, Graph, GraphError, Node, Provider, Value};

/// All outputs of the operator, optional ones last; `None` for one that cannot be had.
type Lowered = Result<Vec<Option<Value>>, GraphError>;

type Lower = fn(&mut Graph, &Application<'_>) -> Lowered;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Where {
    Everywhere,
    OnCuda,
}

/// What is known of an operator that is written as others.
pub(crate) struct Row {
    pub op: &'static str,
    /// The first opset whose meaning of the operator is covered.
    pub since: i64,
    /// What becomes of it, for people.
    pub form: &'static str,
    place: Where,
    lower: Lower,
}

impl Row {
    pub fn is_only_on_cuda(&self) -> bool {
        self.place == Where::OnCuda
    }
}

const fn row(op: &'static str, since: i64, lower: Lower, form: &'static str) -> Row {
    Row { op, since, form, place: Where::Everywhere, lower }
}

const fn on_cuda(op: &'static str, since: i64, lower: Lower, form: &'static str) -> Row {
    Row { op, since, form, place: Where::OnCuda, lower }
}

const FAMILIES: &[&[Row]] =
    &[activation::ROWS, attention::ROWS, einsum::ROWS, loss::ROWS, normalization::ROWS, recurrent::ROWS];

pub(crate) fn rows() -> impl Iterator<Item = &'static Row> {
    FAMILIES.iter().copied().flatten()
}

/// An operator with its operands and attributes, not yet in a graph.
pub(crate) struct Application<'a> {
    pub node: &'a Node,
}

impl Application<'_> {
    fn x(&self, position: usize) -> Result<Value, GraphError> {
        self.optional(position).ok_or_else(|| self.invalid(&format!("operand {position} is missing")))
    }

    fn optional(&self, position: usize) -> Option<Value> {
        self.node.inputs.get(position).copied().flatten()
    }

    /// The first of the positions that is taken, as an error.
    fn refuse(&self, positions: std::ops::Range<usize>, what: &str) -> Result<(), GraphError> {
        match positions.into_iter().any(|position| self.optional(position).is_some()) {
            true => Err(self.invalid(what)),
            false => Ok(()),
        }
    }

    fn size(&self, attribute: &str) -> Result<usize, GraphError> {
        let size = usize::try_from(self.node.int(attribute, 0)).ok().filter(|&size| size > 0);
        size.ok_or_else(|| self.invalid(&format!("{attribute} must be a positive number")))
    }

    fn invalid(&self, reason: &str) -> GraphError {
        GraphError::InvalidOperands { op: self.node.op.clone(), reason: reason.into() }
    }
}

/// Writes `node` (its operator, operands and attributes; its outputs are not looked at) as simpler operators. Returns
/// its outputs, `None` for those that cannot be had; or `None` where the operator is to be used as it is.
///
/// # Errors
/// The operands or attributes do not fit the operator, or the lowering does not cover them.
pub fn lower(graph: &mut Graph, node: &Node) -> Result<Option<Vec<Option<Value>>>, GraphError> {
    let applies =
        |row: &&Row| row.op == node.op && (row.place == Where::Everywhere || graph.provider() == Provider::Cuda);
    match rows().find(applies) {
        Some(row) => Ok(Some((row.lower)(graph, &Application { node })?)),
        None => Ok(None),
    }
}

/// The axis named by an attribute.
fn axis_attribute(graph: &Graph, application: &Application<'_>, default: i64, of: Value) -> Result<usize, GraphError> {
    let axis = application.node.int("axis", default);
    crate::graph::axis_position(axis, graph.shape(of).len()).ok_or_else(|| application.invalid("it has no such axis"))
}

/// A list attribute of texts.
fn texts<'a>(node: &'a Node, attribute: &str) -> Option<&'a [String]> {
    match node.attributes.get(attribute) {
        Some(Attribute::Texts(texts)) => Some(texts),
        _ => None,
    }
}
