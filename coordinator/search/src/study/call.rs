//! Attempts that somebody trains in a loop of their own: handed out on request, in the place of a lane, and reported
//! through the api.
//!
//! A caller is an agent as far as the log goes: its records are written in its name. It says beforehand how long it may be
//! silent, and learns by the answer to a report that it may stop.

use regatta_schemas::api::{Fault, OwnEnd, OwnPoint, TrialObserve, TrialSuggested};
use regatta_schemas::log::{Caller, Failed, Finished, Measured, Offered, Point, Record, Released};
use regatta_schemas::reasons::{FailCause, ReleaseReason, StopReason};
use regatta_schemas::{Sequence, TrialId};

use super::trial::Tenure;
use super::{Command, Study};
use crate::time::Time;

/// Why a caller gets no trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoSuggestion {
    /// There is none to train just now.
    NothingNow,
    /// Who proposes is asked for each lane, and answers when the caller would not wait any more.
    ExternalSampler,
    /// The recipe cannot take the configuration: the trial fails.
    Untrainable,
}

impl Study {
    /// Hands out the trial that a free lane would get.
    ///
    /// # Errors
    /// Why there is none.
    pub fn suggest(&mut self, now: Time, caller: Caller) -> Result<TrialSuggested, NoSuggestion> {
        if !self.wants_lane() {
            return Err(NoSuggestion::NothingNow);
        }
        let lease_s = caller.lease_s;
        let trial = match self.next_waiting().or_else(|| self.promotion()) {
            Some(trial) => {
                self.offer_again(trial, Some(caller));
                trial
            }
            None if self.is_asked_elsewhere(self.next_index()) => return Err(NoSuggestion::ExternalSampler),
            None => {
                let trial = self.next_trial();
                self.propose_own(self.next_index(), None, Some(caller));
                trial
            }
        };
        self.end_if_over(now);
        if self.intents.is_exhausted && !self.intents.called.contains(&trial) {
            return Err(NoSuggestion::NothingNow);
        }
        self.suggested(trial, lease_s).ok_or(NoSuggestion::Untrainable)
    }

    /// What was just decided of the trial, if it was offered.
    fn suggested(&self, trial: TrialId, lease_s: u32) -> Option<TrialSuggested> {
        let decided = |record: &Command| match record {
            Command::Append { trial: of, record } if *of == Some(trial) => Some(record.clone()),
            Command::Append { .. } | Command::Offer(_) | Command::Stop { .. } | Command::Ask { .. } => None,
        };
        let decided: Vec<Record> = self.commands.iter().filter_map(decided).collect();
        let offered: &Offered = decided.iter().rev().find_map(|record| match record {
            Record::Offered(offered) => Some(offered),
            _ => None,
        })?;
        let known = self.state.trials.get(&trial);
        let proposed = known.map(|trial| &trial.proposed).or_else(|| {
            decided.iter().find_map(|record| match record {
                Record::Proposed(proposed) => Some(proposed),
                _ => None,
            })
        })?;
        Some(TrialSuggested {
            study: self.id.clone(),
            trial,
            attempt: offered.attempt,
            term: offered.term,
            params: proposed.params.clone(),
            seed: proposed.seed,
            resource: offered.until.unwrap_or(self.state.file.budget.resource),
            trained: known.map_or(0, |trial| trial.resource),
            lease_s,
        })
    }

    /// The caller's hold on a trial that is there.
    ///
    /// # Errors
    /// Why it may stop: it does not hold the attempt.
    fn held(&self, request: &TrialObserve) -> Result<&Tenure, StopReason> {
        let trial = &self.state.trials[&request.trial];
        if trial.attempt != request.attempt || !request.term.may_be(trial.term) {
            return Err(StopReason::Superseded);
        }
        trial.open_tenure().filter(|tenure| tenure.lease.is_some()).ok_or_else(|| {
            let failed = trial.failure.as_ref().map(|failure| StopReason::Failed { cause: failure.cause });
            trial.stop.clone().or(failed).unwrap_or(StopReason::Superseded)
        })
    }

    /// The points that a caller who holds the trial cannot mean: beyond the trial's resource, or not after what it reported
    /// before. It may say its last point again, or more of it, and a whole report that ends with it, since an answer can
    /// be lost.
    pub fn misreported(&self, request: &TrialObserve) -> Vec<Fault> {
        let Ok(tenure) = self.held(request) else { return Vec::new() };
        let most = self.state.file.budget.resource;
        let mut faults = Vec::new();
        let is_last = |point: &OwnPoint| tenure.reported.as_ref().is_some_and(|last| agrees(point, last));
        let mut before = match &tenure.reported {
            Some(last) if !request.points.last().is_some_and(is_last) => last.resource,
            _ => 0,
        };
        for (place, point) in request.points.iter().enumerate() {
            let resource = point.resource;
            let is_said_again = place == 0 && is_last(point);
            if resource > most {
                let problem = format!("is {resource}, beyond the trial's {most} epochs");
                faults.push(Fault::new(format!("points[{place}].resource"), problem, format!("give at most {most}")));
            } else if resource <= before && !is_said_again {
                let problem = format!("is {resource}, and {before} was reported before");
                faults.push(Fault::new(format!("points[{place}].resource"), problem, "report epochs as they are done"));
            }
            before = before.max(resource);
        }
        faults
    }

    /// Writes down what a caller reports of a trial that is there. The answer is why it may stop: it does not hold the
    /// attempt.
    pub fn observe(&mut self, request: &TrialObserve) -> Option<StopReason> {
        let tenure = match self.held(request) {
            Ok(tenure) => tenure,
            Err(reason) => return Some(reason),
        };
        let (id, trial) = (request.trial, &self.state.trials[&request.trial]);
        let (attempt, term, agent) = (trial.attempt, trial.term, tenure.agent.clone());
        let last = request.points.last();
        let resource = last.map_or(0, |point| point.resource).max(trial.resource);
        let elapsed_s = last.map_or(0.0, |point| point.elapsed_s).max(trial.elapsed_s);
        let is_at_rung = trial.until.is_some_and(|until| until < self.state.file.budget.resource);
        self.intents.lost.remove(&id);
        if !request.points.is_empty() {
            let (sequence, points) = (self.next_sequence(id), request.points.iter().map(point).collect());
            let measured = Measured { attempt, term, sequence, agent: agent.clone(), points };
            self.append(Some(id), Record::Measured(measured));
        }
        let end = request.end?;
        let sequence = self.next_sequence(id);
        let released =
            |reason| Record::Released(Released { attempt, term, sequence, agent: agent.clone(), reason, resource });
        let record = match end {
            OwnEnd::Done if is_at_rung => released(ReleaseReason::Paused),
            OwnEnd::Done => Record::Finished(Finished { attempt, term, sequence, agent, resource, elapsed_s }),
            OwnEnd::Failed => {
                let detail = request.detail.clone();
                Record::Failed(Failed { attempt, term, sequence, agent, cause: FailCause::Program, detail })
            }
            OwnEnd::Released => released(ReleaseReason::Draining),
        };
        self.append(Some(id), record);
        None
    }

    /// The number of the attempt's next record, those that are on their way counted.
    fn next_sequence(&mut self, id: TrialId) -> Sequence {
        let trial = &self.state.trials[&id];
        let on_its_way = self.intents.observed.get(&id).filter(|(attempt, _)| *attempt == trial.attempt);
        let next = on_its_way.map_or(Sequence(0), |(_, last)| last.next()).max(trial.next_sequence());
        self.intents.observed.insert(id, (trial.attempt, next));
        next
    }
}

/// Whether it says nothing else of the same moment.
fn agrees(point: &OwnPoint, reported: &Point) -> bool {
    let is_other = |(name, value): (&String, &f64)| reported.metrics.get(name).is_some_and(|known| known != value);
    point.resource == reported.resource && !point.metrics.iter().any(is_other)
}

/// An epoch counts as a step.
fn point(OwnPoint { resource, elapsed_s, metrics }: &OwnPoint) -> Point {
    Point { step: (*resource).into(), resource: *resource, elapsed_s: *elapsed_s, metrics: metrics.clone() }
}
