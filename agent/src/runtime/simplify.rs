//! A graph without what ONNX Runtime knows before anything runs: its own clean-up, taken as a pass from model to model.

use std::fs;

use ort::session::Session;
use ort::session::builder::GraphOptimizationLevel;

use super::{Runtime, RuntimeError, refused, unset};

impl Runtime {
    /// The ONNX model `onnx` after ONNX Runtime's basic optimisations: constants folded, chains of shapes, casts and
    /// identities gone, functions without a kernel on the CPU written out. Nothing of what is an input is folded, so
    /// parameters survive if they are inputs. Runs on the CPU, whatever the runtime's device.
    ///
    /// # Errors
    /// ONNX Runtime refuses the graph, or there is no room for a temporary file.
    pub fn simplify(&self, onnx: &[u8]) -> Result<Vec<u8>, RuntimeError> {
        // ONNX Runtime hands the model out by a file only.
        let folder = tempfile::tempdir().map_err(RuntimeError::temporary)?;
        let path = folder.path().join("simplified.onnx");
        Session::builder(&self.environment)?
            .with_optimization_level(GraphOptimizationLevel::Level1)
            .map_err(unset)?
            .with_intra_threads(1)
            .map_err(unset)?
            // It takes a dropout for an identity, even one that is told to train.
            .with_disabled_optimizers("EliminateDropout")
            .map_err(unset)?
            .with_optimized_model_path(&path)
            .map_err(unset)?
            .commit_from_memory(onnx)
            .map_err(refused)?;
        fs::read(&path).map_err(RuntimeError::temporary)
    }
}

impl RuntimeError {
    fn temporary(error: std::io::Error) -> Self {
        Self::Failed { reason: format!("a temporary file: {error}") }
    }
}
