//! What exporters are known to write wrongly, put right.

use std::collections::BTreeMap;

use super::tensor::{constant_of, tensor_attribute};
use crate::graph::Elements;
use crate::onnx::{GraphProto, NodeProto};

/// PyTorch's newer exporter (2.15) writes a bias of zeros for a convolution that has none; of three axes, as a matrix of
/// them, which no runtime takes: zeros, expanded to the number of filters joined with a constant. That goes.
pub(super) fn mend(graph: &mut GraphProto) {
    let node_by_output: BTreeMap<&str, &NodeProto> =
        graph.node.iter().filter_map(|node| Some((node.output.first()?.as_str(), node))).collect();
    let given = |name: &String, op: &str| node_by_output.get(name.as_str()).filter(|node| node.op_type() == op);
    let is_zero = |name: &String| {
        let cast = ["CastLike", "Cast"].iter().find_map(|op| given(name, op)).and_then(|cast| cast.input.first());
        let constant = given(cast.unwrap_or(name), "Constant").and_then(|node| tensor_attribute(node, "value"));
        let elements = constant.and_then(|tensor| constant_of(tensor).ok()).map(|constant| constant.elements);
        matches!(elements, Some(Elements::Float(floats)) if floats[..] == [0.0])
    };
    let is_matrix = |name: &String| {
        let parts = given(name, "Concat").map(|concat| &concat.input[..]);
        matches!(parts, Some([first, second]) if given(first, "Shape").is_some() && given(second, "Constant").is_some())
    };
    let has_matrix = |node: &NodeProto| match (node.op_type(), node.input.get(2)) {
        ("Conv", Some(bias)) => given(bias, "Expand")
            .is_some_and(|expand| matches!(&expand.input[..], [what, shape] if is_zero(what) && is_matrix(shape))),
        _ => false,
    };
    let wrong: Vec<usize> = (0..graph.node.len()).filter(|&at| has_matrix(&graph.node[at])).collect();
    for at in wrong {
        graph.node[at].input.truncate(2);
    }
}
