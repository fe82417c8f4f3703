//! What can be wrong with a file, and what to do about it.

use regatta_schemas::limits::LIMITS;

/// A file that cannot be read. Trying again does not mend it.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum FileError {
    #[error("this is no npz archive ({reason}): write it with numpy.savez or numpy.savez_compressed")]
    NotAnArchive { reason: String },
    #[error("there is no array `{name}` in the archive: it has {there}")]
    NoArray { name: String, there: String },
    #[error("array `{name}` cannot be read ({reason}): write the archive anew with numpy.savez")]
    BadArray { name: String, reason: String },
    #[error("array `{name}` is of type `{descr}`: convert it to a whole number, a float or a bool of at most 64 bits")]
    ArrayType { name: String, descr: String },
    #[error("array `{name}` has no rows or no values, its shape is {shape:?}: give it at least one of each")]
    EmptyArray { name: String, shape: Vec<u64> },
    #[error("this is no Parquet file that can be read ({reason}): write it uncompressed or with snappy")]
    NotParquet { reason: String },
    #[error("row {row}, column `{column}`: there is no value; fill it or remove the row")]
    NullCell { row: usize, column: String },
    #[error("column `{column}` holds {found}: only numbers, bools and texts are read")]
    CellType { column: String, found: String },
    #[error("{rows} rows of {width} numbers: at most {max} numbers are held", max = LIMITS.data_values_max)]
    TooLarge { rows: u64, width: u64 },
    #[error("this is no CSV file: {reason}")]
    NotCsv { reason: String },
    #[error("line {line}, column `{column}`: the cell is empty; fill it or remove the row")]
    EmptyCell { line: u64, column: String },
    #[error("line {line}, column `{column}`: `{cell}` is not a number, and other cells of the column are")]
    NotANumber { line: u64, column: String, cell: String },
    #[error("{what} is not a finite number: remove or replace such values")]
    NotFinite { what: String },
}
