//! A trained model as a plain file for inference: its weights in the graph that its user gave, or in its family's.

mod family;
mod inputs;

pub use family::{FamilyExportError, OUTPUT, export_family};
pub use inputs::{Scaling, of_raw_inputs, with_metadata};

use std::collections::{BTreeMap, BTreeSet};

use prost::Message;

use crate::import::{ImportError, ModelFile, Settings, TensorSource};
use crate::onnx::{GraphProto, TensorProto};

/// What makes a mask of uniform numbers.
const LEADS_TO_A_MASK: &[&str] = &["Cast", "CastLike", "Identity", "Less", "LessOrEqual", "Greater", "GreaterOrEqual"];

/// The user's own file with `weights` (parameters and running statistics by the names of its initializers) in the place
/// of those that it came with, and every dropout and batch normalisation as in an evaluation. An initializer that is
/// tied to another gets that one's weights; those without new weights stay.
///
/// # Errors
/// The file cannot be imported, some weights are not its own, or it draws random numbers other than for a dropout.
pub fn export(file: &[u8], weights: &BTreeMap<String, Vec<f32>>) -> Result<Vec<u8>, ImportError> {
    let read = ModelFile::read(file, &Settings::default())?;
    if let Some(name) = weights.keys().find(|name| read.source_of(name.as_str()).is_none()) {
        return Err(ImportError::NoParameter { name: name.clone() });
    }
    let (mut model, sources, opset) = read.into_parts();
    let graph = model.graph.as_mut().ok_or_else(|| ImportError::Malformed { reason: "it has no graph".into() })?;
    for tensor in &mut graph.initializer {
        if let Some(source) = sources.get(tensor.name()) {
            put(tensor, source, weights)?;
        }
    }
    infer_only(graph, opset)?;
    Ok(model.encode_to_vec())
}

/// The names of all weights that [`export`] can put into the file: parameters and running statistics.
///
/// # Errors
/// The file cannot be imported.
pub fn weight_names(file: &[u8]) -> Result<BTreeSet<String>, ImportError> {
    let (_, sources, _) = ModelFile::read(file, &Settings::default())?.into_parts();
    Ok(sources.into_values().map(|source| source.name).collect())
}

/// Overwrites a tensor with the weights that belong to it, where there are any.
fn put(
    tensor: &mut TensorProto,
    source: &TensorSource,
    weights: &BTreeMap<String, Vec<f32>>,
) -> Result<(), ImportError> {
    let Some(numbers) = weights.get(&source.name) else { return Ok(()) };
    let elements: usize = source.shape.iter().product();
    if numbers.len() != elements {
        let reason = format!("{} numbers for the shape {:?}", numbers.len(), source.shape);
        return Err(ImportError::Tensor { name: source.name.clone(), reason });
    }
    let bytes = match (source.transposed, &source.shape[..]) {
        (true, &[rows, columns]) => {
            // The tensor is the transpose of the weights: its rows are their columns.
            let turned = (0..elements).map(|at| numbers[at % columns * rows + at / columns]);
            turned.flat_map(f32::to_le_bytes).collect()
        }
        _ => numbers.iter().flat_map(|number| number.to_le_bytes()).collect(),
    };
    tensor.float_data.clear();
    tensor.raw_data = Some(bytes);
    Ok(())
}

fn infer_only(graph: &mut GraphProto, opset: i64) -> Result<(), ImportError> {
    for node in &mut graph.node {
        match node.op_type() {
            "Dropout" if opset >= 12 => node.input.truncate(2),
            "BatchNormalization" => {
                node.output.truncate(1);
                node.attribute.retain(|attribute| attribute.name() != "training_mode");
            }
            _ => {}
        }
    }
    keep_all(graph, opset)
}

/// Takes out dropout that was exported as its parts: a mask that is divided by the probability of keeping becomes that
/// number divided by itself, and what draws the mask goes.
fn keep_all(graph: &mut GraphProto, opset: i64) -> Result<(), ImportError> {
    let mut random: BTreeSet<String> = BTreeSet::new();
    let mut nodes = Vec::with_capacity(graph.node.len());
    for mut node in std::mem::take(&mut graph.node) {
        let is_source = ["RandomUniformLike", "Bernoulli"].contains(&node.op_type());
        let is_random = |name: &String| random.contains(name);
        match (node.op_type(), &node.input[..]) {
            _ if !is_source && !node.input.iter().any(is_random) => nodes.push(node),
            ("Div", [mask, keep]) if is_random(mask) && !is_random(keep) => {
                node.input[0] = node.input[1].clone();
                nodes.push(node);
            }
            (op, _) if is_source || LEADS_TO_A_MASK.contains(&op) => random.extend(node.output),
            (op, _) => {
                return Err(ImportError::Operator {
                    op: op.into(),
                    node: node.name().into(),
                    opset,
                    reason: "the file would draw random numbers in inference".into(),
                    help: "export the module in eval() mode and put the weights of the checkpoint into it",
                });
            }
        }
    }
    graph.node = nodes;
    graph.value_info.retain(|info| !random.contains(info.name()));
    Ok(())
}
