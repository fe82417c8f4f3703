//! Everything that the search core promises, from its outside.

#![allow(clippy::unwrap_used, reason = "a test that unwraps nothing fails")]

mod ablation;
mod calls;
mod checkpoints;
mod endings;
mod external;
mod files;
mod fleet;
mod gp;
mod hopeless;
mod learning;
mod objectives;
mod pbt;
mod priors;
mod reference;
mod requests;
mod samplers;
mod searches;
mod simulation;
mod stage;
mod stopper_tables;
mod stoppers;
mod toys;
