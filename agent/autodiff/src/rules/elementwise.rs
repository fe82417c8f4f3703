//! Gradients of functions that act on each element by itself.

use std::f64::consts::{FRAC_1_SQRT_2, PI};

use super::{Flowing, Row, rule};
use crate::gradient::Flow;

pub(super) const ROWS: &[Row] = &[
    rule("Exp", exp, "dy y"),
    rule("Log", log, "dy / x"),
    rule("Sqrt", sqrt, "dy / (2 y)"),
    rule("Erf", erf, "dy 2/sqrt(pi) exp(-x^2)"),
    rule("Relu", relu, "dy [y > 0]"),
    rule("Tanh", tanh, "dy - dy y^2"),
    rule("Sigmoid", sigmoid, "dy (y - y^2)"),
    rule("Gelu", gelu, "dy (Phi(x) + x phi(x))"),
    rule("Identity", identity, "dy"),
    rule("Cast", cast, "dy, in the operand's type"),
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

/// `dy` where the output is positive. A mask by `Cast`: `Where` is three times slower on the CPU.
fn relu(flow: &mut Flow<'_>) -> Flowing {
    let (dy, y) = (flow.dy()?, flow.y());
    let graph = &mut *flow.graph;
    let zero = graph.scalar_like(y, 0.0);
    let positive = graph.greater(y, zero)?;
    let mask = graph.cast(positive, graph.dtype(y))?;
    Ok(vec![Some(graph.mul(dy, mask)?)])
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
    if flow.node.text("approximate").is_some_and(|kind| kind != "none") {
        return Err(flow.unsupported("only the exact form is differentiated"));
    }
    let (dy, x) = (flow.dy()?, flow.x(0)?);
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
