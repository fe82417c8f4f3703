//! This project's own operators.

use regatta_autodiff::graph::Node;

use super::Tensor;

/// `None` where the operator belongs to another family.
pub fn apply(node: &Node, operands: &[Option<Tensor>]) -> Option<Vec<Tensor>> {
    if (node.domain.as_str(), node.op.as_str()) != ("regatta", "AdamW") {
        return None;
    }
    let x: Vec<&[f64]> = operands.iter().flatten().map(Tensor::as_floats).collect();
    let [beta1, beta2, rate, epsilon, shrink] = [3, 4, 5, 6, 7].map(|at: usize| x[at][0]);
    let gradient = x[8..].concat();
    let elements = 0..x[0].len();
    let first: Vec<f64> = elements.clone().map(|at| x[1][at] * beta1 + gradient[at]).collect();
    let second: Vec<f64> = elements.clone().map(|at| x[2][at] * beta2 + gradient[at] * gradient[at]).collect();
    let weights = elements.map(|at| x[0][at] * shrink - first[at] / (second[at].sqrt() + epsilon) * rate).collect();
    Some([weights, first, second].map(|floats| Tensor::floats(&[floats.len()], floats)).into())
}
