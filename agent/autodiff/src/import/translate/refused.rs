//! Operators that are refused whatever their operands, with what to do instead.

use super::node_name;
use crate::import::ImportError;
use crate::onnx::NodeProto;

/// What to do where an operator is not ONNX's own.
pub(super) const STANDARD: &str = "export the model with standard operators only";

const CONTROL: &str =
    "export the model so that its control flow does not depend on data (fixed sizes, torch.where instead of if)";
const CONTROL_FLOW: &str = "control flow cannot be differentiated";
const BRANCHES: &[&str] = &["If"];
const LOOPS: &[&str] = &["Loop", "Scan"];
const SEQUENCES: &[&str] = &["SequenceMap", "SequenceInsert", "SequenceErase", "SequenceEmpty"];
const OPTIONALS: &[&str] = &["Optional", "OptionalGetElement", "OptionalHasElement"];
const QUANTISED: &str = "export the model before it is quantised";
const SIZES: &str = "write this part of the model with sizes that do not depend on data, such as masks";

const REFUSED: &[(&[&str], &str, &str)] = &[
    (BRANCHES, CONTROL_FLOW, CONTROL),
    (LOOPS, CONTROL_FLOW, CONTROL),
    (SEQUENCES, "sequences of changing length", CONTROL),
    (OPTIONALS, "optional values", CONTROL),
    (
        &[
            "QuantizeLinear",
            "DequantizeLinear",
            "DynamicQuantizeLinear",
            "QLinearConv",
            "QLinearMatMul",
            "MatMulInteger",
            "ConvInteger",
        ],
        "quantised numbers have no gradient",
        QUANTISED,
    ),
    (&["NonZero", "Compress", "Unique", "NonMaxSuppression"], "its output's size depends on data", SIZES),
    (
        &["StringNormalizer", "StringConcat", "StringSplit", "RegexFullMatch", "TfIdfVectorizer", "ImageDecoder"],
        "texts and files are no tensors",
        "prepare the data before the model, and export the model without this part",
    ),
    (
        &["Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform"],
        "it draws random numbers",
        "only dropout may be random: use nn.Dropout, or give the noise as an input",
    ),
];

/// Why an operator is refused, and what to do instead.
fn reason_of(op: &str) -> Option<(&'static str, &'static str)> {
    REFUSED.iter().find(|(ops, _, _)| ops.contains(&op)).map(|(_, reason, help)| (*reason, *help))
}

/// The error of what may hide all that trains.
pub(in crate::import) fn hiding(node: &NodeProto, opset: i64) -> Option<ImportError> {
    error_among(&[BRANCHES, LOOPS], node, opset)
}

/// The error of what a runtime never folds away, and need not be given: some of it ends the process.
pub(in crate::import) fn unfolded(node: &NodeProto, opset: i64) -> Option<ImportError> {
    error_among(&[LOOPS, SEQUENCES, OPTIONALS], node, opset)
}

fn error_among(kinds: &[&[&str]], node: &NodeProto, opset: i64) -> Option<ImportError> {
    kinds.iter().any(|ops| ops.contains(&node.op_type())).then(|| error(node, opset)).flatten()
}

/// The error of an operator that is refused whatever its operands.
pub(super) fn error(node: &NodeProto, opset: i64) -> Option<ImportError> {
    let (reason, help) = reason_of(node.op_type())?;
    let (op, node) = (node.op_type().into(), node_name(node).into());
    Some(ImportError::Operator { op, node, opset, reason: reason.into(), help })
}
