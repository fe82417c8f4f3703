//! What anybody can read from a checkpoint: the model that it is of, as a file for inference.
//!
//! It knows no runtime and no training: only agents write checkpoints, and only they resume from one.

use std::collections::BTreeMap;

use regatta_autodiff::export::{
    FamilyExportError, Scaling, export, export_family, of_raw_inputs, weight_names, with_metadata,
};
use regatta_autodiff::families::{Model, WordsError};
use regatta_autodiff::import::ImportError;
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The one metadata key. One, because the order of several would differ from one writing to the next.
pub const KEY: &str = "regatta.checkpoint";

/// Grows when the meaning of a field or tensor changes.
pub const VERSION: u64 = 3;

/// The field of the metadata that has the model's words.
pub const MODEL: &str = "model";

/// The field of the metadata that says whether an average of the weights is kept, and is what evaluations use.
pub const AVERAGE: &str = "average";

/// The field of the metadata that says what the model's inputs are made of; also the key of an exported file's metadata.
pub const INPUTS: &str = "regatta.inputs";

/// The field of the metadata that says what the data call each class; also the key of an exported file's metadata.
pub const CLASSES: &str = "regatta.classes";

/// The field of the metadata that says after how many epochs the weights measured best, where those are kept, too.
pub const BEST: &str = "best";

/// What the names of those weights begin with.
pub const BEST_PREFIX: &str = "regatta.best/";

/// What an input of the model is made of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Input {
    /// As the data have it.
    pub name: String,
    /// Of one row.
    pub shape: Vec<usize>,
    /// The name of each position of a row; empty where there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<String>,
    /// For each position that stands for texts: the one that it says the presence of, or all in the order of their numbers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub texts: Vec<Vec<String>>,
    /// What the data's numbers go through; absent: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub normalized: Option<Affine>,
}

/// `(number - offset) * factor`: one of each for all numbers of a row, or for each equal part of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Affine {
    pub offset: Vec<f32>,
    pub factor: Vec<f32>,
}

/// Why there is no model to be had from a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    #[error("the checkpoint cannot be read: {reason}")]
    Unreadable { reason: String },
    #[error("the checkpoint has version {found}, and version {VERSION} is read: another version of regatta wrote it")]
    Version { found: u64 },
    #[error("the model was trained from a file, and its file is not there")]
    NoFile,
    #[error(transparent)]
    Words(#[from] WordsError),
    #[error(transparent)]
    Family(#[from] FamilyExportError),
    #[error(transparent)]
    File(#[from] ImportError),
}

/// The model of a checkpoint, as its evaluations use it.
#[derive(Debug, Clone, PartialEq)]
pub struct Trained {
    words: String,
    is_averaged: bool,
    tensors: BTreeMap<String, Vec<f32>>,
    inputs: Vec<Input>,
    classes: Vec<String>,
    best_epoch: Option<u64>,
}

impl Trained {
    /// # Errors
    /// The bytes are no checkpoint, or of another version.
    pub fn read(bytes: &[u8]) -> Result<Self, CheckpointError> {
        let tensors = SafeTensors::deserialize(bytes).map_err(|error| unreadable(error.to_string()))?;
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(|error| unreadable(error.to_string()))?;
        let metadata = header.metadata().as_ref().and_then(|metadata| metadata.get(KEY));
        let metadata = metadata.ok_or_else(|| unreadable("it was not written by an agent"))?;
        let metadata: Value = serde_json::from_str(metadata).map_err(|error| unreadable(error.to_string()))?;
        let found = metadata.get("version").and_then(Value::as_u64).unwrap_or_default();
        if found != VERSION {
            return Err(CheckpointError::Version { found });
        }
        let words = metadata.get(MODEL).and_then(Value::as_str).ok_or_else(|| unreadable("it names no model"))?;
        let is_averaged = metadata.get(AVERAGE).and_then(Value::as_bool).unwrap_or_default();
        let singles = tensors.iter().filter(|(_, tensor)| tensor.dtype() == Dtype::F32);
        let numbers = |bytes: &[u8]| bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        Ok(Self {
            words: words.to_owned(),
            is_averaged,
            tensors: singles.map(|(name, tensor)| (name.to_owned(), numbers(tensor.data()))).collect(),
            inputs: list(&metadata, INPUTS)?,
            classes: list(&metadata, CLASSES)?,
            best_epoch: metadata.pointer(&format!("/{BEST}/epoch")).and_then(Value::as_u64),
        })
    }

    /// Whether the graph is that of a file, which [`onnx`](Self::onnx) then needs.
    pub fn is_of_file(&self) -> bool {
        Model::is_of_file(&self.words)
    }

    /// After how many epochs the weights measured best, where those were kept beside the last.
    pub fn best_epoch(&self) -> Option<u64> {
        self.best_epoch
    }

    /// The model as it measured best; as it was last, where nothing else was kept.
    pub fn at_best(mut self) -> Self {
        let best: Vec<_> =
            self.tensors.extract_if(BEST_PREFIX.to_owned().., |name, _| name.starts_with(BEST_PREFIX)).collect();
        self.tensors.extend(best.into_iter().map(|(name, numbers)| (name[BEST_PREFIX.len()..].to_owned(), numbers)));
        self
    }

    /// Whether numbers are normalised before the model sees them.
    pub fn is_of_normalized_inputs(&self) -> bool {
        self.inputs.iter().any(|input| input.normalized.is_some())
    }

    /// The same as [`onnx`](Self::onnx), but that it takes numbers as the data have them, and normalises them itself.
    ///
    /// # Errors
    /// The same, or an input is laid out otherwise than the data.
    pub fn onnx_of_raw_inputs(&self, file: Option<&[u8]>) -> Result<Vec<u8>, CheckpointError> {
        let scalings = self.inputs.iter().map(|input| {
            let Affine { offset, factor } = input.normalized.as_ref()?;
            Some(Scaling { shape: &input.shape, offset, factor })
        });
        Ok(of_raw_inputs(&self.onnx(file)?, &scalings.collect::<Vec<_>>())?)
    }

    /// The model as an ONNX file for inference: of a family, or of the file that it was trained from. Its metadata say
    /// what its inputs are made of, and what its classes are called.
    ///
    /// # Errors
    /// The file is missing or another one, or the checkpoint does not hold the model that it says it is of.
    pub fn onnx(&self, file: Option<&[u8]>) -> Result<Vec<u8>, CheckpointError> {
        let onnx = self.plain_onnx(file)?;
        let onnx = with_list(onnx, INPUTS, &self.inputs)?;
        with_list(onnx, CLASSES, &self.classes)
    }

    fn plain_onnx(&self, file: Option<&[u8]>) -> Result<Vec<u8>, CheckpointError> {
        if !self.is_of_file() {
            let model = Model::from_words(&self.words)?;
            return Ok(export_family(&model, |name| self.weights(name).cloned())?);
        }
        let file = file.ok_or(CheckpointError::NoFile)?;
        let names = weight_names(file)?;
        let weights = names.into_iter().filter_map(|name| {
            let weights = self.weights(&name)?.clone();
            Some((name, weights))
        });
        Ok(export(file, &weights.collect())?)
    }

    /// What evaluations use for this parameter or running statistic.
    fn weights(&self, name: &str) -> Option<&Vec<f32>> {
        let average = if self.is_averaged { self.tensors.get(&format!("{name}/average")) } else { None };
        average.or_else(|| self.tensors.get(name))
    }
}

/// The model with a list in its metadata, unless it is empty.
fn with_list<T: Serialize>(onnx: Vec<u8>, key: &str, list: &[T]) -> Result<Vec<u8>, CheckpointError> {
    if list.is_empty() {
        return Ok(onnx);
    }
    let text = serde_json::to_string(list).map_err(|error| unreadable(error.to_string()))?;
    Ok(with_metadata(&onnx, key, text)?)
}

/// Nothing where the metadata have no such field.
fn list<T: serde::de::DeserializeOwned>(metadata: &Value, field: &str) -> Result<Vec<T>, CheckpointError> {
    let list = metadata.get(field).cloned().map(serde_json::from_value).transpose();
    Ok(list.map_err(|error| unreadable(error.to_string()))?.unwrap_or_default())
}

fn unreadable(reason: impl Into<String>) -> CheckpointError {
    CheckpointError::Unreadable { reason: reason.into() }
}
