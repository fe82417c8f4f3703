//! Conformal quantile regression (Salinas, Golebiowski, Klein, Seeger and Archambeau, "Optimizing hyperparameters with
//! conformal quantile regression", 2023).
//!
//! Of some hundred candidates, anywhere and near the best, each gets one of its estimated quantiles by chance, and the
//! one with the least is proposed: as Thompson sampling would, without assuming anything of the noise. Each trial counts
//! with all it has measured so far (`standing`), running ones too, so that data are there from the first rung on. Pending
//! ones that measured nothing are no data; the chance in the choice keeps proposals apart.

mod model;
mod trees;

use std::fmt;

use regatta_schemas::Params;
use regatta_schemas::study::StudyFile;

use self::model::{LEVELS, Model};
use super::Sampler;
use super::history::{History, Observed};
use super::neighbour::{Reach, anywhere, neighbour};
use super::standing::ranked;
use super::tried::Tried;
use crate::news::News;
use crate::random::{Purpose, Stream};
use crate::space::{Axis, Space};

/// Trials with a measurement, before which configurations are random.
const START_UP: usize = 10;
const CANDIDATES: usize = 400;
/// Half of them lie near the best trials, one of so many, and not more than so many.
const BEST_PARTS: usize = 10;
const BEST_MAX: usize = 8;
/// Of each of their parameters to differ, besides the one that always does.
const CHANCE: f64 = 0.5;
/// Trials that a fit looks at: the latest, and every so many-th of those before.
const LATEST_MAX: usize = 1_000;
const EARLIER_MAX: usize = 1_000;
/// The model is fitted anew when it was told one part in so many more.
const REFIT_PARTS: u64 = 20;

pub struct Cqr {
    seed: u64,
    history: History,
    tried: Tried,
    /// New measurements and ends so far, and when the model was last fitted.
    news: u64,
    news_at_fit: u64,
    fitted: Option<Fitted>,
}

#[derive(Debug)]
struct Fitted {
    model: Model,
    best: Vec<Params>,
}

impl Cqr {
    pub fn new(study: &StudyFile) -> Self {
        let space = Space::new(&study.space);
        Self {
            seed: study.seed,
            tried: Tried::new(space.clone(), study.seed),
            history: History::new(space, study.objective.goal),
            news: 0,
            news_at_fit: 0,
            fitted: None,
        }
    }

    fn stream(&self, name: &str, index: u64, redraw: u64) -> Stream {
        Stream::new(Purpose { study_seed: self.seed, name, index, redraw })
    }

    fn draw(&self, index: u64, redraw: u64) -> Params {
        anywhere(self.history.space(), &mut self.stream("cqr: anywhere", index, redraw))
    }

    fn refit(&mut self) {
        let is_data = |(_, trial): (_, &'_ Observed)| trial.has_failed() || !trial.losses.is_empty();
        let trials: Vec<&Observed> =
            self.history.trials().filter(|&(id, trial)| is_data((id, trial))).map(|(_, trial)| trial).collect();
        if trials.len() < START_UP {
            return;
        }
        let order = ranked(&trials);
        let mut scores = vec![0.0; trials.len()];
        for (place, &trial) in order.iter().enumerate() {
            let share = (place as f64 + 0.5) / trials.len() as f64;
            scores[trial] = (share / (1.0 - share)).ln();
        }
        let taken = taken(trials.len());
        let points: Vec<_> = taken.iter().map(|&trial| trials[trial].point.as_slice()).collect();
        let scores: Vec<f64> = taken.iter().map(|&trial| scores[trial]).collect();
        let axes: Vec<Axis> =
            self.history.space().parameters().map(|(_, parameter)| Axis::of(&parameter.domain)).collect();
        let best = order
            .iter()
            .take((trials.len() / BEST_PARTS).clamp(2, BEST_MAX))
            .map(|&trial| trials[trial].params.clone())
            .collect();
        self.fitted = Some(Fitted { model: Model::fit(&axes, &points, &scores), best });
        self.news_at_fit = self.news;
    }
}

/// Which of the trials a fit looks at.
fn taken(count: usize) -> Vec<usize> {
    let earlier = count.saturating_sub(LATEST_MAX);
    let stride = earlier.div_ceil(EARLIER_MAX).max(1);
    (0..earlier).step_by(stride).chain(earlier..count).collect()
}

impl Fitted {
    /// Candidates, the most promising first.
    fn candidates(&self, history: &History, stream: &mut Stream) -> Vec<Params> {
        let mut found: Vec<(f64, Params)> = (0..CANDIDATES)
            .map(|candidate| {
                let params = if candidate % 2 == 0 {
                    anywhere(history.space(), stream)
                } else {
                    let parent = &self.best[stream.below(self.best.len())];
                    let reach = Reach::drawn(CHANCE, stream);
                    neighbour(history.space(), parent, reach, stream)
                };
                let row = self.model.row(&history.point(&params));
                (self.model.quantile(stream.below(LEVELS), &row), params)
            })
            .collect();
        found.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        found.into_iter().map(|(_, params)| params).collect()
    }
}

impl Sampler for Cqr {
    fn propose(&self, index: u64, pending: &[&Params]) -> Option<Params> {
        let stream = || self.stream("cqr: candidates", index, 0);
        let candidates = self.fitted.as_ref().map(|fitted| fitted.candidates(&self.history, &mut stream()));
        self.tried.first_new(index, pending, |redraw| {
            let candidate = candidates.as_ref().and_then(|candidates| candidates.get(redraw as usize));
            candidate.cloned().unwrap_or_else(|| self.draw(index, redraw))
        })
    }

    fn observe(&mut self, news: News) {
        if self.history.knows(news) {
            return;
        }
        self.history.observe(news);
        self.tried.observe(news);
        if matches!(news, News::Proposed { .. }) {
            return;
        }
        self.news += 1;
        if self.news >= self.news_at_fit + (self.news_at_fit / REFIT_PARTS).max(1) {
            self.refit();
        }
    }
}

/// What it was told; the model follows from that.
impl fmt::Debug for Cqr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cqr")
            .field("seed", &self.seed)
            .field("history", &self.history)
            .field("tried", &self.tried)
            .field("news", &self.news)
            .field("news_at_fit", &self.news_at_fit)
            .finish_non_exhaustive()
    }
}
