//! The errors of operators that are refused whatever their operands.

use super::node_name;
use crate::import::ImportError;
use crate::onnx::NodeProto;
use crate::refused::{self, BRANCHES, LOOPS, OPTIONALS, SEQUENCES};

/// What to do where an operator is not ONNX's own.
pub(super) const STANDARD: &str = "export the model with standard operators only";

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
    let row = refused::find(node.op_type())?;
    let (op, node) = (node.op_type().into(), node_name(node).into());
    Some(ImportError::Operator { op, node, opset, reason: row.reason.into(), help: row.help })
}
