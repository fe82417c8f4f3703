//! A forward model in, a training-step ONNX graph out.
//!
//! Pure: it builds and differentiates graphs as data. It knows no runtime, no device, no clock, no random
//! numbers: what must be drawn (initial weights, noise) is described, and its caller draws it.

pub mod backward;
pub mod export;
pub mod families;
pub mod fuse;
pub mod gradient;
pub mod graph;
pub mod import;
pub mod lower;
pub mod operators;
pub mod own;
mod pattern;
mod refused;
mod rules;
pub mod step;

pub use regatta_onnx as onnx;
