//! One trial: what is known of it, and how each record of the log changes that.
//!
//! | phase | record | becomes |
//! | --- | --- | --- |
//! | Waiting | offered (n+1) | Offered, attempt n+1 |
//! | Waiting, Offered, Held, Paused | offered (n+1) to a caller | Held by the caller, attempt n+1; no lane is taken |
//! | Offered | accepted by A, or any record of A, the first | Held by A |
//! | Offered, Held | offered (n+1): the lease was lost | Offered, attempt n+1; whoever held n is fenced |
//! | Held | measured, checkpointed | Held |
//! | Held | finished | Ended (finished); lane free |
//! | Held | released at the rung until which it was offered | Paused; lane free |
//! | Paused | offered (n+1): it was promoted | Offered, attempt n+1 |
//! | Held | released, or failed for a cause that a retry can mend | Waiting; lane free |
//! | Held | the same beyond the limits, or failed for another cause | Failing; lane free |
//! | Waiting, Offered, Held, Paused, Failing | stopped | Ended (stopped); a lane stays taken |
//! | Waiting, Offered, Held, Paused, Failing | concluded | Ended (as it says); a lane stays taken |
//! | Ended | accepted, the first of the attempt | Ended; lane taken, and its agent is told to stop |
//! | Ended (stopped, to be kept) | checkpointed of the holder | Ended, with the newer checkpoint |
//! | Ended | finished, failed, released of the holder | Ended; lane free |
//!
//! Everything else changes nothing: records read before, records of another attempt than the current one, records of
//! an agent that does not hold it.

use std::time::Duration;

use regatta_schemas::api::Failure;
use regatta_schemas::limits::LIMITS;
use regatta_schemas::log::{
    Checkpoint, Checkpointed, Concluded, Failed, Finished, Lineage, Offered, Point, Proposed, Released, ReportKey,
    Stopped,
};
use regatta_schemas::reasons::{FailCause, OfferReason, Outcome, ReleaseReason, StopReason};
use regatta_schemas::{AgentId, Attempt, Sequence, Term};

use super::numbers::Numbers;
use super::points::Points;

/// A trial as the log tells it.
#[derive(Debug, Clone, PartialEq)]
pub struct Trial {
    pub proposed: Proposed,
    pub phase: Phase,
    /// The last one offered; 0 before the first offer.
    pub attempt: Attempt,
    /// In which the current attempt was offered.
    pub term: Term,
    /// Who took the current attempt, once somebody has.
    pub tenure: Option<Tenure>,
    pub points: Points,
    /// The best objective value.
    pub best: Option<f64>,
    /// Epochs done, those of its parents included.
    pub resource: u32,
    pub elapsed_s: f64,
    /// Where another attempt would go on from.
    pub checkpoint: Option<Checkpoint>,
    /// Epochs done at which the current attempt is set aside; None: at the end.
    pub until: Option<u32>,
    /// How often it went on after it had been set aside.
    pub promotions: u32,
    /// Attempts lost with their agents, one after the other, since it last got further.
    pub losses: u32,
    /// Failures that were mended by a retry.
    pub failures: u32,
    pub stop: Option<StopReason>,
    /// Whether a checkpoint is asked of the agent that is told to stop it.
    pub keeps: bool,
    pub failure: Option<Failure>,
    /// What must happen to it by what was read so far, and has not happened yet.
    pub due: Option<Due>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Phase {
    /// To be offered, for this reason.
    Waiting(OfferReason),
    /// In its pool's queue.
    Offered,
    /// An agent trains it.
    Held,
    /// Set aside at a rung; it goes on if it is promoted.
    Paused,
    /// It failed for good; `concluded` is to follow.
    Failing,
    Ended(Outcome),
}

/// A verdict that the log's records lead to.
#[derive(Debug, Clone, PartialEq)]
pub enum Due {
    Stop(StopReason),
    Fail(Failure),
}

/// An agent's hold on the current attempt.
#[derive(Debug, Clone, PartialEq)]
pub struct Tenure {
    pub agent: AgentId,
    pub lane: u32,
    /// Until its last record: the attempt occupies a lane.
    pub is_open: bool,
    /// Of a caller, who takes no lane: how long it may be silent.
    pub lease: Option<Duration>,
    /// The last point that a caller reported.
    pub reported: Option<Point>,
    seen: Numbers,
}

/// What a record of an agent is, by its key alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hearing {
    /// From the holder, about the current attempt, for the first time.
    Counts,
    /// Read before, or after the attempt's last record.
    Repeated,
    /// Of an older attempt, of one that the log forgot, or of an agent that does not hold this one.
    Superseded,
}

impl Trial {
    pub fn new(proposed: Proposed) -> Self {
        let checkpoint = proposed.lineage.checkpoint().cloned();
        let (resource, elapsed_ms) = checkpoint.as_ref().map_or((0, 0), |from| (from.resource, from.elapsed_ms));
        Self {
            proposed,
            phase: Phase::Waiting(OfferReason::First),
            attempt: Attempt::default(),
            term: Term::default(),
            tenure: None,
            points: Points::default(),
            best: None,
            resource,
            elapsed_s: elapsed_ms as f64 / 1e3,
            checkpoint,
            until: None,
            promotions: 0,
            losses: 0,
            failures: 0,
            stop: None,
            keeps: false,
            failure: None,
            due: None,
        }
    }

    /// Whether it goes on from another trial's checkpoint.
    pub fn is_heir(&self) -> bool {
        matches!(self.proposed.lineage, Lineage::Inherited { .. })
    }

    /// Epochs that it was trained itself, those of its parents not counted.
    pub fn epochs_trained(&self) -> u32 {
        self.resource - self.proposed.lineage.checkpoint().map_or(0, |from| from.resource)
    }

    pub fn has_ended(&self) -> bool {
        matches!(self.phase, Phase::Ended(_))
    }

    /// Whether an attempt of it takes, or is about to take, a lane.
    pub fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Offered) || self.open_tenure().is_some()
    }

    /// The values of this metric, by ascending step.
    pub fn curve(&self, metric: &str) -> Vec<f64> {
        self.points.curve(metric)
    }

    pub fn open_tenure(&self) -> Option<&Tenure> {
        self.tenure.as_ref().filter(|tenure| tenure.is_open)
    }

    /// Whether a caller holds it, in the place of a lane.
    pub fn is_called(&self) -> bool {
        self.open_tenure().is_some_and(|tenure| tenure.lease.is_some())
    }

    /// The number of the holder's next record.
    pub fn next_sequence(&self) -> Sequence {
        self.tenure.as_ref().map_or(Sequence(0), |tenure| Sequence(tenure.seen.next()))
    }

    /// Whether the record took effect.
    pub fn offered(&mut self, record: &Offered) -> bool {
        let may_be_offered = match self.phase {
            Phase::Waiting(_) | Phase::Offered | Phase::Held | Phase::Paused => record.attempt > self.attempt,
            Phase::Failing | Phase::Ended(_) => false,
        };
        if may_be_offered {
            self.promotions += u32::from(self.phase == Phase::Paused);
            self.losses += u32::from(matches!(record.reason, OfferReason::LeaseLost { .. }));
            self.until = record.until;
            self.attempt = record.attempt;
            self.term = record.term;
            self.phase = if record.caller.is_some() { Phase::Held } else { Phase::Offered };
            self.tenure = record.caller.as_ref().map(|caller| Tenure {
                agent: caller.agent.clone(),
                lane: 0,
                is_open: true,
                lease: Some(Duration::from_secs(caller.lease_s.into())),
                reported: None,
                seen: Numbers::default(),
            });
        }
        may_be_offered
    }

    /// Takes note of a record's key. The first agent heard of in an attempt holds it: `accepted` is the first
    /// that an agent sends, and its other records prove that it did.
    pub fn hear(&mut self, key: &ReportKey<'_>) -> Hearing {
        let ReportKey { attempt, term, sequence, agent } = *key;
        if attempt != self.attempt || attempt == Attempt::default() || !term.may_be(self.term) {
            return Hearing::Superseded;
        }
        let tenure = self.tenure.get_or_insert_with(|| Tenure {
            agent: agent.clone(),
            lane: 0,
            is_open: true,
            lease: None,
            reported: None,
            seen: Numbers::default(),
        });
        if tenure.agent != *agent {
            return Hearing::Superseded;
        }
        if self.phase == Phase::Offered {
            self.phase = Phase::Held;
        }
        if tenure.seen.insert(sequence.0) && tenure.is_open { Hearing::Counts } else { Hearing::Repeated }
    }

    pub fn finished(&mut self, record: &Finished) {
        self.close_tenure();
        if self.phase == Phase::Held {
            self.spend(record.resource, record.elapsed_s);
            self.end(Outcome::Finished);
        }
    }

    /// `retries`: how often the study's file allows a failure to be mended.
    pub fn failed(&mut self, record: &Failed, retries: u32) {
        self.close_tenure();
        if self.phase != Phase::Held {
            return;
        }
        if record.cause == FailCause::Checkpoint {
            // It would break the next attempt as well: that one begins afresh.
            self.checkpoint = None;
        }
        let failure = Failure { cause: record.cause, detail: record.detail.clone() };
        // From the beginning, a copy would be another trial than it says.
        let is_lost = record.cause == FailCause::Checkpoint && self.is_heir();
        if !is_lost && record.cause.can_be_mended_by_a_retry() && self.failures < retries && !self.attempts_are_spent()
        {
            self.failures += 1;
            self.phase = Phase::Waiting(OfferReason::Retry { failure: record.cause });
        } else {
            self.fail(failure);
        }
    }

    pub fn released(&mut self, record: &Released) {
        self.close_tenure();
        if self.phase != Phase::Held {
            return;
        }
        self.resource = self.resource.max(record.resource);
        if record.reason == ReleaseReason::Paused {
            self.phase = Phase::Paused;
        } else if self.attempts_are_spent() {
            self.fail(self.attempts_spent());
        } else {
            self.phase = Phase::Waiting(OfferReason::Released { agent: record.agent.clone() });
        }
    }

    pub fn checkpointed(&mut self, record: &Checkpointed) {
        let new = &record.checkpoint;
        let is_newer = |old: &Checkpoint| (new.resource, new.step) >= (old.resource, old.step);
        let may_change = self.phase == Phase::Held || self.keeps;
        if may_change && self.checkpoint.as_ref().is_none_or(is_newer) {
            if self.checkpoint.as_ref().is_none_or(|old| (new.resource, new.step) > (old.resource, old.step)) {
                self.losses = 0;
            }
            self.checkpoint = Some(new.clone());
        }
    }

    /// Whether the record took effect.
    pub fn stopped(&mut self, record: &Stopped) -> bool {
        if self.has_ended() {
            return false;
        }
        self.stop = Some(record.reason.clone());
        self.keeps = record.keep;
        self.end(Outcome::Stopped);
        true
    }

    /// Whether the record took effect.
    pub fn concluded(&mut self, record: &Concluded) -> bool {
        if self.has_ended() {
            return false;
        }
        let failure = record.cause.map(|cause| Failure { cause, detail: record.detail.clone() });
        self.failure = failure.or_else(|| self.failure.take());
        self.end(record.outcome);
        true
    }

    /// It trained so far; both only grow.
    pub fn spend(&mut self, resource: u32, elapsed_s: f64) {
        if resource > self.resource {
            self.losses = 0;
        }
        self.resource = self.resource.max(resource);
        self.elapsed_s = self.elapsed_s.max(elapsed_s);
    }

    /// Why the trial is given up where the agent of its current attempt is lost as well; None: it is not.
    pub fn given_up_with(&self, agent: &AgentId) -> Option<Failure> {
        if self.losses + 1 >= LIMITS.losses_max {
            let detail = format!(
                "it lost its agent in {} attempts in a row without getting any further, last {agent}: it may be what \
                 kills them",
                LIMITS.losses_max
            );
            return Some(Failure { cause: FailCause::AgentLost, detail });
        }
        self.attempts_are_spent().then(|| self.attempts_spent())
    }

    pub fn attempts_are_spent(&self) -> bool {
        self.attempt.0 - self.promotions >= LIMITS.attempts_max
    }

    fn attempts_spent(&self) -> Failure {
        Failure { cause: FailCause::AgentLost, detail: format!("no agent kept it in {} attempts", self.attempt) }
    }

    fn fail(&mut self, failure: Failure) {
        self.phase = Phase::Failing;
        self.due = Some(Due::Fail(failure));
    }

    fn end(&mut self, outcome: Outcome) {
        // A caller has no lane that its last record would free; it learns by its next report.
        if self.is_called() {
            self.close_tenure();
        }
        self.phase = Phase::Ended(outcome);
        self.due = None;
    }

    fn close_tenure(&mut self) {
        if let Some(tenure) = &mut self.tenure {
            tenure.is_open = false;
        }
    }
}
