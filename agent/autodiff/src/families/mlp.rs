//! The multilayer perceptron: linear layers with an activation, and dropout after each hidden one.

use super::{Feature, Forward, Initial};
use crate::graph::{Dtype, Graph, GraphError, Value};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    Relu,
    Tanh,
    Sigmoid,
    /// The exact form, with the error function.
    Gelu,
}

/// The shape of a multilayer perceptron. Numbers that a trial may vary without a new graph are not part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mlp {
    pub inputs: usize,
    pub hidden: Vec<usize>,
    pub activation: Activation,
    /// Whether the graph has dropout sites; their rate is an input.
    pub dropout: bool,
    pub outputs: usize,
}

impl Mlp {
    pub(super) fn features(&self) -> Vec<Feature> {
        vec![Feature { name: "features".into(), dtype: Dtype::F32, shape: vec![self.inputs] }]
    }

    /// Parameters are `layers.<i>.weight` (inputs x outputs) and `layers.<i>.bias`, and begin as PyTorch's
    /// `Linear` does: uniform within one over the square root of the layer's inputs.
    pub(super) fn forward(&self, context: &mut Forward<'_>, features: Value) -> Result<Value, GraphError> {
        let mut x = features;
        let mut width = self.inputs;
        for (layer, &next) in self.hidden.iter().chain([&self.outputs]).enumerate() {
            #[expect(clippy::cast_precision_loss, reason = "a layer has fewer than 2^52 inputs")]
            let initial = Initial::Uniform { bound: 1.0 / (width as f64).sqrt() };
            let weight = context.parameter(&format!("layers.{layer}.weight"), &[width, next], initial.clone())?;
            let bias = context.parameter(&format!("layers.{layer}.bias"), &[next], initial)?;
            x = context.graph.linear(x, weight, bias)?;
            if layer < self.hidden.len() {
                x = self.activation.apply(context.graph, x)?;
                x = if self.dropout { context.dropped(x)? } else { x };
            }
            width = next;
        }
        Ok(x)
    }
}

impl Activation {
    fn apply(self, graph: &mut Graph, x: Value) -> Result<Value, GraphError> {
        match self {
            Self::Relu => graph.relu(x),
            Self::Tanh => graph.tanh(x),
            Self::Sigmoid => graph.sigmoid(x),
            Self::Gelu => graph.gelu(x),
        }
    }
}
