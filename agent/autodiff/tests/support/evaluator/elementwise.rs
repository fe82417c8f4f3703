//! Functions of each element, arithmetic, comparisons and casts.

use regatta_autodiff::graph::{Elements, Node};

use super::{Tensor, as_float, binary, broadcast, source, unary};

/// `None` where the operator belongs to another family.
pub fn apply(node: &Node, operands: &[Option<Tensor>]) -> Option<Vec<Tensor>> {
    let present: Vec<Tensor> = operands.iter().flatten().cloned().collect();
    let x = present.as_slice();
    if let Some(function) = function_of(node) {
        return Some(vec![unary(&x[0], function)]);
    }
    let output = match node.op.as_str() {
        "Identity" => x[0].clone(),
        "PRelu" => binary(&x[0], &x[1], |a, b| if a > 0.0 { a } else { a * b }, |_, _| unreachable!()),
        "Clip" => clip(operands),
        "Add" => binary(&x[0], &x[1], |a, b| a + b, |a, b| a + b),
        "Sub" => binary(&x[0], &x[1], |a, b| a - b, |a, b| a - b),
        "Mul" => binary(&x[0], &x[1], |a, b| a * b, |a, b| a * b),
        "Div" => binary(&x[0], &x[1], |a, b| a / b, |a, b| a / b),
        "Min" => fold(x, |a, b| binary(a, b, f64::min, i64::min)),
        "Max" => fold(x, |a, b| binary(a, b, f64::max, i64::max)),
        "Sum" => fold(x, |a, b| binary(a, b, |a, b| a + b, |a, b| a + b)),
        "Mod" if node.int("fmod", 0) == 1 => binary(&x[0], &x[1], |a, b| a % b, |a, b| a % b),
        "Mod" => binary(&x[0], &x[1], f64::rem_euclid, i64::rem_euclid),
        "Pow" => binary(&as_float(&x[0]), &as_float(&x[1]), f64::powf, |_, _| unreachable!()),
        "Less" => compare(&x[0], &x[1], |a, b| a < b, |a, b| a < b),
        "LessOrEqual" => compare(&x[0], &x[1], |a, b| a <= b, |a, b| a <= b),
        "Greater" => compare(&x[0], &x[1], |a, b| a > b, |a, b| a > b),
        "GreaterOrEqual" => compare(&x[0], &x[1], |a, b| a >= b, |a, b| a >= b),
        "Equal" => compare(&x[0], &x[1], |a, b| a == b, |a, b| a == b),
        "And" => binary(&x[0], &x[1], |_, _| unreachable!(), |a, b| a & b),
        "Or" => binary(&x[0], &x[1], |_, _| unreachable!(), |a, b| a | b),
        "Xor" => binary(&x[0], &x[1], |_, _| unreachable!(), |a, b| a ^ b),
        "Not" => Tensor::ints(&x[0].shape, x[0].as_ints().iter().map(|a| 1 - a).collect()),
        "IsNaN" => test(&x[0], f64::is_nan),
        "IsInf" => test(&x[0], f64::is_infinite),
        "Where" => choose(&x[0], &x[1], &x[2]),
        "Cast" => cast(&x[0], node.int("to", 0)),
        _ => return None,
    };
    Some(vec![output])
}

type Function = Box<dyn Fn(f64) -> f64>;

/// Operators that act on each element by itself.
fn function_of(node: &Node) -> Option<Function> {
    let (alpha, beta, gamma) = (node.float("alpha", f64::NAN), node.float("beta", 0.5), node.float("gamma", f64::NAN));
    let or = |number: f64, default: f64| if number.is_nan() { default } else { number };
    Some(match node.op.as_str() {
        "Neg" => Box::new(|a| -a),
        "Abs" => Box::new(f64::abs),
        "Sign" => Box::new(|a| if a == 0.0 { 0.0 } else { a.signum() }),
        "Ceil" => Box::new(f64::ceil),
        "Floor" => Box::new(f64::floor),
        "Round" => Box::new(f64::round_ties_even),
        "Reciprocal" => Box::new(|a| 1.0 / a),
        "Exp" => Box::new(f64::exp),
        "Log" => Box::new(f64::ln),
        "Sqrt" => Box::new(f64::sqrt),
        "Erf" => Box::new(erf),
        "Sin" => Box::new(f64::sin),
        "Cos" => Box::new(f64::cos),
        "Tan" => Box::new(f64::tan),
        "Asin" => Box::new(f64::asin),
        "Acos" => Box::new(f64::acos),
        "Atan" => Box::new(f64::atan),
        "Sinh" => Box::new(f64::sinh),
        "Cosh" => Box::new(f64::cosh),
        "Asinh" => Box::new(f64::asinh),
        "Acosh" => Box::new(f64::acosh),
        "Atanh" => Box::new(f64::atanh),
        "Relu" => Box::new(|a| a.max(0.0)),
        "Tanh" => Box::new(f64::tanh),
        "Sigmoid" => Box::new(|a| 1.0 / (1.0 + (-a).exp())),
        "Softplus" => Box::new(|a| a.exp().ln_1p()),
        "Softsign" => Box::new(|a| a / (1.0 + a.abs())),
        "LeakyRelu" => Box::new(move |a| if a > 0.0 { a } else { or(alpha, 0.01) * a }),
        "ThresholdedRelu" => Box::new(move |a| if a > or(alpha, 1.0) { a } else { 0.0 }),
        "HardSigmoid" => Box::new(move |a| (or(alpha, 0.2) * a + beta).clamp(0.0, 1.0)),
        "Elu" => Box::new(move |a| if a > 0.0 { a } else { or(alpha, 1.0) * a.exp_m1() }),
        "Selu" => Box::new(move |a| {
            let gain = or(gamma, 1.050_701_022_148_132_3);
            if a > 0.0 { gain * a } else { gain * or(alpha, 1.673_263_192_176_818_8) * a.exp_m1() }
        }),
        "Gelu" if node.text("approximate") == Some("tanh") => Box::new(|a| {
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (a + 0.044715 * a.powi(3));
            0.5 * a * (1.0 + inner.tanh())
        }),
        "Gelu" => Box::new(|a| 0.5 * a * (1.0 + erf(a / 2f64.sqrt()))),
        _ => return None,
    })
}

fn fold(operands: &[Tensor], function: impl Fn(&Tensor, &Tensor) -> Tensor) -> Tensor {
    operands[1..].iter().fold(operands[0].clone(), |result, operand| function(&result, operand))
}

fn clip(operands: &[Option<Tensor>]) -> Tensor {
    let bound = |position: usize, default: f64| match operands.get(position) {
        Some(Some(bound)) => bound.as_floats()[0],
        _ => default,
    };
    let (low, high) = (bound(1, f64::NEG_INFINITY), bound(2, f64::INFINITY));
    unary(operands[0].as_ref().expect("an operand"), |a| a.max(low).min(high))
}

fn test(x: &Tensor, truth: impl Fn(f64) -> bool) -> Tensor {
    Tensor::ints(&x.shape, x.as_floats().iter().map(|&a| i64::from(truth(a))).collect())
}

fn choose(condition: &Tensor, yes: &Tensor, no: &Tensor) -> Tensor {
    let shape = broadcast(&condition.shape, &broadcast(&yes.shape, &no.shape));
    let from = |at: usize, tensor: &Tensor| source(at, &shape, &tensor.shape);
    let is_yes = |at: usize| condition.as_ints()[from(at, condition)] != 0;
    let positions = 0..shape.iter().product();
    match (&yes.elements, &no.elements) {
        (Elements::Float(a), Elements::Float(b)) => Tensor::floats(
            &shape,
            positions.map(|at| if is_yes(at) { a[from(at, yes)] } else { b[from(at, no)] }).collect(),
        ),
        (Elements::Int(a), Elements::Int(b)) => Tensor::ints(
            &shape,
            positions.map(|at| if is_yes(at) { a[from(at, yes)] } else { b[from(at, no)] }).collect(),
        ),
        _ => panic!("branches of different types"),
    }
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
