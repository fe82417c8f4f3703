//! What CUDA records of a graph: operators whose kernels get lengths or addresses from the host's memory would read there
//! again at each replay, when others have written over it. They are written as others that do not.

use std::collections::BTreeMap;

use super::{Graph, GraphError, Node, Value, axis_position};

/// The most parts of one length.
const EQUAL_MAX: usize = 32;

/// The most parts of different lengths, and along the last axis only.
const UNEQUAL_MAX: usize = 4;

/// Whether a kernel of ONNX Runtime 1.31 for CUDA gets all that it needs with its launch (`split.cc`, `concat.cc`,
/// `matmul.cc`; held to its calls by `tests/cuda`).
pub(crate) fn is_safe_to_record(graph: &Graph, node: &Node) -> bool {
    if !node.domain.is_empty() {
        return true;
    }
    match node.op.as_str() {
        "Concat" => node.inputs.len() <= EQUAL_MAX,
        "Split" => {
            let shapes: Vec<&[usize]> = node.outputs.iter().map(|part| graph.shape(*part)).collect();
            let (count, rank) = (shapes.len(), shapes.first().map_or(0, |shape| shape.len()));
            let are_equal = shapes.windows(2).all(|pair| pair[0] == pair[1]);
            let is_last = axis_position(node.int("axis", 0), rank).is_some_and(|axis| axis + 1 == rank);
            if are_equal { count <= EQUAL_MAX } else { count <= UNEQUAL_MAX && is_last }
        }
        "MatMul" => matrices(graph, node).is_none_or(|[left, right]| right.is_empty() || left == right),
        _ => true,
    }
}

/// The axes of both operands of a product before those of their matrices.
fn matrices<'a>(graph: &'a Graph, node: &Node) -> Option<[&'a [usize]; 2]> {
    let &[Some(left), Some(right)] = &node.inputs[..] else { return None };
    let batches = |operand| graph.shape(operand).split_last_chunk::<2>().map(|(batches, _)| batches);
    Some([batches(left)?, batches(right)?])
}

impl Graph {
    /// The same, with nodes that are safe to record where that can be had.
    pub(super) fn to_record(&self) -> Self {
        let nodes = self.nodes.clone();
        let mut graph = Self { nodes: Vec::with_capacity(nodes.len()), ..self.clone() };
        for node in nodes {
            let safe = match node.op.as_str() {
                _ if is_safe_to_record(&graph, &node) => None,
                "Split" => graph.parts_by_slices(&node).ok(),
                "MatMul" => graph.with_equal_batches(&node).ok(),
                _ => None,
            };
            graph.nodes.extend(safe.unwrap_or_else(|| vec![node]));
        }
        graph
    }

    /// A vector stays as it is: its parts are of one reader, so that it may be written in place.
    fn parts_by_slices(&mut self, node: &Node) -> Result<Vec<Node>, GraphError> {
        let whole = node.inputs.first().copied().flatten().filter(|whole| self.shape(*whole).len() > 1);
        let axis = whole.and_then(|whole| axis_position(node.int("axis", 0), self.shape(whole).len()));
        let (Some(whole), Some(axis)) = (whole, axis) else { return Ok(vec![node.clone()]) };
        let (mut slices, mut start) = (Vec::new(), 0);
        for (place, &part) in node.outputs.iter().enumerate() {
            let end = start + self.shape(part)[axis];
            let bounds = [self.sizes(&[start]), self.sizes(&[end]), self.sizes(&[axis])];
            slices.push(Node {
                name: format!("{}.part.{place}", node.name),
                op: "Slice".into(),
                inputs: [whole].into_iter().chain(bounds).map(Some).collect(),
                outputs: vec![part],
                attributes: BTreeMap::new(),
                domain: String::new(),
            });
            start = end;
        }
        Ok(slices)
    }

    /// Matrices that one operand has once are repeated for those of the other.
    fn with_equal_batches(&mut self, node: &Node) -> Result<Vec<Node>, GraphError> {
        let product = self.shape(node.outputs[0]).to_vec();
        let before = self.nodes.len();
        let mut repeated = |operand: Option<Value>| {
            let Some(operand) = operand else { return Ok(None) };
            let shape = self.shape(operand);
            let whole = [&product[..product.len() - 2], &shape[shape.len() - 2..]].concat();
            if shape == whole { Ok(Some(operand)) } else { self.expand(operand, &whole).map(Some) }
        };
        let inputs = node.inputs.iter().map(|operand| repeated(*operand)).collect::<Result<_, GraphError>>()?;
        let mut nodes = self.nodes.split_off(before);
        nodes.push(Node { inputs, ..node.clone() });
        Ok(nodes)
    }
}
