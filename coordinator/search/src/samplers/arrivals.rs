//! When a trial counts for samplers that learn from whole trials: when it ended, and also when others went past it.
//!
//! A trial that was set aside at a rung may never end. It counts once so many trials, proposed after it last measured
//! anything, got as far as it did. Its later measurements are not lost: the history has them.

use std::collections::{BTreeMap, BTreeSet};

use regatta_schemas::TrialId;

use super::history::History;
use crate::news::News;

#[derive(Debug)]
pub struct Arrivals {
    /// How many must have gone past a trial.
    enough: usize,
    /// One more than the last trial's number.
    next: TrialId,
    open: BTreeMap<TrialId, Open>,
}

#[derive(Debug)]
struct Open {
    /// The first trial that was proposed after this one's last measurement.
    since: TrialId,
    passed_by: BTreeSet<TrialId>,
}

impl Arrivals {
    pub fn new(enough: usize) -> Self {
        Self { enough, next: TrialId(0), open: BTreeMap::new() }
    }

    /// The trials that count from now on: each once, and only such as measured something or failed. The history has
    /// observed the news.
    pub fn observe(&mut self, news: News, history: &History) -> Vec<TrialId> {
        match news {
            News::Proposed { trial, .. } if trial >= self.next => {
                self.next = TrialId(trial.0.saturating_add(1));
                self.open.insert(trial, Open { since: self.next, passed_by: BTreeSet::new() });
                Vec::new()
            }
            News::Proposed { .. } => Vec::new(),
            News::Measured(measurement) => self.measured(measurement.trial, measurement.resource, history),
            News::Ended { trial, .. } => {
                let was_open = self.open.remove(&trial).is_some();
                let counts = history.get(trial).is_some_and(|trial| trial.has_failed() || !trial.losses.is_empty());
                if was_open && counts { vec![trial] } else { Vec::new() }
            }
        }
    }

    /// Whether the trial does not count yet.
    pub fn awaits(&self, trial: TrialId) -> bool {
        self.open.contains_key(&trial)
    }

    /// How many do not count yet.
    pub fn open(&self) -> usize {
        self.open.len()
    }

    pub fn next(&self) -> TrialId {
        self.next
    }

    fn measured(&mut self, by: TrialId, resource: u32, history: &History) -> Vec<TrialId> {
        if let Some(open) = self.open.get_mut(&by) {
            *open = Open { since: self.next, passed_by: BTreeSet::new() };
        }
        let got_to = |trial: TrialId| Some(history.get(trial)?.last()?.0);
        let mut arrived = Vec::new();
        for (&trial, open) in &mut self.open {
            if by >= open.since && got_to(trial).is_some_and(|last| last <= resource) {
                open.passed_by.insert(by);
                if open.passed_by.len() >= self.enough {
                    arrived.push(trial);
                }
            }
        }
        for trial in &arrived {
            self.open.remove(trial);
        }
        arrived
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::news::Measurement;
    use crate::space::Space;
    use crate::time::Time;
    use regatta_schemas::Params;
    use regatta_schemas::reasons::Outcome;
    use regatta_schemas::study::Goal;

    struct Bench(History, Arrivals);

    impl Bench {
        fn new(enough: usize) -> Self {
            Self(History::new(Space::new(&BTreeMap::new()), Goal::Minimize), Arrivals::new(enough))
        }

        fn tell(&mut self, news: News) -> Vec<u32> {
            self.0.observe(news);
            self.1.observe(news, &self.0).into_iter().map(|trial| trial.0).collect()
        }

        fn propose(&mut self, trial: u32) {
            let params = Params::new();
            assert!(
                self.tell(News::Proposed { trial: TrialId(trial), index: None, params: &params, at: Time::default() })
                    .is_empty()
            );
        }

        fn measure(&mut self, trial: u32, resource: u32) -> Vec<u32> {
            let metrics = BTreeMap::new();
            self.tell(News::Measured(Measurement {
                trial: TrialId(trial),
                resource,
                value: 0.5,
                ranked: 0.5,
                metrics: &metrics,
            }))
        }
    }

    #[test]
    fn a_trial_counts_once_when_it_ended_with_a_measurement_or_failed() {
        let mut bench = Bench::new(2);
        for trial in 0..3 {
            bench.propose(trial);
        }
        bench.measure(0, 1);
        for (trial, outcome, expected) in
            [(0, Outcome::Stopped, vec![0]), (1, Outcome::Stopped, vec![]), (2, Outcome::Failed, vec![2])]
        {
            let trial = TrialId(trial);
            assert_eq!(bench.tell(News::Ended { trial, outcome }), expected);
            assert!(bench.tell(News::Ended { trial, outcome }).is_empty());
        }
        assert_eq!(bench.1.open(), 0);
    }

    #[test]
    fn a_trial_that_was_set_aside_counts_when_enough_later_ones_got_as_far() {
        let mut bench = Bench::new(2);
        bench.propose(0);
        bench.measure(0, 1);
        bench.propose(1);
        assert!(bench.measure(1, 1).is_empty());
        bench.propose(2);
        assert_eq!(bench.measure(2, 1), [0]);
    }

    #[test]
    fn trials_that_run_side_by_side_do_not_pass_each_other() {
        let mut bench = Bench::new(2);
        for trial in 0..4 {
            bench.propose(trial);
        }
        for resource in 1..5 {
            for trial in 0..4 {
                assert!(bench.measure(trial, resource).is_empty());
            }
        }
    }
}
