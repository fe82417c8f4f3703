//! CMA-ES (Hansen, 2016), asynchronous, with restarts of doubled population (Auger and Hansen, "A restart CMA evolution
//! strategy with increasing population size", 2005).
//!
//! Each configuration is drawn from the distribution as it is; a generation is complete when enough trials count
//! (`arrivals`), whichever generation they were drawn in: their rank is used, and their distance limited. It is at least
//! half as large as what is under way, so that a large fleet makes large generations. Numbers outside of the bounds are
//! mirrored. A number of levels keeps a chance to leave its level (Hamano et al., "CMA-ES with margin", 2022, here by
//! widening the draw alone). Each parameter of choices has a distribution of its own that moves towards the better half
//! and keeps a chance for every choice (after Hamano et al., "CatCMA", 2024). A parameter that does not exist in a
//! configuration says nothing about itself. Where parameters have priors, the first distribution is theirs, but half of the
//! first generations are uniform; restarts begin anywhere.

mod distribution;
mod eigen;
mod gaussian;

use regatta_schemas::study::StudyFile;
use regatta_schemas::{Params, TrialId};

use self::distribution::Distribution;
use super::Sampler;
use super::arrivals::Arrivals;
use super::history::{History, Observed};
use super::neighbour::uniform;
use super::random::is_by_prior;
use super::standing::ranked;
use super::tried::Tried;
use crate::news::News;
use crate::random::{Purpose, Stream};
use crate::space::{Axis, Belief, Space, value_at};

/// The population doubles no more often.
const DOUBLINGS_MAX: u32 = 10;
/// Generations of which half are uniform, where there are priors.
const DOUBTFUL: u64 = 2;

#[derive(Debug)]
pub struct CmaEs {
    seed: u64,
    history: History,
    tried: Tried,
    arrivals: Arrivals,
    axes: Vec<Axis>,
    restarts: u32,
    /// Trials before it belong to what was before the restart.
    first: TrialId,
    /// Trials that count for the next generation.
    generation: Vec<TrialId>,
    distribution: Distribution,
}

impl CmaEs {
    pub fn new(study: &StudyFile) -> Self {
        let space = Space::new(&study.space);
        let axes: Vec<Axis> = space.parameters().map(|(_, parameter)| Axis::of(&parameter.domain)).collect();
        let beliefs: Vec<Option<&Belief>> = space.parameters().map(|(name, _)| space.belief(name)).collect();
        let distribution = Distribution::believed(&axes, &beliefs);
        Self {
            seed: study.seed,
            tried: Tried::new(space.clone(), study.seed),
            history: History::new(space, study.objective.goal),
            arrivals: Arrivals::new(population(axes.len(), 0) / 2),
            restarts: 0,
            first: TrialId(0),
            generation: Vec::new(),
            distribution,
            axes,
        }
    }

    fn population(&self) -> usize {
        population(self.axes.len(), self.restarts)
    }

    fn draw(&self, index: u64, redraw: u64) -> Params {
        let mut stream = Stream::new(Purpose { study_seed: self.seed, name: "cma-es", index, redraw });
        let space = self.history.space();
        let is_doubtful = space.has_priors() && index < DOUBTFUL * population(self.axes.len(), 0) as u64;
        if is_doubtful && !is_by_prior(space, index) {
            return uniform(space, &mut stream);
        }
        let point = self.distribution.draw(1.0 / self.population() as f64, &mut stream);
        let mut coordinates = space.parameters().map(|(name, _)| name).zip(point);
        space.configure(|name, domain| {
            let (_, coordinate) =
                coordinates.find(|(of, _)| *of == name).expect("configure asks in the order of the parameters");
            value_at(domain, coordinate)
        })
    }

    fn next_generation(&mut self) {
        let trials: Vec<&Observed> = self.generation.iter().filter_map(|trial| self.history.get(*trial)).collect();
        let points: Vec<_> = ranked(&trials).into_iter().map(|trial| trials[trial].point.as_slice()).collect();
        self.distribution.update(&points);
        self.generation.clear();
        if self.distribution.is_spent() {
            self.restarts = self.restarts.saturating_add(1);
            let index = u64::from(self.restarts);
            let mut stream = Stream::new(Purpose { study_seed: self.seed, name: "cma-es: restart", index, redraw: 0 });
            self.distribution = Distribution::new(&self.axes, || stream.unit());
            self.first = self.arrivals.next();
        }
    }
}

/// Trials of a generation.
fn population(parameters: usize, restarts: u32) -> usize {
    (4 + (3.0 * (parameters.max(1) as f64).ln()) as usize) << restarts.min(DOUBLINGS_MAX)
}

impl Sampler for CmaEs {
    fn propose(&self, index: u64, pending: &[&Params]) -> Option<Params> {
        self.tried.first_new(index, pending, |redraw| self.draw(index, redraw))
    }

    fn observe(&mut self, news: News) {
        if self.history.knows(news) {
            return;
        }
        self.history.observe(news);
        self.tried.observe(news);
        let arrived = self.arrivals.observe(news, &self.history);
        self.generation.extend(arrived.into_iter().filter(|trial| *trial >= self.first));
        if self.generation.len() >= self.population().max(self.arrivals.open() / 2) {
            self.next_generation();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::news::Measurement;
    use crate::samplers::tests::study;
    use crate::time::Time;
    use regatta_schemas::reasons::Outcome;
    use serde_json::json;

    const LANES: usize = 8;

    fn numbers(count: usize, seed: u64) -> StudyFile {
        let range = json!({"type": "float", "low": -2.0, "high": 3.0});
        study((0..count).map(|n| (format!("x{n}"), range.clone())).collect(), seed)
    }

    /// The least loss of so many trials, eight at a time, the youngest and the oldest ending in turns.
    fn least(study: &StudyFile, trials: u32, loss: impl Fn(&[f64]) -> f64) -> f64 {
        let mut sampler = CmaEs::new(study);
        let (mut running, mut least) = (Vec::new(), f64::INFINITY);
        for index in 0..trials {
            let params = sampler.propose(index.into(), &[]).unwrap();
            let trial = TrialId(index);
            sampler.observe(News::Proposed { trial, index: Some(index.into()), params: &params, at: Time::default() });
            running.push((trial, params.values().filter_map(|value| value.as_f64()).collect::<Vec<_>>()));
            if running.len() == LANES {
                let (trial, point) = running.remove(if index % 2 == 0 { 0 } else { LANES - 1 });
                let (value, metrics) = (loss(&point), &Default::default());
                least = least.min(value);
                sampler.observe(News::Measured(Measurement { trial, resource: 1, value, ranked: value, metrics }));
                sampler.observe(News::Ended { trial, outcome: Outcome::Finished });
            }
        }
        least
    }

    #[test]
    fn the_least_of_a_sphere_and_of_a_bent_valley_are_found_with_eight_pending() {
        let sphere = |x: &[f64]| x.iter().map(|x| (x - 1.3).powi(2)).sum();
        let valley = |x: &[f64]| 100.0 * (x[1] - x[0] * x[0]).powi(2) + (1.0 - x[0]).powi(2);
        for seed in 0..5 {
            let found = least(&numbers(5, seed), 1_500, sphere);
            assert!(found < 1e-8, "sphere, seed {seed}: {found}");
            let found = least(&numbers(2, seed), 1_500, valley);
            assert!(found < 1e-6, "valley, seed {seed}: {found}");
        }
    }

    #[test]
    fn a_restart_leaves_a_poor_basin() {
        // A wide basin whose least is 0.5, and a narrow one with 0 at the side.
        let basins = |x: &[f64]| {
            let wide = 0.5 + 0.1 * x.iter().map(|x| x * x).sum::<f64>();
            let narrow = x.iter().map(|x| 2.0 * (x - 2.0).powi(2)).sum::<f64>();
            wide.min(narrow)
        };
        for seed in 0..5 {
            let found = least(&numbers(2, seed), 5_000, basins);
            assert!(found < 0.25, "seed {seed}: {found}");
        }
    }
}
