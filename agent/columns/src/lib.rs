//! Columns and arrays of numbers and texts, out of the files that people keep tables in.
//!
//! It knows no training, no study and no runtime, so that the coordinator's program may use it. A file is what somebody
//! uploaded, so every size in it is doubted before memory is taken.

pub mod csv;
mod error;
pub mod npy;
pub mod npz;
pub mod parquet;

use regatta_schemas::limits::LIMITS;

pub use error::FileError;

/// The cells of a column.
#[derive(Debug, Clone, PartialEq)]
pub enum Cells {
    /// Finite.
    Numbers(Vec<f64>),
    Texts(Vec<String>),
}

/// # Errors
/// When a table of this size is more than one program holds.
pub fn check_size(rows: u64, width: u64) -> Result<(), FileError> {
    match rows.checked_mul(width) {
        Some(values) if values <= LIMITS.data_values_max => Ok(()),
        _ => Err(FileError::TooLarge { rows, width }),
    }
}
