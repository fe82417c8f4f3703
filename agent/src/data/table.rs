//! A table of named columns, wherever it was read from.
//!
//! A column of numbers is one feature. A column of texts becomes one feature of 0 and 1 for each of its texts, in
//! their order; one that the recipe calls categorical becomes the number of its text or number among all of them.

use std::collections::BTreeSet;

use regatta_columns::{Cells, check_size};
use regatta_schemas::limits::LIMITS;
use regatta_schemas::recipe::{Columns, Data};

use super::error::DataError;
use super::{RawTarget, Rows};
use crate::training::{Feature, Values};

/// The feature that numbers and texts make together, and the one that categories make.
const FEATURES: &str = "features";
const CATEGORIES: &str = "categories";

/// A column that the recipe asks for.
pub struct Column {
    pub name: String,
    /// In the file.
    pub position: usize,
    role: Role,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Feature,
    Category,
    Target,
}

/// The columns that the recipe asks for, of those in the file.
pub fn columns(data: &Data, names: &[String]) -> Result<Vec<Column>, DataError> {
    let mut seen = BTreeSet::new();
    if let Some(twice) = names.iter().find(|name| !seen.insert(name.as_str())) {
        return Err(DataError::ColumnTwice { name: twice.clone() });
    }
    let mut wanted: Vec<&String> = match &data.features {
        None => names.iter().filter(|name| **name != data.target).collect(),
        Some(Columns::One(name)) => vec![name],
        Some(Columns::Many(names)) => names.iter().collect(),
    };
    for name in &data.categorical {
        if !wanted.contains(&name) {
            wanted.push(name);
        }
    }
    if wanted.contains(&&data.target) {
        return Err(DataError::TargetIsFeature { name: data.target.clone() });
    }
    let column = |name: &String, role| match names.iter().position(|there| there == name) {
        Some(position) => Ok(Column { name: name.clone(), position, role }),
        None => {
            let there = match names {
                [] => "no columns".to_owned(),
                _ => names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "),
            };
            Err(DataError::NoColumn { name: name.clone(), there })
        }
    };
    let target = column(&data.target, Role::Target)?;
    if wanted.is_empty() {
        return Err(DataError::NoFeatures { target: data.target.clone() });
    }
    let role = |name: &String| if data.categorical.contains(name) { Role::Category } else { Role::Feature };
    let columns = wanted.into_iter().map(|name| column(name, role(name)));
    columns.chain([Ok(target)]).collect()
}

/// The rows of filled columns.
pub fn rows(columns: Vec<(Column, Cells)>, rows: usize) -> Result<Rows, DataError> {
    if rows == 0 {
        return Err(DataError::TooFewRows { rows });
    }
    let mut target = RawTarget::Texts(Vec::new());
    let (mut dense, mut categories) = (Vec::new(), Vec::new());
    let (mut dense_names, mut category_names) = (Vec::new(), Vec::new());
    let mut dense_texts = Vec::new();
    for (column, cells) in columns {
        match (column.role, cells) {
            (Role::Target, Cells::Numbers(values)) => target = RawTarget::Numbers { shape: vec![1], values },
            (Role::Target, Cells::Texts(texts)) => target = RawTarget::Texts(texts),
            (Role::Category, cells) => {
                categories.push(numbered(&column.name, &cells)?);
                category_names.push(column.name);
            }
            #[expect(clippy::cast_possible_truncation, reason = "training is in single precision")]
            (Role::Feature, Cells::Numbers(values)) => {
                dense.push(values.into_iter().map(|value| value as f32).collect());
                dense_names.push(column.name);
                dense_texts.push(Vec::new());
            }
            (Role::Feature, Cells::Texts(texts)) => {
                dense_texts.extend(one_hot(&column.name, &texts, &mut dense)?.into_iter().map(|text| vec![text]));
                dense_names.resize(dense.len(), column.name);
            }
        }
    }
    let mut features = Vec::new();
    if !dense.is_empty() {
        let numbers = Feature::numbers(FEATURES, vec![dense.len()], side_by_side(&dense, rows));
        let texts = if dense_texts.iter().all(Vec::is_empty) { Vec::new() } else { dense_texts };
        features.push(Feature { columns: dense_names, texts, ..numbers });
    }
    if !categories.is_empty() {
        let (numbers, texts): (Vec<Vec<i64>>, Vec<Vec<String>>) = categories.into_iter().unzip();
        features.push(Feature {
            values: Values::I64(side_by_side(&numbers, rows)),
            vocabulary: texts.iter().map(Vec::len).collect(),
            columns: category_names,
            texts,
            ..Feature::numbers(CATEGORIES, vec![numbers.len()], Vec::new())
        });
    }
    Ok(Rows { features, target, validation: None })
}

/// The texts that occur, in order.
pub fn distinct<'t>(texts: impl Iterator<Item = &'t str>) -> Vec<&'t str> {
    texts.collect::<BTreeSet<_>>().into_iter().collect()
}

/// Adds a column of 0 and 1 for each text; the texts.
fn one_hot(name: &str, texts: &[String], dense: &mut Vec<Vec<f32>>) -> Result<Vec<String>, DataError> {
    let known = distinct(texts.iter().map(String::as_str));
    if known.len() > LIMITS.column_texts_max {
        return Err(DataError::TooManyTexts { column: name.to_owned(), count: known.len() });
    }
    check_size(texts.len() as u64, (dense.len() + known.len()) as u64)?;
    let is = |one: &str| texts.iter().map(|text| f32::from(u8::from(text == one))).collect();
    dense.extend(known.iter().copied().map(is));
    Ok(known.into_iter().map(str::to_owned).collect())
}

/// Each cell as its position among the different ones, and these in their order.
fn numbered(name: &str, cells: &Cells) -> Result<(Vec<i64>, Vec<String>), DataError> {
    let (numbers, texts): (Vec<i64>, Vec<String>) = match cells {
        Cells::Texts(texts) => {
            let known = distinct(texts.iter().map(String::as_str));
            let numbers = texts.iter().map(|text| known.partition_point(|one| *one < text.as_str()) as i64).collect();
            (numbers, known.into_iter().map(str::to_owned).collect())
        }
        Cells::Numbers(values) => {
            let mut known = values.clone();
            known.sort_by(f64::total_cmp);
            known.dedup();
            let numbers = values.iter().map(|value| known.partition_point(|one| one < value) as i64).collect();
            (numbers, known.iter().map(f64::to_string).collect())
        }
    };
    if texts.len() > LIMITS.vocabulary_max {
        return Err(DataError::TooManyCategories { name: name.to_owned(), count: texts.len() });
    }
    Ok((numbers, texts))
}

fn side_by_side<T: Copy>(columns: &[Vec<T>], rows: usize) -> Vec<T> {
    (0..rows).flat_map(|row| columns.iter().map(move |column| column[row])).collect()
}
