//! The model of a plan: what the recipe says of it, completed by the sizes of the data.

use std::sync::Arc;

use regatta_autodiff::families::transformer::{Answer, Input};
use regatta_autodiff::families::{Activation, Cnn, Mlp, Model, Norm, Pool, PositionNorm, Resnet, Tabular, Transformer};
use regatta_autodiff::import::Settings;

use super::TrainingError;
use super::dataset::{Feature, Split, Target, Values};

/// A model before the data's sizes are known. `dropout` is the share that is dropped in training, in `0 .. 1`.
#[derive(Debug, Clone, PartialEq)]
pub enum ModelPlan {
    Mlp {
        hidden: Vec<usize>,
        norm: Norm,
        activation: Activation,
        dropout: f32,
    },
    Cnn {
        channels: Vec<usize>,
        /// Convolutions of each stage.
        layers: usize,
        kernel: usize,
        norm: Norm,
        activation: Activation,
        pool: Pool,
        global_pool: bool,
        hidden: Vec<usize>,
        dropout: f32,
    },
    Resnet {
        blocks: Vec<usize>,
        width: usize,
        bottleneck: bool,
        kernel: usize,
        norm: Norm,
        activation: Activation,
        dropout: f32,
    },
    Transformer {
        /// Whether a position sees only those before it, and answers with the next token.
        decoder: bool,
        layers: usize,
        width: usize,
        heads: usize,
        ratio: usize,
        /// Images: the side of a patch.
        patch: Option<usize>,
        /// Tokens: how many there are, where it is more than the data has.
        vocabulary: Option<usize>,
        norm: PositionNorm,
        activation: Activation,
        dropout: f32,
    },
    Tabular {
        embedding: Option<usize>,
        hidden: Vec<usize>,
        norm: Norm,
        activation: Activation,
        dropout: f32,
    },
    /// A model that another program exported.
    File {
        onnx: Arc<Vec<u8>>,
        settings: Settings,
        /// Instead of the rate that the file has.
        dropout: Option<f32>,
    },
}

impl ModelPlan {
    /// The share that is dropped; `None` where the model's file says it.
    pub(super) fn dropout(&self) -> Option<f32> {
        match self {
            Self::Mlp { dropout, .. }
            | Self::Cnn { dropout, .. }
            | Self::Resnet { dropout, .. }
            | Self::Transformer { dropout, .. }
            | Self::Tabular { dropout, .. } => Some(*dropout),
            Self::File { dropout, .. } => *dropout,
        }
    }

    /// Whether it has parts whose values can be computed again.
    pub(super) fn has_parts(&self) -> bool {
        match self {
            Self::Cnn { .. } | Self::Resnet { .. } | Self::Transformer { .. } => true,
            Self::Mlp { .. } | Self::Tabular { .. } | Self::File { .. } => false,
        }
    }

    /// The model of a family for these rows; `None` for a file, which a runtime must read.
    ///
    /// # Errors
    /// The family does not take such rows.
    pub(super) fn family(&self, train: &Split) -> Result<Option<Model>, TrainingError> {
        let outputs = match &train.target {
            Target::Classes { classes, .. } => *classes,
            target @ Target::Values { .. } => target.width(),
        };
        Ok(Some(match self {
            Self::Mlp { hidden, norm, activation, dropout } => Model::Mlp(Mlp {
                inputs: only(train)?.width(),
                hidden: hidden.clone(),
                norm: *norm,
                activation: *activation,
                dropout: *dropout > 0.0,
                outputs,
            }),
            Self::Cnn { channels, layers, kernel, norm, activation, pool, global_pool, hidden, dropout } => {
                Model::Cnn(Cnn {
                    input: planes(only(train)?, "cnn", &[2, 3])?,
                    channels: channels.clone(),
                    layers: *layers,
                    kernel: *kernel,
                    norm: *norm,
                    activation: *activation,
                    pool: *pool,
                    global_pool: *global_pool,
                    hidden: hidden.clone(),
                    dropout: *dropout > 0.0,
                    outputs,
                })
            }
            Self::Resnet { blocks, width, bottleneck, kernel, norm, activation, dropout } => Model::Resnet(Resnet {
                input: image(only(train)?, "resnet")?,
                blocks: blocks.clone(),
                width: *width,
                bottleneck: *bottleneck,
                kernel: *kernel,
                norm: *norm,
                activation: *activation,
                dropout: *dropout > 0.0,
                outputs,
            }),
            Self::Transformer { layers, width, heads, ratio, norm, activation, dropout, decoder, .. } => {
                Model::Transformer(Transformer {
                    input: self.positions(only(train)?, outputs)?,
                    answer: if *decoder { Answer::NextToken } else { Answer::Row(outputs) },
                    layers: *layers,
                    width: *width,
                    heads: *heads,
                    ratio: *ratio,
                    norm: *norm,
                    activation: *activation,
                    dropout: *dropout > 0.0,
                })
            }
            Self::Tabular { embedding, hidden, norm, activation, dropout } => {
                let is_category = |feature: &&Feature| matches!(feature.values, Values::I64(_));
                let numbers = train.features.iter().filter(|feature| !is_category(feature));
                Model::Tabular(Tabular {
                    numbers: numbers.map(Feature::width).sum(),
                    categories: train.features.iter().filter(is_category).flat_map(categories).collect(),
                    embedding: *embedding,
                    hidden: hidden.clone(),
                    norm: *norm,
                    activation: *activation,
                    dropout: *dropout > 0.0,
                    outputs,
                })
            }
            Self::File { .. } => return Ok(None),
        }))
    }

    /// What a transformer takes for a row.
    fn positions(&self, feature: &Feature, outputs: usize) -> Result<Input, TrainingError> {
        let Self::Transformer { patch, vocabulary, decoder, .. } = self else {
            return Err(unfit(feature, "transformer", "a sequence, an image or tokens"));
        };
        match (&feature.values, feature.shape.as_slice(), patch) {
            (Values::I64(_), [length], None) => {
                let known = feature.vocabulary.iter().copied().max().unwrap_or(0);
                let known = if *decoder { known.max(outputs) } else { known };
                Ok(Input::Tokens { length: *length, vocabulary: vocabulary.unwrap_or(known).max(known) })
            }
            (_, shape @ [_, _, _], Some(patch)) => {
                Ok(Input::Image { shape: [shape[0], shape[1], shape[2]], patch: *patch })
            }
            (Values::F32(_) | Values::U8(_), [length, width], None) => {
                Ok(Input::Sequence { length: *length, width: *width })
            }
            _ => Err(unfit(feature, "transformer", "rows of tokens, of [length, width], or images and a `patch`")),
        }
    }
}

/// How many categories each column has.
fn categories(feature: &Feature) -> Vec<usize> {
    match feature.vocabulary.as_slice() {
        [one] => vec![*one; feature.width()],
        each => each.to_vec(),
    }
}

fn only(train: &Split) -> Result<&Feature, TrainingError> {
    match train.features.as_slice() {
        [feature] => Ok(feature),
        several => Err(TrainingError::Configuration {
            reason: format!("this family takes one array of features, and the data has {}", several.len()),
        }),
    }
}

fn planes(feature: &Feature, family: &str, ranks: &[usize]) -> Result<Vec<usize>, TrainingError> {
    if ranks.contains(&feature.shape.len()) {
        Ok(feature.shape.clone())
    } else {
        Err(unfit(feature, family, "[channels, height, width] or [channels, length]; say so by `data.shape`"))
    }
}

fn image(feature: &Feature, family: &str) -> Result<[usize; 3], TrainingError> {
    let shape: Result<[usize; 3], _> = feature.shape.as_slice().try_into();
    shape.map_err(|_| unfit(feature, family, "[channels, height, width]; say so by `data.shape`"))
}

fn unfit(feature: &Feature, family: &str, wanted: &str) -> TrainingError {
    let (name, shape) = (&feature.name, &feature.shape);
    TrainingError::Configuration {
        reason: format!("rows of `{name}` have shape {shape:?}, and the family `{family}` takes {wanted}"),
    }
}
