//! Losses: the mean over a minibatch with its closed-form gradient, and the weighted sums over rows for an evaluation.
//!
//! Formulas are PyTorch's. A loss is computed in the type of the model's output; numbers that a trial may vary are
//! values that the caller gives.

mod classes;
mod elements;
mod transcripts;

pub use transcripts::BLANK;

use super::augment::Mixed;
use crate::graph::{Dtype, Graph, GraphError, Value};

/// What is minimised: all of it that shapes the graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Loss {
    CrossEntropy(CrossEntropy),
    /// Of logits, each a question of its own; the mean over rows and questions.
    BinaryCrossEntropy,
    /// The mean of the squared errors over rows and columns.
    MeanSquaredError,
    /// The mean of the absolute errors over rows and columns.
    MeanAbsoluteError,
    /// Half the square of errors up to delta, a straight line beyond (Huber, 1964).
    Huber,
    /// From the target's distribution to the softmax of the outputs along the last axis: summed, over the rows.
    KlDivergence,
    /// Connectionist temporal classification of frames of logits `[T, C]` against so many labels a row at most, which
    /// are padded with [`BLANK`]: what a row's labels are short of being certain of, divided by their number; the mean
    /// over rows. A row counts nothing that needs more frames than there are: one for each label, and one between equal ones.
    Ctc {
        labels: usize,
    },
}

/// Softmax cross-entropy of logits against class indices.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CrossEntropy {
    pub axis: ClassAxis,
    /// Whether a share of the target is spread over all classes; which, is a value.
    pub smoothed: bool,
    /// Whether classes count differently; how much, is a value.
    pub weighted: bool,
    /// Positions with this target do not count.
    pub ignored: Option<i64>,
}

/// Which axis of the outputs has the classes, where a row has two axes. Of one axis it is that one (`[B, C]`), of three
/// or more the first (`[B, C, H, W]` for targets `[B, H, W]`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ClassAxis {
    /// `[B, T, C]` for targets `[B, T]`
    #[default]
    Last,
    /// `[B, C, T]` for targets `[B, T]`
    First,
}

impl ClassAxis {
    /// The axis among those of a row that has so many; `None` where it has none.
    pub fn of(self, axes: usize) -> Option<usize> {
        match (axes, self) {
            (0, _) => None,
            (2, Self::Last) => Some(1),
            _ => Some(0),
        }
    }
}

/// The numbers of a loss as values of the graph, of the type of the output. Those that the loss does not ask for are
/// not looked at.
#[derive(Debug, Clone, Copy, Default)]
pub struct Settings {
    /// Cross-entropy, where smoothed: a scalar in `0 .. 1`.
    pub smoothing: Option<Value>,
    /// Cross-entropy, where weighted: one number for each class.
    pub class_weights: Option<Value>,
    /// Huber: a positive scalar.
    pub delta: Option<Value>,
}

/// A loss of a minibatch.
#[derive(Debug, Clone, Copy)]
pub struct BatchLoss {
    /// The mean over what counts, a scalar. It is zero where nothing does.
    pub loss: Value,
    /// The gradient of the loss at the model's output.
    pub gradient: Value,
    /// For classes: the number of positions that count and have their greatest output at their class.
    pub correct: Option<Value>,
    /// The number of positions that count, where it is not that of all.
    pub counted: Option<Value>,
}

impl BatchLoss {
    /// The loss of rows whose targets are mixed as `mixed` says, from this one of their own targets and the one of
    /// their partners'.
    ///
    /// # Errors
    /// The losses are not of the same form.
    pub(crate) fn blended(self, graph: &mut Graph, other: Self, mixed: Mixed) -> Result<Self, GraphError> {
        let mut blend = |own, other| mixed.blend(graph, own, other);
        Ok(Self {
            loss: blend(self.loss, other.loss)?,
            gradient: blend(self.gradient, other.gradient)?,
            correct: self.correct.zip(other.correct).map(|(own, other)| blend(own, other)).transpose()?,
            counted: self.counted.zip(other.counted).map(|(own, other)| blend(own, other)).transpose()?,
        })
    }
}

/// Scalars: sums over the rows, each times its weight. The mean loss is `loss / weight`, the accuracy
/// `correct / counted`.
#[derive(Debug, Clone, Copy)]
pub struct SummedLoss {
    pub loss: Value,
    pub weight: Value,
    pub correct: Option<Value>,
    pub counted: Value,
}

impl Loss {
    /// Type and shape of a row of the target for a model that gives rows of shape `output`; `None` where the loss
    /// cannot be of such rows.
    pub fn target(&self, output: &[usize]) -> Option<(Dtype, Vec<usize>)> {
        match (self, output) {
            (Self::CrossEntropy(form), output) => {
                let axis = form.axis.of(output.len())?;
                Some((Dtype::I64, [&output[..axis], &output[axis + 1..]].concat()))
            }
            (Self::KlDivergence | Self::Ctc { .. }, []) => None,
            // A number a row, with an axis of its own or without.
            (_, []) => Some((Dtype::F32, vec![1])),
            (Self::Ctc { labels }, [_, _]) => Some((Dtype::I64, vec![*labels])),
            (Self::Ctc { .. }, _) => None,
            (_, output) => Some((Dtype::F32, output.to_vec())),
        }
    }

    /// How many classes the rows of shape `output` tell apart, where the loss is of classes.
    pub fn classes(&self, output: &[usize]) -> Option<usize> {
        match (self, output) {
            (Self::CrossEntropy(form), output) => form.axis.of(output.len()).map(|axis| output[axis]),
            (Self::Ctc { .. }, [_, classes]) => Some(*classes),
            _ => None,
        }
    }
}

/// The loss of a batch. `output` (f32 or f64) and `target` have the batch first; the target of an output `[B]` of numbers
/// is `[B, 1]`.
///
/// # Errors
/// The target or a setting does not fit the output.
pub fn batch_loss(
    graph: &mut Graph,
    loss: &Loss,
    settings: Settings,
    output: Value,
    target: Value,
) -> Result<BatchLoss, GraphError> {
    match loss {
        Loss::CrossEntropy(form) => classes::batch(graph, form, settings, output, target),
        Loss::Ctc { .. } => transcripts::batch(graph, output, target),
        loss => elements::batch(graph, loss, settings, output, target),
    }
}

/// The loss of the rows of a batch, of which each counts by its weight, `[B]`.
///
/// # Errors
/// The target or a setting does not fit the output.
pub fn summed_loss(
    graph: &mut Graph,
    loss: &Loss,
    settings: Settings,
    output: Value,
    (target, row_weights): (Value, Value),
) -> Result<SummedLoss, GraphError> {
    match loss {
        Loss::CrossEntropy(form) => classes::summed(graph, form, settings, output, (target, row_weights)),
        Loss::Ctc { .. } => transcripts::summed(graph, output, (target, row_weights)),
        loss => elements::summed(graph, loss, settings, output, (target, row_weights)),
    }
}

#[expect(clippy::cast_precision_loss, reason = "a batch has fewer than 2^52 elements")]
fn share(elements: usize) -> f64 {
    1.0 / elements as f64
}

fn misfit(op: &str, reason: String) -> GraphError {
    GraphError::InvalidOperands { op: op.into(), reason }
}

/// A setting that the loss cannot do without.
fn needed(op: &str, setting: Option<Value>, name: &str) -> Result<Value, GraphError> {
    setting.ok_or_else(|| misfit(op, format!("{name} is not given")))
}
