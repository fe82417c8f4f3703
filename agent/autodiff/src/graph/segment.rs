//! Parts of a graph whose values are not kept for the gradient, which computes them again (Chen et al., 2016).

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use super::{Graph, GraphError, Node, Value};

/// Consecutive nodes that compute `output` from `input` and from what is kept anyway.
#[derive(Debug, Clone)]
pub(crate) struct Segment {
    positions: RangeInclusive<usize>,
    pub input: Value,
    pub output: Value,
}

impl Graph {
    /// Declares that the nodes from position `first` on, which compute `output` from `input`, are computed again for the
    /// gradient.
    pub(crate) fn recompute(&mut self, first: usize, input: Value, output: Value) {
        if let Some(last) = self.nodes.len().checked_sub(1).filter(|&last| last >= first) {
            self.segment_by_last.insert(last, Segment { positions: first..=last, input, output });
        }
    }

    /// The segment whose last node is at this position.
    pub(crate) fn segment_at(&self, last: usize) -> Option<&Segment> {
        self.segment_by_last.get(&last)
    }

    /// Adds the nodes of a segment once more, over `input` in the place of its own.
    ///
    /// # Errors
    /// Never for a segment of this graph and an input like its own.
    pub(crate) fn repeat(&mut self, segment: &Segment, input: Value) -> Result<Repetition, GraphError> {
        let mut again = Repetition::default();
        again.value_by_value.insert(segment.input, input);
        for position in segment.positions.clone() {
            let node = self.nodes[position].clone();
            let mut copy = Node { name: self.fresh_name(&node.op), outputs: Vec::new(), ..again.of(&node) };
            let outputs: Vec<_> = node.outputs.iter().map(|value| self.info(*value).clone()).collect();
            self.add_node(&mut copy, outputs.into_iter().map(|info| (info.dtype, info.shape)))?;
            again.value_by_value.extend(node.outputs.iter().copied().zip(copy.outputs));
            again.name_by_name.insert(node.name, copy.name);
        }
        again.value_by_value.remove(&segment.input);
        Ok(again)
    }
}

/// What nodes and their values are the second time.
#[derive(Debug, Clone, Default)]
pub(crate) struct Repetition {
    value_by_value: BTreeMap<Value, Value>,
    name_by_name: BTreeMap<String, String>,
}

impl Repetition {
    /// The node as it is the second time, or as it is where it is there once.
    pub fn of(&self, node: &Node) -> Node {
        let again = |value: Value| self.value_by_value.get(&value).copied().unwrap_or(value);
        Node {
            name: self.name_by_name.get(&node.name).unwrap_or(&node.name).clone(),
            inputs: node.inputs.iter().map(|input| input.map(again)).collect(),
            outputs: node.outputs.iter().map(|output| again(*output)).collect(),
            ..node.clone()
        }
    }

    pub fn extend(&mut self, other: Self) {
        self.value_by_value.extend(other.value_by_value);
        self.name_by_name.extend(other.name_by_name);
    }
}
