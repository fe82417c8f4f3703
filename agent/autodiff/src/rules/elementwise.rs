//! Gradients of functions that act on each element by itself.

use std::f64::consts::{FRAC_1_SQRT_2, PI};

use super::{Flowing, Kernel, Row, rule, stop};
use crate::gradient::{Flow, GradientError};
use crate::graph::{Dtype, Graph, GraphError, Value};
use crate::own;

pub(super) const ROWS: &[Row] = &[
    rule("Exp", exp, "dy y"),
    rule("Log", log, "dy / x"),
    rule("Sqrt", sqrt, "dy / (2 y)"),
    rule("Reciprocal", reciprocal, "-dy y^2"),
    rule("Abs", abs, "dy sign(x)"),
    rule("Erf", erf, "dy 2/sqrt(pi) exp(-x^2)"),
    rule("Sin", sin, "dy cos(x)"),
    rule("Cos", cos, "-dy sin(x)"),
    rule("Tan", tan, "dy + dy y^2").cuda(Kernel::Compiled),
    rule("Asin", asin, "dy / sqrt(1 - x^2)").cuda(Kernel::Compiled),
    rule("Acos", acos, "-dy / sqrt(1 - x^2)").cuda(Kernel::Compiled),
    rule("Atan", atan, "dy / (1 + x^2)").cuda(Kernel::Compiled),
    rule("Sinh", sinh, "dy cosh(x)").cuda(Kernel::Compiled),
    rule("Cosh", cosh, "dy sinh(x)").cuda(Kernel::Compiled),
    rule("Asinh", asinh, "dy / sqrt(x^2 + 1)").cuda(Kernel::Compiled),
    rule("Acosh", acosh, "dy / sqrt(x^2 - 1)").cuda(Kernel::Compiled),
    rule("Atanh", atanh, "dy / (1 - x^2)").cuda(Kernel::Compiled),
    rule("Relu", relu, "dy [y > 0]"),
    rule("LeakyRelu", leaky_relu, "dy (alpha + (1 - alpha) [x > 0])"),
    rule("PRelu", prelu, "dy (slope + (1 - slope) [x > 0]); dy min(x, 0)"),
    rule("ThresholdedRelu", thresholded_relu, "dy [x > alpha]"),
    rule("Elu", elu, "dy (1 where x > 0, otherwise y + alpha)"),
    rule("Selu", selu, "dy (gamma where x > 0, otherwise y + alpha gamma)"),
    rule("Softplus", softplus, "dy sigmoid(x)"),
    rule("Softsign", softsign, "dy (1 - |y|)^2"),
    rule("HardSigmoid", hard_sigmoid, "dy alpha [0 < y < 1]"),
    rule("Tanh", tanh, "dy - dy y^2"),
    rule("Sigmoid", sigmoid, "dy (y - y^2)"),
    rule("Gelu", gelu, "exact: dy (Phi(x) + x phi(x)); tanh: dy (1 + t + x (1 - t^2) u') / 2, t = tanh(u(x))"),
    rule("Clip", clip, "dy [y = x]; dy [x < min]; dy [x > max]"),
    rule("Identity", identity, "dy"),
    rule("Cast", cast, "dy, in the operand's type"),
    stop("Sign"),
    stop("Ceil"),
    stop("Floor"),
    stop("Round"),
];

fn identity(flow: &mut Flow<'_>) -> Flowing {
    Ok(vec![Some(flow.dy()?)])
}

/// Back to the operand's type. A cast to or from integers never gets here: integers carry no gradient.
fn cast(flow: &mut Flow<'_>) -> Flowing {
    let (dy, x) = (flow.dy()?, flow.x(0)?);
    let dtype = flow.graph.dtype(x);
    Ok(vec![Some(flow.graph.cast(dy, dtype)?)])
}

fn exp(flow: &mut Flow<'_>) -> Flowing {
    let (dy, y) = (flow.dy()?, flow.y());
    Ok(vec![Some(flow.graph.mul(dy, y)?)])
}

fn log(flow: &mut Flow<'_>) -> Flowing {
    let (dy, x) = (flow.dy()?, flow.x(0)?);
    Ok(vec![Some(flow.graph.div(dy, x)?)])
}

/// `dy / (2 y)`.
fn sqrt(flow: &mut Flow<'_>) -> Flowing {
    let (dy, y) = (flow.dy()?, flow.y());
    let half = flow.graph.scale(dy, 0.5)?;
    Ok(vec![Some(flow.graph.div(half, y)?)])
}

/// `dy * 2 / sqrt(pi) * exp(-x^2)`.
fn erf(flow: &mut Flow<'_>) -> Flowing {
    let (dy, x) = (flow.dy()?, flow.x(0)?);
    let graph = &mut *flow.graph;
    let square = graph.mul(x, x)?;
    let negative = graph.neg(square)?;
    let bell = graph.exp(negative)?;
    let slope = graph.scale(bell, 2.0 / PI.sqrt())?;
    Ok(vec![Some(graph.mul(dy, slope)?)])
}

/// `-dy * y^2`.
fn reciprocal(flow: &mut Flow<'_>) -> Flowing {
    let (dy, y) = (flow.dy()?, flow.y());
    let square = flow.graph.mul(y, y)?;
    let product = flow.graph.mul(dy, square)?;
    Ok(vec![Some(flow.graph.neg(product)?)])
}

fn abs(flow: &mut Flow<'_>) -> Flowing {
    let (dy, x) = (flow.dy()?, flow.x(0)?);
    let sign = flow.graph.sign(x)?;
    Ok(vec![Some(flow.graph.mul(dy, sign)?)])
}

fn sin(flow: &mut Flow<'_>) -> Flowing {
    let (dy, x) = (flow.dy()?, flow.x(0)?);
    let slope = flow.graph.cos(x)?;
    Ok(vec![Some(flow.graph.mul(dy, slope)?)])
}

fn cos(flow: &mut Flow<'_>) -> Flowing {
    let (dy, x) = (flow.dy()?, flow.x(0)?);
    let sin = flow.graph.sin(x)?;
    let product = flow.graph.mul(dy, sin)?;
    Ok(vec![Some(flow.graph.neg(product)?)])
}

/// `dy * (1 + y^2)`, written `dy + dy * y^2`.
fn tan(flow: &mut Flow<'_>) -> Flowing {
    let (dy, y) = (flow.dy()?, flow.y());
    let square = flow.graph.mul(y, y)?;
    let gained = flow.graph.mul(dy, square)?;
    Ok(vec![Some(flow.graph.add(dy, gained)?)])
}

fn asin(flow: &mut Flow<'_>) -> Flowing {
    let cosine = root_of_square(flow, -1.0, 1.0)?;
    let dy = flow.dy()?;
    Ok(vec![Some(flow.graph.div(dy, cosine)?)])
}

fn acos(flow: &mut Flow<'_>) -> Flowing {
    let sine = root_of_square(flow, -1.0, 1.0)?;
    let dy = flow.dy()?;
    let quotient = flow.graph.div(dy, sine)?;
    Ok(vec![Some(flow.graph.neg(quotient)?)])
}

fn asinh(flow: &mut Flow<'_>) -> Flowing {
    let root = root_of_square(flow, 1.0, 1.0)?;
    let dy = flow.dy()?;
    Ok(vec![Some(flow.graph.div(dy, root)?)])
}

fn acosh(flow: &mut Flow<'_>) -> Flowing {
    let root = root_of_square(flow, 1.0, -1.0)?;
    let dy = flow.dy()?;
    Ok(vec![Some(flow.graph.div(dy, root)?)])
}

fn atan(flow: &mut Flow<'_>) -> Flowing {
    let denominator = square_and(flow, 1.0, 1.0)?;
    let dy = flow.dy()?;
    Ok(vec![Some(flow.graph.div(dy, denominator)?)])
}

fn atanh(flow: &mut Flow<'_>) -> Flowing {
    let denominator = square_and(flow, -1.0, 1.0)?;
    let dy = flow.dy()?;
    Ok(vec![Some(flow.graph.div(dy, denominator)?)])
}

/// `factor * x^2 + addend`.
fn square_and(flow: &mut Flow<'_>, factor: f64, addend: f64) -> Result<Value, GradientError> {
    let x = flow.x(0)?;
    let square = flow.graph.mul(x, x)?;
    let scaled = flow.graph.scale(square, factor)?;
    Ok(flow.graph.shift(scaled, addend)?)
}

/// The square root of `factor * x^2 + addend`.
fn root_of_square(flow: &mut Flow<'_>, factor: f64, addend: f64) -> Result<Value, GradientError> {
    let square = square_and(flow, factor, addend)?;
    Ok(flow.graph.sqrt(square)?)
}

fn sinh(flow: &mut Flow<'_>) -> Flowing {
    let (dy, x) = (flow.dy()?, flow.x(0)?);
    let slope = flow.graph.node("Cosh", &[x], &[])?;
    Ok(vec![Some(flow.graph.mul(dy, slope)?)])
}

fn cosh(flow: &mut Flow<'_>) -> Flowing {
    let (dy, x) = (flow.dy()?, flow.x(0)?);
    let slope = flow.graph.node("Sinh", &[x], &[])?;
    Ok(vec![Some(flow.graph.mul(dy, slope)?)])
}

/// One where the value is above a bound, zero elsewhere. A mask by `Cast`: `Where` is three times slower on the CPU.
fn above(graph: &mut Graph, value: Value, bound: f64) -> Result<Value, GraphError> {
    let bound = graph.scalar_like(value, bound);
    let above = graph.greater(value, bound)?;
    graph.cast(above, graph.dtype(value))
}

fn relu(flow: &mut Flow<'_>) -> Flowing {
    let (dy, y) = (flow.dy()?, flow.y());
    if let Some(to_x) = own::relu_gradient(flow.graph, dy, y)? {
        return Ok(vec![Some(to_x)]);
    }
    let mask = above(flow.graph, y, 0.0)?;
    Ok(vec![Some(flow.graph.mul(dy, mask)?)])
}

/// `dy * (alpha + (1 - alpha) * [x > 0])`, which is `dy * max(alpha, [x > 0])` for `alpha` from zero to one.
fn leaky_relu(flow: &mut Flow<'_>) -> Flowing {
    let (dy, x, alpha) = (flow.dy()?, flow.x(0)?, flow.node.float("alpha", 0.01));
    let graph = &mut *flow.graph;
    let mask = above(graph, x, 0.0)?;
    let slope = if (0.0..=1.0).contains(&alpha) {
        let alpha = graph.scalar_like(x, alpha);
        graph.max(mask, alpha)?
    } else {
        let gained = graph.scale(mask, 1.0 - alpha)?;
        graph.shift(gained, alpha)?
    };
    Ok(vec![Some(graph.mul(dy, slope)?)])
}

/// To `x`: `s + (dy - s) * [x > 0]` with `s = dy * slope`; to the slope: `dy * min(x, 0)`.
fn prelu(flow: &mut Flow<'_>) -> Flowing {
    let (dy, x, slope) = (flow.dy()?, flow.x(0)?, flow.x(1)?);
    let graph = &mut *flow.graph;
    let mask = above(graph, x, 0.0)?;
    let sloped = graph.mul(dy, slope)?;
    let lost = graph.sub(dy, sloped)?;
    let regained = graph.mul(lost, mask)?;
    let to_x = graph.add(sloped, regained)?;
    let zero = graph.scalar_like(x, 0.0);
    let negative = graph.min(x, zero)?;
    Ok(vec![Some(to_x), Some(graph.mul(dy, negative)?)])
}

fn thresholded_relu(flow: &mut Flow<'_>) -> Flowing {
    let (dy, x, alpha) = (flow.dy()?, flow.x(0)?, flow.node.float("alpha", 1.0));
    let mask = above(flow.graph, x, alpha)?;
    Ok(vec![Some(flow.graph.mul(dy, mask)?)])
}

fn elu(flow: &mut Flow<'_>) -> Flowing {
    let alpha = flow.node.float("alpha", 1.0);
    exponential_unit(flow, alpha, 1.0)
}

fn selu(flow: &mut Flow<'_>) -> Flowing {
    let alpha = flow.node.float("alpha", 1.673_263_192_176_818_8);
    let gamma = flow.node.float("gamma", 1.050_701_022_148_132_3);
    exponential_unit(flow, alpha * gamma, gamma)
}

/// `dy * (min(y, 0) + depth)`, and `dy * gain` where `y` is positive.
fn exponential_unit(flow: &mut Flow<'_>, depth: f64, gain: f64) -> Flowing {
    let (dy, y) = (flow.dy()?, flow.y());
    let graph = &mut *flow.graph;
    let zero = graph.scalar_like(y, 0.0);
    let negative = graph.min(y, zero)?;
    let mut slope = graph.shift(negative, depth)?;
    if depth != gain {
        let mask = above(graph, y, 0.0)?;
        let difference = graph.scale(mask, gain - depth)?;
        slope = graph.add(slope, difference)?;
    }
    Ok(vec![Some(graph.mul(dy, slope)?)])
}

fn softplus(flow: &mut Flow<'_>) -> Flowing {
    let (dy, x) = (flow.dy()?, flow.x(0)?);
    let slope = flow.graph.sigmoid(x)?;
    Ok(vec![Some(flow.graph.mul(dy, slope)?)])
}

/// `dy * (1 - |y|)^2`.
fn softsign(flow: &mut Flow<'_>) -> Flowing {
    let (dy, y) = (flow.dy()?, flow.y());
    let graph = &mut *flow.graph;
    let magnitude = graph.abs(y)?;
    let less = graph.shift(magnitude, -1.0)?;
    let slope = graph.mul(less, less)?;
    Ok(vec![Some(graph.mul(dy, slope)?)])
}

fn hard_sigmoid(flow: &mut Flow<'_>) -> Flowing {
    let (dy, y, alpha) = (flow.dy()?, flow.y(), flow.node.float("alpha", 0.2));
    let graph = &mut *flow.graph;
    let (zero, one) = (graph.scalar_like(y, 0.0), graph.scalar_like(y, 1.0));
    let positive = graph.greater(y, zero)?;
    let below_one = graph.less(y, one)?;
    let within = graph.and(positive, below_one)?;
    let mask = graph.cast(within, graph.dtype(y))?;
    let slope = graph.scale(mask, alpha)?;
    Ok(vec![Some(graph.mul(dy, slope)?)])
}

/// To `x` where it is within the bounds, at a bound too; to a bound where it replaced `x`.
fn clip(flow: &mut Flow<'_>) -> Flowing {
    let (dy, x, y) = (flow.dy()?, flow.x(0)?, flow.y());
    let bounds = [(flow.x(1).ok(), true), (flow.x(2).ok(), false)];
    let graph = &mut *flow.graph;
    let dtype = graph.dtype(x);
    let within = graph.equal(x, y)?;
    let mut flowing = vec![Some(masked(graph, dy, within, dtype)?)];
    for (bound, is_lower) in bounds {
        flowing.push(match bound {
            None => None,
            Some(bound) => {
                let beyond = if is_lower { graph.less(x, bound)? } else { graph.greater(x, bound)? };
                Some(masked(graph, dy, beyond, dtype)?)
            }
        });
    }
    Ok(flowing)
}

fn masked(graph: &mut Graph, dy: Value, truth: Value, dtype: Dtype) -> Result<Value, GraphError> {
    let mask = graph.cast(truth, dtype)?;
    graph.mul(dy, mask)
}

/// `dy * (1 - y^2)`, written `dy - dy * y^2`.
fn tanh(flow: &mut Flow<'_>) -> Flowing {
    let (dy, y) = (flow.dy()?, flow.y());
    let graph = &mut *flow.graph;
    let square = graph.mul(y, y)?;
    let lost = graph.mul(dy, square)?;
    Ok(vec![Some(graph.sub(dy, lost)?)])
}

/// `dy * (y - y^2)`.
fn sigmoid(flow: &mut Flow<'_>) -> Flowing {
    let (dy, y) = (flow.dy()?, flow.y());
    let graph = &mut *flow.graph;
    let square = graph.mul(y, y)?;
    let slope = graph.sub(y, square)?;
    Ok(vec![Some(graph.mul(dy, slope)?)])
}

/// `dy * (Phi(x) + x * phi(x))`, with the normal distribution `Phi` and its density `phi`.
fn gelu(flow: &mut Flow<'_>) -> Flowing {
    match flow.node.text("approximate") {
        None | Some("none") => {}
        Some("tanh") => {}
        Some(_) => return Err(flow.unsupported("the approximation is not one that ONNX knows")),
    }
    let (dy, x) = (flow.dy()?, flow.x(0)?);
    if let Some(to_x) = own::gelu_gradient(flow.graph, &flow.node, dy)? {
        return Ok(vec![Some(to_x)]);
    }
    if flow.node.text("approximate") == Some("tanh") {
        return Ok(vec![Some(gelu_tanh(flow.graph, dy, x)?)]);
    }
    let graph = &mut *flow.graph;
    let scaled = graph.scale(x, FRAC_1_SQRT_2)?;
    let erf = graph.erf(scaled)?;
    let half_erf = graph.scale(erf, 0.5)?;
    let half = graph.scalar_like(x, 0.5);
    let distribution = graph.add(half_erf, half)?;
    let square = graph.mul(x, x)?;
    let exponent = graph.scale(square, -0.5)?;
    let bell = graph.exp(exponent)?;
    let density = graph.scale(bell, 1.0 / (2.0 * PI).sqrt())?;
    let weighted = graph.mul(x, density)?;
    let slope = graph.add(distribution, weighted)?;
    Ok(vec![Some(graph.mul(dy, slope)?)])
}

/// With `u = c (x + k x^3)` and `t = tanh(u)`: `dy * (1 + t + x * (1 - t^2) * c (1 + 3 k x^2)) / 2`.
fn gelu_tanh(graph: &mut Graph, dy: Value, x: Value) -> Result<Value, GraphError> {
    const CUBIC: f64 = 0.044_715;
    let scale = (2.0 / PI).sqrt();
    let square = graph.mul(x, x)?;
    let weight = graph.scale(square, scale * CUBIC)?;
    let weight = graph.shift(weight, scale)?;
    let inner = graph.mul(x, weight)?;
    let tanh = graph.tanh(inner)?;
    let steepness = graph.scale(square, 3.0 * scale * CUBIC)?;
    let steepness = graph.shift(steepness, scale)?;
    let squashed = graph.mul(tanh, tanh)?;
    let lost = graph.mul(squashed, steepness)?;
    let rest = graph.sub(steepness, lost)?;
    let weighted = graph.mul(x, rest)?;
    let twice = graph.add(tanh, weighted)?;
    let half = graph.scale(twice, 0.5)?;
    let slope = graph.shift(half, 0.5)?;
    graph.mul(dy, slope)
}
