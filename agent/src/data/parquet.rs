//! A Parquet file: columns of numbers, bools and texts.

use std::panic::catch_unwind;

use bytes::Bytes;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;
use regatta_schemas::recipe::Data;

use super::error::DataError;
use super::table::{self, Cells};
use super::{Rows, check_size};

pub fn read(data: &Data, bytes: Vec<u8>) -> Result<Rows, DataError> {
    // The crate panics on some damaged files; nothing of it outlives the panic.
    catch_unwind(|| read_whole(data, bytes))
        .unwrap_or_else(|_| Err(DataError::NotParquet { reason: "it is damaged".into() }))
}

fn read_whole(data: &Data, bytes: Vec<u8>) -> Result<Rows, DataError> {
    let bad = |error: parquet::errors::ParquetError| DataError::NotParquet { reason: error.to_string() };
    let reader = SerializedFileReader::new(Bytes::from(bytes)).map_err(bad)?;
    let schema = reader.metadata().file_metadata().schema();
    let names: Vec<String> = schema.get_fields().iter().map(|field| field.name().to_owned()).collect();
    let columns = table::columns(data, &names)?;
    let mut cells: Vec<Option<Cells>> = columns.iter().map(|_| None).collect();
    let mut rows = 0;
    for row in reader.get_row_iter(None).map_err(bad)? {
        let row = row.map_err(bad)?;
        let fields: Vec<(&String, &Field)> = row.get_column_iter().collect();
        check_size(rows as u64 + 1, columns.len() as u64)?;
        for (column, cells) in columns.iter().zip(&mut cells) {
            let field = fields.get(column.position).map(|(_, field)| *field);
            push(cells, &column.name, rows, field)?;
        }
        rows += 1;
    }
    let empty = || Cells::Numbers(Vec::new());
    let filled = columns.into_iter().zip(cells).map(|(column, cells)| (column, cells.unwrap_or_else(empty)));
    table::rows(filled.collect(), rows)
}

/// A column is of the kind of its first cell.
fn push(cells: &mut Option<Cells>, column: &str, row: usize, field: Option<&Field>) -> Result<(), DataError> {
    let column = || column.to_owned();
    let Some(field) = field.filter(|field| !matches!(field, Field::Null)) else {
        return Err(DataError::NullCell { row, column: column() });
    };
    if let Field::Str(text) = field {
        if let Cells::Texts(texts) = cells.get_or_insert_with(|| Cells::Texts(Vec::new())) {
            texts.push(text.clone());
        }
        return Ok(());
    }
    let number = number(field).ok_or_else(|| DataError::CellType { column: column(), found: field.to_string() })?;
    if !number.is_finite() {
        return Err(DataError::NotFinite { what: format!("row {row}, column `{}`", column()) });
    }
    if let Cells::Numbers(numbers) = cells.get_or_insert_with(|| Cells::Numbers(Vec::new())) {
        numbers.push(number);
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "training is in single precision")]
fn number(field: &Field) -> Option<f64> {
    match field {
        Field::Bool(value) => Some(f64::from(u8::from(*value))),
        Field::Byte(value) => Some(f64::from(*value)),
        Field::Short(value) => Some(f64::from(*value)),
        Field::Int(value) => Some(f64::from(*value)),
        Field::Long(value) => Some(*value as f64),
        Field::UByte(value) => Some(f64::from(*value)),
        Field::UShort(value) => Some(f64::from(*value)),
        Field::UInt(value) => Some(f64::from(*value)),
        Field::ULong(value) => Some(*value as f64),
        Field::Float(value) => Some(f64::from(*value)),
        Field::Double(value) => Some(*value),
        Field::Float16(value) => Some(f64::from(value.to_f32())),
        _ => None,
    }
}
