//! No stopper: every trial spends its whole resource.

use regatta_schemas::TrialId;
use regatta_schemas::reasons::{Outcome, StopReason};

use super::Stopper;

#[derive(Debug)]
pub struct Never;

impl Stopper for Never {
    fn measured(&mut self, _trial: TrialId, _resource: u32, _value: f64) -> Option<StopReason> {
        None
    }

    fn ended(&mut self, _trial: TrialId, _outcome: Outcome) {}
}
