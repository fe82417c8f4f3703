//! What can go wrong with ONNX Runtime, split by what a caller can do about it.

use std::path::PathBuf;

use ort::session::builder::SessionBuilder;

use super::Device;

/// What went wrong, split by what a caller can do about it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RuntimeError {
    #[error("cannot load ONNX Runtime from {path:?}: {reason}")]
    Library { path: PathBuf, reason: String },
    #[error("this process already uses ONNX Runtime from {loaded:?}, so not from {wanted:?}")]
    OtherLibrary { loaded: PathBuf, wanted: PathBuf },
    #[error("device {device} cannot be used: {reason} ({remedy})")]
    DeviceUnavailable { device: Device, reason: String, remedy: &'static str },
    #[error("ONNX Runtime refuses the graph: {reason}")]
    Graph { reason: String },
    #[error("out of memory: {reason}")]
    OutOfMemory { reason: String },
    #[error("the run was interrupted")]
    Interrupted,
    #[error("ONNX Runtime failed: {reason}")]
    Failed { reason: String },
}

impl From<ort::Error> for RuntimeError {
    fn from(error: ort::Error) -> Self {
        Self::of_text(error.message())
    }
}

impl RuntimeError {
    pub(super) fn of_text(reason: &str) -> Self {
        let reason = reason.to_owned();
        if speaks_of_memory(&reason) { Self::OutOfMemory { reason } } else { Self::Failed { reason } }
    }
}

/// ONNX Runtime has no error code for exhausted memory: the texts of its arenas, of CUDA and of C++ have to do.
fn speaks_of_memory(reason: &str) -> bool {
    let reason = reason.to_lowercase();
    let signs = [
        "failed to allocate memory",
        "smaller than requested bytes",
        "out of memory",
        "bad_alloc",
        "bad allocation",
        "alloc_failed",
        "memoryallocation",
    ];
    signs.into_iter().any(|sign| reason.contains(sign))
}

/// An option that was refused, without the builder that the error would give back.
pub(super) fn unset(error: ort::Error<SessionBuilder>) -> RuntimeError {
    RuntimeError::of_text(error.message())
}

/// What became of a graph that could not be made into a session.
pub(super) fn refused(error: ort::Error) -> RuntimeError {
    match RuntimeError::from(error) {
        RuntimeError::Failed { reason } => RuntimeError::Graph { reason },
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exhausted_memory_is_recognised_by_its_texts() {
        let texts = [
            "Failed to allocate memory for requested buffer of size 4096",
            "Available memory of 1048576 is smaller than requested bytes of 4194304",
            "CUDA failure 2: out of memory ; GPU=0",
            "std::bad_alloc",
            "CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED",
        ];
        for text in texts {
            assert!(matches!(RuntimeError::of_text(text), RuntimeError::OutOfMemory { .. }), "{text}");
        }
        assert!(matches!(RuntimeError::of_text("shape mismatch"), RuntimeError::Failed { .. }));
    }
}
