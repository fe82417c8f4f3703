//! The multilayer perceptron: linear layers with a norm and an activation, and dropout after each hidden one.

use super::layers::{Activation, Norm, dropped, linear, normalized};
use super::{Feature, Forward};
use crate::graph::{Dtype, GraphError, Value};

/// The shape of a multilayer perceptron. Numbers that a trial may vary without a new graph are not part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mlp {
    pub inputs: usize,
    pub hidden: Vec<usize>,
    /// Of what each hidden layer gives.
    pub norm: Norm,
    pub activation: Activation,
    /// Whether the graph has dropout sites; their rate is an input.
    pub dropout: bool,
    pub outputs: usize,
}

impl Mlp {
    pub(super) fn features(&self) -> Vec<Feature> {
        vec![Feature::new("features", Dtype::F32, vec![self.inputs])]
    }

    /// Layers are `layers.<i>`, hidden ones first, and `norms.<i>`. A hidden one can be left out, with its norm and
    /// activation; so can a norm, and `dropout`.
    pub(super) fn forward(&self, context: &mut Forward<'_>, features: Value) -> Result<Value, GraphError> {
        let mut x = features;
        for (layer, &width) in self.hidden.iter().enumerate() {
            let name = format!("layers.{layer}");
            if context.cut.has(&name) {
                continue;
            }
            x = linear(context, &name, x, width)?;
            x = normalized(context, &format!("norms.{layer}"), x, self.norm)?;
            x = self.activation.apply(context.graph, x)?;
            x = dropped(context, x, self.dropout)?;
        }
        linear(context, &format!("layers.{}", self.hidden.len()), x, self.outputs)
    }
}
