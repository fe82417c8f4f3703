//! The trials in the order of their losses, at the highest resource that enough of them have reached.
//!
//! After BOHB (Falkner et al., 2018), which models the largest budget with enough observations; but what stayed below
//! it is not forgotten: it counts as not good. A trial's loss at a resource is its best up to there, as the study
//! judges it.

use std::collections::BTreeMap;

use regatta_schemas::TrialId;
use regatta_schemas::reasons::Outcome;

use super::super::history::{History, Observed};
use crate::news::News;

#[derive(Debug)]
pub struct Ranking {
    history: History,
    /// In the order of the log.
    row_by_trial: BTreeMap<TrialId, usize>,
    /// How many trials have this many epochs done and no more; those that failed aside.
    count_by_resource: BTreeMap<u32, usize>,
    /// The resource at which losses are compared.
    resource: u32,
    /// By row: the loss at that resource, of those that have reached it and have not failed.
    losses: Vec<Option<f64>>,
    /// Those, best first; of equals, the older.
    ranked: Vec<(f64, usize)>,
}

impl Ranking {
    pub fn new(history: History) -> Self {
        Self {
            history,
            row_by_trial: BTreeMap::new(),
            count_by_resource: BTreeMap::new(),
            resource: 0,
            losses: Vec::new(),
            ranked: Vec::new(),
        }
    }

    pub fn history(&self) -> &History {
        &self.history
    }

    /// The rows of those with a loss, best first.
    pub fn best_first(&self) -> impl ExactSizeIterator<Item = usize> {
        self.ranked.iter().map(|(_, row)| *row)
    }

    /// Whether the trial is new: it has the next row.
    pub fn propose(&mut self, trial: TrialId, news: News) -> bool {
        let row = self.history.len();
        self.history.observe(news);
        let is_new = *self.row_by_trial.entry(trial).or_insert(row) == row;
        if is_new {
            self.losses.push(None);
        }
        is_new
    }

    /// News of a trial that was proposed before.
    pub fn observe(&mut self, trial: TrialId, news: News) {
        let Some(row) = self.row_by_trial.get(&trial).copied() else { return };
        let reached = |history: &History| history.get(trial).filter(|observed| !observed.has_failed())?.last();
        let before = reached(&self.history);
        self.history.observe(news);
        let after = reached(&self.history);
        if before.map(|last| last.0) != after.map(|last| last.0) {
            self.recount(before, after);
        }
        let resource = self.resource_to_compare();
        if resource == self.resource {
            let loss = self.history.get(trial).and_then(|observed| loss_at(observed, resource));
            self.place(row, loss);
        } else {
            self.resource = resource;
            self.rank_again();
        }
    }

    fn recount(&mut self, before: Option<(u32, f64)>, after: Option<(u32, f64)>) {
        if let Some((resource, _)) = before
            && let Some(count) = self.count_by_resource.get_mut(&resource)
        {
            *count -= 1;
            if *count == 0 {
                self.count_by_resource.remove(&resource);
            }
        }
        if let Some((resource, _)) = after {
            *self.count_by_resource.entry(resource).or_default() += 1;
        }
    }

    /// The highest that enough trials have reached; before any has, the lowest of all.
    fn resource_to_compare(&self) -> u32 {
        let all: usize = self.count_by_resource.values().sum();
        let needed = enough(all);
        let mut reached = 0;
        let highest = self.count_by_resource.iter().rev().find(|(_, count)| {
            reached += **count;
            reached >= needed
        });
        highest.or(self.count_by_resource.first_key_value()).map_or(0, |(resource, _)| *resource)
    }

    fn rank_again(&mut self) {
        self.ranked.clear();
        for (trial, observed) in self.history.trials() {
            let row = self.row_by_trial[&trial];
            self.losses[row] = loss_at(observed, self.resource);
            self.ranked.extend(self.losses[row].map(|loss| (loss, row)));
        }
        self.ranked.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    }

    fn place(&mut self, row: usize, loss: Option<f64>) {
        if self.losses[row] == loss {
            return;
        }
        if let Some(old) = self.losses[row]
            && let Ok(place) = self.find(old, row)
        {
            self.ranked.remove(place);
        }
        if let Some(new) = loss
            && let Err(place) = self.find(new, row)
        {
            self.ranked.insert(place, (new, row));
        }
        self.losses[row] = loss;
    }

    fn find(&self, loss: f64, row: usize) -> Result<usize, usize> {
        self.ranked.binary_search_by(|other| other.0.total_cmp(&loss).then(other.1.cmp(&row)))
    }
}

/// Of `all` measured trials, how many must have reached a resource for the model to trust it.
fn enough(all: usize) -> usize {
    (super::good_of(all) * 2).max(super::STARTUP)
}

fn loss_at(observed: &Observed, resource: u32) -> Option<f64> {
    let has_reached = observed.outcome != Some(Outcome::Failed) && observed.last()?.0 >= resource;
    let up_to = observed.losses.range(..=resource).map(|(_, loss)| *loss);
    has_reached.then(|| up_to.reduce(f64::min)).flatten()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use regatta_schemas::Params;
    use regatta_schemas::study::Goal;

    use super::*;
    use crate::news::Measurement;
    use crate::space::Space;
    use crate::time::Time;

    /// Trials of so many epochs each; the later the better, and better still after the first epoch.
    fn ranking(epochs: impl IntoIterator<Item = u32>) -> Ranking {
        let mut ranking = Ranking::new(History::new(Space::new(&BTreeMap::new()), Goal::Minimize));
        let (params, metrics) = (Params::new(), BTreeMap::new());
        for (number, epochs) in epochs.into_iter().enumerate() {
            let trial = TrialId(number as u32);
            assert!(
                ranking.propose(trial, News::Proposed { trial, index: None, params: &params, at: Time::default() })
            );
            for resource in 1..=epochs {
                let value = if resource == 2 { -(number as f64) - 100.0 } else { -(number as f64) };
                ranking.observe(
                    trial,
                    News::Measured(Measurement { trial, resource, value, ranked: value, metrics: &metrics }),
                );
            }
        }
        ranking
    }

    #[test]
    fn trials_are_compared_at_the_highest_resource_that_enough_have_reached() {
        let of = |groups: &[(usize, u32)]| ranking(groups.iter().flat_map(|(count, epochs)| vec![*epochs; *count]));
        for (groups, resource, count, best) in [
            (&[(3, 0)][..], 0, 0, None),
            (&[(3, 1)], 1, 3, Some(2)),
            // Before enough were measured, all are compared.
            (&[(3, 1), (4, 5)], 1, 7, Some(6)),
            (&[(9, 3), (5, 1)], 1, 14, Some(13)),
            (&[(10, 3), (5, 1)], 3, 10, Some(9)),
            (&[(10, 3), (5, 1), (2, 9)], 3, 12, Some(16)),
            // Of 200 the best 20 are good, and 40 must be there to tell.
            (&[(160, 1), (39, 3), (1, 2)], 2, 40, Some(199)),
        ] {
            let ranking = of(groups);
            assert_eq!(ranking.resource, resource, "{groups:?}");
            assert_eq!(ranking.best_first().len(), count, "{groups:?}");
            assert_eq!(ranking.best_first().next(), best, "{groups:?}");
        }
    }

    #[test]
    fn a_failed_trial_loses_its_rank() {
        let mut ranking = ranking([2; 10].into_iter().chain([1]));
        assert_eq!((ranking.resource, ranking.best_first().len()), (2, 10));
        let trial = TrialId(9);
        ranking.observe(trial, News::Ended { trial, outcome: Outcome::Failed });
        // Nine alone are left at two epochs.
        assert_eq!((ranking.resource, ranking.best_first().next()), (1, Some(10)));
    }
}
