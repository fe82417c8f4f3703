//! When so many trials have come to nothing that a study had better end.

use std::collections::BTreeSet;

use regatta_schemas::AgentId;
use regatta_schemas::reasons::{FailCause, Outcome, StudyEnd};

use super::trial::{Phase, Trial};

/// A study ends when so many trials have come to nothing and none has given it a value.
const FIRST: u32 = 10;

/// What has come to nothing so far.
#[derive(Debug, Default, PartialEq)]
pub struct Failures {
    failed: u32,
    /// Trials that ended without a value, and would anywhere.
    barren: u32,
    /// Where they were trained.
    barren_agents: BTreeSet<AgentId>,
    has_value: bool,
}

impl Failures {
    /// A trial reported a value of the objective.
    pub fn valued(&mut self) {
        self.has_value = true;
    }

    pub fn ended(&mut self, trial: &Trial) {
        let is_failed = trial.phase == Phase::Ended(Outcome::Failed);
        self.failed += u32::from(is_failed);
        let is_barren = match &trial.failure {
            Some(failure) => match failure.cause {
                FailCause::Configuration | FailCause::Data | FailCause::Program => is_failed,
                // Another configuration may do better, or another machine.
                FailCause::Diverged
                | FailCause::OutOfMemory
                | FailCause::TimeLimit
                | FailCause::Device
                | FailCause::Checkpoint
                | FailCause::AgentLost
                | FailCause::Internal
                | FailCause::Unknown => false,
            },
            None => trial.phase == Phase::Ended(Outcome::Finished),
        };
        if is_barren && !self.has_value {
            self.barren += 1;
            self.barren_agents.extend(trial.tenure.as_ref().map(|tenure| tenure.agent.clone()));
        }
    }

    /// `most`: how many trials may fail, where the study says so. `at_work`: who trains now. An agent that has brought
    /// nothing to nothing may yet show that the others are to blame.
    pub fn end<'a>(&self, most: Option<u32>, mut at_work: impl Iterator<Item = &'a AgentId>) -> Option<StudyEnd> {
        if most.is_some_and(|most| self.failed > most) {
            return Some(StudyEnd::Failures { failed: self.failed });
        }
        let is_barren = !self.has_value && self.barren >= FIRST;
        let is_hopeless = is_barren && at_work.all(|agent| self.barren_agents.contains(agent));
        is_hopeless.then_some(StudyEnd::NoValue { trials: self.barren })
    }
}
