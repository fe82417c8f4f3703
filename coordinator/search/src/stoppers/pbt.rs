//! Population-based training (Jaderberg et al., "Population Based Training of Neural Networks", 2017), asynchronous and
//! without a barrier: so many trials train side by side and are set aside at each multiple of an interval. The one that
//! is behind goes on first. If it is then among the worst of those that came to where it stands, it ends (exploit), and
//! a copy of one of the best, with changed values (explore), goes on from that one's checkpoint in its place; where all
//! of those have ended, as a newcomer finds it, of any that is further on and not behind there.
//!
//! A trial keeps one configuration for its life; that of a copy's whole training is its line of parents. Of n arrivals
//! floor(n * quantile) are the worst, and as many the best. US patent 11,941,527 covers the method as published.

mod explore;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use regatta_schemas::TrialId;
use regatta_schemas::reasons::{Outcome, StopReason};
use regatta_schemas::study::{Goal, StudyFile};

use super::{Chances, Heir, Parent, Stopper, best_first, outdone};
use crate::news::Measurement;
use crate::random::{Purpose, Stream};
use explore::Explore;

/// How a population is run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rules {
    /// Trials side by side.
    pub population: u32,
    /// Epochs between two comparisons.
    pub interval: u32,
    /// The share that is replaced, and the share that is copied.
    pub quantile: f64,
}

#[derive(Debug)]
pub struct Pbt {
    goal: Goal,
    rules: Rules,
    /// Epochs of a whole training.
    resource: u32,
    seed: u64,
    explore: Explore,
    members: BTreeMap<TrialId, Member>,
    ended: BTreeSet<TrialId>,
    rungs: BTreeMap<u32, Rung>,
}

/// A trial that has begun and not ended.
#[derive(Debug)]
struct Member {
    /// Where it is set aside next, or was; None: it trains to its end.
    until: Option<u32>,
    is_set_aside: bool,
}

/// What the last trials that came to a resource measured there, as many as the population has; None: that one failed.
#[derive(Debug, Default)]
struct Rung {
    arrivals: VecDeque<(TrialId, Option<f64>)>,
}

/// The order of those at a rung.
struct Ranking {
    /// Of those that did not fail, best first; of equals, the older trial.
    best_first: Vec<(f64, TrialId)>,
    /// How many are replaced, those that failed not counted.
    worst: usize,
    /// How many may be copied.
    best: usize,
    competitors: u32,
}

impl Pbt {
    pub fn new(study: &StudyFile, rules: Rules) -> Self {
        Self {
            goal: study.objective.goal,
            rules,
            resource: study.budget.resource,
            seed: study.seed,
            explore: Explore::new(study),
            members: BTreeMap::new(),
            ended: BTreeSet::new(),
            rungs: BTreeMap::new(),
        }
    }

    /// Where a trial with so many epochs done is set aside next.
    fn after(&self, resource: u32) -> Option<u32> {
        let Rules { interval, .. } = self.rules;
        (resource / interval).checked_add(1)?.checked_mul(interval).filter(|next| *next < self.resource)
    }

    /// Where the trial stands, if it is set aside.
    fn place(&self, trial: TrialId) -> Option<u32> {
        self.members.get(&trial).filter(|member| member.is_set_aside)?.until
    }

    fn ranking(&self, rung: u32) -> Option<Ranking> {
        Some(self.rungs.get(&rung)?.ranking(self.goal, self.rules.quantile))
    }

    /// Why the trial, set aside, is among the worst where it stands; None: it is not.
    fn falls_behind(&self, trial: TrialId) -> Option<StopReason> {
        let resource = self.place(trial)?;
        let ranking = self.ranking(resource)?;
        let good = ranking.best_first.len().checked_sub(ranking.worst + 1)?;
        let (threshold, _) = ranking.best_first[good];
        let (value, _) = *ranking.best_first.iter().find(|(_, other)| *other == trial)?;
        let (is_worse, competitors) = (self.goal.is_better(threshold, value), ranking.competitors);
        is_worse.then(|| outdone(self.goal, resource, value, threshold, competitors))
    }
}

impl Stopper for Pbt {
    fn begun(&mut self, trial: TrialId, until: Option<u32>) {
        self.members.insert(trial, Member { until, is_set_aside: false });
    }

    fn measured(&mut self, measurement: Measurement) -> Option<StopReason> {
        let Measurement { trial, resource, ranked: value, .. } = measurement;
        let reached = self.members.get(&trial).and_then(|member| member.until).filter(|rung| *rung <= resource);
        if let Some(rung) = reached {
            self.rungs.entry(rung).or_default().arrive(trial, Some(value), self.rules.population);
        }
        None
    }

    fn ended(&mut self, trial: TrialId, outcome: Outcome) {
        self.ended.insert(trial);
        let member = self.members.remove(&trial);
        if outcome != Outcome::Failed {
            return;
        }
        self.rungs.values_mut().for_each(|rung| rung.fail(trial));
        if let Some(ahead) = member.and_then(|member| member.until) {
            self.rungs.entry(ahead).or_default().arrive(trial, None, self.rules.population);
        }
    }

    fn until(&self, trial: TrialId) -> Option<u32> {
        match self.members.get(&trial) {
            Some(Member { until, is_set_aside: true }) => self.after((*until)?),
            Some(Member { until, is_set_aside: false }) => *until,
            None => self.after(0),
        }
    }

    fn paused(&mut self, trial: TrialId, _resource: u32) {
        if let Some(member) = self.members.get_mut(&trial) {
            member.is_set_aside = true;
        }
    }

    fn promoted(&mut self, trial: TrialId) {
        let until = self.until(trial);
        self.members.insert(trial, Member { until, is_set_aside: false });
    }

    /// The one that is behind all others, so that few lanes train the whole population evenly; none before the
    /// population is complete.
    fn promotion(&self, chances: Chances) -> Option<TrialId> {
        if chances.next.is_some_and(|next| self.admits(next)) {
            return None;
        }
        let waiting = self.members.iter().filter(|(trial, member)| member.is_set_aside && (chances.is_free)(**trial));
        waiting.min_by_key(|(trial, member)| (member.until, **trial)).map(|(trial, _)| *trial)
    }

    /// As long as there is a place in the population.
    fn admits(&self, trial: TrialId) -> bool {
        (trial.0 as usize).saturating_sub(self.ended.len()) < self.rules.population as usize
    }

    fn heir<'a>(&self, trial: TrialId, child: TrialId, parent: &dyn Fn(TrialId) -> Option<Parent<'a>>) -> Option<Heir> {
        let (rung, reason) = (self.place(trial)?, self.falls_behind(trial)?);
        let ranking = self.ranking(rung)?;
        let keeps_up = |id: &TrialId| self.members.contains_key(id) && self.falls_behind(*id).is_none();
        let from = |id: TrialId, least: u32| {
            let of = parent(id).filter(|of| (least..self.resource).contains(&of.checkpoint.resource))?;
            Some((id, of))
        };
        let best = ranking.best_first.iter().take(ranking.best).map(|(_, id)| *id).filter(keeps_up);
        let mut donors: Vec<(TrialId, Parent)> = best.filter_map(|id| from(id, rung)).collect();
        if donors.is_empty() {
            let further = self.members.keys().copied().filter(keeps_up);
            donors.extend(further.filter_map(|id| from(id, rung + 1)));
        }
        let purpose = Purpose { study_seed: self.seed, name: "parent of a trial", index: child.0.into(), redraw: 0 };
        let mut stream = Stream::new(purpose);
        let (id, Parent { params, checkpoint }) = *donors.get(stream.below(donors.len().max(1)))?;
        let (params, until) = (self.explore.changed(params, &mut stream), self.after(checkpoint.resource));
        Some(Heir { parent: id, checkpoint: checkpoint.clone(), params, until, reason })
    }
}

impl Rung {
    /// A trial comes here, unless it was here before.
    fn arrive(&mut self, trial: TrialId, value: Option<f64>, most: u32) {
        if self.arrivals.iter().any(|(other, _)| *other == trial) {
            return;
        }
        self.arrivals.push_back((trial, value));
        if self.arrivals.len() > most as usize {
            self.arrivals.pop_front();
        }
    }

    fn fail(&mut self, trial: TrialId) {
        let of_trial = self.arrivals.iter_mut().filter(|(other, _)| *other == trial);
        of_trial.for_each(|(_, value)| *value = None);
    }

    fn ranking(&self, goal: Goal, quantile: f64) -> Ranking {
        let sound = self.arrivals.iter().filter_map(|(trial, value)| Some(((*value)?, *trial)));
        let mut ranked: Vec<(f64, TrialId)> = sound.collect();
        ranked.sort_by(|a, b| best_first(goal, a.0, b.0).then(a.1.cmp(&b.1)));
        let count = self.arrivals.len();
        let share = (count as f64 * quantile) as usize;
        let failed = count - ranked.len();
        Ranking { best_first: ranked, worst: share.saturating_sub(failed), best: share, competitors: count as u32 }
    }
}
