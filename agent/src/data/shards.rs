//! A tar archive of npz files, each with a part of the rows.

use regatta_schemas::recipe::Data;

use super::error::DataError;
use super::store::Store;
use super::{Rows, npz, shape, tape, target};
use crate::training::{Split, Target};

/// Where each part lies, and what holds for all of them.
#[derive(Debug)]
pub struct Shards {
    data: Data,
    parts: Vec<Part>,
    /// Of a target of classes.
    classes: usize,
    /// Of each feature.
    vocabularies: Vec<Vec<usize>>,
}

#[derive(Debug)]
struct Part {
    name: String,
    start: u64,
    bytes: u64,
    rows: usize,
}

impl Shards {
    /// Reads every part once, one after the other: rows, classes and categories are known for all of them then.
    pub fn open(data: &Data, store: &Store) -> Result<Self, DataError> {
        let files = tape::files(store).map_err(|error| DataError::NotShards { reason: error.to_string() })?;
        let mut files: Vec<tape::File> = files.into_iter().filter(|file| file.name.ends_with(".npz")).collect();
        files.sort_by(|one, other| one.name.cmp(&other.name));
        // A part has no rows of its own to validate on: whole parts are kept for that.
        let data = Data { validation_features: None, validation_target: None, ..data.clone() };
        let mut shards = Self { data, parts: Vec::new(), classes: 0, vocabularies: Vec::new() };
        for file in files {
            let part = Part { name: file.name, start: file.start, bytes: file.bytes, rows: 0 };
            let split = shards.split(store, &part)?;
            if let Target::Classes { classes, .. } = split.target {
                shards.classes = shards.classes.max(classes);
            }
            if shards.parts.is_empty() {
                shards.vocabularies = split.features.iter().map(|feature| feature.vocabulary.clone()).collect();
            }
            for (known, feature) in shards.vocabularies.iter_mut().zip(&split.features) {
                known.iter_mut().zip(&feature.vocabulary).for_each(|(one, other)| *one = (*one).max(*other));
            }
            shards.parts.push(Part { rows: split.rows(), ..part });
        }
        if shards.parts.is_empty() {
            return Err(DataError::NotShards { reason: "it holds no npz file".into() });
        }
        Ok(shards)
    }

    /// Rows of each part.
    pub fn rows(&self) -> Vec<usize> {
        self.parts.iter().map(|part| part.rows).collect()
    }

    pub fn read(&self, store: &Store, part: usize) -> Result<Split, DataError> {
        let mut split = self.split(store, &self.parts[part])?;
        for (feature, vocabulary) in split.features.iter_mut().zip(&self.vocabularies) {
            feature.vocabulary.clone_from(vocabulary);
        }
        if let Target::Classes { classes, .. } = &mut split.target {
            *classes = self.classes;
        }
        Ok(split)
    }

    fn split(&self, store: &Store, part: &Part) -> Result<Split, DataError> {
        let inside = |error| DataError::InShard { name: part.name.clone(), error: Box::new(error) };
        let rows = npz::read(&self.data, store.part(part.start, part.bytes)).map_err(inside)?;
        let Rows { mut features, target, .. } = rows;
        shape::shape(&self.data, &mut features).map_err(inside)?;
        Ok(Split { features, target: target::of_a_part(&self.data, target).map_err(inside)? })
    }
}
