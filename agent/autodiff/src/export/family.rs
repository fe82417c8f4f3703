//! A trained model of a family as a file: its graph for any number of rows, the weights within.

use std::collections::BTreeMap;

use prost::Message;

use crate::families::{Forward, Mode, Model};
use crate::graph::{Elements, Graph, GraphError, Provider, RESERVED_PREFIX, Value};
use crate::onnx::tensor_shape_proto::dimension;
use crate::onnx::{GraphProto, ModelProto, TensorProto, ValueInfoProto, type_proto};
use crate::step::dropout::Dropout;

/// What the only output of an exported model is called.
pub const OUTPUT: &str = "output";

/// What the free axis of an exported model is called.
const BATCH_AXIS: &str = "batch";

/// The rows that the graph is written for before that axis is freed: a prime that no size of a model is a multiple of.
const ROWS: usize = 1_000_003;

/// Why a model of a family cannot become a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FamilyExportError {
    #[error("the weights of {name:?} are missing")]
    Missing { name: String },
    #[error("{name:?} has {found} weights, not {wanted}")]
    Count { name: String, found: usize, wanted: usize },
    #[error("the model is of a file, not of a family")]
    OfFile,
    #[error("the graph holds for one number of rows only, at {node:?}")]
    FixedRows { node: String },
    #[error(transparent)]
    Graph(#[from] GraphError),
}

/// The model for inference. Its inputs have the names of the model's features, its output is [`OUTPUT`], the first axis
/// of each is free. `weights` tells a parameter or running statistic, in row-major order, by its name.
///
/// # Errors
/// Weights are missing or of another number than the model has, or the model is of a file.
pub fn export_family(model: &Model, weights: impl Fn(&str) -> Option<Vec<f32>>) -> Result<Vec<u8>, FamilyExportError> {
    if matches!(model, Model::Imported(_)) {
        return Err(FamilyExportError::OfFile);
    }
    let mut graph = Graph::new(Provider::Cpu);
    let mut features = Vec::new();
    for feature in model.features() {
        let shape = [&[ROWS], feature.shape.as_slice()].concat();
        features.push(graph.input(&feature.name, feature.dtype, &shape)?);
    }
    let mut context = Forward::new(&mut graph, Mode::Evaluation, Dropout::Off);
    let output = model.forward(&mut context, &features)?;
    graph.output(output);
    let shapes = freed_shapes(&graph)?;

    let mut model = graph.model();
    put_weights(&mut model, &graph, &features, weights)?;
    let written = model.graph.get_or_insert_default();
    for tensor in &mut written.initializer {
        if let Some(shape) = shapes.get(tensor.name()) {
            tensor.raw_data = Some(shape.iter().flat_map(|size| size.to_le_bytes()).collect());
        }
    }
    written.input.iter_mut().chain(&mut written.output).for_each(free_rows);
    rename(written, graph.name(output));
    Ok(model.encode_to_vec())
}

/// The shape operands that name the number of rows, with their first size left to the runtime, by name.
fn freed_shapes(graph: &Graph) -> Result<BTreeMap<String, Vec<i64>>, FamilyExportError> {
    let rows = i64::try_from(ROWS).expect("it is small");
    let mut freed = BTreeMap::new();
    for node in graph.live_nodes() {
        for (position, &operand) in node.inputs.iter().flatten().enumerate() {
            let Some(Elements::Int(sizes)) = graph.constant_of(operand).map(|constant| &constant.elements) else {
                continue;
            };
            match sizes.iter().filter(|&&size| size != 0 && size % rows == 0).count() {
                0 => {}
                1 if node.op == "Reshape" && position == 1 && sizes[0] % rows == 0 => {
                    let sizes = [&[-1], &sizes[1..]].concat();
                    freed.insert(graph.name(operand).to_owned(), sizes);
                }
                _ => return Err(FamilyExportError::FixedRows { node: node.name.clone() }),
            }
        }
    }
    Ok(freed)
}

/// Turns all inputs but the features into weights.
fn put_weights(
    model: &mut ModelProto,
    graph: &Graph,
    features: &[Value],
    weights: impl Fn(&str) -> Option<Vec<f32>>,
) -> Result<(), FamilyExportError> {
    let written = model.graph.get_or_insert_default();
    for &input in graph.inputs().iter().filter(|input| !features.contains(input)) {
        let (name, shape) = (graph.name(input), graph.shape(input));
        let numbers = weights(name).ok_or_else(|| FamilyExportError::Missing { name: name.into() })?;
        let wanted = shape.iter().product();
        if numbers.len() != wanted {
            return Err(FamilyExportError::Count { name: name.into(), found: numbers.len(), wanted });
        }
        written.input.retain(|declared| declared.name() != name);
        written.initializer.push(TensorProto {
            name: Some(name.into()),
            data_type: Some(crate::onnx::tensor_proto::DataType::Float as i32),
            dims: shape.iter().map(|&size| i64::try_from(size).expect("a size fits in an i64")).collect(),
            raw_data: Some(numbers.iter().flat_map(|number| number.to_le_bytes()).collect()),
            ..TensorProto::default()
        });
    }
    Ok(())
}

fn free_rows(port: &mut ValueInfoProto) {
    let Some(type_proto::Value::TensorType(tensor)) = port.r#type.as_mut().and_then(|kind| kind.value.as_mut()) else {
        return;
    };
    if let Some(rows) = tensor.shape.as_mut().and_then(|shape| shape.dim.first_mut()) {
        rows.value = Some(dimension::Value::DimParam(BATCH_AXIS.into()));
    }
}

/// Gives the output, which `name` names now, its name, and takes the prefix from all that were generated, so that the
/// file can be trained on like any other. A family's own names have a dot or are not those of an operator.
fn rename(graph: &mut GraphProto, name: &str) {
    let renamed = |given: &mut String| {
        if given == name {
            OUTPUT.clone_into(given);
        } else if let Some(bare) = given.strip_prefix(RESERVED_PREFIX) {
            *given = bare.to_owned();
        }
    };
    for node in &mut graph.node {
        node.input.iter_mut().chain(&mut node.output).chain(&mut node.name).for_each(renamed);
    }
    graph.initializer.iter_mut().filter_map(|tensor| tensor.name.as_mut()).for_each(renamed);
    graph.output.iter_mut().filter_map(|output| output.name.as_mut()).for_each(renamed);
}
