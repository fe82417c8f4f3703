//! Gradients of arithmetic on several operands, which may be broadcast.

use super::{Flowing, Row, rule, stop};
use crate::gradient::Flow;
use crate::graph::{Dtype, Elements, Graph, GraphError, Value};

pub(super) const ROWS: &[Row] = &[
    rule("Add", add, "dy; dy"),
    rule("Sub", sub, "dy; -dy"),
    rule("Mul", mul, "dy b; dy a"),
    rule("Div", div, "dy / b; -(dy / b) y"),
    rule("Sum", sum, "dy to each"),
    rule("Mod", modulo, "dy; -dy (a - y) / b"),
    rule("Pow", pow, "dy b a^(b-1); dy y ln a, 0 where a = 0; a constant b: dy b a^(b-1), 2 dy a for b = 2"),
    rule("Min", extremum, "dy [x = y] / number of variable operands equal to y; a constant operand takes no share"),
    rule("Max", extremum, "dy [x = y] / number of variable operands equal to y; a constant operand takes no share"),
    rule("Neg", neg, "-dy"),
    rule("Where", choice, "none; dy [c]; dy - dy [c]"),
    stop("Equal"),
    stop("Greater"),
    stop("GreaterOrEqual"),
    stop("Less"),
    stop("LessOrEqual"),
    stop("And"),
    stop("Or"),
    stop("Xor"),
    stop("Not"),
    stop("IsNaN"),
    stop("IsInf"),
];

fn add(flow: &mut Flow<'_>) -> Flowing {
    let dy = flow.dy()?;
    Ok(vec![Some(dy), Some(dy)])
}

fn sub(flow: &mut Flow<'_>) -> Flowing {
    let dy = flow.dy()?;
    let negative = flow.graph.neg(dy)?;
    Ok(vec![Some(dy), Some(negative)])
}

fn mul(flow: &mut Flow<'_>) -> Flowing {
    let (dy, left, right) = (flow.dy()?, flow.x(0)?, flow.x(1)?);
    let to_left = flow.graph.mul(dy, right)?;
    let to_right = flow.graph.mul(dy, left)?;
    Ok(vec![Some(to_left), Some(to_right)])
}

/// With `y = a / b`: `dy / b` to `a`, `-(dy / b) * y` to `b`.
fn div(flow: &mut Flow<'_>) -> Flowing {
    let (dy, y, divisor) = (flow.dy()?, flow.y(), flow.x(1)?);
    let quotient = flow.graph.div(dy, divisor)?;
    let product = flow.graph.mul(quotient, y)?;
    let to_divisor = flow.graph.neg(product)?;
    Ok(vec![Some(quotient), Some(to_divisor)])
}

fn sum(flow: &mut Flow<'_>) -> Flowing {
    let dy = flow.dy()?;
    Ok(vec![Some(dy); flow.node.inputs.len()])
}

/// With `y = a - trunc(a / b) * b`: `dy` to `a`, `-dy * (a - y) / b` to `b`.
fn modulo(flow: &mut Flow<'_>) -> Flowing {
    let (dy, y, dividend, divisor) = (flow.dy()?, flow.y(), flow.x(0)?, flow.x(1)?);
    let graph = &mut *flow.graph;
    let whole = graph.sub(y, dividend)?;
    let quotient = graph.div(whole, divisor)?;
    let to_divisor = graph.mul(dy, quotient)?;
    Ok(vec![Some(dy), Some(to_divisor)])
}

/// With `y = a ^ b`: `dy * b * a ^ (b - 1)` to `a`, `dy * y * ln a` to `b`.
fn pow(flow: &mut Flow<'_>) -> Flowing {
    let (dy, y, base, raw_exponent) = (flow.dy()?, flow.y(), flow.x(0)?, flow.x(1)?);
    let graph = &mut *flow.graph;
    if let Some(exponent) = single_number(graph, raw_exponent) {
        return Ok(vec![Some(power_slope(graph, dy, base, exponent)?), None]);
    }
    let exponent = graph.cast(raw_exponent, graph.dtype(base))?;
    let lower = graph.shift(exponent, -1.0)?;
    let power = graph.pow(base, lower)?;
    let slope = graph.mul(exponent, power)?;
    let to_base = graph.mul(dy, slope)?;
    if !graph.dtype(raw_exponent).is_float() {
        return Ok(vec![Some(to_base), None]);
    }
    let nonzero = one_where_zero(graph, base)?;
    let log = graph.log(nonzero)?;
    let scaled = graph.mul(y, log)?;
    let to_exponent = graph.mul(dy, scaled)?;
    let to_exponent = graph.cast(to_exponent, graph.dtype(raw_exponent))?;
    Ok(vec![Some(to_base), Some(to_exponent)])
}

/// `dy * exponent * base ^ (exponent - 1)`, finite at base zero for exponents of at least one.
fn power_slope(graph: &mut Graph, dy: Value, base: Value, exponent: f64) -> Result<Value, GraphError> {
    let lower = exponent - 1.0;
    let power = if lower == 1.0 {
        base
    } else if lower == 0.0 || exponent == 0.0 {
        return graph.scale(dy, exponent);
    } else {
        let lower = graph.scalar_like(base, lower);
        graph.pow(base, lower)?
    };
    let product = graph.mul(dy, power)?;
    graph.scale(product, exponent)
}

/// The number of a constant of one element.
fn single_number(graph: &Graph, value: Value) -> Option<f64> {
    match &graph.constant_of(value)?.elements {
        Elements::Float(floats) if floats.len() == 1 => Some(floats[0]),
        #[expect(clippy::cast_precision_loss, reason = "an exponent beyond 2^52 has no use")]
        Elements::Int(ints) if ints.len() == 1 => Some(ints[0] as f64),
        _ => None,
    }
}

/// The value with its zeros replaced by ones.
pub(super) fn one_where_zero(graph: &mut Graph, value: Value) -> Result<Value, GraphError> {
    let zero = graph.scalar_like(value, 0.0);
    let is_zero = graph.equal(value, zero)?;
    let mask = graph.cast(is_zero, graph.dtype(value))?;
    graph.add(value, mask)
}

/// `dy` to the operands that equal the output: shared equally where several do, as PyTorch's `maximum` does. All of
/// it at a tie with a constant, as PyTorch's `clamp` does.
fn extremum(flow: &mut Flow<'_>) -> Flowing {
    let (dy, y) = (flow.dy()?, flow.y());
    let operands = flow.node.inputs.clone();
    let graph = &mut *flow.graph;
    let dtype = graph.dtype(y);
    let mut masks: Vec<Option<Value>> = Vec::with_capacity(operands.len());
    for operand in operands {
        let variable = operand.filter(|&operand| graph.constant_of(operand).is_none());
        masks.push(variable.map(|operand| equal_mask(graph, operand, y, dtype)).transpose()?);
    }
    let present: Vec<Value> = masks.iter().copied().flatten().collect();
    let share = match *present.as_slice() {
        [] | [_] => dy,
        _ => {
            let mut count = present[0];
            for &mask in &present[1..] {
                count = graph.add(count, mask)?;
            }
            // Where a constant is the extremum alone, every mask is zero: there the count must only not be zero.
            let one = graph.scalar_like(y, 1.0);
            let count = graph.max(count, one)?;
            graph.div(dy, count)?
        }
    };
    masks.into_iter().map(|mask| mask.map(|mask| Ok(graph.mul(share, mask)?)).transpose()).collect()
}

fn equal_mask(graph: &mut Graph, left: Value, right: Value, dtype: Dtype) -> Result<Value, GraphError> {
    let equal = graph.equal(left, right)?;
    graph.cast(equal, dtype)
}

fn neg(flow: &mut Flow<'_>) -> Flowing {
    let dy = flow.dy()?;
    Ok(vec![Some(flow.graph.neg(dy)?)])
}

/// A product with the condition: a `Where` is three times slower on the CPU.
fn choice(flow: &mut Flow<'_>) -> Flowing {
    let (dy, condition) = (flow.dy()?, flow.x(0)?);
    let graph = &mut *flow.graph;
    let mask = graph.cast(condition, graph.dtype(dy))?;
    let to_first = graph.mul(dy, mask)?;
    let to_second = graph.sub(dy, to_first)?;
    Ok(vec![None, Some(to_first), Some(to_second)])
}
