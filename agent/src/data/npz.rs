//! NumPy arrays: an archive of them holds features and targets side by side; a single one holds the target in its
//! last column.

use regatta_columns::npy::{self, Array};
use regatta_columns::npz::Npz;
use regatta_schemas::limits::LIMITS;
use regatta_schemas::recipe::{Columns, Data};

use super::error::DataError;
use super::store::Reader;
use super::{RawTarget, Rows};
use crate::training::{Feature, Values};

const FEATURES: &str = "x";

type Archive<'s> = Npz<Reader<'s>>;

pub fn read(data: &Data, from: Reader<'_>) -> Result<Rows, DataError> {
    let mut archive = Npz::open(from)?;
    let default = Columns::One(FEATURES.to_owned());
    let names = data.features.as_ref().unwrap_or(&default);
    let mut rows = part(&mut archive, data, names, names, &data.target)?;
    rows.validation = match (&data.validation_features, &data.validation_target) {
        (None, None) => None,
        (Some(own), Some(target)) => Some(Box::new(part(&mut archive, data, own, names, target)?)),
        (Some(_), None) | (None, Some(_)) => return Err(DataError::HalfValidation),
    };
    if let Some(validation) = &mut rows.validation {
        join_vocabularies(&mut rows.features, &mut validation.features)?;
    }
    Ok(rows)
}

/// One array whose last column is the target.
pub fn read_one(data: &Data, from: Reader<'_>) -> Result<Rows, DataError> {
    let array = npy::read(&data.target, from)?;
    let (rows, width) = (array.rows, array.width());
    if array.shape.len() != 1 || width < 2 {
        return Err(DataError::NoColumns { shape: [&[rows], array.shape.as_slice()].concat() });
    }
    let mut values = Vec::with_capacity(rows * (width - 1));
    let mut target = Vec::with_capacity(rows);
    for (at, value) in array.numbers().enumerate() {
        #[expect(clippy::cast_possible_truncation, reason = "training is in single precision")]
        if at % width == width - 1 { target.push(value) } else { values.push(value as f32) }
    }
    Ok(Rows {
        features: vec![Feature::numbers(FEATURES, vec![width - 1], values)],
        target: RawTarget::Numbers { shape: vec![1], values: target },
        validation: None,
    })
}

/// Some rows: features from the arrays `from`, called as in `names`.
fn part(archive: &mut Archive, data: &Data, from: &Columns, names: &Columns, target: &str) -> Result<Rows, DataError> {
    let (from, names) = (listed(from), listed(names));
    if from.len() != names.len() || from.is_empty() {
        return Err(DataError::FeaturesDiffer { train: names.len(), validation: from.len() });
    }
    let target = archive.array(target)?;
    let mut features = Vec::with_capacity(names.len());
    for (from, name) in from.iter().zip(names) {
        let array = archive.array(from)?;
        if array.rows != target.rows {
            return Err(DataError::RowsDiffer { features: array.rows, target: target.rows });
        }
        let is_categories = data.categorical.contains(name);
        features.push(if is_categories { categories(name, &array)? } else { numbers(name, array) });
    }
    let values = target.numbers().collect();
    let shape = if target.shape.is_empty() { vec![1] } else { target.shape };
    Ok(Rows { features, target: RawTarget::Numbers { shape, values }, validation: None })
}

fn listed(columns: &Columns) -> &[String] {
    match columns {
        Columns::One(name) => std::slice::from_ref(name),
        Columns::Many(names) => names,
    }
}

fn numbers(name: &str, array: Array) -> Feature {
    let shape = if array.shape.is_empty() { vec![1] } else { array.shape.clone() };
    // Eight-bit numbers without a sign stay as they are, all others become single precision.
    #[expect(clippy::cast_possible_truncation, reason = "training is in single precision")]
    let values = match array.into_bytes() {
        Ok(bytes) => Values::U8(bytes),
        Err(array) => Values::F32(array.numbers().map(|value| value as f32).collect()),
    };
    Feature { values, ..Feature::numbers(name, shape, Vec::new()) }
}

/// Whole numbers from zero on; one vocabulary for the whole array.
fn categories(name: &str, array: &Array) -> Result<Feature, DataError> {
    let category = |value: f64| {
        let is_category = value.fract() == 0.0 && (0.0..LIMITS.vocabulary_max as f64).contains(&value);
        #[expect(clippy::cast_possible_truncation, reason = "a small whole number")]
        is_category.then_some(value as i64).ok_or_else(|| DataError::Category { name: name.to_owned(), value })
    };
    let values = array.numbers().map(category).collect::<Result<Vec<i64>, _>>()?;
    let size = values.iter().max().map_or(0, |last| usize::try_from(*last).unwrap_or(usize::MAX) + 1);
    let shape = if array.shape.is_empty() { vec![1] } else { array.shape.clone() };
    let vocabulary = vec![size];
    Ok(Feature { values: Values::I64(values), vocabulary, ..Feature::numbers(name, shape, Vec::new()) })
}

/// Both parts get the vocabulary that holds both.
fn join_vocabularies(train: &mut [Feature], validation: &mut [Feature]) -> Result<(), DataError> {
    for (one, other) in train.iter_mut().zip(validation) {
        if one.shape != other.shape {
            return Err(DataError::ShapesDiffer { train: one.shape.clone(), validation: other.shape.clone() });
        }
        if std::mem::discriminant(&one.values) != std::mem::discriminant(&other.values) {
            return Err(DataError::KindsDiffer { name: one.name.clone() });
        }
        for (size, other) in one.vocabulary.iter_mut().zip(&mut other.vocabulary) {
            let most = (*size).max(*other);
            (*size, *other) = (most, most);
        }
    }
    Ok(())
}
