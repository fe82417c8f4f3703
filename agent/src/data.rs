//! The bytes of a data set in, the training and validation rows out: npz or CSV, split, normalised.
//!
//! It knows no file, no network and no training: what [`crate::training`] takes is what it makes. A data set
//! is what somebody uploaded, so every size in it is doubted before memory is taken.

mod error;
mod npy;
mod npz;
mod split;
mod table;

use regatta_schemas::limits::LIMITS;
use regatta_schemas::recipe::{Data, DataFormat, Task};

use crate::training::{Dataset, Target, Tensor2};

pub use error::DataError;

/// A data set before it is split.
struct Rows {
    features: Tensor2,
    target: RawTarget,
}

/// The target as the file has it.
enum RawTarget {
    /// Rows x width, in row-major order.
    Numbers { width: usize, values: Vec<f64> },
    /// One text a row.
    Texts(Vec<String>),
}

/// Reads a data set and splits it as `data` says. The same bytes and `data` make the same rows everywhere.
///
/// # Errors
/// [`DataError`]; its text says what to do.
pub fn read(data: &Data, bytes: &[u8]) -> Result<Dataset, DataError> {
    let rows = match data.format {
        DataFormat::Npz => npz::read(data, bytes)?,
        DataFormat::Csv => table::read(data, bytes)?,
        _ => return Err(DataError::NotCsv { reason: "this format is not read".into() }),
    };
    if let Some(at) = rows.features.values.iter().position(|value| !value.is_finite()) {
        let (row, column) = (at / rows.features.width, at % rows.features.width);
        return Err(DataError::NotFinite { what: format!("feature {column} of row {row}") });
    }
    let target = match data.task {
        Task::Classification => classes(rows.target)?,
        _ => values(rows.target, rows.features.rows)?,
    };
    split::split(data, &rows.features, &target)
}

/// Whole numbers are classes as they are; texts are numbered in their order.
fn classes(target: RawTarget) -> Result<Target, DataError> {
    let (labels, classes) = match target {
        RawTarget::Numbers { width: 1, values } => {
            let label = |(row, value): (usize, &f64)| {
                let is_class = value.fract() == 0.0 && (0.0..LIMITS.classes_max as f64).contains(value);
                #[expect(clippy::cast_possible_truncation, reason = "a small whole number")]
                is_class.then_some(*value as i64).ok_or(DataError::Label { row, value: *value })
            };
            let labels = values.iter().enumerate().map(label).collect::<Result<Vec<_>, _>>()?;
            let classes = labels.iter().max().map_or(0, |label| label + 1);
            (labels, usize::try_from(classes).unwrap_or(usize::MAX))
        }
        RawTarget::Numbers { width, .. } => return Err(DataError::WideTarget { width }),
        RawTarget::Texts(texts) => {
            let names = table::distinct(texts.iter().map(String::as_str));
            let label = |text: &String| names.binary_search(&text.as_str()).unwrap_or_default() as i64;
            (texts.iter().map(label).collect(), names.len())
        }
    };
    match classes {
        0 | 1 => Err(DataError::OneClass),
        too_many if too_many > LIMITS.classes_max => Err(DataError::TooManyClasses { classes }),
        _ => Ok(Target::Classes { labels, classes }),
    }
}

fn values(target: RawTarget, rows: usize) -> Result<Target, DataError> {
    match target {
        RawTarget::Numbers { width, values } => {
            #[expect(clippy::cast_possible_truncation, reason = "training is in single precision")]
            let values: Vec<f32> = values.into_iter().map(|value| value as f32).collect();
            if let Some(at) = values.iter().position(|value| !value.is_finite()) {
                return Err(DataError::NotFinite { what: format!("the target of row {}", at / width.max(1)) });
            }
            Ok(Target::Values(Tensor2 { rows, width, values }))
        }
        RawTarget::Texts(texts) => Err(DataError::TextTarget { text: texts.into_iter().next().unwrap_or_default() }),
    }
}

/// # Errors
/// When a data set of this size is more than an agent holds.
fn check_size(rows: u64, width: u64) -> Result<(), DataError> {
    match rows.checked_mul(width) {
        Some(values) if values <= LIMITS.data_values_max => Ok(()),
        _ => Err(DataError::TooLarge { rows, width }),
    }
}
