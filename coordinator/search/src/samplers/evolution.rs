//! Regularized evolution (Real, Aggarwal, Huang and Le, "Regularized evolution for image classifier architecture
//! search", 2019), without a barrier.
//!
//! The population is the latest trials that count (`arrivals`): the oldest dies, not the worst. A configuration is the
//! mutation of the best of a few members drawn at random. Trials that got to different resources compare as `standing`
//! says.

use std::collections::VecDeque;

use regatta_schemas::study::StudyFile;
use regatta_schemas::{Params, TrialId};

use super::Sampler;
use super::arrivals::Arrivals;
use super::history::{History, Observed};
use super::neighbour::{Reach, anywhere, neighbour};
use super::standing::ranked;
use super::tried::Tried;
use crate::news::News;
use crate::random::{Purpose, Stream};
use crate::space::Space;

/// Of the study's trials, one in so many makes the first population.
const POPULATION_PARTS: usize = 10;
const POPULATION_MIN: usize = 10;
const POPULATION_MAX: usize = 100;
/// One member in so many is drawn for a tournament, as in the paper.
const TOURNAMENT_PARTS: usize = 4;
const TOURNAMENT_MIN: usize = 5;
/// Of each parameter to change, besides the one that always does.
const CHANCE: f64 = 0.1;

#[derive(Debug)]
pub struct Evolution {
    seed: u64,
    size: usize,
    tournament: usize,
    history: History,
    tried: Tried,
    arrivals: Arrivals,
    /// The oldest first.
    population: VecDeque<TrialId>,
}

impl Evolution {
    pub fn new(study: &StudyFile) -> Self {
        let space = Space::new(&study.space);
        let size = (study.budget.trials as usize / POPULATION_PARTS).clamp(POPULATION_MIN, POPULATION_MAX);
        let tournament = (size / TOURNAMENT_PARTS).max(TOURNAMENT_MIN);
        Self {
            seed: study.seed,
            size,
            tournament,
            tried: Tried::new(space.clone(), study.seed),
            history: History::new(space, study.objective.goal),
            arrivals: Arrivals::new(tournament),
            population: VecDeque::with_capacity(size),
        }
    }

    fn draw(&self, index: u64, redraw: u64) -> Params {
        let mut stream = Stream::new(Purpose { study_seed: self.seed, name: "evolution", index, redraw });
        match self.parent(&mut stream) {
            Some(parent) => {
                let reach = Reach::drawn(CHANCE, &mut stream);
                neighbour(self.history.space(), &parent.params, reach, &mut stream)
            }
            None => anywhere(self.history.space(), &mut stream),
        }
    }

    /// The winner of a tournament; None: the population is not complete, or nobody in the tournament lives.
    fn parent(&self, stream: &mut Stream) -> Option<&Observed> {
        if self.population.len() < self.size {
            return None;
        }
        let mut drawn = |_| self.history.get(self.population[stream.below(self.size)]);
        let members: Vec<&Observed> = (0..self.tournament).filter_map(&mut drawn).collect();
        let winner = members[*ranked(&members).first()?];
        (!winner.has_failed()).then_some(winner)
    }
}

impl Sampler for Evolution {
    fn propose(&self, index: u64, pending: &[&Params]) -> Option<Params> {
        self.tried.first_new(index, pending, |redraw| self.draw(index, redraw))
    }

    fn observe(&mut self, news: News) {
        if self.history.knows(news) {
            return;
        }
        self.history.observe(news);
        self.tried.observe(news);
        for trial in self.arrivals.observe(news, &self.history) {
            if self.population.len() == self.size {
                self.population.pop_front();
            }
            self.population.push_back(trial);
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

    #[test]
    fn the_oldest_die_and_the_population_keeps_its_size() {
        let study = study(json!({"x": {"type": "float", "low": 0.0, "high": 1.0}}), 3);
        let mut sampler = Evolution::new(&study);
        for index in 0..100 {
            let params = sampler.propose(index.into(), &[]).unwrap();
            let trial = TrialId(index);
            sampler.observe(News::Proposed { trial, index: Some(index.into()), params: &params, at: Time::default() });
            let (value, metrics) = (f64::from(index), &Default::default());
            let outcome = if index % 7 == 0 { Outcome::Failed } else { Outcome::Finished };
            sampler.observe(News::Measured(Measurement { trial, resource: 1, value, ranked: value, metrics }));
            sampler.observe(News::Ended { trial, outcome });
            let oldest = (index + 1).saturating_sub(POPULATION_MIN as u32);
            assert!(sampler.population.iter().copied().eq((oldest..=index).map(TrialId)));
        }
    }

    #[test]
    fn a_parent_is_better_than_most_and_has_not_failed() {
        let study = study(json!({"x": {"type": "float", "low": 0.0, "high": 1.0}}), 3);
        let mut sampler = Evolution::new(&study);
        for index in 0..POPULATION_MIN as u32 {
            let (trial, params) = (TrialId(index), sampler.propose(index.into(), &[]).unwrap());
            sampler.observe(News::Proposed { trial, index: Some(index.into()), params: &params, at: Time::default() });
            let (value, metrics) = (f64::from(index), &Default::default());
            sampler.observe(News::Measured(Measurement { trial, resource: 1, value, ranked: value, metrics }));
            let outcome = if index == 0 { Outcome::Failed } else { Outcome::Finished };
            sampler.observe(News::Ended { trial, outcome });
        }
        let mut stream = Stream::new(Purpose { study_seed: 1, name: "test", index: 0, redraw: 0 });
        let mut chosen = [0; POPULATION_MIN];
        for _ in 0..1_000 {
            if let Some((_, loss)) = sampler.parent(&mut stream).and_then(Observed::last) {
                chosen[loss as usize] += 1;
            }
        }
        assert_eq!(chosen[0], 0, "it failed");
        assert!(chosen[1] > 200 && chosen[1..4].iter().sum::<i32>() > 500, "{chosen:?}");
    }
}
