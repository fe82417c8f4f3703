//! A table of what was measured before: a column for each parameter of the space and for each metric that judges a trial,
//! and `elapsed_s`. Parquet and CSV have a row an epoch, numbered by `resource`; an npz may have one a configuration, with
//! a second axis of epochs in the arrays of metrics and time.
//!
//! A configuration that is proposed has the curve of the nearest one of the table: with equal choices, and the least sum of
//! squares of the distances of its numbers, each in shares of its range on the scale that is searched.

use std::collections::BTreeMap;
use std::path::Path;

use regatta_columns::Cells;
use regatta_schemas::study::{Domain, StudyFile};
use regatta_schemas::{ParamValue, Params, check};
use regatta_search::space::{Coordinate, Space, locate};
use serde_json::json;

use super::columns::{Column, Columns, Wanted};
use super::curve::{Curve, ELAPSED};
use super::error::TableError;

/// The number of an epoch, from 1.
const RESOURCE: &str = "resource";

#[derive(Debug)]
pub struct Table {
    space: Space,
    known: Vec<Known>,
}

/// A configuration that was measured.
#[derive(Debug)]
struct Known {
    point: Vec<Option<Coordinate>>,
    curve: Curve,
}

impl Table {
    /// # Errors
    /// When the file cannot be read or is no such table of the study; the text says in which row.
    pub fn read(path: &Path, study: &StudyFile) -> Result<Self, TableError> {
        let mut series: Vec<&str> = study.judging_metrics().map(String::as_str).chain([ELAPSED]).collect();
        series.sort_unstable();
        series.dedup();
        if let Some(name) = study.space.keys().find(|name| series.contains(&name.as_str()) || *name == RESOURCE) {
            return Err(TableError::NameTaken { name: name.clone() });
        }
        let names = study.space.keys().map(String::as_str).chain(series.iter().copied()).collect();
        let columns = Columns::read(path, &Wanted { names, if_any: RESOURCE })?;
        if columns.rows == 0 {
            return Err(TableError::NoRows);
        }
        let space = Space::new(&study.space);
        let cells = if columns.get(RESOURCE).is_some() { by_epoch } else { by_configuration };
        let mut known = Vec::new();
        for (params, places) in cells(&columns, &space, study)? {
            let values = |name: &&str| {
                let numbers = places.iter().map(|(row, place)| columns.number(name, *row, *place));
                Ok(((*name).to_owned(), numbers.collect::<Result<Vec<f64>, TableError>>()?))
            };
            let curve = series.iter().map(values).collect::<Result<BTreeMap<_, _>, TableError>>()?;
            let row = places.first().map_or(0, |(row, _)| row + 1);
            let curve = Curve::new(curve, study).map_err(|error| TableError::Curve { row, error })?;
            known.push(Known { point: point(&space, &params), curve });
        }
        Ok(Self { space, known })
    }

    /// The curve of the nearest configuration; of several, the first's.
    ///
    /// # Errors
    /// When the table has none with the same choices.
    pub fn nearest(&self, params: &Params) -> Result<&Curve, TableError> {
        let to = point(&self.space, params);
        let distances = self.known.iter().filter_map(|known| Some((distance(&known.point, &to)?, &known.curve)));
        let nearest = distances.min_by(|(a, _), (b, _)| a.total_cmp(b)).map(|(_, curve)| curve);
        let named = || params.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ");
        nearest.ok_or_else(|| TableError::NoneAlike { params: named() })
    }
}

/// Of each configuration, where its epochs lie: row, and place in the row.
type Places = Vec<(Params, Vec<(usize, usize)>)>;

/// A row has one epoch. Those beyond the study's are not looked at.
fn by_epoch(columns: &Columns, space: &Space, study: &StudyFile) -> Result<Places, TableError> {
    let last = study.budget.resource;
    let mut place_by_key: BTreeMap<String, usize> = BTreeMap::new();
    let mut found: Vec<(Params, BTreeMap<u32, usize>)> = Vec::new();
    for row in 0..columns.rows {
        let epoch = columns.number(RESOURCE, row, 0)?;
        if epoch < 1.0 || epoch.fract() != 0.0 {
            return Err(TableError::Epoch { row: row + 1, value: epoch });
        }
        if epoch > f64::from(last) {
            continue;
        }
        let params = params(columns, space, study, row)?;
        let place = *place_by_key.entry(key(&params)).or_insert(found.len());
        if place == found.len() {
            found.push((params, BTreeMap::new()));
        }
        if let Some(before) = found[place].1.insert(epoch as u32, row) {
            return Err(TableError::Twice { first: before + 1, second: row + 1 });
        }
    }
    let complete = |(params, row_by_epoch): (Params, BTreeMap<u32, usize>)| {
        if let Some(missing) = (1..=last).find(|epoch| !row_by_epoch.contains_key(epoch)) {
            let row = row_by_epoch.values().next().map_or(0, |row| row + 1);
            return Err(TableError::EpochMissing { row, epoch: missing, resource: last });
        }
        Ok((params, row_by_epoch.into_values().map(|row| (row, 0)).collect()))
    };
    found.into_iter().map(complete).collect()
}

/// A row has all epochs.
fn by_configuration(columns: &Columns, space: &Space, study: &StudyFile) -> Result<Places, TableError> {
    if !matches!(columns.get(ELAPSED), Some(Column::Series { .. })) {
        return Err(TableError::NoEpochs);
    }
    let mut row_by_key: BTreeMap<String, usize> = BTreeMap::new();
    let mut found = Vec::new();
    for row in 0..columns.rows {
        let params = params(columns, space, study, row)?;
        if let Some(before) = row_by_key.insert(key(&params), row) {
            return Err(TableError::Twice { first: before + 1, second: row + 1 });
        }
        found.push((params, (0..study.budget.resource as usize).map(|epoch| (row, epoch)).collect()));
    }
    Ok(found)
}

/// The configuration of a row. What a column has of a parameter that does not exist there is not looked at.
fn params(columns: &Columns, space: &Space, study: &StudyFile, row: usize) -> Result<Params, TableError> {
    let params = space.configure(|name, domain| value(columns.get(name), row, domain));
    let numbers = params.iter().filter_map(|(name, value)| Some((name, value.as_f64()?)));
    if let Some((name, value)) = numbers.into_iter().find(|(_, number)| !number.is_finite()) {
        return Err(TableError::NotFinite { row: row + 1, name: name.clone(), value });
    }
    check::params(&study.space, &json!(params)).map_err(|faults| {
        let lines = faults.iter().map(|fault| format!("{} {}; {}", fault.path, fault.problem, fault.help));
        TableError::Outside { row: row + 1, reason: lines.collect::<Vec<_>>().join("; ") }
    })
}

/// The cell as the domain would have it, and else as it is: no value of the domain.
fn value(column: Option<&Column>, row: usize, domain: &Domain) -> ParamValue {
    let nothing = || ParamValue::Text(String::new());
    match column {
        Some(Column::Cells(Cells::Numbers(numbers))) => {
            numbers.get(row).map_or_else(nothing, |number| of_number(*number, domain))
        }
        Some(Column::Cells(Cells::Texts(texts))) => texts.get(row).map_or_else(nothing, |text| of_text(text, domain)),
        Some(Column::Series { .. }) | None => nothing(),
    }
}

/// Where all choices are texts, a number is a choice's place, from 0: arrays of NumPy hold no texts.
fn of_number(number: f64, domain: &Domain) -> ParamValue {
    let is_whole = number.fract() == 0.0;
    match domain {
        Domain::Bool if number == 0.0 || number == 1.0 => ParamValue::Bool(number == 1.0),
        Domain::Categorical { choices } | Domain::Ordinal { choices } => {
            let are_texts = choices.iter().all(|choice| matches!(choice, ParamValue::Text(_)));
            let same = choices.iter().find(|choice| choice.as_f64() == Some(number));
            let at_place = || choices.get(number as usize).filter(|_| are_texts && is_whole && number >= 0.0);
            same.or_else(at_place).cloned().unwrap_or(ParamValue::Float(number))
        }
        Domain::Float { .. } | Domain::Int { .. } | Domain::Bool => ParamValue::Float(number),
    }
}

fn of_text(text: &str, domain: &Domain) -> ParamValue {
    match (domain, text.to_ascii_lowercase().as_str()) {
        (Domain::Bool, "true") => ParamValue::Bool(true),
        (Domain::Bool, "false") => ParamValue::Bool(false),
        _ => ParamValue::Text(text.to_owned()),
    }
}

/// The same for equal configurations alone.
fn key(params: &Params) -> String {
    json!(params).to_string()
}

fn point(space: &Space, params: &Params) -> Vec<Option<Coordinate>> {
    let place = |(name, parameter): (&str, &regatta_schemas::study::Parameter)| {
        params.get(name).and_then(|value| locate(&parameter.domain, value))
    };
    space.parameters().map(place).collect()
}

/// None: their choices differ, or one has a parameter that the other has not.
fn distance(a: &[Option<Coordinate>], b: &[Option<Coordinate>]) -> Option<f64> {
    a.iter().zip(b).try_fold(0.0, |sum, pair| match pair {
        (None, None) => Some(sum),
        (Some(Coordinate::Number(a)), Some(Coordinate::Number(b))) => Some(sum + (a - b) * (a - b)),
        (Some(Coordinate::Choice(a)), Some(Coordinate::Choice(b))) if a == b => Some(sum),
        _ => None,
    })
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
