//! What people are shown: studies, trials and what they wait for, as the api has them.

use regatta_schemas::StudyId;
use regatta_schemas::TrialId;
use regatta_schemas::api::{
    Ancestor, FrontMember, StudyStatus, StudySummary, TrialCounts, TrialList, TrialShown, TrialStatus, TrialSummary,
};
use regatta_schemas::log::Lineage;
use regatta_schemas::reasons::Outcome;

use super::Coordinator;
use crate::study::{Phase, Study, Trial};

impl Coordinator {
    pub(super) fn summaries(&self) -> Vec<StudySummary> {
        let over = self.archive.values().map(|study| study.summary.clone());
        let mut summaries: Vec<_> =
            self.studies.iter().map(|(id, study)| self.summary(id, study)).chain(over).collect();
        summaries.sort_by(|one, other| one.study.cmp(&other.study));
        summaries
    }

    /// A study in one line. What it waits for is known only to a coordinator that hears its fleet.
    pub fn summary(&self, id: &StudyId, study: &Study) -> StudySummary {
        let state = study.state();
        let conclusion = state.conclusion.as_ref();
        let best = conclusion.map_or_else(|| state.best.clone(), |(conclusion, _)| conclusion.best.clone());
        StudySummary {
            study: id.clone(),
            name: state.file.name.clone(),
            status: state.status(),
            waiting_for: self.waiting_for(study),
            trouble: conclusion.is_none().then(|| self.fleet.trouble_of(id)).flatten(),
            objective: state.file.objective.clone(),
            trials: study.trial_counts(),
            trials_max: state.file.budget.trials,
            resource_spent: state.trials.values().map(|trial| u64::from(trial.epochs_trained())).sum(),
            ancestors: best.as_ref().map_or_else(Vec::new, |best| study.ancestors(best.trial)),
            best,
            front: study.front(),
            end: conclusion.map(|(conclusion, _)| conclusion.reason.clone()),
            created_at_ms: state.created_at.as_millis(),
            ended_at_ms: conclusion.map(|(_, at)| at.as_millis()),
            lanes: state.lanes.used(),
        }
    }

    /// Why a study that is not concluded trains nothing.
    fn waiting_for(&self, study: &Study) -> Option<String> {
        match study.state().status() {
            StudyStatus::Concluded | StudyStatus::Unknown => return None,
            StudyStatus::Paused => return Some("paused".to_owned()),
            StudyStatus::Running => {}
        }
        let counts = study.trial_counts();
        let has_something_to_do = study.wants_lane() || counts.waiting > 0;
        let pool = study.pool();
        if has_something_to_do && !self.fleet.has_agents(pool) {
            Some(format!("no agent in pool `{pool}`"))
        } else if has_something_to_do && counts.running == 0 {
            Some("no free lane".to_owned())
        } else {
            None
        }
    }
}

impl Study {
    /// With several objectives, the trials that no other dominates.
    fn front(&self) -> Vec<FrontMember> {
        let state = self.state();
        if !state.objectives.are_several() {
            return Vec::new();
        }
        let member = |trial: TrialId| {
            let metrics = state.trials[&trial].points.last_metrics()?;
            Some(FrontMember { trial, values: state.objectives.values(&metrics) })
        };
        state.front().into_iter().filter_map(member).collect()
    }

    /// The trials that this one goes on from, its parent first.
    fn ancestors(&self, trial: TrialId) -> Vec<Ancestor> {
        let parent = |of: TrialId| match &self.state().trials.get(&of)?.proposed.lineage {
            Lineage::Inherited { parent, checkpoint, .. } if *parent < of => {
                Some(Ancestor { trial: *parent, resource: checkpoint.resource })
            }
            _ => None,
        };
        std::iter::successors(parent(trial), |ancestor| parent(ancestor.trial)).collect()
    }

    fn trial_counts(&self) -> TrialCounts {
        let mut counts = TrialCounts::default();
        for trial in self.state().trials.values() {
            match trial.status() {
                TrialStatus::Waiting => counts.waiting += 1,
                TrialStatus::Running => counts.running += 1,
                TrialStatus::Paused => counts.paused += 1,
                TrialStatus::Finished => counts.finished += 1,
                TrialStatus::Stopped => counts.stopped += 1,
                TrialStatus::Failed | TrialStatus::Unknown => counts.failed += 1,
            }
        }
        counts
    }

    /// Every trial in one line, by number.
    pub fn trial_list(&self) -> TrialList {
        TrialList { trials: self.state().trials.iter().map(|(id, trial)| trial.summary(*id)).collect() }
    }

    /// One trial with its curve.
    pub fn trial_shown(&self, id: TrialId) -> Option<TrialShown> {
        let trial = self.state().trials.get(&id)?;
        let (points, checkpoint) = (trial.points.iter().collect(), trial.checkpoint.clone());
        Some(TrialShown { summary: trial.summary(id), points, checkpoint })
    }
}

impl Trial {
    fn status(&self) -> TrialStatus {
        match &self.phase {
            Phase::Waiting(_) | Phase::Offered => TrialStatus::Waiting,
            Phase::Held => TrialStatus::Running,
            Phase::Paused => TrialStatus::Paused,
            Phase::Failing | Phase::Ended(Outcome::Failed) => TrialStatus::Failed,
            Phase::Ended(Outcome::Finished) => TrialStatus::Finished,
            Phase::Ended(Outcome::Stopped) => TrialStatus::Stopped,
            Phase::Ended(Outcome::Unknown) => TrialStatus::Unknown,
        }
    }

    fn summary(&self, trial: TrialId) -> TrialSummary {
        TrialSummary {
            trial,
            status: self.status(),
            params: self.proposed.params.clone(),
            lineage: self.proposed.lineage.clone(),
            attempt: self.attempt,
            agent: self.tenure.as_ref().map(|tenure| tenure.agent.clone()),
            resource: self.resource,
            elapsed_s: self.elapsed_s,
            best: self.best,
            metrics: self.points.last_metrics().unwrap_or_default(),
            stop: self.stop.clone(),
            failure: self.failure.clone(),
            labels: self.proposed.labels.clone(),
        }
    }
}
