//! Runs of nodes that are differentiated as one, and optional outputs that are wanted after the fact.

use super::{Graph, GraphError, Node, Value};

/// Consecutive nodes whose gradient has a closed form that is cheaper than what the nodes' own rules give.
#[derive(Debug, Clone)]
pub(crate) struct Composite {
    first: usize,
    last: usize,
    /// The nodes seen as one: the operands that gradients flow to, then what the closed form uses again.
    pub as_node: Node,
}

impl Composite {
    /// The position of its first node.
    pub fn first(&self) -> usize {
        self.first
    }

    /// The positions of its nodes.
    pub fn positions(&self) -> std::ops::RangeInclusive<usize> {
        self.first..=self.last
    }
}

impl Graph {
    /// Declares that the nodes from position `first` on compute `output` from `operands`, and are differentiated
    /// by the closed form named `form`, which also reads the values `saved`. Gradients flow only through `output`.
    pub(crate) fn close(&mut self, form: &str, first: usize, (operands, saved): (&[Value], &[Value]), output: Value) {
        let last = self.nodes.len() - 1;
        let as_node = Node {
            name: self.nodes[last].name.clone(),
            domain: String::new(),
            op: form.into(),
            inputs: operands.iter().chain(saved).copied().map(Some).collect(),
            outputs: vec![output],
            attributes: std::collections::BTreeMap::new(),
        };
        self.composite_by_last.insert(last, Composite { first, last, as_node });
    }

    /// The composite whose last node is at this position.
    pub(crate) fn composite_at(&self, last: usize) -> Option<&Composite> {
        self.composite_by_last.get(&last)
    }

    /// The first `outputs` outputs of a node that is already here, adding those that nobody had asked for.
    ///
    /// # Errors
    /// The operator has fewer outputs.
    pub(crate) fn extend_outputs(&mut self, node: &Node, outputs: usize) -> Result<Vec<Value>, GraphError> {
        let inferred = super::infer::infer(self, node, outputs)?;
        if inferred.len() < outputs {
            let reason = format!("{outputs} outputs wanted of {}", inferred.len());
            return Err(GraphError::InvalidOperands { op: node.op.clone(), reason });
        }
        let mut extended = node.clone();
        for (position, (dtype, shape)) in inferred.into_iter().enumerate().take(outputs).skip(node.outputs.len()) {
            extended.outputs.push(self.add_value(format!("{}.{position}", node.name), dtype, shape)?);
        }
        let values = extended.outputs.clone();
        if let Some(place) = self.nodes.iter_mut().find(|other| other.name == node.name) {
            *place = extended;
        }
        Ok(values)
    }
}
