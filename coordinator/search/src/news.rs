//! What samplers and stoppers are told of trials, in the order of the log.

use std::collections::BTreeMap;

use regatta_schemas::reasons::Outcome;
use regatta_schemas::{Params, TrialId};

use crate::time::Time;

/// News of a trial, for a sampler.
#[derive(Debug, Clone, Copy)]
pub enum News<'a> {
    /// The trial exists. `index`: as which configuration of the sampler's; None: somebody else sent it.
    Proposed {
        trial: TrialId,
        index: Option<u64>,
        params: &'a Params,
        /// When the log took it.
        at: Time,
    },
    Measured(Measurement<'a>),
    Ended {
        trial: TrialId,
        outcome: Outcome,
    },
}

/// What a trial measured with so many epochs done: once for each step, though not always in order.
#[derive(Debug, Clone, Copy)]
pub struct Measurement<'a> {
    pub trial: TrialId,
    /// Epochs done.
    pub resource: u32,
    /// The objective's value; finite.
    pub value: f64,
    /// What it is ranked by: that value, or, where a constraint is broken, [one worse](crate::objectives::ranked); finite.
    pub ranked: f64,
    /// All that was measured, the objective too; finite.
    pub metrics: &'a BTreeMap<String, f64>,
}
