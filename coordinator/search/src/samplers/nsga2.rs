//! NSGA-II for several objectives (Deb et al., 2002), in a steady state: there are no generations to wait for. The
//! parents are the best of all trials that count (`arrivals`), by constrained non-dominated sorting and crowding of what
//! they measured last; a child comes of two of them by simulated binary crossover (Deb and Agrawal, 1995) and polynomial
//! mutation. It begins with Sobol's sequence.

use std::collections::BTreeMap;

use regatta_schemas::reasons::Outcome;
use regatta_schemas::study::StudyFile;
use regatta_schemas::{Params, TrialId};

use super::Sampler;
use super::arrivals::Arrivals;
use super::history::{History, Observed};
use super::sobol::Design;
use super::tried::Tried;
use crate::news::News;
use crate::objectives::Objectives;
use crate::pareto::{Score, ranking};
use crate::random::{Purpose, Stream};
use crate::space::{Coordinate, Space, locate, sample, value_at};

/// Trials that are parents.
const POPULATION: usize = 40;
/// The best trials that count, of which the parents are chosen.
const REMEMBERED: usize = 200;
/// A trial that was set aside counts when so many others got as far.
const PASSED_BY: usize = 10;
/// How close children stay to their parents; the usual values.
const CROSSOVER_INDEX: f64 = 15.0;
const MUTATION_INDEX: f64 = 20.0;
const CROSSOVER_CHANCE: f64 = 0.9;

/// The name is none that a parameter can have.
const CHILD: &str = "a child of two trials";

#[derive(Debug)]
pub struct Nsga2 {
    seed: u64,
    objectives: Objectives,
    design: Design,
    history: History,
    tried: Tried,
    arrivals: Arrivals,
    /// What each trial that did not fail measured last.
    scores: BTreeMap<TrialId, Score>,
    /// Those that count and did not fail, best first.
    best_first: Vec<TrialId>,
}

impl Nsga2 {
    pub fn new(file: &StudyFile) -> Self {
        let (space, seed) = (Space::new(&file.space), file.seed);
        Self {
            seed,
            objectives: Objectives::new(file),
            design: Design::new(space.clone(), seed),
            tried: Tried::new(space.clone(), seed),
            history: History::new(space, file.objective.goal),
            arrivals: Arrivals::new(PASSED_BY),
            scores: BTreeMap::new(),
            best_first: Vec::new(),
        }
    }

    fn child(&self, index: u64, redraw: u64) -> Params {
        let mut random = Stream::new(Purpose { study_seed: self.seed, name: CHILD, index, redraw });
        let parents: Vec<&Observed> =
            self.best_first.iter().take(POPULATION).filter_map(|trial| self.history.get(*trial)).collect();
        // A tournament of two: the one that stands higher.
        let mut pick = || &parents[random.below(parents.len()).min(random.below(parents.len()))].params;
        let (first, second) = (pick(), pick());
        let crosses = random.unit() < CROSSOVER_CHANCE;
        let space = self.history.space();
        let mutates = 1.0 / space.parameters().len().max(1) as f64;
        space.configure(|name, domain| {
            let of = |parent: &Params| parent.get(name).and_then(|value| locate(domain, value));
            let inherited = match (of(first), of(second)) {
                (Some(a), Some(b)) if crosses => cross(a, b, &mut random),
                (Some(a), _) => a,
                (None, Some(b)) => b,
                (None, None) => return sample(domain, random.word()),
            };
            if random.unit() >= mutates {
                return value_at(domain, inherited);
            }
            match inherited {
                Coordinate::Number(number) => value_at(domain, Coordinate::Number(mutate(number, &mut random))),
                Coordinate::Choice(_) => sample(domain, random.word()),
            }
        })
    }

    fn rank(&mut self) {
        let scored: Vec<(TrialId, &Score)> =
            self.best_first.iter().filter_map(|trial| Some((*trial, self.scores.get(trial)?))).collect();
        let order = ranking(&scored.iter().map(|(_, score)| *score).collect::<Vec<_>>());
        self.best_first = order.into_iter().take(REMEMBERED).map(|place| scored[place].0).collect();
    }
}

impl Sampler for Nsga2 {
    fn propose(&self, index: u64, pending: &[&Params]) -> Option<Params> {
        let count = self.best_first.len();
        let is_start = count < 2 || (count < POPULATION && index < POPULATION as u64);
        self.tried.first_new(index, pending, |redraw| {
            if is_start { self.design.redrawn(index, redraw) } else { self.child(index, redraw) }
        })
    }

    fn observe(&mut self, news: News) {
        if self.history.knows(news) {
            return;
        }
        self.history.observe(news);
        self.tried.observe(news);
        let arrived = self.arrivals.observe(news, &self.history);
        let has_changed = match news {
            News::Proposed { .. } => None,
            News::Measured(measurement) => {
                let score = self.objectives.score(measurement.metrics);
                self.scores.extend(score.map(|score| (measurement.trial, score)));
                Some(measurement.trial)
            }
            News::Ended { trial, outcome: Outcome::Failed } => self.scores.remove(&trial).map(|_| trial),
            News::Ended { .. } => None,
        };
        // One that counts may have been left behind by then, and come back.
        let changed = has_changed.filter(|trial| !self.arrivals.awaits(*trial) && !arrived.contains(trial));
        if changed.is_some() || !arrived.is_empty() {
            self.best_first.retain(|trial| Some(*trial) != changed);
            self.best_first.extend(arrived.into_iter().chain(changed));
            self.rank();
        }
    }
}

fn cross(a: Coordinate, b: Coordinate, random: &mut Stream) -> Coordinate {
    let (Coordinate::Number(x), Coordinate::Number(y)) = (a, b) else {
        return if random.unit() < 0.5 { a } else { b };
    };
    let u = random.unit();
    let power = 1.0 / (CROSSOVER_INDEX + 1.0);
    let spread = if u <= 0.5 { (2.0 * u).powf(power) } else { (0.5 / (1.0 - u)).powf(power) };
    let side = if random.unit() < 0.5 { 1.0 } else { -1.0 };
    Coordinate::Number((0.5 * (x + y + side * spread * (x - y))).clamp(0.0, 1.0))
}

fn mutate(number: f64, random: &mut Stream) -> f64 {
    let u = random.unit();
    let power = 1.0 / (MUTATION_INDEX + 1.0);
    let shift = if u < 0.5 { (2.0 * u).powf(power) - 1.0 } else { 1.0 - (2.0 * (1.0 - u)).powf(power) };
    (number + shift).clamp(0.0, 1.0)
}
