//! The residual net (He et al., 2016) in its form for small images: a stem of one convolution and no pool.

use super::layers::{Activation, Convolution, Norm, averaged, convolved, dropped, linear, normalized};
use super::{Feature, Forward};
use crate::graph::{Dtype, GraphError, Value};

/// How many times as many channels a bottleneck gives as it has inside.
const EXPANSION: usize = 4;

/// The shape of a residual net.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resnet {
    /// A row: channels, height, width.
    pub input: [usize; 3],
    /// Blocks of each stage; the first of each stage but the first halves height and width.
    pub blocks: Vec<usize>,
    /// Channels of the first stage, doubled in each further one.
    pub width: usize,
    /// Whether blocks are three convolutions with a narrow one in the middle, rather than two.
    pub bottleneck: bool,
    /// The height and width of the kernels that see more than one place, odd.
    pub kernel: usize,
    pub norm: Norm,
    pub activation: Activation,
    /// Whether inputs of the last layer can be dropped.
    pub dropout: bool,
    pub outputs: usize,
}

impl Resnet {
    pub(super) fn features(&self) -> Vec<Feature> {
        vec![Feature::new("features", Dtype::F32, self.input.to_vec())]
    }

    /// Layers are `stem`, `stages.<stage>.<block>.<i>` with its `shortcut`, and `head`; each convolution is a `conv`
    /// with a `norm`. A block can be left out (the next one then is the first of its stage), a stage, a norm, `dropout`.
    pub(super) fn forward(&self, context: &mut Forward<'_>, features: Value) -> Result<Value, GraphError> {
        let mut x = self.unit(context, "stem", features, (self.width, self.kernel, 1))?;
        x = self.activation.apply(context.graph, x)?;
        let mut width = self.width;
        for (stage, &blocks) in self.blocks.iter().enumerate() {
            let mut has_begun = false;
            for block in 0..blocks {
                let name = format!("stages.{stage}.{block}");
                if context.cut.has(&name) {
                    continue;
                }
                let stride = if !has_begun && stage > 0 { 2 } else { 1 };
                has_begun = true;
                x = context.part(x, |part| self.block(part, &name, x, (width, stride)))?;
            }
            width *= 2;
        }
        let pooled = averaged(context.graph, x)?;
        let pooled = dropped(context, pooled, self.dropout)?;
        linear(context, "head", pooled, self.outputs)
    }

    fn block(
        &self,
        context: &mut Forward<'_>,
        name: &str,
        x: Value,
        (width, stride): (usize, usize),
    ) -> Result<Value, GraphError> {
        let units: &[(usize, usize, usize)] = match self.bottleneck {
            true => &[(width, 1, 1), (width, self.kernel, stride), (width * EXPANSION, 1, 1)],
            false => &[(width, self.kernel, stride), (width, self.kernel, 1)],
        };
        let mut inner = x;
        for (position, &unit) in units.iter().enumerate() {
            if position > 0 {
                inner = self.activation.apply(context.graph, inner)?;
            }
            inner = self.unit(context, &format!("{name}.{position}"), inner, unit)?;
        }
        let shortcut = match context.graph.shape(x) == context.graph.shape(inner) {
            true => x,
            false => {
                let outputs = context.graph.shape(inner)[1];
                self.unit(context, &format!("{name}.shortcut"), x, (outputs, 1, stride))?
            }
        };
        let sum = context.graph.add(inner, shortcut)?;
        self.activation.apply(context.graph, sum)
    }

    fn unit(
        &self,
        context: &mut Forward<'_>,
        name: &str,
        x: Value,
        (outputs, kernel, stride): (usize, usize, usize),
    ) -> Result<Value, GraphError> {
        let bias = self.norm == Norm::None || context.cut.has(&format!("{name}.norm"));
        let form = Convolution { outputs, kernel, stride, bias, kaiming: true };
        let x = convolved(context, &format!("{name}.conv"), x, form)?;
        normalized(context, &format!("{name}.norm"), x, self.norm)
    }
}
