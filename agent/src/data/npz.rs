//! An archive of NumPy arrays: one holds the features, one the targets.

use std::io::Cursor;

use npyz::npz::NpzArchive;
use regatta_schemas::recipe::{Columns, Data};

use super::error::DataError;
use super::npy::{self, Array};
use super::{RawTarget, Rows};
use crate::training::Tensor2;

const FEATURES: &str = "x";

pub fn read(data: &Data, bytes: &[u8]) -> Result<Rows, DataError> {
    let mut archive =
        NpzArchive::new(Cursor::new(bytes)).map_err(|error| DataError::NotAnArchive { reason: error.to_string() })?;
    let features = match &data.features {
        None => FEATURES,
        Some(Columns::One(name)) => name,
        Some(Columns::Many(names)) => match names.as_slice() {
            [name] => name,
            _ => return Err(DataError::SeveralArrays),
        },
    };
    let features = array(&mut archive, features)?;
    let target = array(&mut archive, &data.target)?;
    if features.rows != target.rows {
        return Err(DataError::RowsDiffer { features: features.rows, target: target.rows });
    }
    #[expect(clippy::cast_possible_truncation, reason = "training is in single precision")]
    let values = features.values.iter().map(|value| *value as f32).collect();
    Ok(Rows {
        features: Tensor2 { rows: features.rows, width: features.width, values },
        target: RawTarget::Numbers { width: target.width, values: target.values },
    })
}

fn array(archive: &mut NpzArchive<Cursor<&[u8]>>, name: &str) -> Result<Array, DataError> {
    let file_name = npyz::npz::file_name_from_array_name(name);
    let mut names: Vec<String> = archive.array_names().map(|name| format!("`{name}`")).collect();
    names.sort();
    if !archive.array_names().any(|there| there == name) {
        let there = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        return Err(DataError::NoArray { name: name.to_owned(), there });
    }
    let file = archive
        .zip_archive()
        .by_name(&file_name)
        .map_err(|error| DataError::BadArray { name: name.to_owned(), reason: error.to_string() })?;
    npy::read(name, file)
}
