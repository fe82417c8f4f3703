//! Strict reading of what people write: every fault at once, each with its place, what is wrong and what would be right.
//!
//! Machines read each other with [`crate::decode`], which is lenient. This module knows no space to
//! search, only whether one is written correctly.

mod ablation;
mod amounts;
mod assignment;
mod augment;
mod command;
mod data;
mod earlier;
mod kinds;
mod loss;
mod model;
mod objectives;
mod optimizer;
mod pbt;
mod place;
mod prior;
mod reader;
mod recipe;
mod sampler;
mod space;
mod stopper;
mod study;
mod template;
mod text;

use std::collections::BTreeMap;

use serde_json::Value;

use crate::api::Fault;
use crate::params::Params;
use crate::recipe::Recipe;
use crate::study::{Parameter, StudyFile};

use reader::{Faults, Node};

pub use command::is_name;
pub(crate) use reader::join;

/// The text of a study file, YAML or JSON, as a value.
///
/// # Errors
/// One fault, with line and column: too large, no YAML, a key given twice, nested or aliased beyond measure.
pub fn study_text(text: &str) -> Result<Value, Vec<Fault>> {
    text::read(text).map_err(|fault| vec![fault])
}

/// A study file. The short forms (`sampler: random`) are accepted and written out.
/// The recipe is tried with representative values of the space, so that a value which the recipe
/// cannot take is a fault of the study file.
///
/// # Errors
/// Every fault, in the order of their paths.
pub fn study_file(value: &Value) -> Result<StudyFile, Vec<Fault>> {
    study::check(value, study::Measured::ByAgents)
}

/// A study file for a simulation: as [`study_file`], but the recipe may be left out, and the objective be any metric.
///
/// # Errors
/// Every fault, in the order of their paths.
pub fn simulated_study_file(value: &Value) -> Result<StudyFile, Vec<Fault>> {
    study::check(value, study::Measured::BySimulation)
}

/// A recipe with every value resolved. Paths begin with `recipe`.
///
/// # Errors
/// Every fault, in the order of their paths.
pub fn recipe(value: &Value) -> Result<Recipe, Vec<Fault>> {
    recipe::check_resolved(value)
}

/// An assignment that fits a space: active parameters present and in their domain, inactive ones absent.
/// Numbers come out as their domain has them (`3.0` for an int as 3). Paths begin with `params`.
///
/// # Errors
/// Every fault, in the order of their paths.
pub fn params(space: &BTreeMap<String, Parameter>, value: &Value) -> Result<Params, Vec<Fault>> {
    let faults = Faults::default();
    let names = space.keys().cloned().collect();
    let params = assignment::check(space, &names, &Node::new(value, "params", &faults));
    faults.or(params)
}
