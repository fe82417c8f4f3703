//! The bytes of a data set in, the training and validation rows out: read, shaped, split, normalised.
//!
//! It knows no network and no training: what [`crate::training`] takes is what it makes. A data set is what
//! somebody uploaded, so every size in it is doubted before memory is taken.

mod csv;
mod error;
mod normalize;
mod npy;
mod npz;
mod shape;
mod split;
mod table;
mod target;

use regatta_schemas::limits::LIMITS;
use regatta_schemas::recipe::{Data, DataFormat};

use crate::training::{Dataset, Feature, Split, Values};

pub use error::DataError;

/// Rows as a file has them.
struct Rows {
    features: Vec<Feature>,
    target: RawTarget,
    /// Rows of their own to validate on.
    validation: Option<Box<Rows>>,
}

/// The target as the file has it.
enum RawTarget {
    /// Rows x shape, in row-major order.
    Numbers { shape: Vec<usize>, values: Vec<f64> },
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
        DataFormat::Npy => npz::read_one(data, bytes)?,
        DataFormat::Csv => csv::read(data, bytes)?,
        DataFormat::Parquet | DataFormat::Images | DataFormat::Tokens | DataFormat::Shards => {
            return Err(DataError::NotRead { format: data.format });
        }
    };
    let (mut features, validation) = match rows.validation {
        None => (rows.features, None),
        Some(own) => (rows.features, Some((own.features, own.target))),
    };
    shape::shape(data, &mut features)?;
    let mut dataset = match validation {
        None => split::split(data, &Split { features, target: target::target(data.task, rows.target)? })?,
        Some((mut own, own_target)) => {
            shape::shape(data, &mut own)?;
            let (train, validation) = target::pair(data.task, rows.target, own_target)?;
            Dataset {
                train: Split { features, target: train },
                validation: Split { features: own, target: validation },
            }
        }
    };
    for split in [&dataset.train, &dataset.validation] {
        split.features.iter().try_for_each(|feature| check_finite(feature))?;
    }
    normalize::normalize(data.normalize, &mut dataset);
    Ok(dataset)
}

fn check_finite(feature: &Feature) -> Result<(), DataError> {
    let Values::F32(values) = &feature.values else { return Ok(()) };
    match values.iter().position(|value| !value.is_finite()) {
        None => Ok(()),
        Some(at) => Err(DataError::NotFinite {
            what: format!("number {} of a row of `{}`", at % feature.width(), feature.name),
        }),
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
