//! The model of a recipe: its family and shape.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The model's family and shape.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "family", rename_all = "snake_case")]
pub enum Model {
    /// Dense layers. Give either `hidden`, or `layers` and `width`.
    Mlp(Mlp),
    /// Convolutions with pooling between the stages, then dense layers. For images and sequences. Give either `channels`, or
    /// `stages` and `width`.
    Cnn(Cnn),
    /// Residual blocks (He et al., 2016). For images.
    Resnet(Resnet),
    /// Attention (Vaswani et al., 2017): an encoder of sequences, images or tokens, or a decoder of tokens.
    Transformer(Transformer),
    /// Embeddings of the categorical columns beside the numbers, then dense layers. Give either `hidden`, or `layers` and
    /// `width`.
    Tabular(Tabular),
    /// A model that PyTorch or another program exported.
    Onnx(Onnx),
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
    /// Of what each hidden layer gives, before its activation; by default `none`.
    #[serde(default = "no_norm", skip_serializing_if = "is_no_norm")]
    pub norm: Norm,
    #[serde(default)]
    pub activation: Activation,
    /// The probability that a hidden activation is dropped in training, from 0 to below 1.
    #[serde(default)]
    pub dropout: f64,
}

impl Mlp {
    /// The width of each hidden layer, whichever way it was given.
    pub fn hidden_widths(&self) -> Vec<u32> {
        widths(self.hidden.as_ref(), self.layers, self.width)
    }
}

fn widths(hidden: Option<&Vec<u32>>, layers: Option<u32>, width: Option<u32>) -> Vec<u32> {
    match (hidden, layers, width) {
        (Some(hidden), _, _) => hidden.clone(),
        (None, Some(layers), Some(width)) => vec![width; layers as usize],
        (None, _, _) => Vec::new(),
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
    Silu,
    LeakyRelu,
    Elu,
    HardSwish,
    Mish,
}

/// What brings the activations of a layer to one scale.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Norm {
    None,
    #[default]
    Batch,
    /// In groups of channels (Wu and He, 2018).
    Group,
    Layer,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Pool {
    #[default]
    Max,
    Average,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Cnn {
    /// The channels of each stage; after each the height and width are halved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channels: Option<Vec<u32>>,
    /// The number of stages, of which the first has `width` channels and each further one twice as many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stages: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub width: Option<u32>,
    /// Convolutions of each stage.
    #[serde(default = "one")]
    pub layers: u32,
    /// The kernel's height and width, odd.
    #[serde(default = "three")]
    pub kernel: u32,
    #[serde(default)]
    pub norm: Norm,
    #[serde(default)]
    pub activation: Activation,
    #[serde(default)]
    pub pool: Pool,
    /// Average each channel over its height and width before the dense layers, instead of taking every pixel.
    #[serde(default)]
    pub global_pool: bool,
    /// The widths of the dense layers.
    #[serde(default)]
    pub hidden: Vec<u32>,
    /// The probability that an input of a dense layer is dropped in training, from 0 to below 1.
    #[serde(default)]
    pub dropout: f64,
}

impl Cnn {
    /// The channels of each stage, whichever way they were given.
    pub fn channels(&self) -> Vec<u32> {
        match (&self.channels, self.stages, self.width) {
            (Some(channels), _, _) => channels.clone(),
            (None, Some(stages), Some(width)) => {
                (0..stages).map(|stage| width.saturating_mul(1 << stage.min(31))).collect()
            }
            (None, _, _) => Vec::new(),
        }
    }
}

fn no_norm() -> Norm {
    Norm::None
}

/// What a field that came later says by default is not said: whoever does not know it would ignore it.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_no_norm(norm: &Norm) -> bool {
    *norm == no_norm()
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_three(kernel: &u32) -> bool {
    *kernel == three()
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_usual_norm(norm: &PositionNorm) -> bool {
    *norm == PositionNorm::default()
}

fn one() -> u32 {
    1
}

fn three() -> u32 {
    3
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Resnet {
    /// Residual blocks of each stage; the first of each stage but the first halves the height and width.
    #[serde(default = "default_blocks")]
    pub blocks: Vec<u32>,
    /// Channels of the first stage, doubled in each further one.
    #[serde(default = "default_resnet_width")]
    pub width: u32,
    /// Blocks of three convolutions with a narrow one in the middle, as in ResNet-50.
    #[serde(default)]
    pub bottleneck: bool,
    /// The height and width of the kernels that see more than one place, odd; by default 3.
    #[serde(default = "three", skip_serializing_if = "is_three")]
    pub kernel: u32,
    #[serde(default)]
    pub norm: Norm,
    #[serde(default)]
    pub activation: Activation,
    /// The probability that an input of the last layer is dropped in training, from 0 to below 1.
    #[serde(default)]
    pub dropout: f64,
}

pub(crate) fn default_blocks() -> Vec<u32> {
    vec![2, 2, 2, 2]
}

pub(crate) fn default_resnet_width() -> u32 {
    64
}

/// What brings the numbers of a position to one scale.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PositionNorm {
    /// By their mean and variance (Ba et al., 2016).
    #[default]
    Layer,
    /// By the root of their mean square (Zhang and Sennrich, 2019).
    Rms,
}

/// What a transformer attends over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Every position sees every other; one answer a row.
    #[default]
    Encoder,
    /// A position sees those before it; an answer a position.
    Decoder,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Transformer {
    #[serde(default)]
    pub direction: Direction,
    pub layers: u32,
    /// The width of a position, a multiple of `heads`.
    pub width: u32,
    pub heads: u32,
    /// The hidden layer of a block is so many times as wide.
    #[serde(default = "default_ratio")]
    pub ratio: u32,
    /// Images: the height and width of a patch, which becomes a position.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patch: Option<u32>,
    /// Tokens: how many there are; by default one more than the greatest of the data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vocabulary: Option<u32>,
    /// Before each part of a block; by default `layer`.
    #[serde(default, skip_serializing_if = "is_usual_norm")]
    pub norm: PositionNorm,
    #[serde(default = "default_transformer_activation")]
    pub activation: Activation,
    /// The probability that an output of attention or of a dense layer is dropped in training, from 0 to below 1.
    #[serde(default)]
    pub dropout: f64,
}

fn default_ratio() -> u32 {
    4
}

fn default_transformer_activation() -> Activation {
    Activation::Gelu
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Tabular {
    /// The width of each categorical column's embedding; by default chosen by the number of its categories.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub embedding: Option<u32>,
    /// The widths of the dense layers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hidden: Option<Vec<u32>>,
    /// The number of dense layers, all of the same `width`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layers: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub width: Option<u32>,
    #[serde(default)]
    pub norm: Norm,
    #[serde(default)]
    pub activation: Activation,
    #[serde(default)]
    pub dropout: f64,
}

impl Tabular {
    /// The width of each dense layer, whichever way it was given.
    pub fn hidden_widths(&self) -> Vec<u32> {
        widths(self.hidden.as_ref(), self.layers, self.width)
    }
}

/// A model from a file. Exactly one of `file` and `object` says where it lies.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Onnx {
    /// In a study file: a path relative to it, which `regatta` uploads. In an offer: a path below the agent's data folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// An object in the bucket of models.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<super::DataObject>,
    /// Where the weights begin.
    #[serde(default)]
    pub weights: Weights,
    /// Parameters that are not trained, by name; `*` stands for any characters. A batch normalisation whose running
    /// statistics a pattern fits normalises by these in training, too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub frozen: Vec<String>,
    /// The model's output that the loss is of, where it has several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// The probability of every dropout of the model, instead of those it was exported with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dropout: Option<f64>,
}

/// Where weights begin.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Weights {
    /// As they are in the file.
    #[default]
    File,
    /// Normal, by the inputs of a layer that is followed by a rectifier (He et al., 2015).
    Kaiming,
    /// Uniform, by the inputs and outputs of a layer (Glorot and Bengio, 2010).
    Xavier,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_lists_or_numbers_of_parts() {
        let cnn = |text: &str| serde_json::from_str::<Cnn>(text).map(|cnn| cnn.channels()).ok();
        assert_eq!(cnn(r#"{"channels": [8, 4]}"#), Some(vec![8, 4]));
        assert_eq!(cnn(r#"{"stages": 3, "width": 16}"#), Some(vec![16, 32, 64]));
        let tabular = |text: &str| serde_json::from_str::<Tabular>(text).map(|tabular| tabular.hidden_widths()).ok();
        assert_eq!(tabular(r#"{"hidden": [8, 4]}"#), Some(vec![8, 4]));
        assert_eq!(tabular(r#"{"layers": 2, "width": 16}"#), Some(vec![16, 16]));
    }
}
