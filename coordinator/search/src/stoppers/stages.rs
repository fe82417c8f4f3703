//! Stages, as a bulk-synchronous engine runs trials (Spark; Meister et al., "Maggy: Scalable Asynchronous Parallel
//! Hyperparameter Search", 2020), for comparisons: so many trials begin, and none of the next stage before all
//! of them have ended. A trial that is stopped early frees its lane, which stays idle until then.

use std::collections::{BTreeMap, BTreeSet};

use regatta_schemas::TrialId;
use regatta_schemas::reasons::{Outcome, StopReason};

use super::Stopper;
use super::halving::Cohorts;
use crate::news::Measurement;

#[derive(Debug)]
pub struct Stages {
    stages: Cohorts,
    early_stopping: Box<dyn Stopper>,
    ended_by_stage: BTreeMap<u32, BTreeSet<TrialId>>,
}

impl Stages {
    pub fn new(stages: Cohorts, early_stopping: Box<dyn Stopper>) -> Self {
        Self { stages, early_stopping, ended_by_stage: BTreeMap::new() }
    }
}

impl Stopper for Stages {
    fn measured(&mut self, measurement: Measurement) -> Option<StopReason> {
        self.early_stopping.measured(measurement)
    }

    fn ended(&mut self, trial: TrialId, outcome: Outcome) {
        self.ended_by_stage.entry(self.stages.number(trial)).or_default().insert(trial);
        self.early_stopping.ended(trial, outcome);
    }

    fn admits(&self, trial: TrialId) -> bool {
        let Some(before) = self.stages.number(trial).checked_sub(1) else { return true };
        self.ended_by_stage.get(&before).map_or(0, BTreeSet::len) >= self.stages.len(before)
    }
}
