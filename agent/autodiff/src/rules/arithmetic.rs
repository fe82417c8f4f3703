//! Gradients of arithmetic with two operands, which may be broadcast.

use super::{Flowing, Row, rule, stop};
use crate::gradient::Flow;

pub(super) const ROWS: &[Row] = &[
    rule("Add", add, "dy; dy"),
    rule("Sub", sub, "dy; -dy"),
    rule("Mul", mul, "dy b; dy a"),
    rule("Div", div, "dy / b; -(dy / b) y"),
    rule("Pow", pow, "dy b a^(b-1); dy y ln a"),
    rule("Neg", neg, "-dy"),
    stop("Equal"),
    stop("Greater"),
    stop("Less"),
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

/// With `y = a ^ b`: `dy * b * a ^ (b - 1)` to `a`, `dy * y * ln a` to `b`.
fn pow(flow: &mut Flow<'_>) -> Flowing {
    let (dy, y, base, raw_exponent) = (flow.dy()?, flow.y(), flow.x(0)?, flow.x(1)?);
    let graph = &mut *flow.graph;
    let exponent = graph.cast(raw_exponent, graph.dtype(base))?;
    let one = graph.scalar_like(base, 1.0);
    let lower = graph.sub(exponent, one)?;
    let power = graph.pow(base, lower)?;
    let slope = graph.mul(exponent, power)?;
    let to_base = graph.mul(dy, slope)?;
    if !graph.dtype(raw_exponent).is_float() {
        return Ok(vec![Some(to_base), None]);
    }
    let log = graph.log(base)?;
    let scaled = graph.mul(y, log)?;
    let to_exponent = graph.mul(dy, scaled)?;
    let to_exponent = graph.cast(to_exponent, graph.dtype(raw_exponent))?;
    Ok(vec![Some(to_base), Some(to_exponent)])
}

fn neg(flow: &mut Flow<'_>) -> Flowing {
    let dy = flow.dy()?;
    Ok(vec![Some(flow.graph.neg(dy)?)])
}
