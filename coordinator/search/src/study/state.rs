//! A study as its log tells it: the fold, and nothing that is not in the log.
//!
//! Live or in a replay, the same records give the same state. Samplers and stoppers are part of the fold; so is the
//! verdict that a stopper reaches at a record, which becomes a trial's [`Due`].

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use regatta_schemas::api::StudyStatus;
use regatta_schemas::log::{Best, Lineage, Measured, Point, Proposed, Record, ReportKey, StudyConcluded};
use regatta_schemas::reasons::{OfferReason, Outcome, StopReason, StudyEnd};
use regatta_schemas::study::{Goal, StudyFile};
use regatta_schemas::{AgentId, Attempt, Term, TrialId};

use super::changes::Changes;
use super::convergence::Convergence;
use super::external::external;
use super::failures::Failures;
use super::lanes::LaneClock;
use super::numbers::Numbers;
use super::trial::{Due, Hearing, Phase, Trial};
use crate::news::{Measurement, News};
use crate::objectives::{Objectives, ranked};
use crate::pareto::{Score, ranking};
use crate::samplers::{Sampler, sampler_for};
use crate::stoppers::{Stopper, stopper_for};
use crate::time::Time;

#[derive(Debug, PartialEq)]
pub struct State {
    pub file: StudyFile,
    pub created_at: Time,
    pub is_paused: bool,
    pub conclusion: Option<(StudyConcluded, Time)>,
    /// Why trials were stopped for the study's end; its conclusion follows.
    pub ending: Option<StudyEnd>,
    pub trials: BTreeMap<TrialId, Trial>,
    pub best: Option<Best>,
    /// The numbers of the trials.
    pub numbers: Numbers,
    /// The numbers of the sampler's configurations that were proposed.
    pub indices: Numbers,
    pub lanes: LaneClock,
    pub sampler: Folded<dyn Sampler>,
    pub stopper: Folded<dyn Stopper>,
    pub objectives: Objectives,
    pub convergence: Option<Convergence>,
    pub failures: Failures,
    /// Where an external sampler is to be told of them.
    pub changes: Option<Changes>,
    /// Trials that have ended and whose checkpoints are kept, where the study says of how many.
    kept: BTreeSet<TrialId>,
    /// The checkpoint, of another trial, that the last record left without a use.
    pub surplus: Option<String>,
    /// Views of `trials`, kept so that no event costs a walk over all of them.
    pub waiting: BTreeSet<Turn>,
    pub open: BTreeSet<TrialId>,
    pub unended: BTreeSet<TrialId>,
    pub due: BTreeSet<TrialId>,
    pub paused: BTreeSet<TrialId>,
    /// Those of `open` that callers hold.
    pub called: BTreeSet<TrialId>,
}

/// A trial's place among those that wait: offered before, then by priority, then by age.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Turn {
    is_new: bool,
    priority: Reverse<i32>,
    pub trial: TrialId,
}

/// An algorithm whose state is a fold: equal to another if both show the same.
pub struct Folded<T: ?Sized>(pub Box<T>);

impl<T: Debug + ?Sized> Debug for Folded<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl<T: Debug + ?Sized> PartialEq for Folded<T> {
    fn eq(&self, other: &Self) -> bool {
        format!("{:?}", self.0) == format!("{:?}", other.0)
    }
}

/// What a live coordinator must send because of a record. A replay sends nothing.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    Nothing,
    /// Put the trial before its pool, unless a caller has it; whoever held the attempt before is told to stop.
    Offer {
        fenced: Option<(Attempt, AgentId)>,
    },
    /// The trial has ended by our decision, and an attempt of it may still run.
    StopAttempt,
    /// This agent has no business with the trial any more.
    StopAgent {
        attempt: Attempt,
        agent: AgentId,
        term: Term,
    },
    /// The study is over, for all that still run.
    StopAll(StudyEnd),
}

impl State {
    pub fn new(file: StudyFile, created_at: Time) -> Self {
        Self {
            sampler: Folded(sampler_for(&file)),
            stopper: Folded(stopper_for(&file)),
            objectives: Objectives::new(&file),
            failures: Failures::new(&file),
            convergence: file.budget.converged.map(|converged| Convergence::new(converged, file.objective.goal)),
            changes: external(&file).map(|_| Changes::default()),
            file,
            created_at,
            is_paused: false,
            conclusion: None,
            ending: None,
            trials: BTreeMap::new(),
            best: None,
            numbers: Numbers::default(),
            indices: Numbers::default(),
            lanes: LaneClock::default(),
            kept: BTreeSet::new(),
            surplus: None,
            waiting: BTreeSet::new(),
            open: BTreeSet::new(),
            unended: BTreeSet::new(),
            due: BTreeSet::new(),
            paused: BTreeSet::new(),
            called: BTreeSet::new(),
        }
    }

    pub fn status(&self) -> StudyStatus {
        match (&self.conclusion, self.is_paused) {
            (Some(_), _) => StudyStatus::Concluded,
            (None, true) => StudyStatus::Paused,
            (None, false) => StudyStatus::Running,
        }
    }

    /// Takes in a record of the study's own.
    pub fn apply_to_study(&mut self, record: Record, at: Time) -> Effect {
        if self.conclusion.is_some() {
            return Effect::Nothing;
        }
        match record {
            Record::StudyPaused(_) => self.is_paused = true,
            Record::StudyResumed(_) => self.is_paused = false,
            Record::StudyConcluded(record) => {
                let end = record.reason.clone();
                self.conclusion = Some((record, at));
                return if self.open.is_empty() { Effect::Nothing } else { Effect::StopAll(end) };
            }
            Record::StudyCreated(_)
            | Record::StudyDeleted(_)
            | Record::Proposed(_)
            | Record::Offered(_)
            | Record::Accepted(_)
            | Record::Measured(_)
            | Record::Checkpointed(_)
            | Record::Finished(_)
            | Record::Failed(_)
            | Record::Released(_)
            | Record::Stopped(_)
            | Record::Paused(_)
            | Record::Concluded(_)
            | Record::Unknown => {}
        }
        Effect::Nothing
    }

    /// Takes in a record of a trial.
    pub fn apply_to_trial(&mut self, id: TrialId, record: Record, at: Time) -> Effect {
        self.surplus = None;
        if let Record::Proposed(proposed) = record {
            self.propose(id, proposed, at);
            return Effect::Nothing;
        }
        // The trial is taken out while it changes, and with it its place in the views.
        let Some(mut trial) = self.trials.remove(&id) else { return stop_stranger(&record) };
        self.forget_views(id, &trial);
        let phase_before = trial.phase.clone();
        let lane_before = lane_of(&trial);
        let effect = self.change(id, &mut trial, record, at);
        self.note_lane(lane_before, &trial, at);
        self.tell_of_phase(id, &phase_before, &trial);
        let had_ended = matches!(phase_before, Phase::Ended(_));
        self.enter_views(id, &trial);
        let is_best_lost = trial.phase == Phase::Ended(Outcome::Failed);
        self.trials.insert(id, trial);
        self.keep_checkpoint(id);
        if is_best_lost && !had_ended && self.best.as_ref().is_some_and(|best| best.trial == id) {
            self.best = self.best_of_all();
        }
        effect
    }

    /// Tells whoever follows the trials what became of this one.
    fn tell_of_phase(&mut self, id: TrialId, before: &Phase, trial: &Trial) {
        match (before, &trial.phase) {
            (Phase::Ended(_), _) => {}
            (_, Phase::Ended(outcome)) => {
                self.failures.ended(id, trial);
                self.stopper.0.ended(id, *outcome);
                if !trial.is_heir() {
                    self.sampler.0.observe(News::Ended { trial: id, outcome: *outcome });
                    self.note_change(id);
                }
            }
            (Phase::Held | Phase::Offered, Phase::Paused) => self.stopper.0.paused(id, trial.resource),
            (Phase::Paused, Phase::Offered | Phase::Held) => self.stopper.0.promoted(id),
            (Phase::Waiting(OfferReason::First), Phase::Offered | Phase::Held) => {
                self.stopper.0.begun(id, trial.until);
            }
            _ => {}
        }
        let has_trained = match (before, &trial.phase) {
            (Phase::Held | Phase::Offered, Phase::Paused) => true,
            (Phase::Held | Phase::Offered, Phase::Ended(outcome)) => *outcome != Outcome::Failed,
            _ => false,
        };
        if let (Some(convergence), true, Some(best)) = (&mut self.convergence, has_trained, trial.best) {
            convergence.trained(best, &trial.curve(&self.file.objective.metric));
        }
    }

    fn propose(&mut self, id: TrialId, proposed: Proposed, at: Time) {
        let is_over = self.conclusion.is_some() || self.trials.len() >= self.file.budget.trials as usize;
        if is_over || self.trials.contains_key(&id) {
            return;
        }
        let index = match &proposed.lineage {
            Lineage::Sampled { index, .. } => Some(*index),
            Lineage::Ablated { without, repeat } => {
                self.file.ablation.as_ref().and_then(|ablation| ablation.index(without, *repeat))
            }
            Lineage::Submitted { .. } | Lineage::Inherited { .. } | Lineage::Unknown => None,
        };
        self.numbers.insert(u64::from(id.0));
        if let Some(index) = index {
            self.indices.insert(index);
        }
        if let Lineage::Inherited { replaced, reason, .. } = &proposed.lineage {
            self.make_way(*replaced, reason);
        } else {
            self.sampler.0.observe(News::Proposed { trial: id, index, params: &proposed.params, at });
            self.note_change(id);
        }
        let trial = Trial::new(proposed);
        self.enter_views(id, &trial);
        self.trials.insert(id, trial);
    }

    /// Another trial takes this one's place.
    fn make_way(&mut self, id: TrialId, reason: &StopReason) {
        let Some(trial) = self.trials.get_mut(&id).filter(|trial| !trial.has_ended()) else { return };
        trial.due.get_or_insert_with(|| Due::Stop(reason.clone()));
        self.due.insert(id);
    }

    fn change(&mut self, id: TrialId, trial: &mut Trial, record: Record, at: Time) -> Effect {
        if let Some(key) = record.key() {
            return match trial.hear(&key) {
                Hearing::Counts => self.report(id, trial, record),
                Hearing::Repeated => Effect::Nothing,
                Hearing::Superseded => stop_stranger(&record),
            };
        }
        match record {
            Record::Offered(record) => {
                let fenced = trial.open_tenure().map(|tenure| (trial.attempt, tenure.agent.clone()));
                if trial.offered(&record) {
                    self.lanes.offered(at);
                    return Effect::Offer { fenced };
                }
            }
            Record::Stopped(record) => {
                if let StopReason::StudyEnded { reason } = &record.reason {
                    self.ending.get_or_insert_with(|| reason.clone());
                }
                if trial.stopped(&record) {
                    return Effect::StopAttempt;
                }
            }
            Record::Concluded(record) => {
                if trial.concluded(&record) {
                    return Effect::StopAttempt;
                }
            }
            // A trial is set aside by its agent's last record; a study's own records have no place here.
            Record::Paused(_)
            | Record::StudyCreated(_)
            | Record::StudyPaused(_)
            | Record::StudyResumed(_)
            | Record::StudyConcluded(_)
            | Record::StudyDeleted(_)
            | Record::Proposed(_)
            | Record::Unknown => {}
            Record::Accepted(_)
            | Record::Measured(_)
            | Record::Checkpointed(_)
            | Record::Finished(_)
            | Record::Failed(_)
            | Record::Released(_) => {}
        }
        Effect::Nothing
    }

    /// A record of the agent that holds the current attempt, read for the first time.
    fn report(&mut self, id: TrialId, trial: &mut Trial, record: Record) -> Effect {
        let is_last = matches!(record, Record::Finished(_) | Record::Failed(_) | Record::Released(_));
        let is_in_vain = trial.has_ended() && !is_last;
        match record {
            Record::Accepted(record) => {
                if let Some(tenure) = &mut trial.tenure {
                    tenure.lane = record.lane;
                }
            }
            Record::Measured(record) => self.measure(id, trial, record),
            Record::Checkpointed(record) => trial.checkpointed(&record),
            Record::Finished(record) => trial.finished(&record),
            Record::Failed(record) => trial.failed(&record, self.file.retries),
            Record::Released(record) => trial.released(&record),
            Record::StudyCreated(_)
            | Record::StudyPaused(_)
            | Record::StudyResumed(_)
            | Record::StudyConcluded(_)
            | Record::StudyDeleted(_)
            | Record::Proposed(_)
            | Record::Offered(_)
            | Record::Stopped(_)
            | Record::Paused(_)
            | Record::Concluded(_)
            | Record::Unknown => {}
        }
        if is_in_vain { Effect::StopAttempt } else { Effect::Nothing }
    }

    fn measure(&mut self, id: TrialId, trial: &mut Trial, record: Measured) {
        if let Some(tenure) = trial.tenure.as_mut().filter(|tenure| tenure.lease.is_some()) {
            tenure.reported = record.points.last().cloned().or(tenure.reported.take());
        }
        for point in record.points {
            let is_failing = matches!(trial.due, Some(Due::Fail(_)));
            if trial.phase != Phase::Held || is_failing || self.conclusion.is_some() {
                return;
            }
            self.take_point(id, trial, point);
        }
    }

    fn take_point(&mut self, id: TrialId, trial: &mut Trial, point: Point) {
        let Point { resource, elapsed_s, ref metrics, .. } = point;
        let value = match trial.points.absorb(&point, &self.file.objective.metric) {
            Ok(value) => value,
            Err(failure) => {
                trial.due = Some(Due::Fail(failure));
                return;
            }
        };
        trial.spend(resource, elapsed_s);
        let Some(value) = value else { return };
        self.failures.valued();
        let violation = self.objectives.violation(metrics);
        if violation == Some(0.0) {
            self.note_best(id, trial, value);
        }
        let ranked = ranked(self.goal(), value, violation);
        let measurement = Measurement { trial: id, resource, value, ranked, metrics };
        // What a copy measures comes of all that its parents were trained with: it says nothing of its configuration.
        if !trial.is_heir() {
            self.sampler.0.observe(News::Measured(measurement));
            self.note_change(id);
        }
        let verdict = self.stopper.0.measured(measurement);
        // A trial that is done with its whole resource has nothing left to be stopped for.
        if trial.due.is_none() && resource < self.file.budget.resource {
            trial.due = verdict.map(Due::Stop);
        }
    }

    fn note_change(&mut self, id: TrialId) {
        if let Some(changes) = &mut self.changes {
            changes.note(id);
        }
    }

    fn note_best(&mut self, id: TrialId, trial: &mut Trial, value: f64) {
        let goal = self.goal();
        if trial.best.is_none_or(|best| goal.is_better(value, best)) {
            trial.best = Some(value);
        }
        if self.best.as_ref().is_none_or(|best| goal.is_better(value, best.value)) {
            self.best = Some(Best { trial: id, value });
        }
    }

    /// The trials that keep the constraints and that no other dominates, by what they measured last.
    pub fn front(&self) -> Vec<TrialId> {
        let sound = self.trials.iter().filter(|(_, trial)| trial.phase != Phase::Ended(Outcome::Failed));
        let scored: Vec<(TrialId, Score)> = sound
            .filter_map(|(id, trial)| Some((*id, self.objectives.score(&trial.points.last_metrics()?)?)))
            .filter(|(_, score)| score.violation <= 0.0)
            .collect();
        let is_dominated = |score: &Score| scored.iter().any(|(_, other)| other.dominates(score));
        scored.iter().filter(|(_, score)| !is_dominated(score)).map(|(id, _)| *id).collect()
    }

    /// Whether somebody may ask for what a trial that is stopped for this reason has learnt: it is the best so far, by the
    /// first objective, or had learnt all that it could.
    pub fn wants_weights_of(&self, id: TrialId, reason: &StopReason) -> bool {
        matches!(reason, StopReason::Plateau { .. }) || self.best.as_ref().is_some_and(|best| best.trial == id)
    }

    fn goal(&self) -> Goal {
        self.file.objective.goal
    }

    /// Of more trials that have ended than the study keeps checkpoints of, the worst loses its own.
    fn keep_checkpoint(&mut self, id: TrialId) {
        let Some(most) = self.file.keep_checkpoints else { return };
        let trial = &self.trials[&id];
        if !trial.has_ended() || trial.checkpoint.is_none() {
            return;
        }
        self.kept.insert(id);
        if self.kept.len() <= most as usize {
            return;
        }
        let Some(worst) = self.worst_kept() else { return };
        self.kept.remove(&worst);
        let dropped = self.trials.get_mut(&worst).and_then(|trial| trial.checkpoint.take());
        self.surplus = dropped.filter(|_| worst != id).map(|checkpoint| checkpoint.object);
    }

    /// Those that failed, or have no value that counts, are worse than any other; of equals, the youngest is.
    fn worst_kept(&self) -> Option<TrialId> {
        let score = |id: &TrialId| {
            let trial = self.trials.get(id).filter(|trial| trial.phase != Phase::Ended(Outcome::Failed))?;
            match (self.objectives.are_several(), trial.best) {
                (true, _) => self.objectives.score(&trial.points.last_metrics()?),
                (false, best) => Some(Score { losses: vec![self.goal().loss(best?)], violation: 0.0 }),
            }
        };
        let scored: Vec<(TrialId, Option<Score>)> = self.kept.iter().map(|id| (*id, score(id))).collect();
        if let Some((worst, _)) = scored.iter().rfind(|(_, score)| score.is_none()) {
            return Some(*worst);
        }
        let scores: Vec<&Score> = scored.iter().filter_map(|(_, score)| score.as_ref()).collect();
        let worst = match self.objectives.are_several() {
            true => ranking(&scores).pop()?,
            false => (0..scores.len()).max_by(|a, b| scores[*a].losses[0].total_cmp(&scores[*b].losses[0]))?,
        };
        Some(scored[worst].0)
    }

    /// The best of the trials that did not fail; of equals, the oldest.
    fn best_of_all(&self) -> Option<Best> {
        let sound = self.trials.iter().filter(|(_, trial)| trial.phase != Phase::Ended(Outcome::Failed));
        sound
            .filter_map(|(id, trial)| trial.best.map(|value| Best { trial: *id, value }))
            .reduce(|best, next| if self.goal().is_better(next.value, best.value) { next } else { best })
    }

    fn note_lane(&mut self, before: Option<(AgentId, u32)>, trial: &Trial, at: Time) {
        let after = lane_of(trial);
        if before == after {
            return;
        }
        if let Some((agent, lane)) = before {
            let is_gone = match &trial.phase {
                Phase::Offered | Phase::Waiting(OfferReason::Released { .. }) => true,
                Phase::Waiting(_) | Phase::Held | Phase::Paused | Phase::Failing | Phase::Ended(_) => false,
            };
            self.lanes.freed(&agent, lane, is_gone, at);
        }
        if let Some((agent, lane)) = after {
            self.lanes.taken(&agent, lane, at);
        }
    }

    fn enter_views(&mut self, id: TrialId, trial: &Trial) {
        if matches!(trial.phase, Phase::Waiting(_)) {
            self.waiting.insert(Turn::of(id, trial));
        }
        if trial.is_open() {
            self.open.insert(id);
        }
        if !trial.has_ended() {
            self.unended.insert(id);
        }
        if trial.due.is_some() {
            self.due.insert(id);
        }
        if trial.phase == Phase::Paused {
            self.paused.insert(id);
        }
        if trial.is_called() {
            self.called.insert(id);
        }
    }

    fn forget_views(&mut self, id: TrialId, trial: &Trial) {
        self.waiting.remove(&Turn::of(id, trial));
        self.open.remove(&id);
        self.unended.remove(&id);
        self.due.remove(&id);
        self.paused.remove(&id);
        self.called.remove(&id);
    }
}

impl Turn {
    fn of(id: TrialId, trial: &Trial) -> Self {
        Self { is_new: trial.attempt.0 == 0, priority: Reverse(trial.proposed.priority), trial: id }
    }
}

fn lane_of(trial: &Trial) -> Option<(AgentId, u32)> {
    let tenure = trial.open_tenure().filter(|tenure| tenure.lease.is_none())?;
    Some((tenure.agent.clone(), tenure.lane))
}

/// What to tell the sender of a record that changes nothing: to stop, unless it just said that it did.
fn stop_stranger(record: &Record) -> Effect {
    match record {
        Record::Accepted(_) | Record::Measured(_) | Record::Checkpointed(_) => match record.key() {
            Some(ReportKey { attempt, agent, term, .. }) => Effect::StopAgent { attempt, agent: agent.clone(), term },
            None => Effect::Nothing,
        },
        Record::Finished(_)
        | Record::Failed(_)
        | Record::Released(_)
        | Record::StudyCreated(_)
        | Record::StudyPaused(_)
        | Record::StudyResumed(_)
        | Record::StudyConcluded(_)
        | Record::StudyDeleted(_)
        | Record::Proposed(_)
        | Record::Offered(_)
        | Record::Stopped(_)
        | Record::Paused(_)
        | Record::Concluded(_)
        | Record::Unknown => Effect::Nothing,
    }
}
