//! The columns of a table's file that somebody wants. It knows no study.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use regatta_columns::npz::Npz;
use regatta_columns::{Cells, csv, parquet};

use super::error::TableError;

/// A column, by whatever a row of it holds.
#[derive(Debug, Clone, PartialEq)]
pub enum Column {
    Cells(Cells),
    /// So many numbers a row, one row after the other.
    Series {
        width: usize,
        numbers: Vec<f64>,
    },
}

/// Names of columns.
#[derive(Debug)]
pub struct Wanted<'n> {
    pub names: Vec<&'n str>,
    /// It may be missing.
    pub if_any: &'n str,
}

impl Wanted<'_> {
    /// Each that is there, with its place.
    fn places(&self, there: &[String]) -> Result<Vec<(String, usize)>, TableError> {
        let place = |name: &str| Some((name.to_owned(), there.iter().position(|one| one == name)?));
        let missing = |name: &str| TableError::NoColumn { name: name.to_owned(), there: listed(there) };
        let found = self.names.iter().map(|name| place(name).ok_or_else(|| missing(name)));
        found.chain(place(self.if_any).map(Ok)).collect()
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Columns {
    pub rows: usize,
    by_name: BTreeMap<String, Column>,
}

impl Columns {
    /// # Errors
    /// When the file cannot be read, a column is missing, or they have not as many rows each.
    pub fn read(path: &Path, wanted: &Wanted) -> Result<Self, TableError> {
        let mut found = Vec::new();
        let mut choose = |there: &[String]| -> Result<Vec<usize>, TableError> {
            found = wanted.places(there)?;
            Ok(found.iter().map(|(_, place)| *place).collect())
        };
        let (cells, rows) = match path.extension().and_then(|ending| ending.to_str()) {
            Some("npz") => return arrays(path, wanted),
            Some("parquet") => parquet::read(std::fs::read(path)?, &mut choose)?,
            _ => csv::read(BufReader::new(File::open(path)?), &mut choose)?,
        };
        let columns = found.into_iter().zip(cells).map(|((name, _), cells)| (name, Column::Cells(cells)));
        Ok(Self { rows, by_name: columns.collect() })
    }

    pub fn get(&self, name: &str) -> Option<&Column> {
        self.by_name.get(name)
    }

    /// A number of a row; `place`: which one, where a row has several.
    ///
    /// # Errors
    /// When there is no such number, or it is not finite.
    pub fn number(&self, name: &str, row: usize, place: usize) -> Result<f64, TableError> {
        let number = match self.get(name) {
            Some(Column::Cells(Cells::Texts(_))) => return Err(TableError::Texts { name: name.to_owned() }),
            Some(Column::Cells(_)) if place > 0 => return Err(TableError::TooFew { name: name.to_owned(), width: 1 }),
            Some(Column::Cells(Cells::Numbers(numbers))) => numbers.get(row),
            Some(Column::Series { width, .. }) if place >= *width => {
                return Err(TableError::TooFew { name: name.to_owned(), width: *width });
            }
            Some(Column::Series { width, numbers }) => numbers.get(row * width + place),
            None => None,
        };
        match number {
            Some(number) if number.is_finite() => Ok(*number),
            Some(number) => Err(TableError::NotFinite { row: row + 1, name: name.to_owned(), value: *number }),
            None => Err(TableError::NoColumn { name: name.to_owned(), there: listed(&self.names()) }),
        }
    }

    fn names(&self) -> Vec<String> {
        self.by_name.keys().cloned().collect()
    }
}

fn arrays(path: &Path, wanted: &Wanted) -> Result<Columns, TableError> {
    let mut archive = Npz::open(BufReader::new(File::open(path)?))?;
    let mut columns = Columns { rows: 0, by_name: BTreeMap::new() };
    for (name, _) in wanted.places(&archive.names())? {
        let array = archive.array(&name)?;
        let numbers = array.numbers().collect();
        let column = match array.shape.as_slice() {
            [] => Column::Cells(Cells::Numbers(numbers)),
            [width] => Column::Series { width: *width, numbers },
            more => return Err(TableError::Axes { axes: more.len() + 1, name }),
        };
        if columns.by_name.is_empty() {
            columns.rows = array.rows;
        } else if columns.rows != array.rows {
            return Err(TableError::RowsDiffer { name, rows: array.rows, others: columns.rows });
        }
        columns.by_name.insert(name, column);
    }
    Ok(columns)
}

fn listed(names: &[String]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}
