//! Operators that are not ONNX's: where an agent has a faster way on the CPU than any formulation in ONNX's operators.
//!
//! Each is written where [`Graph::has_own_operators`] allows it, and does what its formulation in ONNX's operators does,
//! which is what runs everywhere else.

use crate::graph::{Attribute, Dtype, Graph, GraphError, Node, Value};

/// The domain of these operators.
pub const DOMAIN: &str = "regatta";

/// The node, as one of these operators where that is the same and faster.
pub(crate) fn replaced(graph: &Graph, node: &Node) -> Node {
    let mut node = node.clone();
    if let Some(mut attributes) = convolution(graph, &node) {
        attributes.push(("shape", ints(graph.shape(node.outputs[0]))));
        node.domain = DOMAIN.into();
        node.attributes = attributes.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    }
    node
}

/// The gradients at the operand and at the weights of a `Conv`; `None` where it has no such operator.
///
/// # Errors
/// Never for a node that was added to the graph.
pub(crate) fn convolution_gradients(
    graph: &mut Graph,
    node: &Node,
    dy: Value,
) -> Result<Option<(Value, Value)>, GraphError> {
    let (Some(attributes), Some(x), Some(w)) = (convolution(graph, node), operand(node, 0), operand(node, 1)) else {
        return Ok(None);
    };
    let mut gradient = |op: &str, operands: [Value; 2], of: Value| {
        let shape = graph.shape(of).to_vec();
        let attributes = [attributes.as_slice(), &[("shape", ints(&shape))]].concat();
        Ok(graph.custom((DOMAIN, op), &operands, &attributes, &[(Dtype::F32, shape)])?[0])
    };
    Ok(Some((gradient("ConvInputGradient", [dy, w], x)?, gradient("ConvWeightGradient", [x, dy], w)?)))
}

/// The attributes of a convolution that these operators compute: in two dimensions, in f32, of one group.
fn convolution(graph: &Graph, node: &Node) -> Option<Vec<(&'static str, Attribute)>> {
    let is_plain = node.op == "Conv" && node.domain.is_empty() && node.int("group", 1) == 1;
    let (x, w) = (operand(node, 0)?, operand(node, 1)?);
    let is_explicit = node.text("auto_pad").is_none_or(|pad| pad == "NOTSET");
    if !graph.has_own_operators()
        || !is_plain
        || !is_explicit
        || graph.dtype(x) != Dtype::F32
        || graph.shape(w).len() != 4
    {
        return None;
    }
    let list =
        |name: &'static str, default: &[i64]| (name, Attribute::Ints(node.ints(name).unwrap_or(default).to_vec()));
    Some(vec![list("strides", &[1, 1]), list("dilations", &[1, 1]), list("pads", &[0; 4])])
}

fn operand(node: &Node, at: usize) -> Option<Value> {
    node.inputs.get(at).copied().flatten()
}

fn ints(sizes: &[usize]) -> Attribute {
    Attribute::Ints(sizes.iter().map(|&size| i64::try_from(size).expect("a tensor's size fits in an i64")).collect())
}
