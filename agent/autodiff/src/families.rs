//! Built-in models, each built from hyperparameters, and what all of them need while their graph is written.

pub mod mlp;

pub use mlp::{Activation, Mlp};

use crate::graph::{Dtype, Graph, GraphError, Value};
use crate::step::dropout::Dropout;

/// A model that can be trained. A new family is its file and one variant here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Model {
    Mlp(Mlp),
}

impl Model {
    /// How many features a row of its input has.
    pub fn inputs(&self) -> usize {
        match self {
            Self::Mlp(mlp) => mlp.inputs,
        }
    }

    /// How many numbers it gives for a row.
    pub fn outputs(&self) -> usize {
        match self {
            Self::Mlp(mlp) => mlp.outputs,
        }
    }

    /// Writes the model's graph for a batch of features (rows x inputs, f32); the result is rows x outputs.
    pub(crate) fn forward(&self, context: &mut Forward<'_>, features: Value) -> Result<Value, GraphError> {
        match self {
            Self::Mlp(mlp) => mlp.forward(context, features),
        }
    }
}

/// How a state tensor begins. Its caller draws; this says what.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Initial {
    Zeros,
    /// Uniform in `-bound .. bound`.
    Uniform {
        bound: f64,
    },
}

/// A trainable tensor of a model.
#[derive(Debug, Clone)]
pub(crate) struct Parameter {
    pub value: Value,
    pub initial: Initial,
}

/// A model's graph being written: where parameters are declared and dropout is asked for.
pub(crate) struct Forward<'g> {
    pub graph: &'g mut Graph,
    pub parameters: Vec<Parameter>,
    pub dropout: Dropout,
}

impl Forward<'_> {
    /// Declares a trainable tensor of type f32.
    pub fn parameter(&mut self, name: &str, shape: &[usize], initial: Initial) -> Result<Value, GraphError> {
        let value = self.graph.input(name, Dtype::F32, shape)?;
        self.parameters.push(Parameter { value, initial });
        Ok(value)
    }

    /// Drops elements of a matrix while training; the matrix itself while evaluating.
    pub fn dropped(&mut self, x: Value) -> Result<Value, GraphError> {
        self.dropout.apply(self.graph, x)
    }
}
