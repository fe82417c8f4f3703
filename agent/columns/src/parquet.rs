//! A Parquet file: columns of numbers, bools and texts.

use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;

use super::error::FileError;
use super::{Cells, check_size};

/// Some columns, and how many rows they have. `choose`: of the names of all columns, the places of those that are wanted.
///
/// # Errors
/// What `choose` answers; when it is no such file, or a cell is empty or of no such kind.
pub fn read<E: From<FileError>>(
    bytes: Vec<u8>,
    choose: impl FnOnce(&[String]) -> Result<Vec<usize>, E>,
) -> Result<(Vec<Cells>, usize), E> {
    // The crate panics on some damaged files; nothing of it outlives the panic.
    catch_unwind(AssertUnwindSafe(|| read_whole(bytes, choose)))
        .unwrap_or_else(|_| Err(FileError::NotParquet { reason: "it is damaged".into() }.into()))
}

fn read_whole<E: From<FileError>>(
    bytes: Vec<u8>,
    choose: impl FnOnce(&[String]) -> Result<Vec<usize>, E>,
) -> Result<(Vec<Cells>, usize), E> {
    let bad = |error: parquet::errors::ParquetError| FileError::NotParquet { reason: error.to_string() };
    let reader = SerializedFileReader::new(Bytes::from(bytes)).map_err(bad)?;
    let schema = reader.metadata().file_metadata().schema();
    let names: Vec<String> = schema.get_fields().iter().map(|field| field.name().to_owned()).collect();
    let wanted = choose(&names)?;
    let mut cells: Vec<Option<Cells>> = wanted.iter().map(|_| None).collect();
    let mut rows = 0;
    for row in reader.get_row_iter(None).map_err(bad)? {
        let row = row.map_err(bad)?;
        let fields: Vec<(&String, &Field)> = row.get_column_iter().collect();
        check_size(rows as u64 + 1, wanted.len() as u64)?;
        for (position, cells) in wanted.iter().zip(&mut cells) {
            let (name, field) = fields.get(*position).map_or(("", None), |(name, field)| (name.as_str(), Some(*field)));
            push(cells, name, rows, field)?;
        }
        rows += 1;
    }
    Ok((cells.into_iter().map(|cells| cells.unwrap_or_else(|| Cells::Numbers(Vec::new()))).collect(), rows))
}

/// A column is of the kind of its first cell.
fn push(cells: &mut Option<Cells>, column: &str, row: usize, field: Option<&Field>) -> Result<(), FileError> {
    let column = || column.to_owned();
    let Some(field) = field.filter(|field| !matches!(field, Field::Null)) else {
        return Err(FileError::NullCell { row, column: column() });
    };
    if let Field::Str(text) = field {
        if let Cells::Texts(texts) = cells.get_or_insert_with(|| Cells::Texts(Vec::new())) {
            texts.push(text.clone());
        }
        return Ok(());
    }
    let number = number(field).ok_or_else(|| FileError::CellType { column: column(), found: field.to_string() })?;
    if !number.is_finite() {
        return Err(FileError::NotFinite { what: format!("row {row}, column `{}`", column()) });
    }
    if let Cells::Numbers(numbers) = cells.get_or_insert_with(|| Cells::Numbers(Vec::new())) {
        numbers.push(number);
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "numbers of more than 53 bits are rounded")]
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
