//! The recipe: all that an agent needs to train, every value resolved.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What an agent trains.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Recipe {
    pub data: Data,
    pub model: Model,
    pub loss: Loss,
    pub optimizer: Optimizer,
    /// Rows of a training step.
    pub batch_size: u32,
    /// Gradients are scaled so that their global norm is at most this; absent: not clipped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clip_norm: Option<f64>,
    #[serde(default)]
    pub checkpoint: Checkpointing,
    /// Seconds of training after which the trial fails; absent: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_limit_s: Option<f64>,
}

/// The data set and how it is split. Exactly one of `file` and `object` says where it lies.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Data {
    /// In a study file: a path relative to it, which `regatta` uploads. In an offer: a path below the agent's data folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// An object in the bucket of data sets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<DataObject>,
    pub format: DataFormat,
    pub task: Task,
    /// npz: the array of features, `[rows, ...]`; by default `x`. CSV: by default every column but the target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub features: Option<Columns>,
    /// npz: the array of targets, `[rows]` or `[rows, width]`. CSV: the column.
    pub target: String,
    /// The share of rows kept for validation, between 0 and 1.
    #[serde(default = "default_validation")]
    pub validation: f64,
    /// Which rows are kept for validation follows from this seed alone, so that all trials of a study agree.
    #[serde(default)]
    pub split_seed: u64,
    #[serde(default)]
    pub normalize: Normalize,
}

fn default_validation() -> f64 {
    0.2
}

/// A data set in the object store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DataObject {
    /// SHA-256 of its bytes, in hexadecimal: the object's name.
    pub sha256: String,
    pub bytes: u64,
    /// What the file was called, for people.
    #[serde(default)]
    pub file_name: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DataFormat {
    /// An archive of NumPy arrays.
    Npz,
    /// Comma-separated values with a header line.
    Csv,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    Classification,
    Regression,
}

/// One name or several.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Columns {
    One(String),
    Many(Vec<String>),
}

/// What is done to each feature, with figures of the training rows alone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Normalize {
    #[default]
    None,
    /// Mean 0 and standard deviation 1, feature by feature.
    Standard,
    /// Between 0 and 1, all features by the same factor.
    Scale,
}

/// The model's family and shape.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "family", rename_all = "snake_case")]
pub enum Model {
    /// Dense layers. Give either `hidden`, or `layers` and `width`.
    Mlp(Mlp),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Mlp {
    /// The width of each hidden layer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hidden: Option<Vec<u32>>,
    /// The number of hidden layers, all of the same `width`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layers: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub width: Option<u32>,
    #[serde(default)]
    pub activation: Activation,
    /// The probability that a hidden activation is dropped in training, from 0 to below 1.
    #[serde(default)]
    pub dropout: f64,
}

impl Mlp {
    /// The width of each hidden layer, whichever way it was given.
    pub fn hidden_widths(&self) -> Vec<u32> {
        match (&self.hidden, self.layers, self.width) {
            (Some(hidden), _, _) => hidden.clone(),
            (None, Some(layers), Some(width)) => vec![width; layers as usize],
            (None, _, _) => Vec::new(),
        }
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    #[default]
    Relu,
    Tanh,
    Sigmoid,
    Gelu,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Loss {
    /// Softmax cross-entropy over classes.
    CrossEntropy,
    MeanSquaredError,
}

/// The optimizer, with the names and defaults of PyTorch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "name", rename_all = "snake_case")]
pub enum Optimizer {
    Sgd(Sgd),
    /// Weight decay is added to the gradient.
    Adam(Adam),
    /// Weight decay is decoupled from the gradient.
    #[serde(rename = "adamw")]
    AdamW(Adam),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Sgd {
    pub learning_rate: f64,
    #[serde(default)]
    pub momentum: f64,
    #[serde(default)]
    pub nesterov: bool,
    #[serde(default)]
    pub weight_decay: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Adam {
    pub learning_rate: f64,
    #[serde(default = "default_beta1")]
    pub beta1: f64,
    #[serde(default = "default_beta2")]
    pub beta2: f64,
    #[serde(default = "default_epsilon")]
    pub epsilon: f64,
    #[serde(default)]
    pub weight_decay: f64,
}

fn default_beta1() -> f64 {
    0.9
}

fn default_beta2() -> f64 {
    0.999
}

fn default_epsilon() -> f64 {
    1e-8
}

/// When a trial's state is put into the object store.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Checkpointing {
    /// Seconds of training between two checkpoints; one is taken at the end of an epoch.
    #[serde(default = "default_every_s")]
    pub every_s: f64,
    /// Whether the final state is kept as well.
    #[serde(default = "default_at_end")]
    pub at_end: bool,
}

impl Default for Checkpointing {
    fn default() -> Self {
        Self { every_s: default_every_s(), at_end: default_at_end() }
    }
}

fn default_every_s() -> f64 {
    10.0
}

fn default_at_end() -> bool {
    true
}
