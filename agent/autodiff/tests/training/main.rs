//! Whole training steps and evaluations, run in double precision: their gradients against central differences, their
//! updates, losses and models against PyTorch's formulas written down plainly.
#![allow(clippy::unwrap_used, reason = "what a test cannot do without fails it")]

mod ablated;
mod augment;
mod dropout;
#[path = "../support/evaluator.rs"]
mod evaluator;
mod families;
mod losses;
mod mixed;
mod steps;
mod trained_losses;
mod updates;
