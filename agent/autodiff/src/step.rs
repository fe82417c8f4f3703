//! A whole training step, and an evaluation, as one graph each, with a plain description of what to bind where.
//!
//! Everything that a trial may vary without changing shapes is an input, so that one compiled graph serves
//! every trial of a shape. The description is all that the side which runs the graph knows of the model.

pub mod dropout;
pub mod loss;
mod optimizer;
mod program;

pub use loss::{CrossEntropy, Loss};
pub use optimizer::{Optimizer, Update};
pub use program::{DataInput, DataRole, Port, Program, ResultOutput, ResultRole, Scalar, ScalarRole, State};

use crate::families::{Buffer, Forward, Initial, Mode, Model, Parameter};
use crate::gradient::{self, GradientError};
use crate::graph::{Dtype, Graph, GraphError, Provider, Value};
use dropout::Dropout;
use program::Declared;

/// Why a step cannot be built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StepError {
    #[error("{what} must be at least 1")]
    Zero { what: &'static str },
    #[error("no such loss is of rows of shape {output:?}, which the model gives")]
    Output { output: Vec<usize> },
    #[error(transparent)]
    Gradient(#[from] GradientError),
    #[error(transparent)]
    Graph(#[from] GraphError),
}

/// The shape of a training step: plans that are equal can share a compiled graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepPlan {
    pub model: Model,
    pub loss: Loss,
    pub update: Update,
    /// Whether gradients are clipped by their global norm; the threshold is an input.
    pub clip: bool,
    /// Rows of the data that is held on the device.
    pub rows: usize,
    /// Rows of a minibatch.
    pub batch: usize,
    pub provider: Provider,
}

/// The shape of an evaluation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EvaluationPlan {
    pub model: Model,
    pub loss: Loss,
    pub rows: usize,
    pub batch: usize,
    pub provider: Provider,
}

/// One step: gather the minibatch, forward, loss, gradients, clipping, update.
///
/// Its results are the loss of the minibatch (a mean) and, for classes, how many rows were right, both from
/// before the update.
///
/// # Errors
/// The plan has a size of zero, the loss does not fit the model, or some operator has no gradient rule.
pub fn training_step(plan: &StepPlan) -> Result<Program, StepError> {
    check_sizes(&plan.model, plan.rows, plan.batch)?;
    let mut graph = Graph::new(plan.provider);
    let mut declared = Declared::default();
    let step = declared.state(graph.input("step", Dtype::I64, &[])?, Initial::Zeros);
    let batch = declare_batch(&mut graph, &mut declared, &plan.model, &plan.loss, plan.rows, plan.batch)?;

    let mut context = Forward::new(&mut graph, Mode::Training, Dropout::training(step));
    let output = plan.model.forward(&mut context, &batch.features)?;
    let Forward { parameters, buffers, dropout, .. } = context;
    check_widths(&parameters)?;
    let measured = loss::batch_loss(&mut graph, &plan.loss, loss::Settings::default(), output, batch.target)?;

    let values: Vec<Value> = parameters.iter().map(|(_, value)| *value).collect();
    let mut gradients = gradient::gradients(&mut graph, &[(output, measured.gradient)], &values)?;
    if plan.clip {
        let threshold = declared.scalar(&mut graph, ScalarRole::ClipNorm, Dtype::F32)?;
        gradients = optimizer::clip_by_global_norm(&mut graph, &gradients, threshold)?;
    }
    let parameters: Vec<_> = parameters.into_iter().map(|(p, value)| declared.state(value, p.initial)).collect();
    optimizer::update(&mut graph, &mut declared, plan.update, step, &parameters, &gradients)?;
    for Buffer { value, next, initial } in buffers {
        declared.state(value, initial);
        declared.becomes(value, next.unwrap_or(value));
    }
    dropout.declare(&graph, &mut declared);

    declared.result(ResultRole::Loss, measured.loss);
    if let Some(correct) = measured.correct {
        declared.result(ResultRole::Correct, correct);
    }
    Ok(declared.into_program(graph))
}

/// Loss and, for classes, right answers, summed over the rows of a batch of which each counts by its weight:
/// one, or zero for the rows that only fill the last batch. No dropout.
///
/// # Errors
/// The plan has a size of zero, or the loss does not fit the model.
pub fn evaluation(plan: &EvaluationPlan) -> Result<Program, StepError> {
    check_sizes(&plan.model, plan.rows, plan.batch)?;
    let mut graph = Graph::new(plan.provider);
    let mut declared = Declared::default();
    let batch = declare_batch(&mut graph, &mut declared, &plan.model, &plan.loss, plan.rows, plan.batch)?;
    let weights = declared.row_weights(&mut graph, plan.batch)?;

    let mut context = Forward::new(&mut graph, Mode::Evaluation, Dropout::Off);
    let output = plan.model.forward(&mut context, &batch.features)?;
    let Forward { parameters, buffers, .. } = context;
    check_widths(&parameters)?;
    let measured =
        loss::summed_loss(&mut graph, &plan.loss, loss::Settings::default(), output, (batch.target, weights))?;

    for (parameter, value) in parameters {
        declared.state(value, parameter.initial);
    }
    for Buffer { value, initial, .. } in buffers {
        declared.state(value, initial);
    }
    declared.result(ResultRole::Loss, measured.loss);
    if let Some(correct) = measured.correct {
        declared.result(ResultRole::Correct, correct);
    }
    Ok(declared.into_program(graph))
}

fn check_sizes(model: &Model, rows: usize, batch: usize) -> Result<(), StepError> {
    let features = model.features().into_iter().flat_map(|feature| feature.shape).min().unwrap_or(0);
    let sizes = [
        ("the input width", features),
        ("the output width", model.output().into_iter().min().unwrap_or(1)),
        ("the number of rows", rows),
        ("the batch size", batch),
    ];
    match sizes.into_iter().find(|(_, size)| *size == 0) {
        Some((what, _)) => Err(StepError::Zero { what }),
        None => Ok(()),
    }
}

fn check_widths(parameters: &[(Parameter, Value)]) -> Result<(), StepError> {
    match parameters.iter().any(|(parameter, _)| parameter.shape.contains(&0)) {
        true => Err(StepError::Zero { what: "a hidden width" }),
        false => Ok(()),
    }
}

struct Batch {
    features: Vec<Value>,
    target: Value,
}

/// The whole data as inputs, and the rows that the index input picks.
fn declare_batch(
    graph: &mut Graph,
    declared: &mut Declared,
    model: &Model,
    loss: &Loss,
    rows: usize,
    batch: usize,
) -> Result<Batch, StepError> {
    let indices = declared.indices(graph, batch)?;
    let output = model.output();
    let (dtype, row) = loss.target(&output).ok_or(StepError::Output { output })?;
    let mut features = Vec::new();
    for feature in model.features() {
        let shape = [&[rows], feature.shape.as_slice()].concat();
        let all = graph.reserved_input(&feature.name, feature.dtype, &shape)?;
        declared.declared_data(DataRole::Features, all);
        features.push(graph.gather(all, indices)?);
    }
    let target = declared.data(graph, DataRole::Target, dtype, &[&[rows], row.as_slice()].concat())?;
    Ok(Batch { features, target: graph.gather(target, indices)? })
}
