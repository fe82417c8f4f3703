//! Losses: the mean over a minibatch with its gradient, and the weighted sum over rows for an evaluation.

use crate::graph::{Dtype, Graph, GraphError, Value};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// Softmax cross-entropy of logits against class indices.
    CrossEntropy { classes: usize },
    /// The mean of the squared errors over rows and columns.
    MeanSquaredError { width: usize },
}

pub(super) struct BatchLoss {
    pub loss: Value,
    /// The gradient of the loss at the model's output, in closed form: three nodes where the sweep writes eight.
    pub gradient: Value,
    pub correct: Option<Value>,
}

pub(super) struct SummedLoss {
    pub loss: Value,
    pub correct: Option<Value>,
}

pub(super) fn batch_loss(graph: &mut Graph, loss: Loss, output: Value, target: Value) -> Result<BatchLoss, GraphError> {
    let rows = graph.shape(output)[0];
    match loss {
        Loss::CrossEntropy { classes } => {
            let Likelihood { log_probability, one_hot, picked } = likelihood(graph, output, target, classes)?;
            let sum = graph.sum_all(picked)?;
            let mean = graph.scale(sum, -share(rows))?;
            let probability = graph.exp(log_probability)?;
            let excess = graph.sub(probability, one_hot)?;
            let hits = hits(graph, output, target)?;
            Ok(BatchLoss {
                loss: mean,
                gradient: graph.scale(excess, share(rows))?,
                correct: Some(graph.sum_all(hits)?),
            })
        }
        Loss::MeanSquaredError { width } => {
            let error = graph.sub(output, target)?;
            let square = graph.mul(error, error)?;
            let sum = graph.sum_all(square)?;
            Ok(BatchLoss {
                loss: graph.scale(sum, share(rows * width))?,
                gradient: graph.scale(error, 2.0 * share(rows * width))?,
                correct: None,
            })
        }
    }
}

pub(super) fn summed_loss(
    graph: &mut Graph,
    loss: Loss,
    output: Value,
    target: Value,
    weights: Value,
) -> Result<SummedLoss, GraphError> {
    match loss {
        Loss::CrossEntropy { classes } => {
            let picked = likelihood(graph, output, target, classes)?.picked;
            let likelihoods = graph.reduce_sum(picked, &[1])?;
            let losses = graph.neg(likelihoods)?;
            let hits = hits(graph, output, target)?;
            Ok(SummedLoss {
                loss: weighted_sum(graph, losses, weights)?,
                correct: Some(weighted_sum(graph, hits, weights)?),
            })
        }
        Loss::MeanSquaredError { width } => {
            let error = graph.sub(output, target)?;
            let square = graph.mul(error, error)?;
            let sums = graph.reduce_sum(square, &[1])?;
            let means = graph.scale(sums, share(width))?;
            Ok(SummedLoss { loss: weighted_sum(graph, means, weights)?, correct: None })
        }
    }
}

struct Likelihood {
    log_probability: Value,
    one_hot: Value,
    /// Rows x classes: the log-probability of the row's own class, zero elsewhere.
    picked: Value,
}

fn likelihood(graph: &mut Graph, logits: Value, target: Value, classes: usize) -> Result<Likelihood, GraphError> {
    let log_probability = graph.log_softmax(logits)?;
    let one_hot = graph.one_hot(target, classes)?;
    let picked = graph.mul(log_probability, one_hot)?;
    Ok(Likelihood { log_probability, one_hot, picked })
}

/// One for each row whose greatest logit is that of its class, else zero.
fn hits(graph: &mut Graph, logits: Value, target: Value) -> Result<Value, GraphError> {
    let answer = graph.arg_max_last(logits)?;
    let right = graph.equal(answer, target)?;
    graph.cast(right, Dtype::F32)
}

fn weighted_sum(graph: &mut Graph, rows: Value, weights: Value) -> Result<Value, GraphError> {
    let weighted = graph.mul(rows, weights)?;
    graph.sum_all(weighted)
}

#[expect(clippy::cast_precision_loss, reason = "a batch has fewer than 2^52 elements")]
fn share(elements: usize) -> f64 {
    1.0 / elements as f64
}
