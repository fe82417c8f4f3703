//! ONNX's messages as Rust types, and model files whose tensors lie in files beside them made whole.
//!
//! Pure: it reads no file itself, and knows no graph, no runtime and no training.

pub mod external;
mod proto;

pub use proto::*;
