//! Tensors, attributes and types of a model file as this crate holds them, with every size checked.

use std::collections::BTreeMap;

use half::{bf16, f16};

use super::{ImportError, LIMITS};
use crate::graph::{Attribute, Constant, Dtype, Elements, dtype_of};
use crate::onnx::attribute_proto::AttributeType;
use crate::onnx::tensor_proto::DataLocation;
use crate::onnx::{AttributeProto, NodeProto, TensorProto};

/// The shape of a tensor of a file.
///
/// # Errors
/// An axis is negative, or there are more axes or elements than are taken.
pub(super) fn shape_of(tensor: &TensorProto) -> Result<Vec<usize>, ImportError> {
    checked_shape(tensor.name(), &tensor.dims)
}

pub(super) fn checked_shape(name: &str, dims: &[i64]) -> Result<Vec<usize>, ImportError> {
    let bad = |reason: String| ImportError::Tensor { name: name.into(), reason };
    if dims.len() > LIMITS.rank_max {
        return Err(bad(format!("{} axes, and at most {} are taken", dims.len(), LIMITS.rank_max)));
    }
    let shape: Option<Vec<usize>> = dims.iter().map(|&size| usize::try_from(size).ok()).collect();
    let shape = shape.ok_or_else(|| bad(format!("its shape {dims:?} is negative")))?;
    match shape.iter().try_fold(1_usize, |product, &size| product.checked_mul(size)) {
        Some(elements) if elements <= LIMITS.elements_max => Ok(shape),
        _ => Err(bad(format!("its shape {dims:?} has more than {} elements", LIMITS.elements_max))),
    }
}

/// A tensor of a file as a constant.
///
/// # Errors
/// Its type is not one of this crate's, its elements lie elsewhere, or their number is not that of its shape.
pub(super) fn constant_of(tensor: &TensorProto) -> Result<Constant, ImportError> {
    let name = tensor.name();
    if tensor.data_location() == DataLocation::External {
        return Err(ImportError::ExternalData { name: name.into() });
    }
    let bad = |reason: String| ImportError::Tensor { name: name.into(), reason };
    let shape = shape_of(tensor)?;
    let count: usize = shape.iter().product();
    let code = tensor.data_type();
    let dtype =
        dtype_of(i64::from(code)).ok_or_else(|| bad(format!("elements of ONNX's type {code} are not taken")))?;
    let elements = match &tensor.raw_data {
        Some(bytes) => from_raw(dtype, bytes),
        None => from_fields(dtype, tensor),
    };
    let found = match &elements {
        Elements::Float(floats) => floats.len(),
        Elements::Int(ints) => ints.len(),
    };
    if found != count {
        return Err(bad(format!("{found} elements for the shape {shape:?}")));
    }
    Ok(Constant { dtype, shape, elements })
}

/// Elements as the file has them in bytes, little-endian. Bytes that make no whole element are left out.
fn from_raw(dtype: Dtype, bytes: &[u8]) -> Elements {
    match dtype {
        Dtype::F16 => Elements::Float(parts(bytes, |part| f16::from_le_bytes(part).to_f64())),
        Dtype::Bf16 => Elements::Float(parts(bytes, |part| bf16::from_le_bytes(part).to_f64())),
        Dtype::F32 => Elements::Float(parts(bytes, |part| f64::from(f32::from_le_bytes(part)))),
        Dtype::F64 => Elements::Float(parts(bytes, f64::from_le_bytes)),
        Dtype::U8 => Elements::Int(bytes.iter().map(|&byte| i64::from(byte)).collect()),
        Dtype::Bool => Elements::Int(bytes.iter().map(|&byte| i64::from(byte != 0)).collect()),
        Dtype::I32 => Elements::Int(parts(bytes, |part| i64::from(i32::from_le_bytes(part)))),
        Dtype::I64 => Elements::Int(parts(bytes, i64::from_le_bytes)),
    }
}

fn parts<const N: usize, T>(bytes: &[u8], element: impl Fn([u8; N]) -> T) -> Vec<T> {
    bytes.as_chunks::<N>().0.iter().map(|part| element(*part)).collect()
}

/// Elements as the file has them in typed fields.
fn from_fields(dtype: Dtype, tensor: &TensorProto) -> Elements {
    // ONNX keeps halves as the bits of an integer.
    let bits = |bits: &i32| u16::try_from(*bits & 0xffff).expect("masked to sixteen bits");
    let ints = || tensor.int32_data.iter();
    match dtype {
        Dtype::F16 => Elements::Float(ints().map(|int| f16::from_bits(bits(int)).to_f64()).collect()),
        Dtype::Bf16 => Elements::Float(ints().map(|int| bf16::from_bits(bits(int)).to_f64()).collect()),
        Dtype::F32 => Elements::Float(tensor.float_data.iter().map(|&float| f64::from(float)).collect()),
        Dtype::F64 => Elements::Float(tensor.double_data.clone()),
        Dtype::U8 => Elements::Int(ints().map(|&int| i64::from(int & 0xff)).collect()),
        Dtype::Bool => Elements::Int(ints().map(|&int| i64::from(int != 0)).collect()),
        Dtype::I32 => Elements::Int(ints().map(|&int| i64::from(int)).collect()),
        Dtype::I64 => Elements::Int(tensor.int64_data.clone()),
    }
}

/// The numbers of a tensor of type f32.
///
/// # Errors
/// As [`constant_of`], or the tensor is of another type.
#[expect(clippy::cast_possible_truncation, reason = "the numbers were read from single precision")]
pub(super) fn singles_of(tensor: &TensorProto) -> Result<Vec<f32>, ImportError> {
    match constant_of(tensor)? {
        Constant { dtype: Dtype::F32, elements: Elements::Float(floats), .. } => {
            Ok(floats.into_iter().map(|float| float as f32).collect())
        }
        other => {
            let reason = format!("of type {:?} where single precision is needed", other.dtype);
            Err(ImportError::Tensor { name: tensor.name().into(), reason })
        }
    }
}

/// The plain attributes of a node: numbers and texts. Tensors and graphs are not among them.
pub(super) fn attributes_of(node: &NodeProto) -> BTreeMap<String, Attribute> {
    node.attribute.iter().filter_map(|attribute| Some((attribute.name().to_owned(), plain(attribute)?))).collect()
}

fn plain(attribute: &AttributeProto) -> Option<Attribute> {
    let text = |bytes: &Vec<u8>| String::from_utf8_lossy(bytes).into_owned();
    Some(match attribute.r#type() {
        AttributeType::Int => Attribute::Int(attribute.i()),
        AttributeType::Ints => Attribute::Ints(attribute.ints.clone()),
        AttributeType::Float => Attribute::Float(f64::from(attribute.f())),
        AttributeType::Floats => Attribute::Floats(attribute.floats.iter().map(|&float| f64::from(float)).collect()),
        AttributeType::String => Attribute::Text(text(attribute.s.as_ref()?)),
        AttributeType::Strings => Attribute::Texts(attribute.strings.iter().map(text).collect()),
        _ => return None,
    })
}

/// The tensor among a node's attributes that has this name.
pub(super) fn tensor_attribute<'n>(node: &'n NodeProto, name: &str) -> Option<&'n TensorProto> {
    node.attribute.iter().find(|attribute| attribute.name() == name)?.t.as_ref()
}
