//! Every gradient rule against central differences in double precision: one row for each operator and shape.
#![allow(clippy::unwrap_used, reason = "what a test cannot do without fails it")]

mod arithmetic;
mod check;
mod convolution;
mod draw;
mod elementwise;
#[path = "../support/evaluator.rs"]
mod evaluator;
mod indexing;
mod linear;
mod lowerings;
mod movement;
mod normalization;
mod pooling;
mod reduction;
mod resize;
mod sweep;
