//! Built-in models, each built from hyperparameters, and what all of them need while their graph is written.

mod ablated;
mod cnn;
mod forward;
mod layers;
mod mlp;
mod resnet;
mod tabular;
pub mod transformer;
mod words;

pub use ablated::Ablated;
pub use cnn::Cnn;
pub use forward::{Initial, Mode, Parameter};
pub use layers::{Activation, Norm, Pool, PositionNorm};
pub use mlp::Mlp;
pub use resnet::Resnet;
pub use tabular::Tabular;
pub use transformer::Transformer;
pub use words::WordsError;

pub(crate) use forward::{Buffer, Forward};

use std::sync::Arc;

use crate::graph::{Dtype, GraphError, Value};
use crate::import::Imported;

/// A model that can be trained. A new family is its file and one variant here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Model {
    Mlp(Mlp),
    Cnn(Cnn),
    Resnet(Resnet),
    Transformer(Transformer),
    Tabular(Tabular),
    Imported(Arc<Imported>),
    Ablated(Ablated),
}

/// A tensor that a model takes: one row of it, the batch axis left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Feature {
    pub name: String,
    pub dtype: Dtype,
    /// Whether a model file makes bytes of its numbers: of what is normalised, nothing would be left.
    pub takes_bytes: bool,
    pub shape: Vec<usize>,
}

impl Feature {
    /// A feature that is taken as it is.
    pub fn new(name: &str, dtype: Dtype, shape: Vec<usize>) -> Self {
        Self { name: name.into(), dtype, takes_bytes: false, shape }
    }
}

impl Model {
    /// The model without these layers of its own; the model itself where there are none.
    #[must_use]
    pub fn without(self, layers: &[String]) -> Self {
        if layers.is_empty() {
            self
        } else {
            Self::Ablated(Ablated { model: Box::new(self), without: layers.to_vec() })
        }
    }

    /// What it takes, in order.
    pub fn features(&self) -> Vec<Feature> {
        match self {
            Self::Mlp(mlp) => mlp.features(),
            Self::Cnn(cnn) => cnn.features(),
            Self::Resnet(resnet) => resnet.features(),
            Self::Transformer(transformer) => transformer.features(),
            Self::Tabular(tabular) => tabular.features(),
            Self::Imported(imported) => imported.features().to_vec(),
            Self::Ablated(ablated) => ablated.model.features(),
        }
    }

    /// The shape of what it gives for a row, the batch axis left out.
    pub fn output(&self) -> Vec<usize> {
        match self {
            Self::Mlp(mlp) => vec![mlp.outputs],
            Self::Cnn(cnn) => vec![cnn.outputs],
            Self::Resnet(resnet) => vec![resnet.outputs],
            Self::Transformer(transformer) => transformer.output(),
            Self::Tabular(tabular) => vec![tabular.outputs],
            Self::Imported(imported) => imported.output().to_vec(),
            Self::Ablated(ablated) => ablated.model.output(),
        }
    }

    /// Writes the model's graph for a batch: one value for each of its features, batch axis first; the result is
    /// batch x output.
    pub(crate) fn forward(&self, context: &mut Forward<'_>, features: &[Value]) -> Result<Value, GraphError> {
        match self {
            Self::Mlp(mlp) => mlp.forward(context, features[0]),
            Self::Cnn(cnn) => cnn.forward(context, features[0]),
            Self::Resnet(resnet) => resnet.forward(context, features[0]),
            Self::Transformer(transformer) => transformer.forward(context, features[0]),
            Self::Tabular(tabular) => tabular.forward(context, features),
            Self::Imported(imported) => imported.forward(context, features),
            Self::Ablated(ablated) => ablated.forward(context, features),
        }
    }
}
