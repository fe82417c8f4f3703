//! Functions of each element, arithmetic, comparisons and casts.

use regatta_autodiff::graph::{Elements, Node};

use super::{Tensor, as_float, binary, unary};

/// `None` where the operator belongs to another family.
pub fn apply(node: &Node, operands: &[Option<Tensor>]) -> Option<Vec<Tensor>> {
    let present: Vec<Tensor> = operands.iter().flatten().cloned().collect();
    let x = present.as_slice();
    let output = match node.op.as_str() {
        "Identity" => x[0].clone(),
        "Neg" => unary(&x[0], |a| -a),
        "Exp" => unary(&x[0], f64::exp),
        "Log" => unary(&x[0], f64::ln),
        "Sqrt" => unary(&x[0], f64::sqrt),
        "Erf" => unary(&x[0], erf),
        "Relu" => unary(&x[0], |a| a.max(0.0)),
        "Tanh" => unary(&x[0], f64::tanh),
        "Sigmoid" => unary(&x[0], |a| 1.0 / (1.0 + (-a).exp())),
        "Gelu" => unary(&x[0], |a| 0.5 * a * (1.0 + erf(a / 2f64.sqrt()))),
        "Add" => binary(&x[0], &x[1], |a, b| a + b, |a, b| a + b),
        "Sub" => binary(&x[0], &x[1], |a, b| a - b, |a, b| a - b),
        "Mul" => binary(&x[0], &x[1], |a, b| a * b, |a, b| a * b),
        "Div" => binary(&x[0], &x[1], |a, b| a / b, |a, b| a / b),
        "Min" => binary(&x[0], &x[1], f64::min, i64::min),
        "Mod" => binary(&x[0], &x[1], f64::rem_euclid, i64::rem_euclid),
        "Pow" => binary(&as_float(&x[0]), &as_float(&x[1]), f64::powf, |_, _| unreachable!()),
        "Less" => compare(&x[0], &x[1], |a, b| a < b, |a, b| a < b),
        "Greater" => compare(&x[0], &x[1], |a, b| a > b, |a, b| a > b),
        "Equal" => compare(&x[0], &x[1], |a, b| a == b, |a, b| a == b),
        "Cast" => cast(&x[0], node.int("to", 0)),
        _ => return None,
    };
    Some(vec![output])
}

/// ONNX's numbers 1 and 11 are f32 and f64.
fn cast(x: &Tensor, to: i64) -> Tensor {
    match (&x.elements, to) {
        (_, 1 | 11) => as_float(x),
        (Elements::Float(floats), _) => Tensor::ints(&x.shape, floats.iter().map(|a| *a as i64).collect()),
        (Elements::Int(_), _) => x.clone(),
    }
}

fn compare(x: &Tensor, y: &Tensor, floats: impl Fn(f64, f64) -> bool, ints: impl Fn(i64, i64) -> bool) -> Tensor {
    let number = |truth: bool| if truth { 1.0 } else { 0.0 };
    let result = binary(x, y, |a, b| number(floats(a, b)), |a, b| i64::from(ints(a, b)));
    cast(&result, 9)
}

/// The error function by its series with positive terms only, exact to a few units in the last place.
fn erf(x: f64) -> f64 {
    if x.abs() > 6.0 {
        return x.signum();
    }
    let (mut term, mut sum, mut n) = (x, x, 0.0);
    while term.abs() > 1e-18 * sum.abs() {
        n += 1.0;
        term *= 2.0 * x * x / (2.0 * n + 1.0);
        sum += term;
    }
    2.0 / std::f64::consts::PI.sqrt() * (-x * x).exp() * sum
}
