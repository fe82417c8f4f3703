//! Everything that the search core promises, from its outside.

mod files;
mod fleet;
mod reference;
mod requests;
mod samplers;
mod simulation;
mod stage;
mod stoppers;
