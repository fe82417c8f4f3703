//! When so many trials have come to nothing that a study had better end.

use regatta_schemas::TrialId;
use regatta_schemas::log::Lineage;
use regatta_schemas::reasons::{FailCause, Outcome, StudyEnd};
use regatta_schemas::study::{Sampler, StudyFile};

use super::trial::{Phase, Trial};

/// A study ends when so many trials have come to nothing and none has given it a value.
const FIRST: u32 = 10;

/// What has come to nothing so far.
#[derive(Debug, Default, PartialEq)]
pub struct Failures {
    /// How many trials may fail, where the study says so; nothing else ends it then.
    most: Option<u32>,
    is_grid: bool,
    failed: u32,
    /// Trials that ended without a value, and would anywhere.
    barren: u32,
    /// The youngest of the first [`FIRST`] of them.
    youngest: TrialId,
    has_value: bool,
}

impl Failures {
    pub fn new(study: &StudyFile) -> Self {
        let is_grid = matches!(study.sampler, Sampler::Grid { .. });
        Self { most: study.budget.failures, is_grid, ..Self::default() }
    }

    /// A trial reported a value of the objective.
    pub fn valued(&mut self) {
        self.has_value = true;
    }

    pub fn ended(&mut self, id: TrialId, trial: &Trial) {
        let is_failed = trial.phase == Phase::Ended(Outcome::Failed);
        self.failed += u32::from(is_failed);
        let is_barren = match &trial.failure {
            Some(failure) => match failure.cause {
                // A caller may call a trial failed for whatever reason.
                FailCause::Configuration | FailCause::Data | FailCause::Program => {
                    is_failed && trial.tenure.as_ref().is_none_or(|tenure| tenure.lease.is_none())
                }
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
        // What somebody chose to try says nothing of the rest, and a grid tries like after like.
        let is_drawn = matches!(trial.proposed.lineage, Lineage::Sampled { .. }) && !self.is_grid;
        if is_barren && is_drawn && !self.has_value {
            self.barren += 1;
            if self.barren <= FIRST {
                self.youngest = self.youngest.max(id);
            }
        }
    }

    /// `unended`: the trials that have not ended. One that is older than some that came to nothing may yet give a value.
    pub fn end(&self, mut unended: impl Iterator<Item = TrialId>) -> Option<StudyEnd> {
        if let Some(most) = self.most {
            return (self.failed > most).then_some(StudyEnd::Failures { failed: self.failed });
        }
        let is_barren = !self.has_value && self.barren >= FIRST;
        let is_hopeless = is_barren && unended.all(|trial| trial > self.youngest);
        is_hopeless.then_some(StudyEnd::NoValue { trials: self.barren })
    }
}
