//! What can be wrong with a table, and what to do about it. Rows count from 1.

use regatta_columns::FileError;

use super::curve::CurveError;

/// A file that is no table of the study, or has nothing for a configuration.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    File(#[from] FileError),
    #[error("there is no column `{name}`: there are {there}")]
    NoColumn { name: String, there: String },
    #[error("there is no row")]
    NoRows,
    #[error("array `{name}` has {rows} rows, and others have {others}")]
    RowsDiffer { name: String, rows: usize, others: usize },
    #[error("array `{name}` has {axes} axes: it wants one or two")]
    Axes { name: String, axes: usize },
    #[error("there is no column `resource`, and `elapsed_s` has no second axis of epochs: one of the two is wanted")]
    NoEpochs,
    #[error("the parameter `{name}` has the name of another column: rename it")]
    NameTaken { name: String },
    #[error("column `{name}` holds texts: it wants numbers")]
    Texts { name: String },
    #[error("a row of `{name}` has {width} numbers, and a trial more epochs")]
    TooFew { name: String, width: usize },
    #[error("row {row}, column `{name}`: {value} is not a finite number")]
    NotFinite { row: usize, name: String, value: f64 },
    #[error("row {row}: `resource` is {value}: epochs are numbered 1, 2, 3 ...")]
    Epoch { row: usize, value: f64 },
    #[error("row {row} is no configuration of the study: {reason}")]
    Outside { row: usize, reason: String },
    #[error("rows {first} and {second} are the same epoch of the same configuration: remove one of them")]
    Twice { first: usize, second: usize },
    #[error("the configuration of row {row} has no epoch {epoch}, and a trial of the study has {resource}")]
    EpochMissing { row: usize, epoch: u32, resource: u32 },
    #[error("the configuration of row {row}: {error}")]
    Curve { row: usize, error: CurveError },
    #[error("the table has no configuration with the choices and bools of {params}")]
    NoneAlike { params: String },
}
