//! Which trials changed since when, for an external sampler that was told of them up to then.
//!
//! Changes are numbered from 1 in the order of the log, so that a number means the same to whoever reads the log.

use std::collections::BTreeMap;

use regatta_schemas::TrialId;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    last: u64,
    /// The last change of each trial.
    last_by_trial: BTreeMap<TrialId, u64>,
    trial_by_last: BTreeMap<u64, TrialId>,
}

impl Changes {
    pub fn note(&mut self, trial: TrialId) {
        self.last += 1;
        if let Some(before) = self.last_by_trial.insert(trial, self.last) {
            self.trial_by_last.remove(&before);
        }
        self.trial_by_last.insert(self.last, trial);
    }

    /// The number of the last change.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// The trials that changed after this change, in the order of their last ones.
    pub fn since(&self, change: u64) -> impl Iterator<Item = (u64, TrialId)> {
        let later = self.trial_by_last.range(change.saturating_add(1)..);
        later.map(|(change, trial)| (*change, *trial))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_trial_that_changed_is_told_once_at_its_last_change() {
        let mut changes = Changes::default();
        for trial in [0, 1, 0, 2, 1, 1] {
            changes.note(TrialId(trial));
        }
        let since = |change| changes.since(change).map(|(at, trial)| (at, trial.0)).collect::<Vec<_>>();
        assert_eq!(since(0), [(3, 0), (4, 2), (6, 1)]);
        assert_eq!(since(3), [(4, 2), (6, 1)]);
        assert_eq!(since(5), [(6, 1)]);
        assert!(since(changes.last()).is_empty() && since(u64::MAX).is_empty());
    }
}
