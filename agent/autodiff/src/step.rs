//! A whole training step, and an evaluation, as one graph each, with a plain description of what to bind where.
//!
//! Everything that a trial may vary without changing shapes is an input, so that one compiled graph serves
//! every trial of a shape. The description is all that the side which runs the graph knows of the model.

pub mod dropout;
mod loss;
mod optimizer;
mod program;

pub use loss::Loss;
pub use optimizer::{Optimizer, Update};
pub use program::{DataInput, DataRole, Port, Program, ResultOutput, ResultRole, Scalar, ScalarRole, State};

use crate::families::{Forward, Initial, Mode, Model};
use crate::gradient::{self, GradientError};
use crate::graph::{Dtype, Graph, GraphError, Provider, Value};
use dropout::Dropout;
use program::Declared;

/// Why a step cannot be built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StepError {
    #[error("{what} must be at least 1")]
    Zero { what: &'static str },
    #[error("the model gives {outputs} numbers a row where the loss needs {needed}")]
    Outputs { outputs: usize, needed: usize },
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
    check_sizes(&plan.model, plan.loss, plan.rows, plan.batch)?;
    let mut graph = Graph::new(plan.provider);
    let mut declared = Declared::default();
    let step = declared.state(graph.input("step", Dtype::I64, &[])?, Initial::Zeros);
    let batch = declare_batch(&mut graph, &mut declared, &plan.model, plan.loss, plan.rows, plan.batch)?;

    let mut context = Forward::new(&mut graph, Mode::Training, Dropout::training(step));
    let output = plan.model.forward(&mut context, &[batch.features])?;
    let Forward { parameters, dropout, .. } = context;
    let measured = loss::batch_loss(&mut graph, plan.loss, output, batch.target)?;

    let values: Vec<Value> = parameters.iter().map(|(_, value)| *value).collect();
    let mut gradients = gradient::gradients(&mut graph, &[(output, measured.gradient)], &values)?;
    if plan.clip {
        let threshold = declared.scalar(&mut graph, ScalarRole::ClipNorm, Dtype::F32)?;
        gradients = optimizer::clip_by_global_norm(&mut graph, &gradients, threshold)?;
    }
    let parameters: Vec<_> = parameters.into_iter().map(|(p, value)| declared.state(value, p.initial)).collect();
    optimizer::update(&mut graph, &mut declared, plan.update, step, &parameters, &gradients)?;
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
    check_sizes(&plan.model, plan.loss, plan.rows, plan.batch)?;
    let mut graph = Graph::new(plan.provider);
    let mut declared = Declared::default();
    let batch = declare_batch(&mut graph, &mut declared, &plan.model, plan.loss, plan.rows, plan.batch)?;
    let weights = declared.row_weights(&mut graph, plan.batch)?;

    let mut context = Forward::new(&mut graph, Mode::Evaluation, Dropout::Off);
    let output = plan.model.forward(&mut context, &[batch.features])?;
    let parameters = context.parameters;
    let measured = loss::summed_loss(&mut graph, plan.loss, output, batch.target, weights)?;

    for (parameter, value) in parameters {
        declared.state(value, parameter.initial);
    }
    declared.result(ResultRole::Loss, measured.loss);
    if let Some(correct) = measured.correct {
        declared.result(ResultRole::Correct, correct);
    }
    Ok(declared.into_program(graph))
}

fn check_sizes(model: &Model, loss: Loss, rows: usize, batch: usize) -> Result<(), StepError> {
    let hidden = match model {
        Model::Mlp(mlp) => mlp.hidden.iter().copied().min().unwrap_or(1),
        Model::Imported(_) => 1,
    };
    let inputs = model.features().iter().flat_map(|feature| feature.shape.clone()).min().unwrap_or(1);
    let outputs: usize = model.output().iter().product();
    let sizes = [
        ("the input width", inputs),
        ("the output width", outputs),
        ("a hidden width", hidden),
        ("the number of rows", rows),
        ("the batch size", batch),
    ];
    if let Some((what, _)) = sizes.into_iter().find(|(_, size)| *size == 0) {
        return Err(StepError::Zero { what });
    }
    match loss {
        Loss::CrossEntropy { classes: needed } | Loss::MeanSquaredError { width: needed } => {
            if outputs == needed {
                Ok(())
            } else {
                Err(StepError::Outputs { outputs, needed })
            }
        }
    }
}

struct Batch {
    features: Value,
    target: Value,
}

/// The whole data as inputs, and the rows that the index input picks.
fn declare_batch(
    graph: &mut Graph,
    declared: &mut Declared,
    model: &Model,
    loss: Loss,
    rows: usize,
    batch: usize,
) -> Result<Batch, GraphError> {
    let indices = declared.indices(graph, batch)?;
    let (dtype, shape) = match loss {
        Loss::CrossEntropy { .. } => (Dtype::I64, vec![rows]),
        Loss::MeanSquaredError { width } => (Dtype::F32, vec![rows, width]),
    };
    let features = declared.data(
        graph,
        DataRole::Features,
        Dtype::F32,
        &[&[rows], model.features()[0].shape.as_slice()].concat(),
    )?;
    let target = declared.data(graph, DataRole::Target, dtype, &shape)?;
    Ok(Batch { features: graph.gather(features, indices)?, target: graph.gather(target, indices)? })
}
