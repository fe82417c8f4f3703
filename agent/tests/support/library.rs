//! Where the tests find ONNX Runtime.

use std::path::PathBuf;

/// What `ORT_DYLIB_PATH` names, else where scripts/setup puts it.
pub fn library() -> PathBuf {
    if let Some(path) = std::env::var_os("ORT_DYLIB_PATH") {
        return path.into();
    }
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.regatta/lib/libonnxruntime.so"));
    assert!(path.exists(), "no ONNX Runtime: run scripts/setup, or set ORT_DYLIB_PATH to libonnxruntime.so");
    path
}
