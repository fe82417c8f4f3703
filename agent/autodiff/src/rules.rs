//! The one table from operator to gradient rule. A new gradient is a function in its family's file, one line
//! here, and one row in `tests/gradients.rs`.

mod arithmetic;
mod elementwise;
mod indexing;
mod linear;
mod reduction;
mod shape;

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

use Gradient::{Rule, Stop};

const GRADIENTS: &[(&str, Gradient)] = &[
    ("Add", Rule(arithmetic::add)),
    ("Sub", Rule(arithmetic::sub)),
    ("Mul", Rule(arithmetic::mul)),
    ("Div", Rule(arithmetic::div)),
    ("Pow", Rule(arithmetic::pow)),
    ("Neg", Rule(arithmetic::neg)),
    ("Exp", Rule(elementwise::exp)),
    ("Log", Rule(elementwise::log)),
    ("Sqrt", Rule(elementwise::sqrt)),
    ("Erf", Rule(elementwise::erf)),
    ("Relu", Rule(elementwise::relu)),
    ("Tanh", Rule(elementwise::tanh)),
    ("Sigmoid", Rule(elementwise::sigmoid)),
    ("Gelu", Rule(elementwise::gelu)),
    ("Identity", Rule(elementwise::identity)),
    ("Cast", Rule(elementwise::cast)),
    ("Gemm", Rule(linear::gemm)),
    ("MatMul", Rule(linear::matmul)),
    ("ReduceSum", Rule(reduction::reduce_sum)),
    ("ReduceMean", Rule(reduction::reduce_mean)),
    ("Softmax", Rule(reduction::softmax)),
    ("LogSoftmax", Rule(reduction::log_softmax)),
    ("Reshape", Rule(shape::reshape)),
    ("Expand", Rule(shape::expand)),
    ("Transpose", Rule(shape::transpose)),
    ("Gather", Rule(indexing::gather)),
    ("ArgMax", Stop),
    ("Equal", Stop),
    ("Greater", Stop),
    ("Less", Stop),
    ("OneHot", Stop),
];

/// The entry for an operator; `None` where nobody has written a rule.
pub(crate) fn gradient_of(op: &str) -> Option<Gradient> {
    GRADIENTS.iter().find(|(name, _)| *name == op).map(|(_, gradient)| *gradient)
}
