//! A sampler that begins with what earlier trials measured, as if they had been the study's first ones.
//!
//! To the sampler they have the first numbers; those of the study's own trials follow.

use regatta_schemas::reasons::Outcome;
use regatta_schemas::study::StudyFile;
use regatta_schemas::{Params, TrialId};

use super::Sampler;
use crate::news::{Measurement, News};
use crate::objectives::{Objectives, ranked};
use crate::time::Time;

#[derive(Debug)]
pub struct Earlier {
    count: u32,
    then: Box<dyn Sampler>,
}

impl Earlier {
    /// Tells the sampler all that the study's file says of earlier trials.
    pub fn new(study: &StudyFile, mut then: Box<dyn Sampler>) -> Self {
        let (objectives, objective) = (Objectives::new(study), &study.objective);
        let mut count = 0;
        for earlier in &study.earlier {
            let trial = TrialId(count);
            count += 1;
            then.observe(News::Proposed { trial, index: None, params: &earlier.params, at: Time::default() });
            if let Some(value) = earlier.metrics.get(&objective.metric).copied().filter(|value| value.is_finite()) {
                let ranked = ranked(objective.goal, value, objectives.violation(&earlier.metrics));
                let resource = earlier.resource.unwrap_or(study.budget.resource).min(study.budget.resource);
                then.observe(News::Measured(Measurement { trial, resource, value, ranked, metrics: &earlier.metrics }));
            }
            then.observe(News::Ended { trial, outcome: Outcome::Finished });
        }
        Self { count, then }
    }
}

impl Sampler for Earlier {
    fn propose(&self, index: u64, pending: &[&Params]) -> Option<Params> {
        self.then.propose(index, pending)
    }

    fn observe(&mut self, news: News) {
        let number = |trial: TrialId| TrialId(trial.0.saturating_add(self.count));
        self.then.observe(match news {
            News::Proposed { trial, index, params, at } => News::Proposed { trial: number(trial), index, params, at },
            News::Measured(measured) => News::Measured(Measurement { trial: number(measured.trial), ..measured }),
            News::Ended { trial, outcome } => News::Ended { trial: number(trial), outcome },
        });
    }
}
