//! The data of a recipe: where it lies, what it is, how it is split.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
    /// npz: the array of features, `[rows, ...]`, or several, one for each input of a model; by default `x`.
    /// CSV and Parquet: by default every column but the target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub features: Option<Columns>,
    /// npz and shards: the array of targets, of a shape that the task takes. CSV and Parquet: the column. Not needed where
    /// the format says what the target is: npy, images, tokens.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub target: String,
    /// The share of rows kept for validation, between 0 and 1. Not used where `validation_target` names rows of their own.
    #[serde(default = "default_validation")]
    pub validation: f64,
    /// npz: the array of features to validate on, where the archive has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation_features: Option<Columns>,
    /// npz: the array of targets to validate on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation_target: Option<String>,
    /// Which rows are kept for validation follows from this seed alone, so that all trials of a study agree.
    #[serde(default)]
    pub split_seed: u64,
    #[serde(default)]
    pub normalize: Normalize,
    /// The shape of one row of the features, where the file does not say it: `[1, 28, 28]` for flat grey images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shape: Option<Vec<u32>>,
    /// Where the axis of channels lies in a row of the features; a model sees it first.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("default" = "first"))]
    pub channels: Channels,
    /// Columns of categories that a model embeds, as whole numbers or texts. npz: arrays of whole numbers, of those
    /// in `features`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub categorical: Vec<String>,
    /// Tokens: how many of them make a row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub length: Option<u32>,
    /// Images: the height and width that they are brought to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_size: Option<[u32; 2]>,
    /// Labels that are no class, as the recipe's loss says (`ignore_index`): no key of a file.
    #[serde(skip)]
    pub ignored: Option<i64>,
    /// Read the rows from the disk while training, in a shuffled order, rather than hold them all in memory.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("default" = false))]
    pub stream: bool,
}

/// Where the channels are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Channels {
    #[default]
    First,
    Last,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
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
    /// One NumPy array whose last column is the target.
    Npy,
    Parquet,
    /// A zip or tar archive of PNG and JPEG files, a folder a class.
    Images,
    /// Token numbers, one after the other: `npy`, or raw little-endian unsigned 16-bit numbers. The target is the next token.
    Tokens,
    /// A tar archive of npz files, each a part of the rows.
    Shards,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// A class a row, with targets `[rows]`; or, of an ONNX model, a class for each place: `[rows, length]` for outputs
    /// `[rows, classes, length]` or `[rows, length, classes]`, `[rows, height, width]` for outputs
    /// `[rows, classes, height, width]`. Classes are whole numbers from 0 on; in tables they may be texts.
    Classification,
    /// Numbers: `[rows]`, which outputs `[rows]` or `[rows, 1]` answer, or `[rows, width]`, or any shape that the outputs
    /// of an ONNX model have.
    Regression,
    /// Several yes-or-no questions a row, each 0 or 1, with targets of the shapes of a regression.
    Multilabel,
    /// The next token of each position; or any class for each place, with targets `[rows, length]`. Where a model has as
    /// many classes as places, its outputs are read as `[rows, length, classes]`.
    LanguageModel,
    /// Labels in order, fewer than the model's frames, with targets `[rows, labels]`; class 0 is no label, and pads a
    /// row's labels.
    Transcription,
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
    /// Mean 0 and standard deviation 1, channel by channel: for images.
    Channel,
}

/// What is done to the features of a training minibatch, drawn anew for each row and step from the trial's seed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "name", rename_all = "snake_case")]
pub enum Augmentation {
    /// Images are shifted by up to so many pixels each way; what comes in from outside is zero.
    Shift { pixels: u32 },
    /// Half of the images are mirrored left to right.
    Flip,
    /// Normal noise of this standard deviation is added.
    Noise { deviation: f64 },
    /// Pairs of rows are mixed, features and losses alike, by a share from the Beta distribution (Zhang et al., 2018).
    Mixup { alpha: f64 },
}
