//! The bytes of a data set in, the training and validation rows out: read, shaped, split, normalised.
//!
//! It knows no network and no training: what [`crate::training`] takes is what it makes. A data set is what
//! somebody uploaded, so every size in it is doubted before memory is taken.

mod blocks;
mod csv;
mod error;
mod images;
mod normalize;
mod npz;
mod parquet;
mod shape;
mod shards;
mod split;
mod store;
mod table;
mod tape;
mod target;
mod tokens;
mod without;

use std::io::{BufReader, Read};
use std::sync::Arc;

use regatta_columns::FileError;
use regatta_schemas::recipe::{Data, DataFormat};

use crate::training::{Dataset, Feature, Split, Stream, Values};
use blocks::Blocks;

pub use error::DataError;
pub use store::Store;
pub use without::{Absence, without};

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

/// Reads a data set into memory and splits it as `data` says. The same bytes and `data` make the same rows everywhere.
///
/// # Errors
/// [`DataError`]; its text says what to do.
pub fn read(data: &Data, store: &Store) -> Result<Dataset, DataError> {
    let mut dataset = match data.format {
        DataFormat::Npz => table(data, npz::read(data, store.whole())?)?,
        DataFormat::Npy => table(data, npz::read_one(data, store.whole())?)?,
        DataFormat::Csv => table(data, csv::read(data, BufReader::new(store.whole()))?)?,
        DataFormat::Parquet => table(data, parquet::read(data, bytes_of(store)?)?)?,
        DataFormat::Images | DataFormat::Tokens | DataFormat::Shards => {
            let (train, validation) = Blocks::open(data, store)?.whole(data, store)?;
            Dataset { train, validation }
        }
    };
    let figures = normalize::figures(data.normalize, &dataset.train.features);
    normalize::apply(&figures, &mut dataset.train.features);
    normalize::apply(&figures, &mut dataset.validation.features);
    Ok(dataset)
}

/// Opens a data set whose rows are read while training. Whole blocks of rows are kept for validation, in memory.
///
/// # Errors
/// [`DataError`]; its text says what to do.
pub fn stream(data: &Data, store: Arc<Store>) -> Result<Stream, DataError> {
    Blocks::open(data, &store)?.stream(data, store)
}

fn table(data: &Data, rows: Rows) -> Result<Dataset, DataError> {
    let Rows { mut features, target, validation } = rows;
    shape::shape(data, &mut features)?;
    let dataset = match validation {
        None => split::split(data, &Split { features, target: target::target(data, target)? })?,
        Some(own) => {
            let mut own = *own;
            shape::shape(data, &mut own.features)?;
            let (train, validation) = target::pair(data, target, own.target)?;
            Dataset {
                train: Split { features, target: train },
                validation: Split { features: own.features, target: validation },
            }
        }
    };
    for split in [&dataset.train, &dataset.validation] {
        split.features.iter().try_for_each(check_finite)?;
    }
    Ok(dataset)
}

fn bytes_of(store: &Store) -> Result<Vec<u8>, DataError> {
    let mut bytes = Vec::new();
    store.whole().read_to_end(&mut bytes).map_err(|error| FileError::NotParquet { reason: error.to_string() })?;
    Ok(bytes)
}

fn check_finite(feature: &Feature) -> Result<(), DataError> {
    let Values::F32(values) = &feature.values else { return Ok(()) };
    match values.iter().position(|value| !value.is_finite()) {
        None => Ok(()),
        Some(at) => Err(DataError::File(FileError::NotFinite {
            what: format!("row {}: number {} of `{}`", at / feature.width(), at % feature.width(), feature.name),
        })),
    }
}
