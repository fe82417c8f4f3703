//! A model file opened for training: parameters and running statistics as inputs, every free axis a number, and batch
//! normalisations in the form of an evaluation.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message;

use super::parameters::Kind;
use super::translate::refused;
use super::{Axis, ImportError, ModelFile, ModelInput};
use crate::graph::{Dtype, dtype_code};
use crate::onnx::attribute_proto::AttributeType;
use crate::onnx::tensor_shape_proto::{Dimension, dimension};
use crate::onnx::{AttributeProto, GraphProto, NodeProto, TensorShapeProto, TypeProto, ValueInfoProto, type_proto};

/// The first file format in which an initializer need not be an input.
const IR_VERSION_MIN: i64 = 4;

impl ModelFile {
    /// The model as an ONNX file for a batch of `batch` rows, to be cleaned up by a runtime: `rows` holds the shape
    /// of a row of each input, in their order.
    ///
    /// # Errors
    /// A row's shape does not fit its input, or there are loops or sequences.
    pub fn opened(&self, rows: &[Vec<usize>], batch: usize) -> Result<Vec<u8>, ImportError> {
        let shapes = self.shapes(rows, batch)?;
        let mut model = self.model.clone();
        model.ir_version = Some(model.ir_version().max(IR_VERSION_MIN));
        let graph = model.graph.as_mut().expect("a model without a graph was refused");
        graph.input =
            self.inputs.iter().zip(&shapes).map(|(input, shape)| port(&input.name, input.dtype, shape)).collect();
        // What the file says of shapes was true for the batch that it was exported with.
        graph.value_info.clear();
        graph.output.retain(|output| output.name() == self.output);
        for output in &mut graph.output {
            forget_shape(output);
        }
        self.open_initializers(graph);
        for node in &mut graph.node {
            if node.op_type() == "BatchNormalization" {
                normalise_once(node);
            }
        }
        drop_unused(graph);
        let unfolded = graph.node.iter().find_map(|node| refused::unfolded(node, self.opset));
        if let Some(error) = unfolded {
            return Err(error);
        }
        Ok(model.encode_to_vec())
    }

    /// The shape of each input; axes of one name have one size.
    fn shapes(&self, rows: &[Vec<usize>], batch: usize) -> Result<Vec<Vec<usize>>, ImportError> {
        let mut size_by_name: BTreeMap<&str, usize> = BTreeMap::new();
        let mut shapes = Vec::with_capacity(rows.len());
        if rows.len() != self.inputs.len() {
            let name = self.inputs.get(rows.len()).map_or_else(String::new, |input| input.name.clone());
            return Err(ImportError::Input { name, reason: format!("the data has {} features", rows.len()) });
        }
        for (input, row) in self.inputs.iter().zip(rows) {
            let shape: Vec<usize> = [&[batch], row.as_slice()].concat();
            check_shape(input, &shape, &mut size_by_name)?;
            shapes.push(shape);
        }
        Ok(shapes)
    }

    fn open_initializers(&self, graph: &mut GraphProto) {
        let mut ties = Vec::new();
        for (name, role) in &self.roles.role_by_name {
            match &role.kind {
                Kind::Parameter { .. } | Kind::Statistics => graph.input.push(port(name, Dtype::F32, &role.shape)),
                Kind::Tied { to, transposed } => ties.push(NodeProto {
                    op_type: Some(if *transposed { "Transpose" } else { "Identity" }.into()),
                    input: vec![to.clone()],
                    output: vec![name.clone()],
                    ..NodeProto::default()
                }),
            }
        }
        graph.initializer.retain(|tensor| !self.roles.role_by_name.contains_key(tensor.name()));
        graph.node.splice(0..0, ties);
    }
}

fn check_shape<'a>(
    input: &'a ModelInput,
    shape: &[usize],
    size_by_name: &mut BTreeMap<&'a str, usize>,
) -> Result<(), ImportError> {
    let bad = |reason: String| ImportError::Input { name: input.name.clone(), reason };
    if shape.len() != input.axes.len() {
        let reason = format!("it has {} axes with the batch's, the data {}", input.axes.len(), shape.len());
        return Err(bad(reason));
    }
    for (position, (axis, &size)) in input.axes.iter().zip(shape).enumerate() {
        match axis {
            // A batch size that nothing in the graph depends on can be another one; the translation finds out.
            Axis::Fixed(_) if position == 0 => {}
            Axis::Fixed(fixed) if *fixed != size => {
                return Err(bad(format!("its axis {position} is {fixed}, the data's is {size}")));
            }
            Axis::Free(name) if !name.is_empty() => {
                let known = *size_by_name.entry(name).or_insert(size);
                if known != size {
                    return Err(bad(format!("its axis {name:?} is {size}, and {known} elsewhere")));
                }
            }
            Axis::Fixed(_) | Axis::Free(_) => {}
        }
    }
    Ok(())
}

/// The inference form: what it does in training is for the translation to say.
fn normalise_once(node: &mut NodeProto) {
    node.output.truncate(1);
    node.attribute.retain(|attribute| attribute.name() != "training_mode");
}

/// Leaves out the nodes, initializers and statistics that the one output does not depend on.
fn drop_unused(graph: &mut GraphProto) {
    let mut wanted: BTreeSet<String> = graph.output.iter().map(|output| output.name().to_owned()).collect();
    let mut nodes: Vec<NodeProto> = Vec::with_capacity(graph.node.len());
    for node in std::mem::take(&mut graph.node).into_iter().rev() {
        if node.output.iter().any(|output| wanted.contains(output)) {
            wanted.extend(node.input.iter().cloned());
            // What control flow inside a node uses of the graph around it.
            wanted.extend(node.attribute.iter().flat_map(captured));
            nodes.push(node);
        }
    }
    nodes.reverse();
    graph.node = nodes;
    graph.initializer.retain(|tensor| wanted.contains(tensor.name()));
}

fn captured(attribute: &AttributeProto) -> Vec<String> {
    match (attribute.r#type(), &attribute.g) {
        (AttributeType::Graph, Some(graph)) => graph
            .node
            .iter()
            .flat_map(|node| node.input.iter().cloned().chain(node.attribute.iter().flat_map(captured)))
            .chain(graph.output.iter().map(|output| output.name().to_owned()))
            .collect(),
        _ => Vec::new(),
    }
}

fn forget_shape(output: &mut ValueInfoProto) {
    if let Some(type_proto::Value::TensorType(tensor)) = output.r#type.as_mut().and_then(|of| of.value.as_mut()) {
        tensor.shape = None;
    }
}

fn port(name: &str, dtype: Dtype, shape: &[usize]) -> ValueInfoProto {
    let dimension = |&size: &usize| Dimension {
        value: Some(dimension::Value::DimValue(i64::try_from(size).expect("a tensor's size fits in an i64"))),
        ..Dimension::default()
    };
    let tensor = type_proto::Tensor {
        elem_type: Some(i32::try_from(dtype_code(dtype)).expect("ONNX's types are small numbers")),
        shape: Some(TensorShapeProto { dim: shape.iter().map(dimension).collect() }),
    };
    let of_type = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..TypeProto::default() };
    ValueInfoProto { name: Some(name.into()), r#type: Some(of_type), ..ValueInfoProto::default() }
}
