//! A whole training step, and an evaluation, as one graph each, with a plain description of what to bind where.
//!
//! Everything that a trial may vary without changing shapes is an input, so that one compiled graph serves
//! every trial of a shape. The description is all that the side which runs the graph knows of the model.

pub mod augment;
mod clip;
pub mod dropout;
mod layout;
pub mod loss;
mod loss_scale;
mod noise;
mod optimizer;
mod program;

pub use augment::Augment;
pub use clip::Clip;
pub use layout::Piece;
pub use loss::{ClassAxis, CrossEntropy, Loss};
pub use noise::{NOISE_ROWS, Noise};
pub use optimizer::{Optimizer, Update};
pub use program::{DataInput, DataRole, Port, Program, ResultOutput, ResultRole, Scalar, ScalarRole, State};

use std::collections::BTreeMap;

use crate::families::{Buffer, Forward, Mode, Model};
use crate::gradient::{self, GradientError};
use crate::graph::{Dtype, Graph, GraphError, Provider, Value};
use crate::pattern;
use dropout::Dropout;
use layout::Layout;
use loss_scale::LossScale;
use optimizer::{Group, Rule};
use program::Declared;

/// Why a step cannot be built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StepError {
    #[error("{what} must be at least 1")]
    Zero { what: &'static str },
    #[error("the loss cannot be of rows of shape {output:?}, which the model gives")]
    Output { output: Vec<usize> },
    #[error("the augmentation `{name}` does not go with the model: {reason}")]
    Augment { name: &'static str, reason: &'static str },
    #[error("no parameter of the model trains")]
    NothingTrains,
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
    /// What is done to a minibatch in training, in this order. None is there twice.
    pub augment: Vec<Augment>,
    pub update: Update,
    /// Parameters without weight decay, by name; `*` stands for any characters.
    pub undecayed: Vec<String>,
    pub clip: Clip,
    /// Whether an update is by the gradients of several minibatches; their number is the caller's.
    pub accumulate: bool,
    /// What the model computes in while training. Its states, the loss and evaluations are in single precision.
    pub precision: Precision,
    /// Whether the gradient computes the values within the model's parts again rather than keep them: the same numbers,
    /// in less memory and more time.
    pub recompute: bool,
    /// Whether an exponential average of the weights is kept, which evaluations then use.
    pub average: bool,
    /// Whether evaluations give the model's outputs too, for measures that are taken elsewhere.
    pub outputs: bool,
    /// Rows of the data that is held on the device.
    pub rows: usize,
    /// Rows of a minibatch.
    pub batch: usize,
    /// How many minibatches are handed over at once; each step finds its own by the count of steps. With more than one,
    /// a step takes nothing from the host and gives nothing back, so that it can be recorded and replayed.
    pub ahead: usize,
    pub provider: Provider,
}

/// The numbers of a model's matrix products and convolutions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Precision {
    #[default]
    Single,
    /// 16-bit floats. The loss is scaled, and an update whose gradients are not finite is skipped.
    Half,
    /// 16-bit floats with the range of single precision, in matrix products only.
    Bfloat16,
}

impl Precision {
    fn low(self) -> Option<Dtype> {
        match self {
            Self::Single => None,
            Self::Half => Some(Dtype::F16),
            Self::Bfloat16 => Some(Dtype::Bf16),
        }
    }
}

impl StepPlan {
    fn decays(&self, parameter: &str) -> bool {
        !self.update.weight_decay || !self.undecayed.iter().any(|pattern| pattern::fits(pattern, parameter))
    }
}

/// One step: gather the minibatch, augment it, forward, loss, gradients, clipping, update.
///
/// Its results are the loss of the minibatch (a mean) and, for classes, how many rows were right, both from
/// before the update. Where gradients are accumulated, this is the last minibatch of an update; the others are
/// [`accumulation`]s, over the same states.
///
/// # Errors
/// The plan has a size of zero, the loss does not fit the model, or some operator has no gradient rule.
pub fn training_step(plan: &StepPlan) -> Result<Program, StepError> {
    let mut writing = Writing::begin(plan)?;
    let step = writing.count_steps()?;
    let mut gradients = writing.gradients(step)?;
    if plan.accumulate {
        let Writing { graph, declared, layout, .. } = &mut writing;
        let share = declared.scalar(graph, ScalarRole::GradientShare, Dtype::F32)?;
        for group in &mut gradients {
            let sum = group.sum(graph, declared, layout)?;
            let total = graph.add(sum, group.gradient)?;
            group.gradient = graph.mul(total, share)?;
        }
    }
    match writing.loss_scale {
        Some(scale) => {
            let graph = &mut writing.graph;
            let finite = loss_scale::are_finite(graph, gradients.iter().map(|group| group.gradient))?;
            // What is skipped does not count: optimizers correct for how many updates there were.
            let updates = writing.count_if("applied_updates", finite)?;
            let settled = writing.declared.changing();
            writing.update(&mut gradients, updates)?;
            let Writing { graph, declared, .. } = &mut writing;
            declared.only_if(graph, finite, &settled)?;
            scale.advance(graph, declared, finite)?;
        }
        None => {
            let updates = if plan.accumulate { writing.count("updates")? } else { step };
            writing.update(&mut gradients, updates)?;
        }
    }
    writing.end()
}

/// A minibatch that only adds to the gradients of the update to come. Running statistics and the step advance as
/// in a [`training_step`], whose states these are.
///
/// # Errors
/// As for a training step.
pub fn accumulation(plan: &StepPlan) -> Result<Program, StepError> {
    let mut writing = Writing::begin(plan)?;
    let step = writing.count_steps()?;
    let gradients = writing.gradients(step)?;
    let Writing { graph, declared, layout, loss_scale, .. } = &mut writing;
    let carry = declared.scalar(graph, ScalarRole::Carry, Dtype::F32)?;
    for group in &gradients {
        let sum = group.sum(graph, declared, layout)?;
        let carried = match loss_scale {
            // The sum of an update that was skipped is no number, and would be none times zero either.
            Some(_) => {
                let none = graph.scalar(Dtype::F32, 0.0);
                let goes_on = graph.greater(carry, none)?;
                graph.choose(goes_on, sum, none)?
            }
            None => graph.mul(sum, carry)?,
        };
        let next = graph.add(carried, group.gradient)?;
        declared.becomes(sum, next);
    }
    writing.end()
}

/// Loss and, for classes, right answers of `batch` of `rows` rows, summed over the rows of the batch of which each
/// counts by its weight: one, or zero for the rows that only fill the last batch. No dropout; running statistics.
///
/// # Errors
/// A size is zero, or the loss does not fit the model.
pub fn evaluation(plan: &StepPlan, rows: usize, batch: usize) -> Result<Program, StepError> {
    let plan = &StepPlan { rows, batch, ahead: 1, ..plan.clone() };
    let mut writing = Writing::begin(plan)?;
    let tensors = writing.tensors(Mode::Evaluation)?.tensors;
    let Writing { graph, declared, .. } = &mut writing;
    let batch = declare_batch(graph, declared, plan)?;
    let weights = declared.row_weights(graph, plan.batch)?;

    let mut context = Forward::over(graph, Mode::Evaluation, Dropout::Off, tensors);
    let output = plan.model.forward(&mut context, &batch.features)?;
    let settings = loss_settings(graph, declared, plan)?;
    let measured = loss::summed_loss(graph, &plan.loss, settings, output, (batch.target, weights))?;

    declared.result(ResultRole::Loss, measured.loss);
    declared.result(ResultRole::Weight, measured.weight);
    if let Some(correct) = measured.correct {
        declared.result(ResultRole::Correct, correct);
        declared.result(ResultRole::Counted, measured.counted);
    }
    if plan.outputs {
        declared.output(output);
    }
    writing.end()
}

/// The two vectors of parameters that train.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Decayed,
    Undecayed,
}

impl Part {
    fn name(self) -> &'static str {
        match self {
            Self::Decayed => "weights",
            Self::Undecayed => "undecayed_weights",
        }
    }

    fn pieces(self, layout: &Layout) -> &[Piece] {
        match self {
            Self::Decayed => &layout.decayed,
            Self::Undecayed => &layout.undecayed,
        }
    }

    /// Those that have parameters.
    fn all(layout: &Layout) -> impl Iterator<Item = Self> {
        let has_parameters = |part: &Self| !part.pieces(layout).is_empty();
        [Self::Decayed, Self::Undecayed].into_iter().filter(has_parameters)
    }
}

/// A vector of parameters and the gradient at it.
struct Gradient {
    part: Part,
    weights: Value,
    gradient: Value,
}

impl Gradient {
    fn of<'a>(&self, layout: &'a Layout) -> Group<'a> {
        Group {
            name: self.part.name(),
            pieces: self.part.pieces(layout),
            weights: self.weights,
            gradient: self.gradient,
            decays: self.part == Part::Decayed,
        }
    }

    /// The state that holds the sum of earlier gradients.
    fn sum(&self, graph: &mut Graph, declared: &mut Declared, layout: &Layout) -> Result<Value, GraphError> {
        let pieces = layout::slot_of(self.part.pieces(layout), "gradient_sum");
        declared.vector(graph, &format!("{}/gradient_sum", self.part.name()), pieces)
    }
}

/// The model's tensors on a graph.
struct Tensors {
    tensors: BTreeMap<String, Value>,
    weights: Vec<(Part, Value)>,
    buffers: Option<Value>,
}

/// A program being written.
struct Writing<'a> {
    plan: &'a StepPlan,
    layout: Layout,
    graph: Graph,
    declared: Declared,
    /// Where gradients are of a scaled loss.
    loss_scale: Option<LossScale>,
}

impl<'a> Writing<'a> {
    fn begin(plan: &'a StepPlan) -> Result<Self, StepError> {
        check(plan)?;
        let layout = Layout::survey(plan)?;
        if Part::all(&layout).next().is_none() {
            return Err(StepError::NothingTrains);
        }
        let mut graph = Graph::new(plan.provider);
        if plan.update.own_operators {
            graph.allow_own_operators();
        }
        Ok(Self { plan, layout, graph, declared: Declared::default(), loss_scale: None })
    }

    /// The state that counts steps, this one included. It tells which of the minibatches that were handed over this is.
    fn count_steps(&mut self) -> Result<Value, GraphError> {
        let step = self.count("step")?;
        if self.plan.ahead > 1 {
            self.declared.find_by(&mut self.graph, step, self.plan.ahead)?;
        }
        Ok(step)
    }

    /// A state that counts these runs; the result is its value with this one.
    ///
    /// Only the addition reads the state: it may be overwritten before other nodes run.
    fn count(&mut self, name: &str) -> Result<Value, GraphError> {
        let counter = self.declared.counter(&mut self.graph, name)?;
        let one = self.graph.int_scalar(1);
        let next = self.graph.add(counter, one)?;
        self.declared.becomes(counter, next);
        Ok(next)
    }

    /// A state that counts the runs in which a condition (a scalar of type bool) holds; the result counts this one.
    fn count_if(&mut self, name: &str, condition: Value) -> Result<Value, GraphError> {
        let Self { graph, declared, .. } = self;
        let counter = declared.counter(graph, name)?;
        let one = graph.int_scalar(1);
        let next = graph.add(counter, one)?;
        let kept = graph.choose(condition, next, counter)?;
        declared.becomes(counter, kept);
        Ok(next)
    }

    fn tensors(&mut self, mode: Mode) -> Result<Tensors, GraphError> {
        let Self { plan, layout, graph, declared, .. } = self;
        let mut all = Tensors { tensors: BTreeMap::new(), weights: Vec::new(), buffers: None };
        for part in Part::all(layout) {
            let pieces = part.pieces(layout);
            let vector = if plan.average && mode == Mode::Evaluation {
                averaged(graph, declared, part, pieces)?
            } else {
                declared.vector(graph, part.name(), pieces.to_vec())?
            };
            all.tensors.extend(layout::split(graph, vector, pieces)?);
            all.weights.push((part, vector));
        }
        for (name, pieces) in [("frozen", &layout.frozen), ("buffers", &layout.buffers)] {
            if pieces.is_empty() {
                continue;
            }
            let vector = declared.vector(graph, name, pieces.clone())?;
            all.tensors.extend(layout::split(graph, vector, pieces)?);
            if name == "buffers" {
                all.buffers = Some(vector);
            }
        }
        Ok(all)
    }

    /// Forward, loss and gradients of a minibatch, with the results and running statistics declared.
    fn gradients(&mut self, step: Value) -> Result<Vec<Gradient>, StepError> {
        let Tensors { tensors, weights, buffers } = self.tensors(Mode::Training)?;
        let Self { plan, layout, graph, declared, loss_scale } = self;
        if plan.precision == Precision::Half {
            *loss_scale = Some(LossScale::declare(graph, declared)?);
        }
        let batch = declare_batch(graph, declared, plan)?;
        let mut noise = Noise::new(step);
        let settings = augment_settings(graph, declared, plan)?;
        let augmented = augment::augment(graph, &plan.augment, settings, &mut noise, batch.features)?;
        let mut context = Forward::over(graph, Mode::Training, Dropout::training(noise), tensors.clone());
        context.recomputes = plan.recompute;
        context.graph.compute_in(plan.precision.low());
        let output = plan.model.forward(&mut context, &augmented.features)?;
        let output = context.graph.widened(output)?;
        context.graph.compute_in(None);
        let Forward { buffers: gathered, dropout, .. } = context;
        let settings = loss_settings(graph, declared, plan)?;
        let mut measured = loss::batch_loss(graph, &plan.loss, settings, output, batch.target)?;
        if let Some(mixed) = augmented.mixed {
            let target = graph.gather(batch.target, mixed.partners)?;
            let other = loss::batch_loss(graph, &plan.loss, settings, output, target)?;
            measured = measured.blended(graph, other, mixed)?;
        }
        dropout.declare(graph, declared);
        if let Some(vector) = buffers {
            let next = next_buffers(graph, &gathered)?;
            declared.becomes(vector, next);
        }

        let trained = weights.iter().flat_map(|(part, _)| part.pieces(layout));
        let trained: Vec<Value> = trained.map(|piece| tensors[&piece.name]).collect();
        let seed = match loss_scale {
            Some(scale) => scale.scaled(graph, measured.gradient)?,
            None => measured.gradient,
        };
        let found = gradient::gradients(graph, &[(output, seed)], &trained)?;
        let mut found = found.as_slice();
        let mut gradients = Vec::with_capacity(weights.len());
        for (part, weights) in weights {
            let (own, rest) = found.split_at(part.pieces(layout).len());
            let mut gradient = layout::concat(graph, own)?;
            if let Some(scale) = loss_scale {
                gradient = scale.unscaled(graph, gradient)?;
            }
            gradients.push(Gradient { part, weights, gradient });
            found = rest;
        }
        declared.result(ResultRole::Loss, measured.loss);
        for (role, value) in [(ResultRole::Correct, measured.correct), (ResultRole::Counted, measured.counted)] {
            if let Some(value) = value {
                declared.result(role, value);
            }
        }
        Ok(gradients)
    }

    /// Clipping, the optimizer and the average: what the weights and the states beside them become. `updates` is the
    /// number of updates with this one, of type i64.
    fn update(&mut self, gradients: &mut [Gradient], updates: Value) -> Result<(), StepError> {
        let Self { plan, graph, declared, layout, .. } = self;
        clipped(graph, declared, plan.clip, gradients)?;
        let is_adam = matches!(plan.update.optimizer, Optimizer::Adam | Optimizer::AdamW);
        // Where updates may be skipped, only the graph knows how many there were.
        let is_known = is_adam && declared.is_ahead() && plan.precision != Precision::Half;
        let rule = Rule::declare(graph, declared, plan.update, (!is_known).then_some(updates))?;
        let mut next = Vec::with_capacity(gradients.len());
        for group in gradients.iter() {
            next.push((group.part, rule.apply(graph, declared, &group.of(layout))?));
        }
        if plan.average {
            average(graph, declared, layout, &next)?;
        }
        Ok(())
    }

    fn end(self) -> Result<Program, StepError> {
        let Self { mut graph, mut declared, .. } = self;
        layout::check_names(declared.pieces())?;
        declared.file_results(&mut graph)?;
        Ok(declared.into_program(graph))
    }
}

fn clipped(
    graph: &mut Graph,
    declared: &mut Declared,
    clip: Clip,
    gradients: &mut [Gradient],
) -> Result<(), GraphError> {
    let mut vectors: Vec<Value> = gradients.iter().map(|group| group.gradient).collect();
    if clip.value {
        let threshold = declared.scalar(graph, ScalarRole::ClipValue, Dtype::F32)?;
        clip::by_value(graph, &mut vectors, threshold)?;
    }
    if clip.norm {
        let threshold = declared.scalar(graph, ScalarRole::ClipNorm, Dtype::F32)?;
        clip::by_norm(graph, &mut vectors, threshold)?;
    }
    for (group, vector) in gradients.iter_mut().zip(vectors) {
        group.gradient = vector;
    }
    Ok(())
}

/// The state that averages a vector of weights; it begins as they do.
fn averaged(graph: &mut Graph, declared: &mut Declared, part: Part, pieces: &[Piece]) -> Result<Value, GraphError> {
    let renamed = |piece: &Piece| Piece { name: format!("{}/average", piece.name), ..piece.clone() };
    declared.vector(graph, &format!("{}/average", part.name()), pieces.iter().map(renamed).collect())
}

/// Each average becomes `average * kept + weights * (1 - kept)`.
fn average(
    graph: &mut Graph,
    declared: &mut Declared,
    layout: &Layout,
    weights: &[(Part, Value)],
) -> Result<(), GraphError> {
    let kept = declared.scalar(graph, ScalarRole::AverageKept, Dtype::F64)?;
    let one = graph.scalar(Dtype::F64, 1.0);
    let taken = graph.sub(one, kept)?;
    let (kept, taken) = (graph.cast(kept, Dtype::F32)?, graph.cast(taken, Dtype::F32)?);
    for &(part, weights) in weights {
        let average = averaged(graph, declared, part, part.pieces(layout))?;
        let old = graph.mul(average, kept)?;
        let new = graph.mul(weights, taken)?;
        let next = graph.add(old, new)?;
        declared.becomes(average, next);
    }
    Ok(())
}

/// What the vector of running statistics becomes; what a model leaves alone stays.
fn next_buffers(graph: &mut Graph, buffers: &[Buffer]) -> Result<Value, GraphError> {
    let next: Vec<Value> = buffers.iter().map(|buffer| buffer.next.unwrap_or(buffer.value)).collect();
    layout::concat(graph, &next)
}

fn check(plan: &StepPlan) -> Result<(), StepError> {
    let width = if plan.model.features().iter().any(|feature| feature.shape.contains(&0)) { 0 } else { 1 };
    let outputs = plan.model.output().last().copied().unwrap_or(1);
    let sizes = [
        ("the input width", width),
        ("the output width", outputs),
        ("the number of rows", plan.rows),
        ("the batch size", plan.batch),
        ("the number of minibatches that are handed over at once", plan.ahead),
    ];
    if let Some((what, _)) = sizes.into_iter().find(|(_, size)| *size == 0) {
        return Err(StepError::Zero { what });
    }
    let features = plan.model.features();
    let features: Vec<_> = features.iter().map(|feature| (feature.dtype, feature.shape.as_slice())).collect();
    for augment in &plan.augment {
        if let Some(reason) = augment.misfit(&features) {
            return Err(StepError::Augment { name: augment.name(), reason });
        }
    }
    target(plan).map(drop)
}

/// The numbers of the augmentations that a trial may vary, as inputs.
fn augment_settings(
    graph: &mut Graph,
    declared: &mut Declared,
    plan: &StepPlan,
) -> Result<augment::Settings, GraphError> {
    let mut settings = augment::Settings::default();
    if plan.augment.contains(&Augment::Noise) {
        settings.deviation = Some(declared.scalar(graph, ScalarRole::NoiseDeviation, Dtype::F32)?);
    }
    if plan.augment.contains(&Augment::Mixup) {
        settings.share = Some(declared.scalar(graph, ScalarRole::MixupShare, Dtype::F32)?);
    }
    Ok(settings)
}

/// The numbers of the loss that a trial may vary, as inputs.
fn loss_settings(graph: &mut Graph, declared: &mut Declared, plan: &StepPlan) -> Result<loss::Settings, GraphError> {
    let mut settings = loss::Settings::default();
    match &plan.loss {
        Loss::CrossEntropy(form) => {
            if form.smoothed {
                settings.smoothing = Some(declared.scalar(graph, ScalarRole::LabelSmoothing, Dtype::F32)?);
            }
            if let Some(classes) = plan.loss.classes(&plan.model.output()).filter(|_| form.weighted) {
                settings.class_weights = Some(declared.data(graph, DataRole::ClassWeights, Dtype::F32, &[classes])?);
            }
        }
        Loss::Huber => settings.delta = Some(declared.scalar(graph, ScalarRole::HuberDelta, Dtype::F32)?),
        Loss::BinaryCrossEntropy
        | Loss::MeanSquaredError
        | Loss::MeanAbsoluteError
        | Loss::KlDivergence
        | Loss::Ctc { .. } => {}
    }
    Ok(settings)
}

/// Type and shape of a row of the target.
fn target(plan: &StepPlan) -> Result<(Dtype, Vec<usize>), StepError> {
    let output = plan.model.output();
    plan.loss.target(&output).ok_or(StepError::Output { output })
}

struct Batch {
    features: Vec<Value>,
    target: Value,
}

/// The whole data as inputs, and the rows that the index input picks.
fn declare_batch(graph: &mut Graph, declared: &mut Declared, plan: &StepPlan) -> Result<Batch, StepError> {
    let rows = plan.rows;
    let indices = declared.indices(graph, plan.batch)?;
    let mut features = Vec::new();
    for (position, feature) in plan.model.features().into_iter().enumerate() {
        let shape = [&[rows], feature.shape.as_slice()].concat();
        let role = DataRole::Feature(position);
        let whole = declared.data(graph, role, feature.dtype, &shape)?;
        features.push(graph.gather(whole, indices)?);
    }
    let (dtype, shape) = target(plan)?;
    let shape = [&[rows], shape.as_slice()].concat();
    let target = declared.data(graph, DataRole::Target, dtype, &shape)?;
    Ok(Batch { features, target: graph.gather(target, indices)? })
}
