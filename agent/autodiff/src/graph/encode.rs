//! A graph as the bytes of an ONNX model.

use std::collections::BTreeSet;

use half::{bf16, f16};
use prost::Message;

use super::{Attribute, Constant, Dtype, Elements, Graph, Node, Value};
use crate::onnx::attribute_proto::AttributeType;
use crate::onnx::tensor_proto::DataType;
use crate::onnx::tensor_shape_proto::{Dimension, dimension};
use crate::onnx::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto, TypeProto,
    ValueInfoProto, type_proto,
};

/// The ONNX file format that belongs to the opset of this crate's graphs.
const IR_VERSION: i64 = 10;

impl Graph {
    /// The model as ONNX bytes: only what its outputs depend on, and every declared input.
    pub fn encode(&self) -> Vec<u8> {
        self.model().encode_to_vec()
    }

    /// As [`encode`](Self::encode), where the graph is that of [`to_run`](Self::to_run) already.
    pub(crate) fn encode_as_it_is(&self) -> Vec<u8> {
        self.proto().encode_to_vec()
    }

    /// As [`encode`](Self::encode), not yet as bytes.
    pub(crate) fn model(&self) -> ModelProto {
        self.to_run().proto()
    }

    /// The graph as it is.
    fn proto(&self) -> ModelProto {
        let nodes: Vec<&Node> = self.nodes.iter().collect();
        let used: BTreeSet<Value> = nodes
            .iter()
            .flat_map(|node| node.inputs.iter().flatten().copied())
            .chain(self.outputs.iter().copied())
            .collect();
        let constants = self.constant_by_value.iter().filter(|(value, _)| used.contains(value));
        let graph = GraphProto {
            name: Some("regatta".into()),
            node: nodes.iter().map(|node| self.node_proto(node)).collect(),
            initializer: constants.map(|(value, constant)| tensor_proto(self.name(*value), constant)).collect(),
            input: self.inputs.iter().map(|value| self.value_proto(*value)).collect(),
            output: self.outputs.iter().map(|value| self.value_proto(*value)).collect(),
            ..GraphProto::default()
        };
        ModelProto {
            ir_version: Some(IR_VERSION),
            producer_name: Some("regatta".into()),
            opset_import: self.opset_imports(&nodes),
            graph: Some(graph),
            ..ModelProto::default()
        }
    }

    /// ONNX's own operators, and version 1 of every other domain that the graph uses.
    fn opset_imports(&self, nodes: &[&Node]) -> Vec<OperatorSetIdProto> {
        let domains: BTreeSet<&str> = nodes.iter().map(|node| node.domain.as_str()).chain([""]).collect();
        let version = |domain: &str| if domain.is_empty() { self.opset() } else { 1 };
        let import = |domain: &str| OperatorSetIdProto { domain: Some(domain.into()), version: Some(version(domain)) };
        domains.into_iter().map(import).collect()
    }

    fn node_proto(&self, node: &Node) -> NodeProto {
        let name_or_empty = |value: &Option<Value>| value.map_or_else(String::new, |value| self.name(value).into());
        NodeProto {
            name: Some(node.name.clone()),
            domain: Some(node.domain.clone()),
            op_type: Some(node.op.clone()),
            input: node.inputs.iter().map(name_or_empty).collect(),
            output: node.outputs.iter().map(|value| self.name(*value).into()).collect(),
            attribute: node.attributes.iter().map(|(name, attribute)| attribute_proto(name, attribute)).collect(),
            ..NodeProto::default()
        }
    }

    fn value_proto(&self, value: Value) -> ValueInfoProto {
        let info = self.info(value);
        let dimension = |&size: &usize| Dimension {
            value: Some(dimension::Value::DimValue(i64::try_from(size).expect("a tensor's size fits in an i64"))),
            ..Dimension::default()
        };
        let tensor = type_proto::Tensor {
            elem_type: Some(data_type(info.dtype) as i32),
            shape: Some(TensorShapeProto { dim: info.shape.iter().map(dimension).collect() }),
        };
        let of_type = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..TypeProto::default() };
        ValueInfoProto { name: Some(info.name.clone()), r#type: Some(of_type), ..ValueInfoProto::default() }
    }
}

/// ONNX's number for an element type.
pub(crate) fn dtype_code(dtype: Dtype) -> i64 {
    i64::from(data_type(dtype) as i32)
}

/// The element type behind ONNX's number, where this crate supports it.
pub(crate) fn dtype_of(code: i64) -> Option<Dtype> {
    let all = [Dtype::F16, Dtype::Bf16, Dtype::F32, Dtype::F64, Dtype::U8, Dtype::I32, Dtype::I64, Dtype::Bool];
    all.into_iter().find(|dtype| dtype_code(*dtype) == code)
}

fn data_type(dtype: Dtype) -> DataType {
    match dtype {
        Dtype::F16 => DataType::Float16,
        Dtype::Bf16 => DataType::Bfloat16,
        Dtype::F32 => DataType::Float,
        Dtype::F64 => DataType::Double,
        Dtype::U8 => DataType::Uint8,
        Dtype::I32 => DataType::Int32,
        Dtype::I64 => DataType::Int64,
        Dtype::Bool => DataType::Bool,
    }
}

#[expect(clippy::cast_possible_truncation, reason = "constants are held wide and rounded here")]
fn tensor_proto(name: &str, constant: &Constant) -> TensorProto {
    let bytes = match (&constant.elements, constant.dtype) {
        (Elements::Float(floats), Dtype::F32) => floats.iter().flat_map(|x| (*x as f32).to_le_bytes()).collect(),
        (Elements::Int(ints), Dtype::I32) => ints.iter().flat_map(|n| (*n as i32).to_le_bytes()).collect(),
        (Elements::Float(floats), Dtype::F16) => floats.iter().flat_map(|x| f16::from_f64(*x).to_le_bytes()).collect(),
        (Elements::Float(floats), Dtype::Bf16) => {
            floats.iter().flat_map(|x| bf16::from_f64(*x).to_le_bytes()).collect()
        }
        (Elements::Int(ints), Dtype::U8) => ints.iter().map(|n| *n as u8).collect(),
        (Elements::Int(ints), Dtype::Bool) => ints.iter().map(|n| u8::from(*n != 0)).collect(),
        (Elements::Float(floats), _) => floats.iter().flat_map(|x| x.to_le_bytes()).collect(),
        (Elements::Int(ints), _) => ints.iter().flat_map(|n| n.to_le_bytes()).collect(),
    };
    TensorProto {
        name: Some(name.into()),
        data_type: Some(data_type(constant.dtype) as i32),
        dims: constant.shape.iter().map(|&size| i64::try_from(size).expect("a size fits in an i64")).collect(),
        raw_data: Some(bytes),
        ..TensorProto::default()
    }
}

#[expect(clippy::cast_possible_truncation, reason = "ONNX holds float attributes in single precision")]
fn attribute_proto(name: &str, attribute: &Attribute) -> AttributeProto {
    let mut proto = AttributeProto { name: Some(name.into()), ..AttributeProto::default() };
    let kind = match attribute {
        Attribute::Int(int) => {
            proto.i = Some(*int);
            AttributeType::Int
        }
        Attribute::Ints(ints) => {
            proto.ints.clone_from(ints);
            AttributeType::Ints
        }
        Attribute::Float(float) => {
            proto.f = Some(*float as f32);
            AttributeType::Float
        }
        Attribute::Floats(floats) => {
            proto.floats = floats.iter().map(|float| *float as f32).collect();
            AttributeType::Floats
        }
        Attribute::Text(text) => {
            proto.s = Some(text.as_bytes().to_vec());
            AttributeType::String
        }
        Attribute::Texts(texts) => {
            proto.strings = texts.iter().map(|text| text.as_bytes().to_vec()).collect();
            AttributeType::Strings
        }
    };
    proto.r#type = Some(kind as i32);
    proto
}
