//! A study: one search, as a machine that decides.
//!
//! Its [`State`] is a fold of the log. A decision is appended to the log and kept as an intent until it is read back;
//! only then does it take effect. Before [`Event::CaughtUp`] nothing is decided; after it, whatever the state calls for
//! and no intent covers. It knows neither the fleet nor other studies: lanes are granted to it, leases are taken from it.

mod call;
mod changes;
mod convergence;
mod decide;
mod external;
mod failures;
mod intents;
mod lanes;
mod numbers;
mod points;
mod state;
mod trial;

use std::collections::VecDeque;
use std::time::Duration;

use regatta_schemas::api::{Failure, StudyStatus};
use regatta_schemas::ask::{Ask, Suggestion};
use regatta_schemas::log::{ByWhom, Lineage, Proposed, Record};
use regatta_schemas::offer::Offer;
use regatta_schemas::reasons::{AskFailure, FailCause, StopReason, StudyEnd};
use regatta_schemas::recipe::Recipe;
use regatta_schemas::resolve::{resolve_recipe, resolve_without};
use regatta_schemas::stop::Stop;
use regatta_schemas::study::StudyFile;
use regatta_schemas::{AgentId, Attempt, Params, PoolId, SamplerId, StudyId, Term, TrialId};

use crate::fleet::Leaseholder;
use crate::random::trial_seed;
use crate::time::Time;
pub use call::NoSuggestion;
pub use convergence::CURVE_MIN;
use external::Dialogue;
use intents::{Intents, Loss, Proposal};
pub use points::Points;
use state::Effect;
pub use state::State;
pub use trial::{Due, Phase, Tenure, Trial};

/// What a study is told.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    Logged {
        trial: Option<TrialId>,
        record: Record,
        at: Time,
    },
    /// The log was read to its end: decisions are due, and offers carry this term.
    CaughtUp {
        term: Term,
    },
    /// A lane is free, and it is this study's turn.
    LaneGranted,
    /// The holder of the trial's attempt was silent for so long.
    LeaseEnded {
        trial: TrialId,
        agent: AgentId,
        silent: Duration,
    },
    /// An agent's beat lists an attempt as its own.
    Listed {
        trial: TrialId,
        attempt: Attempt,
        agent: AgentId,
    },
    /// The external sampler's answer to the question for configuration number `index`, or why there is none.
    Answered {
        index: u64,
        answer: Result<Suggestion, AskFailure>,
    },
    /// Offers that wait in a queue may be lost.
    QueueDoubted,
    TimePassed,
}

/// What a study wants done.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    Append {
        trial: Option<TrialId>,
        record: Record,
    },
    Offer(Box<Offer>),
    Stop {
        trial: Option<TrialId>,
        stop: Stop,
    },
    /// Answered once, by [`Event::Answered`].
    Ask {
        service: SamplerId,
        timeout: Duration,
        ask: Box<Ask>,
    },
}

#[derive(Debug)]
pub struct Study {
    id: StudyId,
    state: State,
    intents: Intents,
    dialogue: Dialogue,
    commands: VecDeque<Command>,
    /// The term to decide in, once the log was read to its end.
    office: Option<Term>,
}

impl Study {
    /// A study whose `study_created` was read; `office`: the term, unless this is a replay.
    pub fn new(id: StudyId, file: StudyFile, created_at: Time, office: Option<Term>) -> Self {
        let state = State::new(file, created_at);
        let (intents, dialogue) = (Intents::default(), Dialogue::default());
        Self { id, state, intents, dialogue, commands: VecDeque::new(), office }
    }

    pub fn handle(&mut self, now: Time, event: Event) {
        match event {
            Event::Logged { trial, record, at } => self.read(trial, record, at),
            Event::CaughtUp { term } => self.catch_up(term),
            Event::LaneGranted => self.use_lane(now),
            Event::LeaseEnded { trial, agent, silent } => self.lose(trial, Loss { agent, silent }),
            Event::Listed { trial, attempt, agent } => self.answer_listing(trial, attempt, agent),
            Event::Answered { index, answer } => self.take_answer(now, index, answer),
            Event::QueueDoubted => self.put_out_again(),
            Event::TimePassed => {}
        }
        if self.is_live() {
            self.close_what_is_due();
            self.close_what_is_hopeless();
            self.end_if_over(now);
        }
    }

    fn is_live(&self) -> bool {
        self.office.is_some()
    }

    pub fn next_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    /// When its wall time is over.
    pub fn next_deadline(&self) -> Option<Time> {
        let is_ending = self.state.conclusion.is_some() || self.intents.ending.is_some();
        if is_ending { None } else { self.wall_time().map(|wall_time| self.state.created_at + wall_time) }
    }

    pub fn state(&self) -> &State {
        &self.state
    }

    pub fn pool(&self) -> &PoolId {
        &self.state.file.pool
    }

    pub fn weight(&self) -> f64 {
        self.state.file.weight
    }

    /// Lanes that its attempts take, or are about to.
    pub fn lanes_taken(&self) -> usize {
        let lost = self.intents.lost.keys().filter(|trial| !self.state.called.contains(trial)).count();
        let held = self.state.open.len() - self.state.called.len() - lost;
        let meant_for = self.intents.lanes.len() - self.intents.called.len() + usize::from(self.dialogue.is_open());
        held + meant_for
    }

    /// Whether it has something for a free lane.
    pub fn wants_lane(&self) -> bool {
        let may_offer = self.state.status() == StudyStatus::Running && self.end().is_none();
        may_offer && (self.next_waiting().is_some() || self.promotion().is_some() || self.may_begin())
    }

    /// Whether it is concluded and nothing of it runs any more.
    pub fn is_over(&self) -> bool {
        self.state.conclusion.is_some() && self.state.unended.is_empty() && self.lanes_taken() == 0
    }

    /// The objects that its trials would go on from, one a trial.
    pub fn checkpoints(&self) -> impl Iterator<Item = &String> {
        let checkpoints = self.state.trials.values().filter_map(|trial| trial.checkpoint.as_ref());
        checkpoints.map(|checkpoint| &checkpoint.object)
    }

    /// Whether a trial that is on its way to the log goes on from this object.
    pub fn is_about_to_need(&self, object: &str) -> bool {
        self.intents.needs(object)
    }

    /// Who must be heard so that the trial's attempt goes on.
    pub fn leaseholder(&self, trial: TrialId) -> Option<Leaseholder<'_>> {
        let trial_state = self.state.trials.get(&trial)?;
        let tenure = trial_state.open_tenure().filter(|_| !self.intents.lost.contains_key(&trial))?;
        Some(Leaseholder { attempt: trial_state.attempt, agent: &tenure.agent, timeout: tenure.lease })
    }

    /// Trials of the budget that nobody has asked for yet.
    pub fn trials_left(&self) -> usize {
        let asked_for = self.state.trials.len() + self.intents.proposals() + usize::from(self.dialogue.is_open());
        (self.state.file.budget.trials as usize).saturating_sub(asked_for)
    }

    /// Why it is ending, or has ended.
    pub fn end(&self) -> Option<&StudyEnd> {
        let concluded = self.state.conclusion.as_ref().map(|(conclusion, _)| &conclusion.reason);
        concluded.or(self.state.ending.as_ref()).or(self.intents.ending.as_ref())
    }

    /// Whether the trial is ending by a decision that is on its way.
    pub fn is_closing(&self, trial: TrialId) -> bool {
        self.intents.closings.contains(&trial)
    }

    /// The recipe of a trial with these parameters and this lineage.
    ///
    /// # Errors
    /// What in it cannot be trained.
    pub fn recipe(&self, params: &Params, lineage: &Lineage) -> Result<Recipe, Failure> {
        let file = &self.state.file;
        let recipe = match (&file.ablation, lineage) {
            (Some(ablation), Lineage::Ablated { without, .. }) => resolve_without(&file.recipe, ablation, without),
            _ => resolve_recipe(&file.recipe, params),
        };
        recipe.map_err(|faults| {
            let lines: Vec<String> = faults.iter().map(|fault| format!("{} {}", fault.path, fault.problem)).collect();
            Failure { cause: FailCause::Configuration, detail: lines.join("; ") }
        })
    }

    /// Adds a trial from outside; checked by the caller, `trials_left` included.
    pub fn submit(&mut self, proposed: Proposed) -> TrialId {
        let trial = self.next_trial();
        self.intents.propose(trial, Proposal::Submitted);
        self.append(Some(trial), Record::Proposed(proposed));
        trial
    }

    /// A trial from outside is on its way to the log.
    pub fn expect(&mut self, trial: TrialId) {
        self.intents.propose(trial, Proposal::Submitted);
    }

    pub fn pause(&mut self, by: String) {
        self.append(None, Record::StudyPaused(ByWhom { by }));
    }

    pub fn resume(&mut self, by: String) {
        self.append(None, Record::StudyResumed(ByWhom { by }));
    }

    pub fn stop(&mut self, now: Time, by: String) {
        self.intents.ending.get_or_insert(StudyEnd::Requested { by });
        self.end_if_over(now);
    }

    pub fn stop_trial(&mut self, trial: TrialId, by: String) {
        self.close(trial, Due::Stop(StopReason::Requested { by }));
    }

    /// The seed that a trial gets.
    pub fn seed_of(&self, trial: TrialId) -> u64 {
        trial_seed(self.state.file.seed, trial)
    }

    /// The first number that no trial has. A gap comes of a decision that the log did not take before its coordinator
    /// was deposed.
    pub fn next_trial(&self) -> TrialId {
        let is_taken = |number| u32::try_from(number).is_ok_and(|number| self.intents.is_proposed(TrialId(number)));
        TrialId(self.state.numbers.first_free(is_taken) as u32)
    }

    fn read(&mut self, trial: Option<TrialId>, record: Record, at: Time) {
        let effect = match trial {
            None => self.state.apply_to_study(record, at),
            Some(trial) => {
                self.intents.read_back(trial, &record);
                let effect = self.state.apply_to_trial(trial, record, at);
                let is_anew = matches!(effect, Effect::Offer { .. });
                if is_anew || self.state.trials.get(&trial).is_none_or(|trial| trial.open_tenure().is_none()) {
                    self.intents.lost.remove(&trial);
                }
                effect
            }
        };
        if self.is_live() {
            self.carry_out(trial, effect);
        }
    }

    fn carry_out(&mut self, trial: Option<TrialId>, effect: Effect) {
        match (effect, trial) {
            (Effect::Nothing, _) => {}
            (Effect::StopAll(reason), _) => {
                let reason = StopReason::StudyEnded { reason };
                self.commands.push_back(Command::Stop {
                    trial: None,
                    stop: Stop { attempt: None, agent: None, term: Term::default(), keep: false, reason },
                });
            }
            (Effect::Offer { fenced }, Some(trial)) => {
                if let Some((attempt, agent)) = fenced {
                    self.turn_away(trial, attempt, agent, Term::default());
                }
                if self.state.trials[&trial].phase == Phase::Offered {
                    self.put_out(trial);
                }
            }
            (Effect::StopAttempt, Some(trial)) => self.stop_attempt(trial),
            (Effect::StopAgent { attempt, agent, term }, Some(trial)) => self.turn_away(trial, attempt, agent, term),
            (Effect::Offer { .. } | Effect::StopAttempt | Effect::StopAgent { .. }, None) => {
                unreachable!("a study's own record concerns no attempt")
            }
        }
    }

    /// What was decided before a restart and may not have been sent, is sent again.
    fn catch_up(&mut self, term: Term) {
        self.office = Some(term);
        for trial in self.state.open.clone() {
            match &self.state.trials[&trial].phase {
                Phase::Offered => self.put_out(trial),
                Phase::Ended(_) => self.stop_attempt(trial),
                Phase::Waiting(_) | Phase::Held | Phase::Paused | Phase::Failing => {}
            }
        }
    }

    /// Sends again what nobody has accepted. A second message of one attempt is stored once or turned away.
    fn put_out_again(&mut self) {
        let is_out = |trial: &TrialId| self.state.trials[trial].phase == Phase::Offered;
        for trial in self.state.open.iter().copied().filter(is_out).collect::<Vec<_>>() {
            self.put_out(trial);
        }
    }

    fn lose(&mut self, id: TrialId, loss: Loss) {
        let Some(trial) = self.state.trials.get(&id) else { return };
        if trial.open_tenure().is_none() {
            return;
        }
        let failure = trial.given_up_with(&loss.agent).filter(|_| !trial.has_ended());
        self.intents.lost.insert(id, loss);
        if let Some(failure) = failure {
            self.close(id, Due::Fail(failure));
        }
    }

    /// A holder that was thought lost is back; anybody else is told to stop.
    fn answer_listing(&mut self, id: TrialId, attempt: Attempt, agent: AgentId) {
        let Some(trial) = self.state.trials.get(&id) else { return self.turn_away_if_live(id, attempt, agent) };
        let is_expected = trial.phase == Phase::Offered && attempt == trial.attempt;
        let is_holder = trial.tenure.as_ref().is_some_and(|tenure| tenure.agent == agent) && attempt == trial.attempt;
        if is_holder {
            let (has_ended, is_open) = (trial.has_ended(), trial.open_tenure().is_some());
            self.intents.lost.remove(&id);
            if self.is_live() && has_ended && is_open {
                self.stop_attempt(id);
            }
        } else if !is_expected {
            self.turn_away_if_live(id, attempt, agent);
        }
    }

    /// Sends the offer of the attempt that the log holds.
    fn put_out(&mut self, id: TrialId) {
        let trial = &self.state.trials[&id];
        match self.recipe(&trial.proposed.params, &trial.proposed.lineage) {
            Ok(recipe) => {
                let offer = Offer {
                    study: self.id.clone(),
                    trial: id,
                    attempt: trial.attempt,
                    term: trial.term,
                    params: trial.proposed.params.clone(),
                    recipe,
                    resource: self.state.file.budget.resource,
                    until: trial.until,
                    seed: trial.proposed.seed,
                    resume: trial.checkpoint.clone(),
                    objective: Some(self.state.file.objective.clone()),
                    labels: trial.proposed.labels.clone(),
                };
                self.commands.push_back(Command::Offer(Box::new(offer)));
            }
            Err(failure) => self.close(id, Due::Fail(failure)),
        }
    }

    /// Tells whoever runs a trial that has ended, or takes it from the queue later.
    fn stop_attempt(&mut self, id: TrialId) {
        let trial = &self.state.trials[&id];
        let reason = match (&trial.stop, &trial.failure) {
            (Some(reason), _) => reason.clone(),
            (None, Some(failure)) => StopReason::Failed { cause: failure.cause },
            (None, None) => StopReason::Unknown,
        };
        let is_in_queue = trial.tenure.is_none() && trial.attempt > Attempt::default();
        let is_held = trial.open_tenure().is_some();
        if is_in_queue || is_held {
            let keep = is_held && trial.keeps;
            let stop = Stop { attempt: Some(trial.attempt), agent: None, term: Term::default(), keep, reason };
            self.commands.push_back(Command::Stop { trial: Some(id), stop });
        }
    }

    fn turn_away_if_live(&mut self, trial: TrialId, attempt: Attempt, agent: AgentId) {
        if self.is_live() {
            self.turn_away(trial, attempt, agent, Term::default());
        }
    }

    fn turn_away(&mut self, trial: TrialId, attempt: Attempt, agent: AgentId, term: Term) {
        let stop = Stop::superseded(agent, attempt, term);
        self.commands.push_back(Command::Stop { trial: Some(trial), stop });
    }

    fn append(&mut self, trial: Option<TrialId>, record: Record) {
        self.commands.push_back(Command::Append { trial, record });
    }
}
