//! A file of comma-separated values with a header line.

use std::io::BufRead;

use super::error::FileError;
use super::{Cells, check_size};

/// A byte order mark, which some spreadsheets write.
const MARK: &[u8] = b"\xef\xbb\xbf";

/// Some columns, and how many rows they have. `choose`: of the names of all columns, the places of those that are wanted.
///
/// # Errors
/// What `choose` answers; when it is no such file, or a cell is empty, or not a number where others are.
pub fn read<E: From<FileError>>(
    mut from: impl BufRead,
    choose: impl FnOnce(&[String]) -> Result<Vec<usize>, E>,
) -> Result<(Vec<Cells>, usize), E> {
    let start = from.fill_buf().map_err(|error| FileError::NotCsv { reason: error.to_string() })?;
    // Where lines end in two characters, the reader counts a line when it is past the second.
    let first_end = start.iter().position(|byte| *byte == b'\n');
    let uncounted = u64::from(first_end.is_some_and(|end| end > 0 && start[end - 1] == b'\r'));
    if start.starts_with(MARK) {
        from.consume(MARK.len());
    }
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(from);
    let names: Vec<String> = reader.headers().map_err(not_csv)?.iter().map(str::to_owned).collect();
    let wanted = choose(&names)?;
    let mut texts: Vec<Vec<String>> = vec![Vec::new(); wanted.len()];
    let mut lines = Vec::new();
    for record in reader.records() {
        let record = record.map_err(not_csv)?;
        lines.push(record.position().map_or(0, csv::Position::line) + uncounted);
        check_size(lines.len() as u64, wanted.len() as u64)?;
        for (position, texts) in wanted.iter().zip(&mut texts) {
            texts.push(record.get(*position).unwrap_or_default().to_owned());
        }
    }
    let name = |position: usize| names.get(position).map_or("", String::as_str);
    let filled = wanted.iter().zip(texts).map(|(position, texts)| content(name(*position), texts, &lines));
    Ok((filled.collect::<Result<_, _>>()?, lines.len()))
}

/// A column in which every cell is a number, or none is.
fn content(column: &str, cells: Vec<String>, lines: &[u64]) -> Result<Cells, FileError> {
    let numbers: Vec<Option<f64>> = cells.iter().map(|cell| cell.parse().ok()).collect();
    let line = |row: usize| lines.get(row).copied().unwrap_or_default();
    if let Some(row) = cells.iter().position(String::is_empty) {
        return Err(FileError::EmptyCell { line: line(row), column: column.to_owned() });
    }
    if numbers.iter().all(Option::is_none) {
        return Ok(Cells::Texts(cells));
    }
    if let Some(row) = numbers.iter().position(|number| number.is_some_and(|number| !number.is_finite())) {
        return Err(FileError::NotFinite { what: format!("line {}, column `{column}`", line(row)) });
    }
    match numbers.iter().position(Option::is_none) {
        Some(row) => {
            Err(FileError::NotANumber { line: line(row), column: column.to_owned(), cell: cells[row].clone() })
        }
        None => Ok(Cells::Numbers(numbers.into_iter().flatten().collect())),
    }
}

fn not_csv(error: csv::Error) -> FileError {
    FileError::NotCsv { reason: error.to_string() }
}
