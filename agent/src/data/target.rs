//! Targets: what a file has, as what a task takes.

use regatta_columns::FileError;
use regatta_schemas::limits::LIMITS;
use regatta_schemas::recipe::{Data, Task};

use super::error::DataError;
use super::{RawTarget, table};
use crate::training::Target;

pub fn target(data: &Data, raw: RawTarget) -> Result<Target, DataError> {
    let target = of_a_part(data, raw)?;
    check_classes(&target)?;
    match target {
        // Of language there are labels for each place alone.
        Target::Classes { .. } if data.task == Task::Classification && is_one_hot(&target) => {
            Err(DataError::OneHot { width: target.width() })
        }
        target => Ok(target),
    }
}

/// Whether every row has a one and else zeros.
fn is_one_hot(target: &Target) -> bool {
    let (Target::Classes { labels, classes: 2, .. }, &[width]) = (target, target.shape()) else { return false };
    labels.chunks_exact(width).all(|row| row.iter().sum::<i64>() == 1)
}

/// The target of a part of the rows, which may be of one class.
pub fn of_a_part(data: &Data, raw: RawTarget) -> Result<Target, DataError> {
    match data.task {
        Task::Classification | Task::LanguageModel => classes(data.task, data.ignored, raw),
        Task::Transcription => transcripts(raw),
        Task::Regression => values(raw),
        Task::Multilabel => answers(raw),
    }
}

/// # Errors
/// When there are too few classes to tell apart, or too many.
pub fn check_classes(target: &Target) -> Result<(), DataError> {
    match target {
        Target::Classes { classes: 0 | 1, .. } => Err(DataError::OneClass),
        Target::Classes { classes, .. } if *classes > LIMITS.vocabulary_max => {
            Err(DataError::TooManyClasses { classes: *classes })
        }
        Target::Classes { .. } | Target::Values { .. } => Ok(()),
    }
}

/// Targets of training and validation rows that a file keeps apart: of as many classes each.
pub fn pair(data: &Data, train: RawTarget, validation: RawTarget) -> Result<(Target, Target), DataError> {
    let mut train = target(data, train)?;
    let mut validation = of_a_part(data, validation)?;
    if let (Target::Classes { classes: one, .. }, Target::Classes { classes: other, .. }) =
        (&mut train, &mut validation)
    {
        let most = (*one).max(*other);
        (*one, *other) = (most, most);
    }
    if train.shape() == validation.shape() {
        Ok((train, validation))
    } else {
        Err(DataError::ShapesDiffer { train: train.shape().to_vec(), validation: validation.shape().to_vec() })
    }
}

/// Whole numbers are classes as they are, but for the one that is ignored; texts are numbered in their order.
fn classes(task: Task, ignored: Option<i64>, raw: RawTarget) -> Result<Target, DataError> {
    match raw {
        RawTarget::Numbers { shape, values } => {
            let shape = match (task, shape.as_slice()) {
                (Task::Classification, [1]) => Vec::new(),
                _ => shape,
            };
            let width: usize = shape.iter().product();
            let label = |(at, value): (usize, &f64)| {
                if let Some(ignored) = ignored.filter(|ignored| *value == *ignored as f64) {
                    return Ok(ignored);
                }
                let is_class = value.fract() == 0.0 && (0.0..LIMITS.classes_max as f64).contains(value);
                #[expect(clippy::cast_possible_truncation, reason = "a small whole number")]
                is_class.then_some(*value as i64).ok_or(DataError::Label { row: at / width, value: *value })
            };
            let labels = values.iter().enumerate().map(label).collect::<Result<Vec<_>, _>>()?;
            let classes = labels.iter().filter(|label| ignored != Some(**label)).max().map_or(0, |label| label + 1);
            Ok(Target::classes(labels, shape, usize::try_from(classes).unwrap_or(usize::MAX)))
        }
        RawTarget::Texts(texts) => {
            let names = table::distinct(texts.iter().map(String::as_str));
            if names.len() > LIMITS.classes_max {
                return Err(DataError::TooManyClasses { classes: names.len() });
            }
            let label = |text: &String| names.binary_search(&text.as_str()).unwrap_or_default() as i64;
            Ok(Target::Classes {
                labels: texts.iter().map(label).collect(),
                shape: Vec::new(),
                classes: names.len(),
                names: names.into_iter().map(str::to_owned).collect(),
            })
        }
    }
}

/// Labels in order, with zeros behind them alone.
fn transcripts(raw: RawTarget) -> Result<Target, DataError> {
    if let RawTarget::Texts(texts) = raw {
        return Err(DataError::TextTranscript { text: texts.into_iter().next().unwrap_or_default() });
    }
    let target = classes(Task::Transcription, None, raw)?;
    let Target::Classes { labels, shape, .. } = &target else { return Ok(target) };
    let &[width] = &shape[..] else { return Err(DataError::TranscriptShape { shape: shape.clone() }) };
    let resumes = |row: &[i64]| row.windows(2).any(|pair| pair[0] == 0 && pair[1] != 0);
    match labels.chunks(width.max(1)).position(resumes) {
        Some(row) => Err(DataError::BlankLabel { row }),
        None => Ok(target),
    }
}

fn values(raw: RawTarget) -> Result<Target, DataError> {
    match raw {
        RawTarget::Numbers { shape, values } => {
            #[expect(clippy::cast_possible_truncation, reason = "training is in single precision")]
            let values: Vec<f32> = values.into_iter().map(|value| value as f32).collect();
            let shape = if shape.is_empty() { vec![1] } else { shape };
            if let Some(at) = values.iter().position(|value| !value.is_finite()) {
                let row = at / shape.iter().product::<usize>().max(1);
                return Err(FileError::NotFinite { what: format!("the target of row {row}") }.into());
            }
            Ok(Target::Values { values, shape })
        }
        RawTarget::Texts(texts) => Err(DataError::TextTarget { text: texts.into_iter().next().unwrap_or_default() }),
    }
}

/// Yes is one, no is zero.
fn answers(raw: RawTarget) -> Result<Target, DataError> {
    let target = values(raw)?;
    if let Target::Values { values, .. } = &target
        && let Some(at) = values.iter().position(|value| *value != 0.0 && *value != 1.0)
    {
        return Err(DataError::NoAnswer { row: at / target.width(), value: f64::from(values[at]) });
    }
    Ok(target)
}
