//! Tensors that a model file keeps in files beside it (ONNX's external data), put back into the model.
//!
//! Exporters write large models so; what is sent to an agent is one file. Whoever calls reads the files: here is said
//! which ones, and which part of them is whose.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path};

use prost::Message;

use crate::tensor_proto::{DataLocation, DataType};
use crate::{AttributeProto, GraphProto, ModelProto, NodeProto, SparseTensorProto, TensorProto};

/// Why the tensors beside a model cannot be put into it, in words for the person who exported it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExternalError {
    #[error(
        "tensor {tensor:?} lies in the file {location:?}, and only files in the model's folder are read; save the model \
         again as one file (external_data=False)"
    )]
    Elsewhere { tensor: String, location: String },
    #[error(
        "tensor {tensor:?} lies in a file beside the model, and {key:?} of where it lies there is {value:?}, which is no \
         number of bytes; export the model again"
    )]
    Number { tensor: String, key: &'static str, value: String },
    #[error(
        "tensor {tensor:?} of shape {dims:?} has {needed} bytes, and {length} in the file beside the model; export the \
         model again"
    )]
    Length { tensor: String, dims: Vec<i64>, needed: u64, length: u64 },
    #[error(
        "tensor {tensor:?} lies in {location:?} at {offset} and has {length} bytes, and that file ends at {size}: it was cut \
         short, or is of another export; copy or export both files again"
    )]
    Short { tensor: String, location: String, offset: u64, length: u64, size: u64 },
    #[error("the model has {bytes} bytes with the files beside it; at most {bytes_max} are taken")]
    TooLarge { bytes: u64, bytes_max: u64 },
}

/// Where the bytes of one tensor lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    pub tensor: String,
    /// A path in the model's folder.
    pub location: String,
    pub offset: u64,
    /// In bytes.
    pub length: u64,
}

/// A model some of whose tensors lie in files beside its own.
#[derive(Debug, Clone, PartialEq)]
pub struct Split {
    model: ModelProto,
    /// Of its tensors that lie elsewhere, in the order of [`external_tensors`].
    pieces: Vec<Piece>,
    /// What the model's own file has.
    own_bytes: u64,
}

impl Split {
    /// Of the bytes of a model's file. None where all of the model is in it, and where it is no model: what is wrong
    /// with a file, whoever imports it says.
    ///
    /// # Errors
    /// A tensor lies outside the model's folder, or where it lies is not said, or not by numbers that fit it.
    pub fn of(file: &[u8]) -> Result<Option<Self>, ExternalError> {
        let Ok(mut model) = ModelProto::decode(file) else { return Ok(None) };
        let tensors = external_tensors(&mut model);
        let pieces = tensors.into_iter().map(|tensor| piece_of(tensor)).collect::<Result<Vec<_>, _>>()?;
        Ok((!pieces.is_empty()).then_some(Self { model, pieces, own_bytes: file.len() as u64 }))
    }

    /// The files that its tensors lie in, as paths in the model's folder.
    pub fn locations(&self) -> BTreeSet<&str> {
        self.pieces.iter().map(|piece| piece.location.as_str()).collect()
    }

    /// Whether files of these sizes have all of its tensors and make a model of at most `bytes_max`: to be asked before
    /// anything of them is read.
    ///
    /// # Errors
    /// A file ends before a tensor does, or all of it is too large.
    pub fn check(&self, size_by_location: &BTreeMap<String, u64>, bytes_max: u64) -> Result<(), ExternalError> {
        let mut bytes = self.own_bytes;
        for Piece { tensor, location, offset, length } in &self.pieces {
            let size = size_by_location.get(location).copied().unwrap_or(0);
            if offset.checked_add(*length).is_none_or(|end| end > size) {
                let (tensor, location) = (tensor.clone(), location.clone());
                return Err(ExternalError::Short { tensor, location, offset: *offset, length: *length, size });
            }
            bytes = bytes.saturating_add(*length);
        }
        if bytes > bytes_max {
            return Err(ExternalError::TooLarge { bytes, bytes_max });
        }
        Ok(())
    }

    /// The bytes of a file that has all of the model; `read` gives the bytes of a piece.
    ///
    /// # Errors
    /// What `read` could not.
    pub fn joined<E>(mut self, mut read: impl FnMut(&Piece) -> Result<Vec<u8>, E>) -> Result<Vec<u8>, E> {
        for (tensor, piece) in external_tensors(&mut self.model).into_iter().zip(&self.pieces) {
            tensor.raw_data = Some(read(piece)?);
            tensor.data_location = None;
            tensor.external_data.clear();
        }
        Ok(self.model.encode_to_vec())
    }
}

/// # Errors
/// As [`Split::of`].
fn piece_of(tensor: &TensorProto) -> Result<Piece, ExternalError> {
    let name = tensor.name().to_owned();
    let location = entry(tensor, "location").unwrap_or_default().to_owned();
    if !lies_in_folder(&location) {
        return Err(ExternalError::Elsewhere { tensor: name, location });
    }
    let offset = number(tensor, "offset")?.unwrap_or(0);
    let length = match (number(tensor, "length")?, bytes_of_shape(tensor)) {
        (Some(length), Some(needed)) if length != needed => {
            return Err(ExternalError::Length { tensor: name, dims: tensor.dims.clone(), needed, length });
        }
        (Some(length), _) | (None, Some(length)) => length,
        (None, None) => return Err(ExternalError::Number { tensor: name, key: "length", value: String::new() }),
    };
    Ok(Piece { tensor: name, location, offset, length })
}

/// A model may come from anybody: what it names must not lead to files that are not its own.
fn lies_in_folder(location: &str) -> bool {
    let mut parts = Path::new(location).components();
    !location.is_empty() && parts.all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
}

fn entry<'t>(tensor: &'t TensorProto, key: &str) -> Option<&'t str> {
    tensor.external_data.iter().find(|entry| entry.key() == key).map(|entry| entry.value())
}

fn number(tensor: &TensorProto, key: &'static str) -> Result<Option<u64>, ExternalError> {
    let parsed = entry(tensor, key).map(|value| {
        let unread = |_| ExternalError::Number { tensor: tensor.name().to_owned(), key, value: value.to_owned() };
        value.parse().map_err(unread)
    });
    parsed.transpose()
}

/// None where elements are no whole bytes, or the shape is none: what is wrong with those, whoever imports them says.
fn bytes_of_shape(tensor: &TensorProto) -> Option<u64> {
    use DataType as T;
    let of_an_element: u64 = match DataType::try_from(tensor.data_type()).ok()? {
        T::Bool | T::Uint8 | T::Int8 => 1,
        T::Float8e4m3fn | T::Float8e4m3fnuz | T::Float8e5m2 | T::Float8e5m2fnuz | T::Float8e8m0 => 1,
        T::Uint16 | T::Int16 | T::Float16 | T::Bfloat16 => 2,
        T::Uint32 | T::Int32 | T::Float => 4,
        T::Uint64 | T::Int64 | T::Double | T::Complex64 => 8,
        T::Complex128 => 16,
        T::Undefined | T::String => return None,
        T::Uint2 | T::Int2 | T::Uint4 | T::Int4 | T::Float4e2m1 | T::Float6e2m3 | T::Float6e3m2 => return None,
    };
    tensor.dims.iter().try_fold(of_an_element, |bytes, &size| bytes.checked_mul(u64::try_from(size).ok()?))
}

/// Each tensor of a model that lies in a file beside it, always in the same order.
fn external_tensors(model: &mut ModelProto) -> Vec<&mut TensorProto> {
    let mut found = Vec::new();
    let of_training = model.training_info.iter_mut().flat_map(|info| [&mut info.initialization, &mut info.algorithm]);
    for graph in of_training.flatten().chain(&mut model.graph) {
        of_graph(graph, &mut found);
    }
    for function in &mut model.functions {
        of_attributes(&mut function.attribute_proto, &mut found);
        of_nodes(&mut function.node, &mut found);
    }
    found.retain(|tensor| tensor.data_location() == DataLocation::External);
    found
}

fn of_graph<'m>(graph: &'m mut GraphProto, found: &mut Vec<&'m mut TensorProto>) {
    found.extend(&mut graph.initializer);
    found.extend(graph.sparse_initializer.iter_mut().flat_map(of_sparse));
    of_nodes(&mut graph.node, found);
}

fn of_nodes<'m>(nodes: &'m mut [NodeProto], found: &mut Vec<&'m mut TensorProto>) {
    for node in nodes {
        of_attributes(&mut node.attribute, found);
    }
}

fn of_attributes<'m>(attributes: &'m mut [AttributeProto], found: &mut Vec<&'m mut TensorProto>) {
    for attribute in attributes {
        found.extend(attribute.t.iter_mut().chain(&mut attribute.tensors));
        found.extend(attribute.sparse_tensor.iter_mut().chain(&mut attribute.sparse_tensors).flat_map(of_sparse));
        for graph in attribute.g.iter_mut().chain(&mut attribute.graphs) {
            of_graph(graph, found);
        }
    }
}

fn of_sparse(tensor: &mut SparseTensorProto) -> impl Iterator<Item = &mut TensorProto> {
    tensor.values.iter_mut().chain(&mut tensor.indices)
}

#[cfg(test)]
#[path = "external_tests.rs"]
mod tests;
