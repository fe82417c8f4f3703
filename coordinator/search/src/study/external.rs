//! What a study asks of its external sampler, and what becomes of the answer.
//!
//! A study asks for one configuration at a time, so that each question tells of all that came before. The answer to a
//! question takes the lane for which it was asked; where there is no good one, the fallback proposes. None of this is
//! state: a coordinator that starts anew asks again, and tells everything from the beginning.

use std::collections::BTreeMap;
use std::time::Duration;

use regatta_schemas::api::StudyStatus;
use regatta_schemas::ask::{Ask, Pending, Suggestion, TrialSoFar};
use regatta_schemas::limits::LIMITS;
use regatta_schemas::log::{Lineage, Point};
use regatta_schemas::reasons::AskFailure;
use regatta_schemas::study::{Earlier, Sampler, StudyFile};
use regatta_schemas::{Params, SamplerId, TrialId, check, encode};

use super::intents::Sampled;
use super::{Command, Phase, Study};
use crate::time::Time;

/// How the study and its sampler stand.
#[derive(Debug, Default)]
pub struct Dialogue {
    question: Option<Question>,
    /// How many changes the sampler knows, as far as anybody can tell.
    told: u64,
    /// Until when it is not asked, as it did not answer.
    rest: Option<(Time, AskFailure)>,
}

/// A question without an answer yet.
#[derive(Debug)]
struct Question {
    index: u64,
    until: u64,
    more: bool,
    /// Whether the sampler had what it was told before told again: once a configuration.
    is_retold: bool,
}

/// What follows from an answer.
enum Next {
    Propose { params: Params, told: u64 },
    AskAgain { since: u64, is_retold: bool },
    FallBack(AskFailure),
}

impl Dialogue {
    pub fn is_open(&self) -> bool {
        self.question.is_some()
    }

    /// Nothing is wanted any more.
    pub fn end(&mut self) {
        self.question = None;
    }
}

impl Study {
    /// Has configuration number `index` proposed: by whoever the study file names, or by the fallback.
    pub(super) fn propose_next(&mut self, now: Time, index: u64) {
        match &self.dialogue.rest {
            _ if !self.is_asked_elsewhere(index) => self.propose_own(index, None, None),
            Some((until, failure)) if now < *until => self.propose_own(index, Some(failure.clone()), None),
            Some(_) | None => self.ask(index, self.dialogue.told, false),
        }
    }

    /// Whether an external sampler is to be asked for configuration number `index`.
    pub(super) fn is_asked_elsewhere(&self, index: u64) -> bool {
        external(&self.state.file).is_some() && index >= self.state.file.initial.len() as u64
    }

    /// Takes in the answer to the question for configuration number `index`.
    pub(super) fn take_answer(&mut self, now: Time, index: u64, answer: Result<Suggestion, AskFailure>) {
        let Some(question) = self.dialogue.question.take_if(|question| question.index == index) else { return };
        let is_going_on = self.state.status() == StudyStatus::Running && self.end().is_none();
        // A coordinator that died may have had this configuration proposed in its last moment.
        let is_wanted = is_going_on && self.may_begin() && !self.state.indices.contains(index);
        if !is_wanted {
            return;
        }
        match self.next_after(&question, answer) {
            Next::AskAgain { since, is_retold } => self.ask(index, since, is_retold),
            Next::Propose { params, told } => {
                self.dialogue.told = told;
                self.dialogue.rest = None;
                self.propose_as(Sampled { index, params }, None, None);
            }
            Next::FallBack(failure) => {
                if let (AskFailure::TimedOut { .. }, Some((_, timeout))) = (&failure, external(&self.state.file)) {
                    self.dialogue.rest = Some((now + timeout, failure.clone()));
                }
                self.propose_own(index, Some(failure), None);
            }
        }
    }

    fn next_after(&self, question: &Question, answer: Result<Suggestion, AskFailure>) -> Next {
        let Suggestion { params, since } = match answer {
            Ok(suggestion) => suggestion,
            Err(failure) => return Next::FallBack(failure),
        };
        let knows = since.unwrap_or(question.until).min(question.until);
        if let Some(params) = params {
            return match check::params(&self.state.file.space, &params) {
                Ok(params) => Next::Propose { params, told: knows },
                Err(faults) => {
                    let lines = faults.iter().map(|fault| format!("{} {}", fault.path, fault.problem));
                    let detail = lines.collect::<Vec<_>>().join("; ").chars().take(LIMITS.text_chars_max).collect();
                    Next::FallBack(AskFailure::Unfit { detail })
                }
            };
        }
        let has_heard_all = knows == question.until;
        match has_heard_all {
            true if question.more => Next::AskAgain { since: knows, is_retold: question.is_retold },
            false if !question.is_retold => Next::AskAgain { since: knows, is_retold: true },
            true | false => Next::FallBack(AskFailure::Empty),
        }
    }

    fn ask(&mut self, index: u64, since: u64, is_retold: bool) {
        let Some((service, timeout)) = external(&self.state.file) else { return };
        let service = service.clone();
        let earlier = if since == 0 { self.state.file.earlier.clone() } else { Vec::new() };
        let (trials, until, more) = self.news(since, &earlier);
        let pending = |Sampled { index, params }: &Sampled| Pending { index: *index, params: params.clone() };
        let StudyFile { objective, further_objectives, constraints, space, budget, seed, .. } = &self.state.file;
        let ask = Ask {
            study: self.id.clone(),
            index,
            objective: objective.clone(),
            further_objectives: further_objectives.clone(),
            constraints: constraints.clone(),
            space: space.clone(),
            budget: budget.clone(),
            seed: *seed,
            earlier,
            since,
            until,
            trials,
            more,
            pending: self.intents.sampled().map(pending).collect(),
        };
        self.dialogue.question = Some(Question { index, until, more, is_retold });
        self.commands.push_back(Command::Ask { service, timeout, ask: Box::new(ask) });
    }

    /// The trials that changed since a change, as many as go into one message beside what is told of earlier ones; up to
    /// which change; and whether there are more.
    fn news(&self, since: u64, earlier: &[Earlier]) -> (Vec<TrialSoFar>, u64, bool) {
        let Some(changes) = &self.state.changes else { return (Vec::new(), since, false) };
        let (mut trials, mut until, mut bytes) = (Vec::new(), since, encode(&earlier).len());
        for (change, id) in changes.since(since) {
            let trial = self.trial_so_far(id);
            bytes += encode(&trial).len();
            if bytes > LIMITS.ask_trials_bytes_max && !trials.is_empty() {
                return (trials, until, true);
            }
            trials.push(trial);
            until = change;
        }
        (trials, changes.last(), false)
    }

    fn trial_so_far(&self, id: TrialId) -> TrialSoFar {
        let trial = &self.state.trials[&id];
        let index = match trial.proposed.lineage {
            Lineage::Sampled { index, .. } => Some(index),
            Lineage::Submitted { .. } | Lineage::Ablated { .. } | Lineage::Inherited { .. } | Lineage::Unknown => None,
        };
        let outcome = match trial.phase {
            Phase::Ended(outcome) => Some(outcome),
            Phase::Waiting(_) | Phase::Offered | Phase::Held | Phase::Paused | Phase::Failing => None,
        };
        let points = trial.points.last(LIMITS.ask_points_max);
        let points = points.map(|point| named_only(&self.state.file, point)).collect();
        TrialSoFar { trial: id, index, params: trial.proposed.params.clone(), points, outcome }
    }
}

/// The study's external sampler, and how long it may take for an answer.
pub fn external(file: &StudyFile) -> Option<(&SamplerId, Duration)> {
    match &file.sampler {
        Sampler::External { service, timeout_s, .. } if file.ablation.is_none() => {
            Some((service, Duration::from_secs((*timeout_s).into())))
        }
        _ => None,
    }
}

/// A point with the metrics alone that the study's objectives and constraints name.
fn named_only(file: &StudyFile, point: Point) -> Point {
    let named = file.judging_metrics().filter_map(|name| Some((name.clone(), *point.metrics.get(name)?)));
    let metrics: BTreeMap<String, f64> = named.collect();
    Point { metrics, ..point }
}
