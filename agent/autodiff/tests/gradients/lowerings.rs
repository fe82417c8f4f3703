//! Operators written as simpler ones, each against its definition written plainly, and differentiated.

#[path = "lowerings/activation.rs"]
mod activation;
#[path = "lowerings/attention.rs"]
mod attention;
#[path = "lowerings/einsum.rs"]
mod einsum;
#[path = "lowerings/loss.rs"]
mod loss;
#[path = "lowerings/normalization.rs"]
mod normalization;
#[path = "lowerings/recurrent.rs"]
mod recurrent;

use regatta_autodiff::graph::{Attribute, Graph, Node, Value};
use regatta_autodiff::lower::lower;

use crate::check::{Built, Draw, check_output, check_with};
use crate::evaluator::Tensor;

type Attributes<'a> = &'a [(&'a str, Attribute)];

fn node(op: &str, inputs: &[Option<Value>], attributes: Attributes<'_>) -> Node {
    Node {
        name: op.into(),
        domain: String::new(),
        op: op.into(),
        inputs: inputs.to_vec(),
        outputs: vec![],
        attributes: attributes.iter().map(|(name, value)| ((*name).into(), value.clone())).collect(),
    }
}

/// One output of an operator that must be lowered.
fn lowered(graph: &mut Graph, op: &str, x: &[Option<Value>], attributes: Attributes<'_>, output: usize) -> Built {
    let outputs = lower(graph, &node(op, x, attributes))?.unwrap_or_else(|| panic!("{op} is not lowered"));
    Ok(outputs[output].unwrap_or_else(|| panic!("{op} has no output {output}")))
}

/// The first output against a formula, and its gradients against differences.
fn check_lowered(
    op: &str,
    inputs: &[(&[usize], Draw)],
    attributes: Attributes<'_>,
    formula: &dyn Fn(&[Tensor]) -> Tensor,
) {
    let build = |g: &mut Graph, x: &[Value]| {
        let x: Vec<Option<Value>> = x.iter().copied().map(Some).collect();
        lowered(g, op, &x, attributes, 0)
    };
    check_output(op, inputs, &build, formula);
    check_with(op, inputs, &build);
}

/// What is refused with an error, not a panic.
fn is_refused(graph: &mut Graph, op: &str, x: &[Option<Value>], attributes: Attributes<'_>) -> bool {
    lower(graph, &node(op, x, attributes)).is_err()
}
