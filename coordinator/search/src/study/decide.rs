//! What a study decides: what to close, whether to end, what to do with a free lane.
//!
//! Each decision is appended and kept as an intent; none changes the state.

use std::collections::BTreeSet;
use std::time::Duration;

use regatta_schemas::api::Failure;
use regatta_schemas::log::{Caller, Concluded, Lineage, Offered, Proposed, Record, Stopped, StudyConcluded};
use regatta_schemas::reasons::{AskFailure, OfferReason, Outcome, StopReason, StudyEnd};
use regatta_schemas::recipe::Recipe;
use regatta_schemas::{Attempt, Params, TrialId};

use super::convergence::Convergence;
use super::intents::{Loss, Proposal, Sampled};
use super::{Due, Phase, Study};
use crate::random::repeat_seed;
use crate::stoppers::{Chances, Heir, Parent};
use crate::time::Time;

impl Study {
    pub(super) fn close_what_is_due(&mut self) {
        let due: Vec<TrialId> = self.state.due.difference(&self.intents.closings).copied().collect();
        for id in due {
            if let Some(due) = self.state.trials[&id].due.clone() {
                self.close(id, due);
            }
        }
    }

    /// Ends what is set aside and can never go on.
    pub(super) fn close_what_is_hopeless(&mut self) {
        for trial in self.state.stopper.0.hopeless() {
            if self.is_free(trial)
                && let Some(reason) = self.state.stopper.0.outranked(trial)
            {
                self.close(trial, Due::Stop(reason));
            }
        }
    }

    pub(super) fn end_if_over(&mut self, now: Time) {
        if self.intents.ending.is_none() && self.end().is_none() {
            self.intents.ending = self.end_due(now);
        }
        let Some(reason) = self.end().cloned() else { return };
        self.dialogue.end();
        let running: Vec<TrialId> = self.state.unended.difference(&self.intents.closings).copied().collect();
        for trial in running {
            let outranked = self.state.paused.contains(&trial).then(|| self.state.stopper.0.outranked(trial)).flatten();
            self.close(trial, Due::Stop(outranked.unwrap_or(StopReason::StudyEnded { reason: reason.clone() })));
        }
        let is_concluded = self.state.conclusion.is_some() || self.intents.is_concluded;
        if !is_concluded && self.state.unended.is_empty() {
            self.intents.is_concluded = true;
            let best = self.state.best.clone();
            self.append(None, Record::StudyConcluded(StudyConcluded { reason, best }));
        }
    }

    /// The end that the state calls for.
    fn end_due(&self, now: Time) -> Option<StudyEnd> {
        let (state, budget) = (&self.state, &self.state.file.budget);
        if let (Some(target), Some(best)) = (budget.target, &state.best)
            && !state.file.objective.goal.is_better(target, best.value)
        {
            return Some(StudyEnd::TargetReached { target, value: best.value });
        }
        if let (Some(wall_time), Some(wall_time_s)) = (self.wall_time(), budget.wall_time_s)
            && now >= state.created_at + wall_time
        {
            return Some(StudyEnd::WallTime { wall_time_s });
        }
        if let Some((best, min_delta, trials)) = state.convergence.as_ref().and_then(Convergence::reached) {
            return Some(StudyEnd::Converged { best, min_delta, trials });
        }
        if let Some(end) = state.failures.end(state.unended.iter().copied()) {
            return Some(end);
        }
        let trials = state.trials.len() as u32;
        if !self.is_at_rest() || self.promotion().is_some() {
            None
        } else if trials >= budget.trials {
            Some(StudyEnd::BudgetSpent { trials })
        } else if self.intents.is_exhausted {
            Some(StudyEnd::SpaceExhausted { trials })
        } else {
            None
        }
    }

    pub(super) fn wall_time(&self) -> Option<Duration> {
        self.state.file.budget.wall_time_s.map(|seconds| Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
    }

    pub(super) fn may_begin(&self) -> bool {
        !self.dialogue.is_open()
            && self.may_propose()
            && (self.is_at_rest() || self.state.stopper.0.admits(self.next_trial()))
    }

    fn may_propose(&self) -> bool {
        !self.intents.is_exhausted && self.trials_left() > 0
    }

    /// The trial, of those set aside, whose turn it is.
    pub(super) fn promotion(&self) -> Option<TrialId> {
        let is_free = |trial| self.state.paused.contains(&trial) && self.is_free(trial);
        let next = (self.may_propose() && !self.dialogue.is_open()).then(|| self.next_trial());
        let is_last = self.is_at_rest() && !self.may_propose();
        self.state.stopper.0.promotion(Chances { is_free: &is_free, is_last, next })
    }

    /// Whether nothing runs or is on its way: every trial has ended or is set aside.
    fn is_at_rest(&self) -> bool {
        let is_decided = self.intents.lanes.is_empty() && self.intents.proposals() == 0 && !self.dialogue.is_open();
        is_decided && self.state.unended.len() == self.state.paused.len()
    }

    /// Whether no decision about the trial is on its way.
    fn is_free(&self, trial: TrialId) -> bool {
        let is_leaving = self.intents.closings.contains(&trial) || self.intents.is_replaced(trial);
        !self.intents.lanes.contains(&trial) && !is_leaving
    }

    /// The trial whose turn it is: those that lost their agent first.
    pub(super) fn next_waiting(&self) -> Option<TrialId> {
        let is_lost = |trial: &TrialId| self.is_free(*trial) && !self.state.trials[trial].has_ended();
        let lost = self.intents.lost.keys().copied().find(is_lost);
        lost.or_else(|| self.state.waiting.iter().map(|turn| turn.trial).find(|trial| self.is_free(*trial)))
    }

    pub(super) fn use_lane(&mut self, now: Time) {
        if !self.wants_lane() {
            return;
        }
        if let Some(waiting) = self.next_waiting() {
            return self.offer_again(waiting, None);
        }
        match self.promotion() {
            Some(promoted) => match self.heir(promoted) {
                Some(heir) => self.propose_heir(promoted, heir),
                None => self.offer_again(promoted, None),
            },
            None => self.propose_next(now, self.next_index()),
        }
    }

    /// Who takes the place of a trial that could go on, as long as the budget has trials.
    fn heir(&self, trial: TrialId) -> Option<Heir> {
        let parent = |id: TrialId| {
            let of = self.state.trials.get(&id).filter(|of| of.due.is_none() && !of.has_ended())?;
            let is_staying = !self.intents.closings.contains(&id) && !self.intents.is_replaced(id);
            let checkpoint = of.checkpoint.as_ref().filter(|_| is_staying)?;
            Some(Parent { params: &of.proposed.params, checkpoint })
        };
        if self.trials_left() > 0 { self.state.stopper.0.heir(trial, self.next_trial(), &parent) } else { None }
    }

    fn propose_heir(&mut self, replaced: TrialId, heir: Heir) {
        let trial = self.next_trial();
        let Heir { parent, checkpoint, params, until, reason } = heir;
        // A training that goes on is the same but for its values: the order of its rows and what it drops.
        let seed = self.state.trials[&parent].proposed.seed;
        self.intents.propose(trial, Proposal::Inherited { replaced, object: checkpoint.object.clone() });
        let lineage = Lineage::Inherited { parent, checkpoint, replaced, reason };
        let proposed = Proposed { params, lineage, seed, priority: 0, labels: Default::default() };
        self.propose_and_offer(trial, proposed, until, None);
    }

    /// The number of the sampler's next configuration: the first that was not proposed.
    pub(super) fn next_index(&self) -> u64 {
        let on_their_way: BTreeSet<u64> = self.intents.sampled().map(|sampled| sampled.index).collect();
        self.state.indices.first_free(|index| on_their_way.contains(&index))
    }

    /// `fallback`: why the sampler that proposes is the fallback.
    pub(super) fn propose_own(&mut self, index: u64, fallback: Option<AskFailure>, caller: Option<Caller>) {
        let pending: Vec<&Params> = self.intents.sampled().map(|sampled| &sampled.params).collect();
        match self.state.sampler.0.propose(index, &pending) {
            Some(params) => self.propose_as(Sampled { index, params }, fallback, caller),
            None => self.intents.is_exhausted = true,
        }
    }

    /// `caller`: who trains it, where that is no agent.
    pub(super) fn propose_as(&mut self, sampled: Sampled, fallback: Option<AskFailure>, caller: Option<Caller>) {
        let (trial, params) = (self.next_trial(), sampled.params.clone());
        let (lineage, seed) = self.origin(trial, sampled.index, fallback);
        self.intents.propose(trial, Proposal::Sampled(sampled));
        let proposed = Proposed { params, lineage, seed, priority: 0, labels: Default::default() };
        self.propose_and_offer(trial, proposed, self.state.stopper.0.until(trial), caller);
    }

    fn propose_and_offer(&mut self, trial: TrialId, proposed: Proposed, until: Option<u32>, caller: Option<Caller>) {
        let recipe = self.recipe(&proposed.params, &proposed.lineage);
        let resume = proposed.lineage.checkpoint().cloned();
        self.append(Some(trial), Record::Proposed(proposed));
        let (pool, term, reason) = (self.pool().clone(), self.office.unwrap_or_default(), OfferReason::First);
        let offered = Offered { attempt: Attempt(1), term, pool, reason, resume, until, caller };
        self.offer_or_fail(trial, recipe, offered);
    }

    /// Where the sampler's configuration number `index` comes from, and the seed that it is trained with.
    fn origin(&self, trial: TrialId, index: u64, fallback: Option<AskFailure>) -> (Lineage, u64) {
        match self.state.file.ablation.as_ref().and_then(|ablation| ablation.trial(index)) {
            Some((without, repeat)) => {
                let seed = repeat_seed(self.state.file.seed, repeat);
                (Lineage::Ablated { without, repeat }, seed)
            }
            None => (Lineage::Sampled { index, fallback }, self.seed_of(trial)),
        }
    }

    pub(super) fn offer_again(&mut self, id: TrialId, caller: Option<Caller>) {
        let trial = &self.state.trials[&id];
        let reason = match (self.intents.lost.get(&id), &trial.phase) {
            (Some(Loss { agent, silent }), _) => {
                OfferReason::LeaseLost { agent: agent.clone(), silent_ms: silent.as_millis() as u64 }
            }
            (None, Phase::Waiting(reason)) => reason.clone(),
            (None, Phase::Paused) => OfferReason::Promoted { resource: trial.resource },
            (None, Phase::Offered | Phase::Held | Phase::Failing | Phase::Ended(_)) => OfferReason::Unknown,
        };
        let (attempt, resume) = (trial.attempt.next(), trial.checkpoint.clone());
        let until = self.state.stopper.0.until(id);
        let recipe = self.recipe(&trial.proposed.params, &trial.proposed.lineage);
        let (pool, term) = (self.pool().clone(), self.office.unwrap_or_default());
        let offered = Offered { attempt, term, pool, reason, resume, until, caller };
        self.offer_or_fail(id, recipe, offered);
    }

    /// A recipe that cannot be resolved takes the lane until its failure is read back, so that a study whose recipe
    /// is never right fails at the log's pace.
    fn offer_or_fail(&mut self, trial: TrialId, recipe: Result<Recipe, Failure>, offered: Offered) {
        self.intents.lanes.insert(trial);
        if offered.caller.is_some() {
            self.intents.called.insert(trial);
        }
        match recipe {
            Ok(_) => self.append(Some(trial), Record::Offered(offered)),
            Err(failure) => self.close(trial, Due::Fail(failure)),
        }
    }

    /// Ends a trial, once.
    pub(super) fn close(&mut self, trial: TrialId, due: Due) {
        if !self.intents.closings.insert(trial) {
            return;
        }
        let record = match due {
            Due::Stop(reason) => {
                let keep = self.state.wants_weights_of(trial, &reason);
                Record::Stopped(Stopped { reason, keep })
            }
            Due::Fail(Failure { cause, detail }) => {
                Record::Concluded(Concluded { outcome: Outcome::Failed, cause: Some(cause), detail })
            }
        };
        self.append(Some(trial), record);
    }
}
