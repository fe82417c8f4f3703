//! Model files made ready to train: read, cleaned up by ONNX Runtime for each batch size, translated.

use regatta_autodiff::import::{ImportError, Imported, ModelFile, OTHER_SIZES, Settings};

use crate::runtime::{Runtime, RuntimeError};

/// Why a model file cannot be trained.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ModelError {
    #[error(transparent)]
    Import(#[from] ImportError),
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    #[error(
        "the model was exported for batches of {fixed} rows, and its graph does not fit {batch} ({reason}): export it with \
         a batch axis of any length (`dynamic_shapes`, or `dynamic_axes` of the older exporter)"
    )]
    Batch { fixed: usize, batch: usize, reason: String },
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
        let simplified = runtime.simplify(&file.opened(rows, batch)?);
        cleaned.push((batch, simplified.map_err(|error| unfit(&file, batches, error.into()))?));
    }
    file.closed(rows, &cleaned).map_err(|error| unfit(&file, batches, error.into()))
}

/// A graph that is wrong for the batches of a training is so because it was exported for others.
fn unfit(file: &ModelFile, batches: &[usize], error: ModelError) -> ModelError {
    let other = |fixed: usize| batches.iter().find(|batch| **batch != fixed).map(|batch| (fixed, *batch));
    match (&error, file.fixed_batch().and_then(other)) {
        (ModelError::Runtime(RuntimeError::Graph { reason }), Some((fixed, batch))) => {
            ModelError::Batch { fixed, batch, reason: reason.clone() }
        }
        (
            ModelError::Import(reason @ (ImportError::Graph(_) | ImportError::Operator { help: OTHER_SIZES, .. })),
            Some((fixed, batch)),
        ) => ModelError::Batch { fixed, batch, reason: reason.to_string() },
        _ => error,
    }
}
