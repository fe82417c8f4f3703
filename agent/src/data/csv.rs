//! A file of comma-separated values with a header line.

use std::io::BufRead;

use regatta_columns::csv;
use regatta_schemas::recipe::Data;

use super::Rows;
use super::error::DataError;
use super::table;

pub fn read(data: &Data, from: impl BufRead) -> Result<Rows, DataError> {
    let mut columns = Vec::new();
    let (cells, rows) = csv::read(from, |names| {
        columns = table::columns(data, names)?;
        Ok::<_, DataError>(columns.iter().map(|column| column.position).collect())
    })?;
    table::rows(columns.into_iter().zip(cells).collect(), rows)
}
