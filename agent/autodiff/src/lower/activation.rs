//! Functions of each element that are products and sums of others.

use super::{Application, Lowered, Row, axis_attribute, on_cuda, row};
use crate::graph::{Attribute, Graph, GraphError, Value};

pub(super) const ROWS: &[Row] = &[
    row("Celu", 12, celu, "alpha Elu(x / alpha)"),
    row("HardSwish", 14, hard_swish, "x HardSigmoid(x; 1/6, 1/2)"),
    row("Mish", 18, mish, "x Tanh(Softplus(x))"),
    row("Shrink", 9, shrink, "x - bias where x > lambd, x + bias where x < -lambd, else 0"),
    row("Swish", 24, swish, "x Sigmoid(alpha x)"),
    row("Mean", 13, mean, "Sum / n"),
    on_cuda("Hardmax", 13, hardmax, "ArgMax(x) = place, as numbers"),
    on_cuda("Tan", 7, tan, "Sin(x) / Cos(x)"),
    on_cuda("Sinh", 9, sinh, "(Exp(x) - Exp(-x)) / 2"),
    on_cuda("Cosh", 9, cosh, "(Exp(x) + Exp(-x)) / 2"),
];

fn celu(graph: &mut Graph, application: &Application<'_>) -> Lowered {
    let (x, alpha) = (application.x(0)?, application.node.float("alpha", 1.0));
    let scaled = graph.scale(x, 1.0 / alpha)?;
    let unit = graph.node("Elu", &[scaled], &[])?;
    Ok(vec![Some(graph.scale(unit, alpha)?)])
}

fn hard_swish(graph: &mut Graph, application: &Application<'_>) -> Lowered {
    let x = application.x(0)?;
    let attributes = [("alpha", Attribute::Float(1.0 / 6.0)), ("beta", Attribute::Float(0.5))];
    let gate = graph.node("HardSigmoid", &[x], &attributes)?;
    Ok(vec![Some(graph.mul(x, gate)?)])
}

fn mish(graph: &mut Graph, application: &Application<'_>) -> Lowered {
    let x = application.x(0)?;
    let softplus = graph.softplus(x)?;
    let gate = graph.tanh(softplus)?;
    Ok(vec![Some(graph.mul(x, gate)?)])
}

fn shrink(graph: &mut Graph, application: &Application<'_>) -> Lowered {
    let x = application.x(0)?;
    let (lambda, bias) = (application.node.float("lambd", 0.5), application.node.float("bias", 0.0));
    let (upper, lower, zero) = (graph.scalar_like(x, lambda), graph.scalar_like(x, -lambda), graph.scalar_like(x, 0.0));
    let (is_above, is_below) = (graph.node("Greater", &[x, upper], &[])?, graph.node("Less", &[x, lower], &[])?);
    let (fallen, risen) = (graph.shift(x, -bias)?, graph.shift(x, bias)?);
    let rest = graph.choose(is_below, risen, zero)?;
    Ok(vec![Some(graph.choose(is_above, fallen, rest)?)])
}

fn swish(graph: &mut Graph, application: &Application<'_>) -> Lowered {
    let (x, alpha) = (application.x(0)?, application.node.float("alpha", 1.0));
    let scaled = graph.scale(x, alpha)?;
    let gate = graph.sigmoid(scaled)?;
    Ok(vec![Some(graph.mul(x, gate)?)])
}

fn mean(graph: &mut Graph, application: &Application<'_>) -> Lowered {
    let operands: Vec<Value> = application.node.inputs.iter().flatten().copied().collect();
    let sum = graph.node("Sum", &operands, &[])?;
    #[expect(clippy::cast_precision_loss, reason = "a node has few operands")]
    let share = 1.0 / operands.len() as f64;
    Ok(vec![Some(graph.scale(sum, share)?)])
}

/// ONNX Runtime has no kernel for it.
fn hardmax(graph: &mut Graph, application: &Application<'_>) -> Lowered {
    let x = application.x(0)?;
    let axis = axis_attribute(graph, application, -1, x)?;
    let (dtype, shape) = (graph.dtype(x), graph.shape(x).to_vec());
    let attributes =
        [("axis", Attribute::Int(i64::try_from(axis).expect("an axis is small"))), ("keepdims", Attribute::Int(1))];
    let first = graph.node("ArgMax", &[x], &attributes)?;
    let mut along = vec![1; shape.len()];
    along[axis] = shape[axis];
    let places = graph.int_range(shape[axis], 1);
    let places = graph.reshape(places, &along)?;
    let is_first = graph.equal(places, first)?;
    Ok(vec![Some(graph.cast(is_first, dtype)?)])
}

fn tan(graph: &mut Graph, application: &Application<'_>) -> Lowered {
    let x = application.x(0)?;
    let (sin, cos) = (graph.sin(x)?, graph.cos(x)?);
    Ok(vec![Some(graph.div(sin, cos)?)])
}

fn sinh(graph: &mut Graph, application: &Application<'_>) -> Lowered {
    let (rising, falling) = exponentials(graph, application.x(0)?)?;
    let difference = graph.sub(rising, falling)?;
    Ok(vec![Some(graph.scale(difference, 0.5)?)])
}

fn cosh(graph: &mut Graph, application: &Application<'_>) -> Lowered {
    let (rising, falling) = exponentials(graph, application.x(0)?)?;
    let sum = graph.add(rising, falling)?;
    Ok(vec![Some(graph.scale(sum, 0.5)?)])
}

fn exponentials(graph: &mut Graph, x: Value) -> Result<(Value, Value), GraphError> {
    let negative = graph.neg(x)?;
    Ok((graph.exp(x)?, graph.exp(negative)?))
}
