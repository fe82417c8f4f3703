//! The convolutional net: stages of convolutions with a pool after each, then dense layers.

use super::layers::{
    Activation, Convolution, Norm, Pool, activated_and_pooled, averaged, convolved, dropped, flattened, halved, linear,
    normalized,
};
use super::{Feature, Forward};
use crate::graph::{Dtype, GraphError, Value};

/// The shape of a convolutional net.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cnn {
    /// A row: channels first, then the height and width of an image or the length of a sequence.
    pub input: Vec<usize>,
    /// The channels of each stage.
    pub channels: Vec<usize>,
    /// Convolutions of each stage.
    pub layers: usize,
    /// The side of a kernel, odd.
    pub kernel: usize,
    pub norm: Norm,
    pub activation: Activation,
    pub pool: Pool,
    /// Whether each channel is averaged before the dense layers.
    pub global_pool: bool,
    /// The widths of the dense layers.
    pub hidden: Vec<usize>,
    /// Whether inputs of dense layers can be dropped.
    pub dropout: bool,
    pub outputs: usize,
}

impl Cnn {
    pub(super) fn features(&self) -> Vec<Feature> {
        vec![Feature::new("features", Dtype::F32, self.input.clone())]
    }

    /// Layers are `stages.<stage>.<i>.conv`, `stages.<stage>.<i>.norm` and `layers.<i>`. A convolution before a norm
    /// has no bias: the norm has one. A stage can be left out, with its pool; a convolution with its norm and
    /// activation; a norm; a dense layer; `dropout`.
    pub(super) fn forward(&self, context: &mut Forward<'_>, features: Value) -> Result<Value, GraphError> {
        let mut x = features;
        for (stage, &outputs) in self.channels.iter().enumerate() {
            if !context.cut.has(&format!("stages.{stage}")) {
                x = context.part(x, |part| self.stage(part, stage, x, outputs))?;
            }
        }
        x = if self.global_pool { averaged(context.graph, x)? } else { flattened(context.graph, x)? };
        for (layer, &width) in self.hidden.iter().enumerate() {
            let name = format!("layers.{layer}");
            if context.cut.has(&name) {
                continue;
            }
            x = dropped(context, x, self.dropout)?;
            x = linear(context, &name, x, width)?;
            x = self.activation.apply(context.graph, x)?;
        }
        x = dropped(context, x, self.dropout)?;
        linear(context, &format!("layers.{}", self.hidden.len()), x, self.outputs)
    }

    fn stage(&self, context: &mut Forward<'_>, stage: usize, x: Value, outputs: usize) -> Result<Value, GraphError> {
        let mut x = x;
        for layer in 0..self.layers {
            let name = format!("stages.{stage}.{layer}");
            let is_last = layer + 1 == self.layers;
            if context.cut.has(&name) {
                x = if is_last { halved(context.graph, x, self.pool)? } else { x };
                continue;
            }
            let bias = self.norm == Norm::None || context.cut.has(&format!("{name}.norm"));
            let form = Convolution { outputs, kernel: self.kernel, stride: 1, bias, kaiming: false };
            x = convolved(context, &format!("{name}.conv"), x, form)?;
            x = normalized(context, &format!("{name}.norm"), x, self.norm)?;
            x = match is_last {
                true => activated_and_pooled(context.graph, x, self.activation, self.pool)?,
                false => self.activation.apply(context.graph, x)?,
            };
        }
        Ok(x)
    }
}
