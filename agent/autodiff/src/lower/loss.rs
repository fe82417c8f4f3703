//! Losses that models carry as operators.

use super::{Application, Lowered, Row, row};
use crate::graph::{Attribute, Dtype, Graph, GraphError, Value};

pub(super) const ROWS: &[Row] = &[
    row("SoftmaxCrossEntropyLoss", 13, cross_entropy, "LogSoftmax, OneHot, Mul, ReduceSum"),
    row("NegativeLogLikelihoodLoss", 13, negative_log_likelihood, "OneHot, Mul, ReduceSum"),
];

fn cross_entropy(graph: &mut Graph, application: &Application<'_>) -> Lowered {
    let log_probability = graph.node("LogSoftmax", &[application.x(0)?], &[("axis", Attribute::Int(1))])?;
    let loss = likelihood_loss(graph, application, log_probability)?;
    Ok(vec![Some(loss), Some(log_probability)])
}

fn negative_log_likelihood(graph: &mut Graph, application: &Application<'_>) -> Lowered {
    let log_probability = application.x(0)?;
    Ok(vec![Some(likelihood_loss(graph, application, log_probability)?)])
}

/// Of log probabilities `[N, C, ...]` and class indices `[N, ...]`, weighted by class where there are weights `[C]`.
fn likelihood_loss(
    graph: &mut Graph,
    application: &Application<'_>,
    log_probability: Value,
) -> Result<Value, GraphError> {
    let shape = graph.shape(log_probability).to_vec();
    let labels = application.x(1)?;
    if shape.len() < 2 || graph.shape(labels) != [&shape[..1], &shape[2..]].concat() {
        return Err(application.invalid("the labels do not fit the scores"));
    }
    let ignored = application.node.attributes.contains_key("ignore_index");
    let weights = class_weights(graph, application, labels, shape[1], graph.dtype(log_probability))?;
    let order: Vec<usize> = [0, shape.len() - 1].into_iter().chain(1..shape.len() - 1).collect();
    let weights_first = if shape.len() == 2 { weights } else { graph.transpose(weights, &order)? };
    let weighted = graph.mul(weights_first, log_probability)?;
    let each = graph.reduce_sum(weighted, &[1])?;
    let each = graph.neg(each)?;
    match application.node.text("reduction").unwrap_or("mean") {
        "none" => Ok(each),
        "sum" => graph.sum_all(each),
        "mean" => {
            let sum = graph.sum_all(each)?;
            if ignored || application.optional(2).is_some() {
                let total = graph.sum_all(weights)?;
                return graph.div(sum, total);
            }
            #[expect(clippy::cast_precision_loss, reason = "a tensor has fewer than 2^52 elements")]
            graph.scale(sum, 1.0 / graph.shape(labels).iter().product::<usize>() as f64)
        }
        _ => Err(application.invalid("the reduction must be none, sum or mean")),
    }
}

/// The weight of each class for each label, `[N, ..., C]`: zero but for the label's own, and for a label to be ignored.
fn class_weights(
    graph: &mut Graph,
    application: &Application<'_>,
    labels: Value,
    classes: usize,
    dtype: Dtype,
) -> Result<Value, GraphError> {
    let mut labels = graph.cast(labels, Dtype::I64)?;
    if application.node.attributes.contains_key("ignore_index") {
        let ignored = graph.int_scalar(application.node.int("ignore_index", 0));
        let is_ignored = graph.equal(labels, ignored)?;
        let beyond = graph.int_scalar(i64::try_from(classes).expect("a tensor's size fits in an i64"));
        labels = graph.node("Where", &[is_ignored, beyond, labels], &[])?;
    }
    let one_hot = graph.one_hot(labels, classes)?;
    let one_hot = graph.cast(one_hot, dtype)?;
    match application.optional(2) {
        Some(weights) => graph.mul(one_hot, weights),
        None => Ok(one_hot),
    }
}
