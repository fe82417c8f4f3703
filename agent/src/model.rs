//! Model files made ready to train: read, cleaned up by ONNX Runtime for each batch size, translated.

use regatta_autodiff::import::{ImportError, Imported, ModelFile, Settings};

use crate::runtime::{Runtime, RuntimeError};

/// Why a model file cannot be trained.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ModelError {
    #[error(transparent)]
    Import(#[from] ImportError),
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
}

/// The model of a file for data whose rows have the shapes `rows`, one for each input in order, in batches of each of
/// the sizes `batches`.
///
/// # Errors
/// The file is no model that can be trained, or its sizes do not fit the data.
pub fn imported(
    runtime: &Runtime,
    file: &[u8],
    settings: &Settings,
    rows: &[Vec<usize>],
    batches: &[usize],
) -> Result<Imported, ModelError> {
    let file = ModelFile::read(file, settings)?;
    let mut cleaned = Vec::with_capacity(batches.len());
    for &batch in batches {
        cleaned.push((batch, runtime.simplify(&file.opened(rows, batch)?)?));
    }
    Ok(file.closed(rows, &cleaned)?)
}
