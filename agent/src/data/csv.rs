//! A file of comma-separated values with a header line.

use std::io::BufRead;

use regatta_schemas::recipe::Data;

use super::error::DataError;
use super::table::{self, Cells};
use super::{Rows, check_size};

/// A byte order mark, which some spreadsheets write.
const MARK: &[u8] = b"\xef\xbb\xbf";

pub fn read(data: &Data, mut from: impl BufRead) -> Result<Rows, DataError> {
    let start = from.fill_buf().map_err(|error| DataError::NotCsv { reason: error.to_string() })?;
    if start.starts_with(MARK) {
        from.consume(MARK.len());
    }
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(from);
    let names: Vec<String> = reader.headers().map_err(not_csv)?.iter().map(str::to_owned).collect();
    let columns = table::columns(data, &names)?;
    let mut texts: Vec<Vec<String>> = vec![Vec::new(); columns.len()];
    let mut lines = Vec::new();
    for record in reader.records() {
        let record = record.map_err(not_csv)?;
        lines.push(record.position().map_or(0, csv::Position::line));
        check_size(lines.len() as u64, columns.len() as u64)?;
        for (column, texts) in columns.iter().zip(&mut texts) {
            texts.push(record.get(column.position).unwrap_or_default().to_owned());
        }
    }
    let filled = columns.into_iter().zip(texts).map(|(column, texts)| {
        let cells = content(&column.name, texts, &lines)?;
        Ok((column, cells))
    });
    table::rows(filled.collect::<Result<_, _>>()?, lines.len())
}

/// A column in which every cell is a number, or none is.
fn content(column: &str, cells: Vec<String>, lines: &[u64]) -> Result<Cells, DataError> {
    let numbers: Vec<Option<f64>> = cells.iter().map(|cell| cell.parse().ok()).collect();
    let line = |row: usize| lines.get(row).copied().unwrap_or_default();
    if let Some(row) = cells.iter().position(String::is_empty) {
        return Err(DataError::EmptyCell { line: line(row), column: column.to_owned() });
    }
    if numbers.iter().all(Option::is_none) {
        return Ok(Cells::Texts(cells));
    }
    if let Some(row) = numbers.iter().position(|number| number.is_some_and(|number| !number.is_finite())) {
        return Err(DataError::NotFinite { what: format!("line {}, column `{column}`", line(row)) });
    }
    match numbers.iter().position(Option::is_none) {
        Some(row) => {
            Err(DataError::NotANumber { line: line(row), column: column.to_owned(), cell: cells[row].clone() })
        }
        None => Ok(Cells::Numbers(numbers.into_iter().flatten().collect())),
    }
}

fn not_csv(error: csv::Error) -> DataError {
    DataError::NotCsv { reason: error.to_string() }
}
