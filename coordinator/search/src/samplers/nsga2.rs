//! NSGA-II for several objectives (Deb et al., 2002), in a steady state: there are no generations to wait for. The
//! parents are the best of all trials that have ended, by constrained non-dominated sorting and crowding; a child comes
//! of two of them by simulated binary crossover (Deb and Agrawal, 1995) and polynomial mutation.

use std::collections::BTreeMap;

use regatta_schemas::reasons::Outcome;
use regatta_schemas::study::StudyFile;
use regatta_schemas::{Params, TrialId};

use super::Sampler;
use super::random::Draws;
use super::tried::Tried;
use crate::news::News;
use crate::objectives::Objectives;
use crate::pareto::{Score, ranking};
use crate::random::{Purpose, Stream};
use crate::space::{Coordinate, Space, locate, sample, value_at};

/// Trials that are parents.
const POPULATION: usize = 40;
/// Trials that ended last, of which the parents are chosen.
const REMEMBERED: usize = 200;
/// How close children stay to their parents; the usual values.
const CROSSOVER_INDEX: f64 = 15.0;
const MUTATION_INDEX: f64 = 20.0;
const CROSSOVER_CHANCE: f64 = 0.9;

/// The name is none that a parameter can have.
const CHILD: &str = "a child of two trials";

#[derive(Debug)]
pub struct Nsga2 {
    draws: Draws,
    seed: u64,
    objectives: Objectives,
    tried: Tried,
    /// Those that have not ended, with what they measured last.
    running: BTreeMap<TrialId, (Params, Option<Score>)>,
    /// Those that ended and did not fail, best first.
    ended: Vec<(Params, Score)>,
}

impl Nsga2 {
    pub fn new(file: &StudyFile) -> Self {
        let (space, seed) = (Space::new(&file.space), file.seed);
        let (tried, objectives) = (Tried::new(space.clone(), seed), Objectives::new(file));
        Self { draws: Draws::new(space, seed), seed, objectives, tried, running: BTreeMap::new(), ended: Vec::new() }
    }

    fn child(&self, index: u64, redraw: u64) -> Params {
        let mut random = Stream::new(Purpose { study_seed: self.seed, name: CHILD, index, redraw });
        let parents = self.ended.len().min(POPULATION);
        // A tournament of two: the one that stands higher.
        let mut pick = || &self.ended[random.below(parents).min(random.below(parents))].0;
        let (first, second) = (pick(), pick());
        let crosses = random.unit() < CROSSOVER_CHANCE;
        let mutates = 1.0 / self.draws.space().parameters().len().max(1) as f64;
        self.draws.space().configure(|name, domain| {
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

    fn end(&mut self, trial: TrialId, outcome: Outcome) {
        let Some((params, Some(score))) = self.running.remove(&trial) else { return };
        if outcome == Outcome::Failed {
            return;
        }
        self.ended.push((params, score));
        let scores: Vec<&Score> = self.ended.iter().map(|(_, score)| score).collect();
        let order = ranking(&scores);
        self.ended = order.into_iter().take(REMEMBERED).map(|place| self.ended[place].clone()).collect();
    }
}

impl Sampler for Nsga2 {
    fn propose(&self, index: u64, pending: &[&Params]) -> Option<Params> {
        let is_start = self.ended.len() < 2 || (self.ended.len() < POPULATION && index < POPULATION as u64);
        self.tried.first_new(index, pending, |redraw| {
            if is_start { self.draws.params(index, redraw) } else { self.child(index, redraw) }
        })
    }

    fn observe(&mut self, news: News) {
        self.tried.observe(news);
        match news {
            News::Proposed { trial, params, .. } => {
                self.running.entry(trial).or_insert_with(|| (params.clone(), None));
            }
            News::Measured(measurement) => {
                let score = self.objectives.score(measurement.metrics);
                if let (Some(score), Some((_, last))) = (score, self.running.get_mut(&measurement.trial)) {
                    *last = Some(score);
                }
            }
            News::Ended { trial, outcome } => self.end(trial, outcome),
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
