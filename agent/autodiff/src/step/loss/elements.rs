//! Losses that compare each output with a number of the target.

use super::{BatchLoss, Loss, Settings, SummedLoss, misfit, needed, share};
use crate::graph::{Attribute, Graph, GraphError, Value};

/// A loss element by element, before any mean.
struct Elements {
    loss: Value,
    /// The derivative of each element by its output.
    slope: Value,
    /// By how many elements of a row the sum over it is divided.
    divisor: usize,
}

pub(super) fn batch(
    graph: &mut Graph,
    loss: &Loss,
    settings: Settings,
    output: Value,
    target: Value,
) -> Result<BatchLoss, GraphError> {
    let rows = graph.shape(output).first().copied().unwrap_or(1);
    let elements = elements(graph, loss, settings, output, target)?;
    let sum = graph.sum_all(elements.loss)?;
    let factor = share(rows * elements.divisor);
    let (loss, gradient) = (graph.scale(sum, factor)?, graph.scale(elements.slope, factor)?);
    Ok(BatchLoss { loss, gradient, correct: None, counted: None })
}

pub(super) fn summed(
    graph: &mut Graph,
    loss: &Loss,
    settings: Settings,
    output: Value,
    (target, row_weights): (Value, Value),
) -> Result<SummedLoss, GraphError> {
    let axes: Vec<usize> = (1..graph.shape(output).len()).collect();
    let elements = elements(graph, loss, settings, output, target)?;
    let rows = if axes.is_empty() { elements.loss } else { graph.reduce_sum(elements.loss, &axes)? };
    let means = graph.scale(rows, share(elements.divisor))?;
    let weighted = graph.mul(means, row_weights)?;
    let counted = graph.sum_all(row_weights)?;
    Ok(SummedLoss { loss: graph.sum_all(weighted)?, weight: counted, correct: None, counted })
}

fn elements(
    graph: &mut Graph,
    loss: &Loss,
    settings: Settings,
    output: Value,
    target: Value,
) -> Result<Elements, GraphError> {
    let target = match (graph.shape(output), graph.shape(target)) {
        (&[rows], &[of_rows, 1]) if rows == of_rows => graph.reshape(target, &[rows])?,
        _ => target,
    };
    if graph.shape(output) != graph.shape(target) {
        return Err(misfit("the loss", format!("{} for {}", graph.info(target), graph.info(output))));
    }
    let width = graph.shape(output).iter().skip(1).product();
    let (loss, slope) = match loss {
        Loss::BinaryCrossEntropy => binary(graph, output, target)?,
        Loss::MeanSquaredError => squared(graph, output, target)?,
        Loss::MeanAbsoluteError => absolute(graph, output, target)?,
        Loss::Huber => huber(graph, output, target, needed("huber", settings.delta, "delta")?)?,
        Loss::KlDivergence => {
            let (loss, slope) = divergence(graph, output, target)?;
            return Ok(Elements { loss, slope, divisor: 1 });
        }
        Loss::CrossEntropy(_) | Loss::Ctc { .. } => {
            return Err(misfit("the loss", "classes are compared as a whole".into()));
        }
    };
    Ok(Elements { loss, slope, divisor: width })
}

/// `log(1 + exp(x)) - x t`, with the derivative `sigmoid(x) - t`.
fn binary(graph: &mut Graph, x: Value, t: Value) -> Result<(Value, Value), GraphError> {
    let grown = graph.softplus(x)?;
    let agreed = graph.mul(x, t)?;
    let loss = graph.sub(grown, agreed)?;
    let probability = graph.sigmoid(x)?;
    Ok((loss, graph.sub(probability, t)?))
}

fn squared(graph: &mut Graph, x: Value, t: Value) -> Result<(Value, Value), GraphError> {
    let error = graph.sub(x, t)?;
    let square = graph.mul(error, error)?;
    Ok((square, graph.scale(error, 2.0)?))
}

fn absolute(graph: &mut Graph, x: Value, t: Value) -> Result<(Value, Value), GraphError> {
    let error = graph.sub(x, t)?;
    Ok((graph.abs(error)?, graph.sign(error)?))
}

/// With the error cut to `c` in `-delta ..= delta`: `c (error - c / 2)`, whose derivative is `c`.
fn huber(graph: &mut Graph, x: Value, t: Value, delta: Value) -> Result<(Value, Value), GraphError> {
    let error = graph.sub(x, t)?;
    let least = graph.neg(delta)?;
    let cut = graph.node("Clip", &[error, least, delta], &[])?;
    let half = graph.scale(cut, 0.5)?;
    let rest = graph.sub(error, half)?;
    Ok((graph.mul(cut, rest)?, cut))
}

/// `t (log t - log softmax(x))`, zero where `t` is, with the derivative `softmax(x) sum(t) - t`.
fn divergence(graph: &mut Graph, x: Value, t: Value) -> Result<(Value, Value), GraphError> {
    let axis = graph.shape(x).len().saturating_sub(1);
    let log_probability = graph.node("LogSoftmax", &[x], &[("axis", Attribute::Int(-1))])?;
    let least = graph.scalar_like(t, f64::from(f32::MIN_POSITIVE));
    let positive = graph.max(t, least)?;
    let log_target = graph.log(positive)?;
    let ratio = graph.sub(log_target, log_probability)?;
    let loss = graph.mul(t, ratio)?;
    let probability = graph.exp(log_probability)?;
    let mass = graph.sum_kept(t, &[axis])?;
    let expected = graph.mul(probability, mass)?;
    Ok((loss, graph.sub(expected, t)?))
}
