//! A Parquet file: columns of numbers, bools and texts.

use regatta_columns::parquet;
use regatta_schemas::recipe::Data;

use super::Rows;
use super::error::DataError;
use super::table;

pub fn read(data: &Data, bytes: Vec<u8>) -> Result<Rows, DataError> {
    let mut columns = Vec::new();
    let (cells, rows) = parquet::read(bytes, |names| {
        columns = table::columns(data, names)?;
        Ok::<_, DataError>(columns.iter().map(|column| column.position).collect())
    })?;
    table::rows(columns.into_iter().zip(cells).collect(), rows)
}
