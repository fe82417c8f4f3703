//! The table from operator to gradient rule, a family a file. A new gradient is a function and a row in its family's
//! file, and a row in `tests/gradients`; `docs/OPS.md` follows from the rows.

mod arithmetic;
mod convolution;
mod elementwise;
mod indexing;
mod linear;
mod movement;
mod normalization;
mod pooling;
mod reduction;
mod resize;

use crate::gradient::{Flow, GradientError};
use crate::graph::Value;

/// What flows to each operand of a node, in the operands' order. It may still be broadcast, or be smaller where
/// it is the same along an axis: the sweep brings it into the operand's shape. `None`: nothing flows there.
pub(crate) type Flowing = Result<Vec<Option<Value>>, GradientError>;

#[derive(Clone, Copy)]
pub(crate) enum Gradient {
    Rule(fn(&mut Flow<'_>) -> Flowing),
    /// The operator is known to have no gradient: flow ends here without an error.
    Stop,
}

/// What ONNX Runtime has for an operator on CUDA, read from the kernels that its library registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kernel {
    /// Its own, or those of what the operator is written as there.
    Own,
    /// A kernel that calls cuDNN, which may be absent.
    CuDnn,
    /// None; but there is one of ours, which is compiled where NVRTC is there.
    Compiled,
    /// None that is needed: what it gives is known when a file is read.
    Known,
}

/// What is known of an operator.
pub(crate) struct Row {
    pub op: &'static str,
    pub gradient: Gradient,
    /// What flows to the operands, for people: `dy` is the output's gradient, `x`, `y` the operand and the output.
    pub formula: &'static str,
    pub cuda: Kernel,
}

impl Row {
    /// For an operator without a kernel of ONNX Runtime's own on CUDA.
    const fn cuda(self, kernel: Kernel) -> Self {
        Self { cuda: kernel, ..self }
    }
}

const fn rule(op: &'static str, rule: fn(&mut Flow<'_>) -> Flowing, formula: &'static str) -> Row {
    Row { op, gradient: Gradient::Rule(rule), formula, cuda: Kernel::Own }
}

const fn stop(op: &'static str) -> Row {
    Row { op, gradient: Gradient::Stop, formula: "none: nothing flows", cuda: Kernel::Own }
}

const FAMILIES: &[&[Row]] = &[
    arithmetic::ROWS,
    convolution::ROWS,
    elementwise::ROWS,
    indexing::ROWS,
    linear::ROWS,
    movement::ROWS,
    normalization::ROWS,
    pooling::ROWS,
    reduction::ROWS,
    resize::ROWS,
];

/// Every operator of the table.
pub(crate) fn rows() -> impl Iterator<Item = &'static Row> {
    FAMILIES.iter().copied().flatten()
}

/// Whether the only kernel for an operator on CUDA is one that is compiled.
pub(crate) fn is_compiled(op: &str) -> bool {
    rows().any(|row| row.op == op && row.cuda == Kernel::Compiled)
}

/// The entry for an operator; `None` where nobody has written a rule.
pub(crate) fn gradient_of(op: &str) -> Option<Gradient> {
    rows().find(|row| row.op == op).map(|row| row.gradient)
}
