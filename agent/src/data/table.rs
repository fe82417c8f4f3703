//! A CSV file with a header line.
//!
//! A column in which every cell is a number is one feature. A column in which none is becomes one feature of
//! 0 and 1 for each of its texts, in their order. A column of both kinds, and an empty cell, are errors.

use std::collections::BTreeSet;

use regatta_schemas::limits::LIMITS;
use regatta_schemas::recipe::{Columns, Data};

use super::error::DataError;
use super::{RawTarget, Rows, check_size};
use crate::training::Tensor2;

/// A byte order mark, which some spreadsheets write.
const MARK: &[u8] = b"\xef\xbb\xbf";

struct Column {
    name: String,
    /// Position in the file.
    position: usize,
    cells: Vec<String>,
}

/// A column as numbers or as texts.
enum Content {
    Numbers(Vec<f64>),
    Texts(Vec<String>),
}

pub fn read(data: &Data, bytes: &[u8]) -> Result<Rows, DataError> {
    let bytes = bytes.strip_prefix(MARK).unwrap_or(bytes);
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(bytes);
    let names: Vec<String> = reader.headers().map_err(not_csv)?.iter().map(str::to_owned).collect();
    let (mut features, mut target) = columns(data, &names)?;
    let mut lines = Vec::new();
    for record in reader.records() {
        let record = record.map_err(not_csv)?;
        lines.push(record.position().map_or(0, csv::Position::line));
        check_size(lines.len() as u64, features.len() as u64)?;
        for column in features.iter_mut().chain([&mut target]) {
            column.cells.push(record.get(column.position).unwrap_or_default().to_owned());
        }
    }
    let rows = lines.len();
    if rows == 0 {
        return Err(DataError::TooFewRows { rows });
    }
    let target = match content(target, &lines)? {
        Content::Numbers(values) => RawTarget::Numbers { width: 1, values },
        Content::Texts(texts) => RawTarget::Texts(texts),
    };
    Ok(Rows { features: dense(features, &lines)?, target })
}

/// The texts that occur, in order.
pub fn distinct<'t>(texts: impl Iterator<Item = &'t str>) -> Vec<&'t str> {
    texts.collect::<BTreeSet<_>>().into_iter().collect()
}

fn not_csv(error: csv::Error) -> DataError {
    DataError::NotCsv { reason: error.to_string() }
}

/// The columns of features, and that of the target.
fn columns(data: &Data, names: &[String]) -> Result<(Vec<Column>, Column), DataError> {
    let mut seen = BTreeSet::new();
    if let Some(twice) = names.iter().find(|name| !seen.insert(name.as_str())) {
        return Err(DataError::ColumnTwice { name: twice.clone() });
    }
    let column = |name: &String| match names.iter().position(|there| there == name) {
        Some(position) => Ok(Column { name: name.clone(), position, cells: Vec::new() }),
        None => {
            let there = match names {
                [] => "no columns".to_owned(),
                _ => names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "),
            };
            Err(DataError::NoColumn { name: name.clone(), there })
        }
    };
    let target = column(&data.target)?;
    let wanted: Vec<&String> = match &data.features {
        None => names.iter().filter(|name| **name != data.target).collect(),
        Some(Columns::One(name)) => vec![name],
        Some(Columns::Many(names)) => names.iter().collect(),
    };
    if wanted.contains(&&data.target) {
        return Err(DataError::TargetIsFeature { name: data.target.clone() });
    }
    if wanted.is_empty() {
        return Err(DataError::NoFeatures { target: data.target.clone() });
    }
    Ok((wanted.into_iter().map(column).collect::<Result<_, _>>()?, target))
}

fn content(column: Column, lines: &[u64]) -> Result<Content, DataError> {
    let numbers: Vec<Option<f64>> = column.cells.iter().map(|cell| cell.parse().ok()).collect();
    let line = |row: usize| lines.get(row).copied().unwrap_or_default();
    if let Some(row) = column.cells.iter().position(String::is_empty) {
        return Err(DataError::EmptyCell { line: line(row), column: column.name });
    }
    if numbers.iter().all(Option::is_none) {
        return Ok(Content::Texts(column.cells));
    }
    if let Some(row) = numbers.iter().position(|number| number.is_some_and(|number| !number.is_finite())) {
        return Err(DataError::NotFinite { what: format!("line {}, column `{}`", line(row), column.name) });
    }
    match numbers.iter().position(Option::is_none) {
        Some(row) => {
            Err(DataError::NotANumber { line: line(row), column: column.name, cell: column.cells[row].clone() })
        }
        None => Ok(Content::Numbers(numbers.into_iter().flatten().collect())),
    }
}

/// All features side by side, texts as one feature for each.
fn dense(columns: Vec<Column>, lines: &[u64]) -> Result<Tensor2, DataError> {
    let rows = lines.len();
    let mut features: Vec<Vec<f32>> = Vec::new();
    for column in columns {
        let name = column.name.clone();
        match content(column, lines)? {
            #[expect(clippy::cast_possible_truncation, reason = "training is in single precision")]
            Content::Numbers(values) => features.push(values.into_iter().map(|value| value as f32).collect()),
            Content::Texts(texts) => {
                let known = distinct(texts.iter().map(String::as_str));
                if known.len() > LIMITS.column_texts_max {
                    return Err(DataError::TooManyTexts { column: name, count: known.len() });
                }
                check_size(rows as u64, (features.len() + known.len()) as u64)?;
                let is = |one: &str| texts.iter().map(|text| f32::from(u8::from(text == one))).collect();
                features.extend(known.into_iter().map(is));
            }
        }
    }
    let width = features.len();
    let values = (0..rows).flat_map(|row| features.iter().map(move |feature| feature[row])).collect();
    Ok(Tensor2 { rows, width, values })
}
