//! Brackets: each trial belongs to one, and the later a bracket's first rung, the less it trusts early values.
//!
//! Which one is fixed when the trial is first offered, and is part of the fold: what is learnt later moves nobody.

use std::collections::BTreeMap;

use regatta_schemas::TrialId;
use regatta_schemas::study::Goal;

use super::agreement::Agreement;
use super::rungs::{Levels, Order, Rungs};
use crate::news::Measurement;
use crate::random::{Purpose, pick, unit, word};

#[derive(Debug)]
pub struct Brackets {
    rungs_by_bracket: Vec<Rungs>,
    choice: Choice,
    bracket_by_trial: BTreeMap<TrialId, usize>,
}

/// How a new trial comes to its bracket.
#[derive(Debug)]
enum Choice {
    /// Trial t belongs to bracket t mod their number.
    InTurn,
    Drawn(Draw),
}

/// Hyperband with learnt weights (Li et al., "Hyper-Tune", 2022, section 4.1): bracket b, whose first rung has the
/// resource r, is drawn in proportion to p * t, where p is its share of configurations in Hyperband (Li et al., 2018,
/// algorithm 1) and t says how well values at r foretell the ranking at the end: their [`Agreement`], 1 at first.
#[derive(Debug)]
struct Draw {
    seed: u64,
    shares: Vec<f64>,
    agreement: Agreement,
}

impl Brackets {
    /// So many brackets, the first rung of each `eta` times that of the one before; trials take turns.
    pub fn in_turn(order: &Order, levels: Levels, count: u32) -> Self {
        let rungs_by_bracket =
            (0..count.max(1)).map(|bracket| Rungs::new(order.clone(), levels.above(bracket))).collect();
        Self { rungs_by_bracket, choice: Choice::InTurn, bracket_by_trial: BTreeMap::new() }
    }

    /// One for each rung as the first, and one without any.
    pub fn drawn(goal: Goal, levels: Levels, seed: u64) -> Self {
        let resources = levels.resources();
        let rungs_by_bracket: Vec<Rungs> =
            (0..=resources.len() as u32).map(|bracket| Rungs::new(Order::Value(goal), levels.above(bracket))).collect();
        let most = resources.len();
        let share = |halvings: usize| {
            let whole = f64::from(levels.eta).powi(halvings as i32);
            ((most + 1) as f64 / (halvings + 1) as f64 * whole).ceil()
        };
        let shares = (0..=most).map(|bracket| share(most - bracket)).collect();
        let agreement = Agreement::new(goal, resources, levels.max_resource);
        Self {
            rungs_by_bracket,
            choice: Choice::Drawn(Draw { seed, shares, agreement }),
            bracket_by_trial: BTreeMap::new(),
        }
    }

    /// How many of so many trials a bracket gets at most.
    pub fn share(&self, trials: u32) -> usize {
        match self.choice {
            Choice::InTurn => (trials as usize).div_ceil(self.rungs_by_bracket.len()),
            Choice::Drawn(_) => trials as usize,
        }
    }

    pub fn all(&self) -> impl Iterator<Item = &Rungs> {
        self.rungs_by_bracket.iter()
    }

    pub fn rungs(&self, trial: TrialId) -> &Rungs {
        &self.rungs_by_bracket[self.bracket(trial)]
    }

    pub fn rungs_mut(&mut self, trial: TrialId) -> &mut Rungs {
        let bracket = self.bracket(trial);
        self.bracket_by_trial.insert(trial, bracket);
        &mut self.rungs_by_bracket[bracket]
    }

    /// The trial was offered for the first time.
    pub fn begun(&mut self, trial: TrialId) {
        let bracket = self.bracket(trial);
        self.bracket_by_trial.entry(trial).or_insert(bracket);
    }

    /// The trial was offered for the first time, to train until the first rung of its bracket: that tells which it is,
    /// even if what was measured since the decision has moved the weights.
    pub fn begun_until(&mut self, trial: TrialId, until: Option<u32>) {
        let offered = self.all().position(|rungs| rungs.resource(0) == until);
        let bracket = offered.unwrap_or_else(|| self.bracket(trial));
        self.bracket_by_trial.entry(trial).or_insert(bracket);
    }

    /// Lets the weights learn.
    pub fn measured(&mut self, measurement: Measurement) {
        match &mut self.choice {
            Choice::InTurn => {}
            Choice::Drawn(draw) => draw.agreement.measured(measurement),
        }
    }

    /// The trial's bracket, or the one that it would begin in now.
    pub fn bracket(&self, trial: TrialId) -> usize {
        self.bracket_by_trial.get(&trial).copied().unwrap_or_else(|| match &self.choice {
            Choice::InTurn => trial.0 as usize % self.rungs_by_bracket.len(),
            Choice::Drawn(draw) => draw.bracket(trial),
        })
    }
}

impl Draw {
    fn bracket(&self, trial: TrialId) -> usize {
        let weights: Vec<f64> =
            self.shares.iter().zip(self.agreement.with_end()).map(|(share, trust)| share * trust).collect();
        let purpose = Purpose { study_seed: self.seed, name: "bracket of a trial", index: trial.0.into(), redraw: 0 };
        pick(&weights, unit(word(purpose)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEVELS: Levels = Levels { eta: 3, min_resource: 1, max_resource: 27 };
    const METRICS: BTreeMap<String, f64> = BTreeMap::new();

    /// How many of 1,000 new trials each bracket gets.
    fn counts(brackets: &Brackets) -> Vec<usize> {
        let drawn: Vec<usize> = (100..1_100).map(|trial| brackets.bracket(TrialId(trial))).collect();
        (0..4).map(|bracket| drawn.iter().filter(|drawn| **drawn == bracket).count()).collect()
    }

    /// 32 trials to their ends, the values at resource 1 and 3 in this relation to the final ones.
    fn learnt(early: impl Fn(u32) -> f64) -> Brackets {
        let mut brackets = Brackets::drawn(Goal::Maximize, LEVELS, 5);
        for trial in 0..32 {
            for (resource, value) in [(1, early(trial)), (3, early(trial)), (9, trial.into()), (27, trial.into())] {
                let trial = TrialId(trial);
                brackets.measured(Measurement { trial, resource, value, ranked: value, metrics: &METRICS });
            }
        }
        brackets
    }

    #[test]
    fn at_first_each_bracket_gets_its_share_in_hyperband() {
        let counts = counts(&Brackets::drawn(Goal::Maximize, LEVELS, 5));
        // 27, 12, 6 and 4 of 49 configurations.
        for (count, share) in counts.iter().zip([0.551, 0.245, 0.122, 0.082]) {
            assert!((*count as f64 / 1e3 - share).abs() < 0.05, "{counts:?}");
        }
    }

    #[test]
    fn brackets_whose_first_rung_ranks_well_keep_their_shares() {
        assert_eq!(counts(&learnt(f64::from)), counts(&Brackets::drawn(Goal::Maximize, LEVELS, 5)));
    }

    #[test]
    fn brackets_whose_first_rung_ranks_badly_are_drawn_no_more() {
        let counts = counts(&learnt(|trial| -f64::from(trial)));
        assert!(counts[0] + counts[1] < 60, "{counts:?}");
        assert!(counts[2] > counts[3] && counts[3] > 300, "{counts:?}");
    }

    #[test]
    fn what_is_learnt_later_moves_nobody() {
        let mut brackets = Brackets::drawn(Goal::Maximize, LEVELS, 5);
        let trial = (0..).map(TrialId).find(|trial| brackets.bracket(*trial) == 0).unwrap();
        let other = brackets.rungs(trial).clone();
        brackets.begun_until(trial, Some(9));
        assert_eq!(brackets.rungs(trial).resource(0), Some(9));
        assert_ne!(*brackets.rungs(trial), other);
        brackets.begun_until(trial, Some(1));
        assert_eq!(brackets.rungs(trial).resource(0), Some(9));
    }
}
