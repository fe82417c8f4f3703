//! Why a model file cannot be trained, and what is worth saying of one that can.

use crate::gradient::GradientError;
use crate::graph::GraphError;

/// What helps where an operator has operands that do not fit.
pub const OTHER_SIZES: &str = "the sizes that the model was exported with may not fit the data";

/// Why a model cannot be imported, in words for the person who exported it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImportError {
    #[error("this is no ONNX model: {reason}")]
    Malformed { reason: String },
    #[error("the model has {found} {what}, and at most {most} are taken")]
    TooLarge { what: &'static str, found: u64, most: u64 },
    #[error("operator {op} at node {node:?} (opset {opset}) cannot be trained: {reason}; {help}")]
    Operator { op: String, node: String, opset: i64, reason: String, help: &'static str },
    #[error("operator {op} at node {node:?} (opset {opset}) cannot be trained: no gradient rule is known; {help}")]
    Unknown { op: String, node: String, opset: i64, help: &'static str },
    #[error("opset {opset} of the model is not known here: 9 to 24 are; export it again with opset_version=20")]
    Opset { opset: i64 },
    #[error(
        "tensor {name:?} lies in a file beside the model: let `regatta run` upload the model, which puts such tensors into \
         it, or save it again as one file (external_data=False)"
    )]
    ExternalData { name: String },
    #[error("tensor {name:?}: {reason}")]
    Tensor { name: String, reason: String },
    #[error("input {name:?} of the model: {reason}")]
    Input { name: String, reason: String },
    #[error("the model has no output {wanted:?}; it has {known:?}")]
    Output { wanted: String, known: Vec<String> },
    #[error(
        "the model gives {found} rows for a batch of {batch}: its batch size was fixed when it was exported; \
         export it with a dynamic batch axis, or train with the batch size it was exported with"
    )]
    FixedBatch { batch: usize, found: usize },
    #[error("no float initializer of the model reaches its output: there is nothing to train")]
    NothingTrains,
    #[error(
        "weights of the model are in 16 bits ({name:?}): export it in single precision (model.float()); a recipe's \
         `precision` trains it in 16"
    )]
    Halves { name: String },
    #[error("weights of the model are in double precision ({name:?}): export it in single precision (model.float())")]
    Doubles { name: String },
    #[error(
        "{name:?} is both a running statistic and something else: the exporter wrote equal tensors once; export the model \
         again with optimize=False"
    )]
    Merged { name: String },
    #[error("what begins with {what} cannot be left out (node {node:?}): {reason}")]
    Cut { what: String, node: String, reason: String },
    #[error(
        "`frozen` has {pattern:?}, which fits no parameter of the model; there are {known}; `*` stands for any characters"
    )]
    Frozen { pattern: String, known: String },
    #[error("no parameter of the model is called {name:?}")]
    NoParameter { name: String },
    #[error(transparent)]
    Gradient(#[from] GradientError),
    #[error(transparent)]
    Graph(#[from] GraphError),
}

/// What a person should know of a model that was imported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// Batch normalisation seems to be folded into the convolutions, as exporters do for inference.
    Inference,
    /// Every batch normalisation was in evaluation mode when the file was exported: what drops values is gone.
    Evaluation,
    /// Two initializers hold the same matrix and are trained as one parameter.
    Tied { kept: String, same: String },
    /// The exporter's optimizer was at work.
    Folded,
    /// Tensors that train because nothing says otherwise, under names that weights do not have.
    Supposed { names: Vec<String> },
}

impl std::fmt::Display for Notice {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Inference => formatter.write_str(
                "convolutions with a bias and no normalisation: if the module has batch normalisation or dropout, they \
                 were taken out when it was exported; export it in train() mode, with optimize=False",
            ),
            Self::Evaluation => formatter.write_str(
                "it was exported in eval() mode: if the module has dropout, that was taken out; batch normalisation trains by \
                 the batch all the same; export it in train() mode, or set `frozen` where its statistics are to stay",
            ),
            Self::Folded => formatter.write_str(
                "the exporter's optimizer was at work, which makes one tensor of equal ones: layers that begin as copies of \
                 each other stay so; export it with optimize=False",
            ),
            Self::Supposed { names } => write!(
                formatter,
                "{} trains, though it is not called as weights are, and this exporter does not say which tensors are \
                 parameters: name in `frozen` what is a buffer of the module",
                named(names)
            ),
            Self::Tied { kept, same } => {
                write!(formatter, "{same:?} holds the same weights as {kept:?}: they are trained as one parameter")
            }
        }
    }
}

/// Names that a text tells.
const NAMED_MAX: usize = 8;

/// Some of the names, with commas.
pub(super) fn named(names: &[impl AsRef<str>]) -> String {
    let known: Vec<&str> = names.iter().take(NAMED_MAX).map(AsRef::as_ref).collect();
    known.join(", ") + if names.len() > NAMED_MAX { ", ..." } else { "" }
}
