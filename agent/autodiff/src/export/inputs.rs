//! What an exported model says of its inputs, and does with them.

use prost::Message;

use crate::graph::{Dtype, RESERVED_PREFIX, dtype_code};
use crate::import::{ImportError, decoded, malformed};
use crate::onnx::tensor_shape_proto::dimension;
use crate::onnx::{NodeProto, StringStringEntryProto, TensorProto, ValueInfoProto, type_proto};

/// `(number - offset) * factor` of an input whose rows have this shape: one of each for all, or for each equal part.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scaling<'a> {
    pub shape: &'a [usize],
    pub offset: &'a [f32],
    pub factor: &'a [f32],
}

/// The model with a text more in its metadata.
///
/// # Errors
/// The bytes are no model.
pub fn with_metadata(onnx: &[u8], key: &str, value: String) -> Result<Vec<u8>, ImportError> {
    let mut model = decoded(onnx)?;
    model.metadata_props.retain(|entry| entry.key() != key);
    model.metadata_props.push(StringStringEntryProto { key: Some(key.into()), value: Some(value) });
    Ok(model.encode_to_vec())
}

/// The model with each input scaled as said at its place; those without a place, or with none, stay as they are.
///
/// # Errors
/// The bytes are no model, or an input is laid out otherwise than its scaling.
pub fn of_raw_inputs(onnx: &[u8], scalings: &[Option<Scaling<'_>>]) -> Result<Vec<u8>, ImportError> {
    let mut model = decoded(onnx)?;
    let graph = model.graph.as_mut().ok_or_else(|| malformed("it has no graph"))?;
    let is_initializer = |name: &str| graph.initializer.iter().any(|tensor| tensor.name() == name);
    let inputs: Vec<ValueInfoProto> =
        graph.input.iter().filter(|input| !is_initializer(input.name())).cloned().collect();
    let mut scaled = Vec::new();
    for (at, (input, scaling)) in inputs.iter().zip(scalings).enumerate() {
        let Some(scaling) = *scaling else { continue };
        let shape = constant_shape(input, scaling)?;
        let name = |what: &str| format!("{RESERVED_PREFIX}input.{at}.{what}");
        for (what, numbers) in [("offset", scaling.offset), ("factor", scaling.factor)] {
            graph.initializer.push(floats(name(what), &shape, numbers));
        }
        for used in graph.node.iter_mut().flat_map(|node| &mut node.input).filter(|used| *used == input.name()) {
            *used = name("scaled");
        }
        scaled.push(node("Sub", [input.name().into(), name("offset")], name("moved")));
        scaled.push(node("Mul", [name("moved"), name("factor")], name("scaled")));
    }
    graph.node.splice(0..0, scaled);
    Ok(model.encode_to_vec())
}

/// The shape in which a scaling's numbers meet a batch of the input.
fn constant_shape(input: &ValueInfoProto, scaling: Scaling<'_>) -> Result<Vec<usize>, ImportError> {
    let parts = scaling.offset.len();
    if parts == 1 {
        return Ok(Vec::new());
    }
    let width: usize = scaling.shape.iter().product();
    let own = row_of(input);
    match (own, scaling.shape) {
        (Some(row), _) if parts == width && row.iter().product::<usize>() == width => Ok(row),
        (_, shape) if parts == width => Ok(shape.to_vec()),
        (_, [first, rest @ ..]) if parts == *first => Ok([&[parts][..], &vec![1; rest.len()]].concat()),
        _ => Err(ImportError::Input {
            name: input.name().into(),
            reason: format!("it is normalised in {parts} parts of rows of shape {:?}", scaling.shape),
        }),
    }
}

/// The shape of a row, where all of it is fixed.
fn row_of(input: &ValueInfoProto) -> Option<Vec<usize>> {
    let Some(type_proto::Value::TensorType(tensor)) = input.r#type.as_ref()?.value.as_ref() else { return None };
    let sizes = tensor.shape.as_ref()?.dim.iter().skip(1).map(|dimension| match dimension.value {
        Some(dimension::Value::DimValue(size)) => usize::try_from(size).ok(),
        _ => None,
    });
    sizes.collect()
}

fn floats(name: String, shape: &[usize], numbers: &[f32]) -> TensorProto {
    TensorProto {
        name: Some(name),
        dims: shape.iter().map(|&size| i64::try_from(size).expect("a tensor's size fits in an i64")).collect(),
        data_type: Some(i32::try_from(dtype_code(Dtype::F32)).expect("ONNX's types are small numbers")),
        raw_data: Some(numbers.iter().flat_map(|number| number.to_le_bytes()).collect()),
        ..TensorProto::default()
    }
}

fn node(op: &str, inputs: [String; 2], output: String) -> NodeProto {
    NodeProto {
        op_type: Some(op.into()),
        name: Some(output.clone()),
        input: inputs.into(),
        output: vec![output],
        ..NodeProto::default()
    }
}
