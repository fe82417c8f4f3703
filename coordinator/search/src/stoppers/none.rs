//! No stopper: every trial spends its whole resource.

use regatta_schemas::TrialId;
use regatta_schemas::reasons::{Outcome, StopReason};

use super::Stopper;
use crate::news::Measurement;

#[derive(Debug)]
pub struct Never;

impl Stopper for Never {
    fn measured(&mut self, _measurement: Measurement) -> Option<StopReason> {
        None
    }

    fn ended(&mut self, _trial: TrialId, _outcome: Outcome) {}
}
