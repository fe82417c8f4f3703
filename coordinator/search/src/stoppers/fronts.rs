//! ASHA of the stopping kind for several objectives (Schmucker et al., "Multi-objective asynchronous successive halving",
//! 2021): at a rung a trial goes on if it is, when it arrives there, among the best 1 in `eta`, ranked by non-dominated
//! sorting and within a front by crowding.
//!
//! It is ranked among the last arrivals only, so that a verdict stays cheap however many came.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use regatta_schemas::TrialId;
use regatta_schemas::reasons::{Outcome, StopReason};

use super::Stopper;
use super::rungs::Levels;
use crate::news::Measurement;
use crate::objectives::Objectives;
use crate::pareto::{Score, fronts, ranking};

/// Arrivals at a rung among which a trial is ranked.
const COMPETITORS_MAX: usize = 500;

#[derive(Debug)]
pub struct Fronts {
    objectives: Objectives,
    eta: usize,
    rungs: Vec<Rung>,
    failed: BTreeSet<TrialId>,
}

#[derive(Debug)]
struct Rung {
    resource: u32,
    arrivals: VecDeque<(TrialId, Score)>,
    arrived: BTreeSet<TrialId>,
}

impl Fronts {
    pub fn new(objectives: Objectives, levels: Levels) -> Self {
        let rung = |resource| Rung { resource, arrivals: VecDeque::new(), arrived: BTreeSet::new() };
        let rungs = levels.resources().into_iter().map(rung).collect();
        Self { objectives, eta: levels.eta.max(2) as usize, rungs, failed: BTreeSet::new() }
    }
}

impl Stopper for Fronts {
    fn measured(&mut self, measurement: Measurement) -> Option<StopReason> {
        let Measurement { trial, resource, metrics, .. } = measurement;
        let score = self.objectives.score(metrics)?;
        let (eta, failed) = (self.eta, &self.failed);
        let reached = self.rungs.iter_mut().take_while(|rung| rung.resource <= resource);
        reached.filter_map(|rung| rung.arrive(trial, &score, eta, failed)).last()
    }

    fn ended(&mut self, trial: TrialId, outcome: Outcome) {
        if outcome == Outcome::Failed {
            self.failed.insert(trial);
        }
    }
}

impl Rung {
    fn arrive(&mut self, trial: TrialId, score: &Score, eta: usize, failed: &BTreeSet<TrialId>) -> Option<StopReason> {
        if !self.arrived.insert(trial) {
            return None;
        }
        if self.arrivals.len() == COMPETITORS_MAX {
            self.arrivals.pop_front();
        }
        self.arrivals.push_back((trial, score.clone()));
        let sound: Vec<&(TrialId, Score)> = self.arrivals.iter().filter(|(id, _)| !failed.contains(id)).collect();
        let scores: Vec<&Score> = sound.iter().map(|(_, score)| score).collect();
        let going_on = (self.arrivals.len() / eta).max(1);
        let place_of: BTreeMap<usize, usize> =
            ranking(&scores).into_iter().enumerate().map(|(rank, place)| (place, rank)).collect();
        let own = scores.len() - 1;
        let rank = place_of[&own];
        let front = fronts(&scores)[own];
        // Who is dominated by nobody at the rung goes on, were the first front ever so long.
        (rank >= going_on && front > 0).then_some(StopReason::Front {
            resource: self.resource,
            front: front as u32,
            rank: rank as u32,
            going_on: going_on as u32,
            competitors: self.arrivals.len() as u32,
        })
    }
}
