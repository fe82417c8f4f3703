//! An archive of NumPy arrays, as `numpy.savez` writes it.

use std::io::{Read, Seek};

use npyz::npz::NpzArchive;

use super::error::FileError;
use super::npy::{self, Array};

/// An open archive.
pub struct Npz<R: Read + Seek>(NpzArchive<R>);

impl<R: Read + Seek> Npz<R> {
    /// # Errors
    /// When it is no such archive.
    pub fn open(from: R) -> Result<Self, FileError> {
        NpzArchive::new(from).map(Self).map_err(|error| FileError::NotAnArchive { reason: error.to_string() })
    }

    /// Of its arrays, in the order of the alphabet.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.0.array_names().map(str::to_owned).collect();
        names.sort();
        names
    }

    /// # Errors
    /// When there is no such array, or it cannot be read.
    pub fn array(&mut self, name: &str) -> Result<Array, FileError> {
        let names = self.names();
        if !names.iter().any(|there| there == name) {
            let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
            let there = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            return Err(FileError::NoArray { name: name.to_owned(), there });
        }
        let file = self
            .0
            .zip_archive()
            .by_name(&npyz::npz::file_name_from_array_name(name))
            .map_err(|error| FileError::BadArray { name: name.to_owned(), reason: error.to_string() })?;
        npy::read(name, file)
    }
}
