//! What is measured on the validation rows beside the loss: outputs and targets in, batch by batch; numbers out.
//!
//! It knows no graph and no device. Sums are in double precision, so the size of a batch does not matter.

mod answers;
mod auroc;
mod residuals;
mod transcripts;

use regatta_autodiff::step::ClassAxis;

use super::TrainingError;
use super::dataset::Target;
use answers::{Accuracy, F1, Top};
use auroc::Auroc;
use residuals::{AbsoluteError, R2};
use transcripts::LabelErrors;
pub use transcripts::without_padding;

/// A measure of a model's outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Metric {
    /// The share of right answers: the greatest output's class, for yes-or-no questions each output's sign, and for
    /// labels in order all of a row's.
    Accuracy,
    /// The share of positions whose class is among the three, five or ten greatest outputs.
    Top3Accuracy,
    Top5Accuracy,
    Top10Accuracy,
    /// The harmonic mean of precision and recall, averaged over the classes that occur in targets or answers.
    F1,
    /// The area under the receiver's operating characteristic: of the second of two classes; of each of more classes
    /// against the rest, or of each question, averaged over those that have rows of both kinds.
    Auroc,
    MeanAbsoluteError,
    /// The share of the variance that is explained, averaged over the numbers of a row.
    R2,
    /// The exponential of the mean loss.
    Perplexity,
    /// The labels to insert, to leave out or to change, for each that the target has.
    LabelErrorRate,
}

/// How outputs are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// For each position of the target a number for each of so many classes. Positions of the class `ignored` do not
    /// count.
    Classes { classes: usize, axis: ClassAxis, ignored: Option<i64> },
    /// A number for each of the target.
    Values,
    /// Frames of logits, of which the greatest tells the label or the blank, with fewer labels a row.
    Transcripts { frames: usize, classes: usize },
}

impl Metric {
    /// As it is reported.
    pub fn name(self) -> &'static str {
        match self {
            Self::Accuracy => "validation_accuracy",
            Self::Top3Accuracy => "validation_top3_accuracy",
            Self::Top5Accuracy => "validation_top5_accuracy",
            Self::Top10Accuracy => "validation_top10_accuracy",
            Self::F1 => "validation_f1",
            Self::Auroc => "validation_auroc",
            Self::MeanAbsoluteError => "validation_mean_absolute_error",
            Self::R2 => "validation_r2",
            Self::Perplexity => "validation_perplexity",
            Self::LabelErrorRate => "validation_label_error_rate",
        }
    }

    /// Whether it looks at the model's outputs, and not only at the loss.
    pub fn needs_outputs(self) -> bool {
        self != Self::Perplexity
    }

    /// # Errors
    /// `Configuration` when the metric does not go with the target, or would take too much memory.
    fn measure(self, target: &Target, reading: Reading) -> Result<Option<Box<dyn Measure>>, TrainingError> {
        let count = target.rows() * target.width();
        let (of_classes, columns) = match reading {
            Reading::Classes { classes, .. } | Reading::Transcripts { classes, .. } => (true, classes),
            Reading::Values => (false, target.width()),
        };
        let is_transcript = matches!(reading, Reading::Transcripts { .. });
        let measure: Box<dyn Measure> = match self {
            Self::Perplexity => return Ok(None),
            Self::Accuracy => Box::<Accuracy>::default(),
            Self::LabelErrorRate if is_transcript => Box::<LabelErrors>::default(),
            Self::LabelErrorRate => return Err(wrong(format!("{} takes labels in order", self.name()))),
            _ if is_transcript => return Err(wrong(format!("{} takes one answer a position", self.name()))),
            Self::Top3Accuracy if of_classes => Box::new(Top::of(3)),
            Self::Top5Accuracy if of_classes => Box::new(Top::of(5)),
            Self::Top10Accuracy if of_classes => Box::new(Top::of(10)),
            Self::F1 => Box::new(F1::new(columns)),
            Self::Auroc => {
                let positions = if of_classes { count } else { target.rows() };
                let areas = if of_classes && columns == 2 { 1 } else { columns };
                Box::new(Auroc::new(areas, positions).ok_or_else(|| {
                    wrong(format!(
                        "an exact auroc of {columns} outputs for {positions} positions takes too much memory"
                    ))
                })?)
            }
            Self::MeanAbsoluteError if !of_classes => Box::<AbsoluteError>::default(),
            Self::R2 if !of_classes => Box::new(R2::new(columns)),
            Self::Top3Accuracy | Self::Top5Accuracy | Self::Top10Accuracy => {
                return Err(wrong(format!("{} takes classes", self.name())));
            }
            Self::MeanAbsoluteError | Self::R2 => return Err(wrong(format!("{} takes numbers", self.name()))),
        };
        Ok(Some(measure))
    }
}

/// What one position of a row is to be: a class, or as many numbers as there are outputs. Or what a row is to tell:
/// its labels, of frames of so many classes.
#[derive(Debug, Clone, Copy)]
enum Truth<'a> {
    Class(usize),
    Values(&'a [f32]),
    Labels { labels: &'a [i64], classes: usize },
}

trait Measure {
    /// The outputs of one position: a logit for each class, or a number or logit for each value; of labels, all of a row.
    fn add(&mut self, outputs: &[f32], truth: Truth<'_>);

    /// None where it is not defined: nothing was added, or only rows of one kind.
    fn value(&mut self) -> Option<f64>;
}

/// Measures of one evaluation.
pub struct Scores {
    measures: Vec<(Metric, Box<dyn Measure>)>,
    perplexity: bool,
    reading: Reading,
    /// The outputs of one position, side by side.
    position: Vec<f32>,
}

impl Scores {
    /// For an evaluation against all of `target`.
    ///
    /// # Errors
    /// `Configuration` when a metric does not go with the target, or would take too much memory.
    pub fn new(metrics: &[Metric], target: &Target, reading: Reading) -> Result<Self, TrainingError> {
        let mut measures = Vec::new();
        for metric in metrics {
            measures.extend(metric.measure(target, reading)?.map(|measure| (*metric, measure)));
        }
        let perplexity = metrics.contains(&Metric::Perplexity);
        Ok(Self { measures, perplexity, reading, position: Vec::new() })
    }

    /// The outputs of the rows of `target` from `first` on, in row-major order.
    ///
    /// # Errors
    /// `Configuration` when the outputs do not fit the target.
    pub fn add(&mut self, outputs: &[f32], target: &Target, first: usize) -> Result<(), TrainingError> {
        match (self.reading, target) {
            (Reading::Transcripts { frames, classes }, Target::Classes { labels, .. }) => {
                let (rows, width) = (rows_of(outputs, frames * classes)?, target.width());
                let labels = labels.get(first * width..(first + rows) * width);
                let labels = labels.ok_or_else(|| wrong("there are more outputs than rows".into()))?;
                for (outputs, labels) in outputs.chunks_exact(frames * classes).zip(labels.chunks_exact(width)) {
                    let truth = Truth::Labels { labels: without_padding(labels), classes };
                    self.measures.iter_mut().for_each(|(_, measure)| measure.add(outputs, truth));
                }
            }
            (Reading::Classes { classes, axis, ignored }, Target::Classes { labels, shape, .. }) => {
                let positions: usize = shape.iter().product();
                let rows = rows_of(outputs, positions * classes)?;
                let labels = labels.get(first * positions..(first + rows) * positions);
                let labels = labels.ok_or_else(|| wrong("there are more outputs than rows".into()))?;
                let class_step = if axis.of(shape.len() + 1) == Some(0) { positions } else { 1 };
                let labels =
                    labels.iter().map(|label| usize::try_from(*label).ok().filter(|_| ignored != Some(*label)));
                self.add_classes(outputs, labels, positions, classes, class_step);
            }
            (Reading::Values, Target::Values { values, .. }) => {
                let width = target.width();
                let rows = rows_of(outputs, width)?;
                let values = values.get(first * width..(first + rows) * width);
                let values = values.ok_or_else(|| wrong("there are more outputs than rows".into()))?;
                for (outputs, values) in outputs.chunks_exact(width).zip(values.chunks_exact(width)) {
                    self.measures.iter_mut().for_each(|(_, measure)| measure.add(outputs, Truth::Values(values)));
                }
            }
            (Reading::Classes { .. } | Reading::Transcripts { .. }, Target::Values { .. })
            | (Reading::Values, Target::Classes { .. }) => {
                return Err(wrong("the outputs are read as others than the targets are".into()));
            }
        }
        Ok(())
    }

    /// Positions without a class do not count.
    fn add_classes(
        &mut self,
        outputs: &[f32],
        labels: impl Iterator<Item = Option<usize>>,
        positions: usize,
        classes: usize,
        class_step: usize,
    ) {
        for (at, class) in labels.enumerate() {
            let Some(class) = class.filter(|class| *class < classes) else { continue };
            let (row, position) = (at / positions, at % positions);
            let start = row * positions * classes + if class_step == 1 { position * classes } else { position };
            self.position.clear();
            self.position.extend(outputs[start..].iter().step_by(class_step).take(classes));
            for (_, measure) in &mut self.measures {
                measure.add(&self.position, Truth::Class(class));
            }
        }
    }

    /// All measures by their names; one that is not defined for these rows is left out.
    pub fn finish(mut self, mean_loss: f64) -> super::Metrics {
        let mut metrics = super::Metrics::new();
        for (metric, measure) in &mut self.measures {
            metrics.extend(measure.value().map(|value| (metric.name(), value)));
        }
        if self.perplexity {
            metrics.insert(Metric::Perplexity.name(), mean_loss.exp());
        }
        metrics
    }
}

fn rows_of(outputs: &[f32], width: usize) -> Result<usize, TrainingError> {
    match outputs.len().checked_div(width) {
        Some(rows) if rows * width == outputs.len() => Ok(rows),
        _ => Err(wrong(format!("{} outputs are no whole rows of {width}", outputs.len()))),
    }
}

/// The position of the greatest output, the first of equal ones.
fn greatest(outputs: &[f32]) -> usize {
    let better = |best: usize, at: usize| if outputs[at] > outputs[best] { at } else { best };
    (1..outputs.len()).fold(0, better)
}

/// Numbers of positions are far below 2^52.
#[expect(clippy::cast_precision_loss, reason = "a count of things in memory")]
fn real(count: u64) -> f64 {
    count as f64
}

fn wrong(reason: String) -> TrainingError {
    TrainingError::Configuration { reason }
}
