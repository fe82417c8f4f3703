//! The recipe: all that an agent needs to train, every value resolved.

mod command;
mod data;
mod model;
mod optimizer;
mod without;

use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

pub use command::{Command, CommandFile, CommandRecipe};
pub use data::{Augmentation, Channels, Columns, Data, DataFormat, DataObject, Normalize, Task};
pub use model::{
    Activation, Cnn, Direction, Mlp, Model, Norm, Onnx, Pool, PositionNorm, Resnet, Tabular, Transformer, Weights,
};
pub(crate) use model::{default_blocks, default_resnet_width};
pub use optimizer::{Adagrad, Adam, Lion, Optimizer, Rmsprop, Schedule, Sgd};
pub use without::{FeatureName, Span, Without};

/// What an agent trains: a model that the recipe describes, or, where it has a `command`, what a program trains.
/// An agent that knows no commands cannot read such an offer, and leaves it to another.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Recipe {
    Command(Box<CommandRecipe>),
    Training(Box<Training>),
}

impl<'de> Deserialize<'de> for Recipe {
    /// By its one telling key, so that what is wrong with a recipe is said of its kind.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        if value.get("command").is_some_and(|command| !command.is_null()) {
            serde_json::from_value(value).map(Self::Command).map_err(D::Error::custom)
        } else {
            serde_json::from_value(value).map(Self::Training).map_err(D::Error::custom)
        }
    }
}

impl Recipe {
    /// The program of a command.
    pub fn program(&self) -> Option<&str> {
        match self {
            Self::Command(recipe) => Some(&recipe.command.program),
            Self::Training(_) => None,
        }
    }

    /// Whether a trial that has ended leaves a checkpoint.
    pub fn keeps_at_end(&self) -> bool {
        match self {
            Self::Training(recipe) => recipe.checkpoint.at_end,
            Self::Command(recipe) => recipe.checkpoint.at_end,
        }
    }
}

/// A model, what it is trained on, and how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Training {
    pub data: Data,
    pub model: Model,
    pub loss: Loss,
    pub optimizer: Optimizer,
    /// How the learning rate runs; absent: it stays.
    #[serde(default, skip_serializing_if = "is_constant")]
    pub schedule: Schedule,
    /// Rows of a training step.
    pub batch_size: u32,
    /// Minibatches whose gradients are averaged for one update.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    #[schemars(extend("default" = 1))]
    pub accumulate: u32,
    /// Gradients are scaled so that their global norm is at most this; absent: not clipped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clip_norm: Option<f64>,
    /// Each element of a gradient is cut to at most this; absent: not clipped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clip_value: Option<f64>,
    /// Parameters without weight decay, by name; `*` stands for any characters.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub undecayed: Vec<String>,
    /// Validate with an exponential average of the weights that keeps this share at each update; absent: with the weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub average: Option<f64>,
    #[serde(default, skip_serializing_if = "is_single")]
    #[schemars(extend("default" = "single"))]
    pub precision: Precision,
    /// Compute the values within the stages or blocks of a cnn, a resnet or a transformer again for the gradient, rather
    /// than keep them: the same numbers, in less memory and more time.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    #[schemars(extend("default" = false))]
    pub recompute: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub augment: Vec<Augmentation>,
    /// What is measured on the validation rows beside the loss, and beside the accuracy for classes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub metrics: Vec<Metric>,
    #[serde(default)]
    pub checkpoint: Checkpointing,
    /// Whether a checkpoint holds the weights that measured best by the study's objective, too.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    #[schemars(extend("default" = true))]
    pub keep_best: bool,
    /// Seconds of training after which the trial fails; absent: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_limit_s: Option<f64>,
    /// What is left out of the data and of the model: an ablation.
    #[serde(default, skip_serializing_if = "Without::is_empty")]
    pub without: Without,
}

fn is_constant(schedule: &Schedule) -> bool {
    *schedule == Schedule::default()
}

fn yes() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_yes(value: &bool) -> bool {
    *value
}

fn one() -> u32 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_one(number: &u32) -> bool {
    *number == 1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_single(precision: &Precision) -> bool {
    *precision == Precision::Single
}

/// What is minimised: a name, or a name with settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Loss {
    Plain(LossName),
    With(LossSettings),
}

impl Loss {
    pub fn name(&self) -> LossName {
        match self {
            Self::Plain(name) => *name,
            Self::With(settings) => settings.name,
        }
    }

    /// The settings, which are the defaults where a name stands alone.
    pub fn settings(&self) -> LossSettings {
        match self {
            Self::Plain(name) => LossSettings {
                name: *name,
                label_smoothing: 0.0,
                class_weights: None,
                ignore_index: None,
                delta: default_delta(),
            },
            Self::With(settings) => settings.clone(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LossName {
    /// Softmax cross-entropy over classes; over tokens for a language model.
    CrossEntropy,
    MeanSquaredError,
    /// Of logits, each a question of its own.
    BinaryCrossEntropy,
    MeanAbsoluteError,
    /// Squared near zero, absolute beyond `delta`.
    Huber,
    /// From the target's distribution to the softmax of the outputs (Kullback and Leibler).
    KlDivergence,
    /// Connectionist temporal classification: labels in order against frames of logits, of which class 0 is the blank.
    Ctc,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LossSettings {
    pub name: LossName,
    /// Cross-entropy: the share of the target that is spread over all classes, from 0 to below 1.
    #[serde(default, skip_serializing_if = "is_zero")]
    #[schemars(extend("default" = 0.0))]
    pub label_smoothing: f64,
    /// Cross-entropy: how much a row of each class counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class_weights: Option<Vec<f64>>,
    /// Cross-entropy: the label of rows or positions that do not count. It may be one that no class has, as -100 or 255.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ignore_index: Option<i64>,
    /// Huber: where it turns from squared to absolute.
    #[serde(default = "default_delta", skip_serializing_if = "is_default_delta")]
    #[schemars(extend("default" = default_delta()))]
    pub delta: f64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_zero(number: &f64) -> bool {
    *number == 0.0
}

fn default_delta() -> f64 {
    1.0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_default_delta(delta: &f64) -> bool {
    *delta == default_delta()
}

/// The numbers that a model computes in. Weights and the optimizer stay in single precision.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    #[default]
    Single,
    /// 16-bit floats, with the loss scaled so that small gradients survive.
    Half,
    Bfloat16,
}

/// What is measured on the validation rows; reported as `validation_<name>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// The share of rows whose class is among the five greatest outputs.
    #[serde(rename = "top5_accuracy")]
    Top5Accuracy,
    /// Among the three greatest.
    #[serde(rename = "top3_accuracy")]
    Top3Accuracy,
    /// Among the ten greatest.
    #[serde(rename = "top10_accuracy")]
    Top10Accuracy,
    /// The mean over classes of the harmonic mean of precision and recall.
    F1,
    /// The area under the receiver's operating characteristic; over classes, the mean of one against the rest.
    Auroc,
    MeanAbsoluteError,
    /// The share of the variance that is explained.
    R2,
    /// The exponential of the cross-entropy.
    Perplexity,
    /// Labels that are inserted, left out or wrong, for each that there is.
    LabelErrorRate,
}

/// When a trial's state is put into the object store.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Checkpointing {
    /// Seconds of training between two checkpoints; one is taken at the end of an epoch.
    #[serde(default = "default_every_s")]
    pub every_s: f64,
    /// Whether the final state is kept as well.
    #[serde(default = "yes")]
    pub at_end: bool,
}

impl Default for Checkpointing {
    fn default() -> Self {
        Self { every_s: default_every_s(), at_end: yes() }
    }
}

fn default_every_s() -> f64 {
    10.0
}
