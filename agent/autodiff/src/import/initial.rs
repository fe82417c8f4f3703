//! Where the weights of an imported model begin: as the file has them, or drawn anew by what each is for.

use super::ModelFile;
use crate::families::Initial;
use crate::onnx::NodeProto;

/// Where weights begin.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Weights {
    #[default]
    File,
    /// Normal, by the inputs of a layer that is followed by a rectifier (He et al., 2015, eq. 10).
    Kaiming,
    /// Uniform, by the inputs and outputs of a layer (Glorot and Bengio, 2010, eq. 16).
    Xavier,
}

/// The deviation of embeddings, positions and tokens, as GPT-2 begins.
const TABLE_DEVIATION: f64 = 0.02;

/// How many numbers a layer takes and gives for one element.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Fan {
    inputs: f64,
    outputs: f64,
}

impl ModelFile {
    /// How a parameter is drawn anew; `None` where the file's own numbers are to be kept.
    pub(super) fn redrawn(&self, name: &str, shape: &[usize]) -> Option<Initial> {
        if self.settings.weights == Weights::File {
            return None;
        }
        let uses = self.uses(name, false, 0);
        // A temperature, a gate, a slope: only its model knows where it begins.
        if shape.is_empty() || uses.iter().any(|at| at.node.op_type() == "PRelu") {
            return None;
        }
        if uses.iter().any(|at| at.is_scale(shape)) {
            return Some(Initial::Ones);
        }
        if let Some(fan) = uses.iter().find_map(|at| at.fan(shape)) {
            return Some(self.drawn(fan));
        }
        if shape.len() < 2 {
            return Some(Initial::Zeros);
        }
        Some(Initial::Normal { deviation: TABLE_DEVIATION })
    }

    /// Running statistics of a model whose weights are drawn anew: mean zero, variance one.
    pub(super) fn redrawn_statistics(&self, name: &str) -> Option<Initial> {
        if self.settings.weights == Weights::File {
            return None;
        }
        let is_variance = self.uses(name, false, 0).iter().any(|at| at.position == 4);
        Some(if is_variance { Initial::Ones } else { Initial::Zeros })
    }

    fn drawn(&self, fan: Fan) -> Initial {
        match self.settings.weights {
            Weights::Xavier => Initial::Uniform { bound: (6.0 / (fan.inputs + fan.outputs)).sqrt() },
            Weights::Kaiming | Weights::File => Initial::Normal { deviation: (2.0 / fan.inputs).sqrt() },
        }
    }

    /// Where a tensor is used, also behind transposes and the like.
    fn uses(&self, name: &str, transposed: bool, depth: usize) -> Vec<Use<'_>> {
        let mut uses = Vec::new();
        for node in &self.graph().node {
            for (position, _) in node.input.iter().enumerate().filter(|(_, input)| *input == name) {
                match node.op_type() {
                    op @ ("Transpose" | "Identity" | "Cast") if depth < 4 => {
                        let transposed = transposed ^ (op == "Transpose");
                        uses.extend(node.output.iter().flat_map(|output| self.uses(output, transposed, depth + 1)));
                    }
                    _ => uses.push(Use { node, position, transposed }),
                }
            }
        }
        uses
    }
}

/// An operand of a node.
struct Use<'n> {
    node: &'n NodeProto,
    position: usize,
    transposed: bool,
}

impl Use<'_> {
    /// Whether it scales what was normalised. Normalisation that was exported as its parts ends in a product, with a number
    /// for each channel; a matrix there is a direction that is given a length (weight_norm).
    fn is_scale(&self, shape: &[usize]) -> bool {
        let normalises = matches!(
            self.node.op_type(),
            "BatchNormalization"
                | "LayerNormalization"
                | "InstanceNormalization"
                | "GroupNormalization"
                | "RMSNormalization"
        );
        let is_of_channels = shape.iter().filter(|&&size| size != 1).count() <= 1;
        normalises && self.position == 1 || self.node.op_type() == "Mul" && is_of_channels
    }

    /// The fan of a weight of this shape; `None` where the operand is none.
    fn fan(&self, shape: &[usize]) -> Option<Fan> {
        let is_set =
            |name: &str| self.node.attribute.iter().any(|attribute| attribute.name() == name && attribute.i() != 0);
        let fan = |inputs: usize, outputs: usize| {
            #[expect(clippy::cast_precision_loss, reason = "a layer has fewer than 2^52 inputs")]
            Some(Fan { inputs: inputs.max(1) as f64, outputs: outputs.max(1) as f64 })
        };
        match (self.node.op_type(), self.position, shape) {
            ("Conv", 1, [channels, inputs, kernel @ ..]) | ("ConvTranspose", 1, [inputs, channels, kernel @ ..]) => {
                let kernel: usize = kernel.iter().product();
                fan(inputs * kernel, channels * kernel)
            }
            ("Gemm" | "MatMul", position @ (0 | 1), [.., rows, columns]) => {
                let flipped = is_set(if position == 0 { "transA" } else { "transB" });
                if self.transposed ^ flipped ^ (position == 0) { fan(*columns, *rows) } else { fan(*rows, *columns) }
            }
            ("LSTM" | "GRU" | "RNN", 1 | 2, [_, outputs, inputs]) => fan(*inputs, *outputs),
            _ => None,
        }
    }
}
