//! The played agents: they take offers, train along the curve, report, beat and obey, as far as the faults let them.

use std::time::Duration;

use regatta_schemas::beat::{Beat, Held};
use regatta_schemas::log::{
    Accepted, Checkpoint, Checkpointed, Failed, Finished, Measured, Place, Point, Record, Released,
};
use regatta_schemas::offer::Offer;
use regatta_schemas::reasons::{FailCause, ReleaseReason};
use regatta_schemas::stop::Stop;
use regatta_schemas::{AgentId, Attempt, PoolId, Sequence, StudyId, Term, TrialId};

use super::{AgentPlan, Epoch, Simulator};

/// How long a draining agent still beats, and how long it takes until another one is in its place.
const FAREWELL: Duration = Duration::from_secs(3);
const REPLACEMENT: Duration = Duration::from_secs(4);
const STEPS_PER_EPOCH: u64 = 100;

#[derive(Debug)]
pub(super) struct VirtualAgent {
    pub id: AgentId,
    pub pool: PoolId,
    pub lanes: Vec<Lane>,
    slowness: f64,
    is_alive: bool,
    is_silent: bool,
    is_draining: bool,
    /// What it could not send while it was cut off.
    outbox: Vec<(Place, Record)>,
}

#[derive(Debug)]
pub(super) enum Lane {
    Free,
    /// An offer came, and `accepted` is on its way. `run` tells it from what the lane does before and after.
    Taking {
        run: u64,
        offer: Box<Offer>,
    },
    Training(Box<Training>),
}

#[derive(Debug)]
pub(super) struct Training {
    run: u64,
    offer: Box<Offer>,
    sequence: Sequence,
    epochs_done: u32,
    elapsed_s: f64,
    /// The epoch that is being trained.
    epoch: Epoch,
}

/// What happens to one agent.
#[derive(Debug)]
pub(super) enum Happening {
    Beats,
    Accepts { lane: usize, run: u64 },
    EpochEnds { lane: usize, run: u64 },
    Crashes,
    FallsSilent,
    IsBack,
    Drains,
    Leaves,
}

impl VirtualAgent {
    pub fn is_idle(&self) -> bool {
        self.lanes.iter().all(|lane| matches!(lane, Lane::Free))
    }

    pub fn offers(&self) -> impl Iterator<Item = &Offer> {
        self.lanes.iter().filter_map(|lane| match lane {
            Lane::Free => None,
            Lane::Taking { offer, .. } => Some(offer.as_ref()),
            Lane::Training(training) => Some(training.offer.as_ref()),
        })
    }

    /// A lane for which it asks the pool's queue.
    pub fn free_lane(&self, pool: &PoolId) -> Option<usize> {
        let asks = self.pool == *pool && self.is_alive && !self.is_silent && !self.is_draining;
        self.lanes.iter().position(|lane| asks && matches!(lane, Lane::Free))
    }

    fn beat(&self) -> Beat {
        let held = |offer: &Offer| Held { study: offer.study.clone(), trial: offer.trial, attempt: offer.attempt };
        Beat {
            lanes: if self.is_draining { 0 } else { self.lanes.len() as u32 },
            leases: self.offers().map(held).collect(),
            device: "virtual".to_owned(),
            draining: self.is_draining,
            version: String::new(),
            load: None,
            trouble: None,
        }
    }
}

impl Simulator<'_> {
    pub(super) fn join(&mut self, plan: AgentPlan) {
        let number = self.agents.len();
        self.agents.push(VirtualAgent {
            id: AgentId::new(format!("agent-{number}")).expect("letters, a dash and a number are an id"),
            lanes: (0..plan.lanes).map(|_| Lane::Free).collect(),
            pool: plan.pool,
            slowness: plan.slowness,
            is_alive: true,
            is_silent: false,
            is_draining: false,
            outbox: Vec::new(),
        });
        self.act(number, Happening::Beats);
        let faults = &self.plan.faults;
        let fates = [
            (faults.crash_every, Happening::Crashes),
            (faults.silence_every, Happening::FallsSilent),
            (faults.drain_every, Happening::Drains),
        ];
        for (every, fate) in fates {
            let Some(every) = every else { continue };
            let when = self.around(every);
            self.plan_agent(number, when, fate);
        }
        self.hand_out(&self.agents[number].pool.clone());
    }

    pub(super) fn act(&mut self, agent: usize, what: Happening) {
        if !self.agents[agent].is_alive {
            return;
        }
        match what {
            Happening::Beats => self.send_beat(agent),
            Happening::Accepts { lane, run } => self.accept(agent, lane, run),
            Happening::EpochEnds { lane, run } => self.end_epoch(agent, lane, run),
            Happening::Crashes => {
                if self.faults_go_on() {
                    self.leave(agent);
                }
            }
            Happening::FallsSilent => {
                if self.faults_go_on() {
                    self.agents[agent].is_silent = true;
                    let away = self.below(self.plan.faults.silence_max);
                    self.plan_agent(agent, away, Happening::IsBack);
                }
            }
            Happening::IsBack => self.come_back(agent),
            Happening::Drains => {
                if self.faults_go_on() {
                    self.drain(agent);
                }
            }
            Happening::Leaves => self.leave(agent),
        }
    }

    fn send_beat(&mut self, agent: usize) {
        self.plan_agent(agent, self.plan.beat_every, Happening::Beats);
        if !self.agents[agent].is_silent {
            let (beat, delay) = (self.agents[agent].beat(), self.delay());
            self.plan_after(delay, super::Happening::BeatArrives { agent, beat });
        }
    }

    fn accept(&mut self, agent: usize, lane: usize, run: u64) {
        let taking = std::mem::replace(&mut self.agents[agent].lanes[lane], Lane::Free);
        let offer = match taking {
            Lane::Taking { run: taken, offer } if taken == run => offer,
            other => {
                self.agents[agent].lanes[lane] = other;
                return;
            }
        };
        if self.agents[agent].is_silent {
            return self.return_offer(self.agents[agent].pool.clone(), offer);
        }
        let is_held =
            |other: &Offer| (&other.study, other.trial, other.attempt) == (&offer.study, offer.trial, offer.attempt);
        if self.agents[agent].offers().any(is_held) {
            return;
        }
        let epochs_done = offer.resume.as_ref().map_or(0, |checkpoint| checkpoint.resource);
        let elapsed_s = offer.resume.as_ref().map_or(0.0, |checkpoint| checkpoint.elapsed_ms as f64 / 1e3);
        let epoch = self.epoch(agent, &offer, epochs_done + 1);
        let place = Place::trial(offer.study.clone(), offer.trial);
        let (id, attempt) = (self.agents[agent].id.clone(), offer.attempt);
        let accepted = Accepted { attempt, term: offer.term, sequence: Sequence(0), agent: id, lane: lane as u32 };
        let seconds = Duration::from_secs_f64(epoch.seconds);
        let last_stop = self.stops.get(&(offer.study.clone(), Some(offer.trial))).cloned();
        let training = Training { run, offer, sequence: Sequence(0), epochs_done, elapsed_s, epoch };
        self.agents[agent].lanes[lane] = Lane::Training(Box::new(training));
        self.send(agent, place.clone(), Record::Accepted(accepted));
        self.plan_agent(agent, seconds, Happening::EpochEnds { lane, run });
        if let Some(stop) = last_stop {
            self.stop_lanes(&place.study, place.trial, &stop);
        }
    }

    fn end_epoch(&mut self, agent: usize, lane: usize, run: u64) {
        let checkpoint_every = self.plan.checkpoint_every;
        let is_failing = self.faults_go_on() && self.chance(self.plan.faults.failures);
        let Lane::Training(training) = &self.agents[agent].lanes[lane] else { return };
        if training.run != run {
            return;
        }
        let (next, whole) = (training.epochs_done + 2, training.offer.resource);
        let coming = (next <= whole).then(|| self.epoch(agent, &training.offer, next));
        let Lane::Training(training) = &mut self.agents[agent].lanes[lane] else { return };
        training.epochs_done += 1;
        training.elapsed_s += training.epoch.seconds;
        let done = training.epochs_done;
        let metrics = match coming {
            Some(coming) => std::mem::replace(&mut training.epoch, coming).metrics,
            None => std::mem::take(&mut training.epoch.metrics),
        };
        let seconds = Duration::from_secs_f64(training.epoch.seconds);
        let step = u64::from(done) * STEPS_PER_EPOCH;
        let points = vec![Point { step, resource: done, elapsed_s: training.elapsed_s, metrics }];
        let is_set_aside = done < whole && training.offer.until.is_some_and(|until| done >= until);
        let object = format!("{}-{}-{done}", training.offer.study, training.offer.trial);
        let elapsed_s = training.elapsed_s;
        self.report(agent, lane, |attempt, term, sequence, agent| {
            Record::Measured(Measured { attempt, term, sequence, agent, points })
        });
        if is_set_aside || (checkpoint_every > 0 && done % checkpoint_every == 0) {
            let elapsed_ms = (elapsed_s * 1e3) as u64;
            let checkpoint = Checkpoint { object, bytes: 1, step, resource: done, elapsed_ms };
            self.report(agent, lane, |attempt, term, sequence, agent| {
                Record::Checkpointed(Checkpointed { attempt, term, sequence, agent, checkpoint })
            });
        }
        if is_failing {
            let (cause, detail) = (FailCause::Device, "played".to_owned());
            self.end_lane(agent, lane, |attempt, term, sequence, agent| {
                Record::Failed(Failed { attempt, term, sequence, agent, cause, detail })
            });
        } else if is_set_aside {
            self.release(agent, lane, ReleaseReason::Paused);
        } else if done >= whole {
            self.end_lane(agent, lane, |attempt, term, sequence, agent| {
                Record::Finished(Finished { attempt, term, sequence, agent, resource: done, elapsed_s })
            });
        } else {
            self.plan_agent(agent, seconds, Happening::EpochEnds { lane, run });
        }
    }

    fn epoch(&self, agent: usize, offer: &Offer, number: u32) -> Epoch {
        let stretches = self.stretches.get(&(offer.study.clone(), offer.trial));
        let epoch = (self.course)(stretches.expect("a trial is proposed before it is offered"), number);
        Epoch { seconds: epoch.seconds * self.agents[agent].slowness, ..epoch }
    }

    /// The stop reaches every agent that is not cut off.
    pub(super) fn stop_lanes(&mut self, study: &StudyId, trial: Option<TrialId>, stop: &Stop) {
        for agent in 0..self.agents.len() {
            if self.agents[agent].is_alive && !self.agents[agent].is_silent {
                self.stop_lanes_of(agent, study, trial, stop);
            }
        }
    }

    fn stop_lanes_of(&mut self, agent: usize, study: &StudyId, trial: Option<TrialId>, stop: &Stop) {
        for lane in 0..self.agents[agent].lanes.len() {
            let Lane::Training(training) = &self.agents[agent].lanes[lane] else { continue };
            let is_meant = training.offer.study == *study && trial.is_none_or(|trial| trial == training.offer.trial);
            if is_meant && stop.is_for(&self.agents[agent].id, training.offer.attempt, training.offer.term) {
                self.release(agent, lane, ReleaseReason::Stopped);
            }
        }
    }

    fn release(&mut self, agent: usize, lane: usize, reason: ReleaseReason) {
        let Lane::Training(training) = &self.agents[agent].lanes[lane] else { return };
        let resource = training.epochs_done;
        self.end_lane(agent, lane, |attempt, term, sequence, agent| {
            Record::Released(Released { attempt, term, sequence, agent, reason, resource })
        });
    }

    fn come_back(&mut self, agent: usize) {
        self.agents[agent].is_silent = false;
        for (place, record) in std::mem::take(&mut self.agents[agent].outbox) {
            self.send(agent, place, record);
        }
        for ((study, trial), stop) in self.stops.clone() {
            self.stop_lanes_of(agent, &study, trial, &stop);
        }
        if let Some(every) = self.plan.faults.silence_every {
            let next = self.around(every);
            self.plan_agent(agent, next, Happening::FallsSilent);
        }
        self.hand_out(&self.agents[agent].pool.clone());
    }

    fn drain(&mut self, agent: usize) {
        self.agents[agent].is_draining = true;
        for lane in 0..self.agents[agent].lanes.len() {
            self.release(agent, lane, ReleaseReason::Draining);
        }
        self.plan_agent(agent, FAREWELL, Happening::Leaves);
    }

    /// The agent is gone, and with it all that it had not sent; another one takes its place.
    fn leave(&mut self, agent: usize) {
        self.agents[agent].is_alive = false;
        self.agents[agent].outbox.clear();
        let pool = self.agents[agent].pool.clone();
        let lanes = self.agents[agent].lanes.len();
        for lane in 0..lanes {
            if let Lane::Taking { offer, .. } = std::mem::replace(&mut self.agents[agent].lanes[lane], Lane::Free) {
                self.return_offer(pool.clone(), offer);
            }
        }
        let plan = AgentPlan { pool, lanes: lanes as u32, slowness: self.agents[agent].slowness };
        self.plan_after(REPLACEMENT, super::Happening::AgentJoins { plan });
    }

    /// The attempt's last record; then the lane asks for another trial.
    fn end_lane(&mut self, agent: usize, lane: usize, record: impl FnOnce(Attempt, Term, Sequence, AgentId) -> Record) {
        self.report(agent, lane, record);
        self.agents[agent].lanes[lane] = Lane::Free;
        self.hand_out(&self.agents[agent].pool.clone());
    }

    fn report(&mut self, agent: usize, lane: usize, record: impl FnOnce(Attempt, Term, Sequence, AgentId) -> Record) {
        let id = self.agents[agent].id.clone();
        let Lane::Training(training) = &mut self.agents[agent].lanes[lane] else { return };
        training.sequence = training.sequence.next();
        let place = Place::trial(training.offer.study.clone(), training.offer.trial);
        let record = record(training.offer.attempt, training.offer.term, training.sequence, id);
        self.send(agent, place, record);
    }

    fn send(&mut self, agent: usize, place: Place, record: Record) {
        if self.agents[agent].is_silent {
            self.agents[agent].outbox.push((place, record));
            return;
        }
        if self.chance(self.plan.faults.duplicates) {
            let delay = self.delay();
            self.plan_after(delay, super::Happening::Written { place: place.clone(), record: record.clone() });
        }
        let delay = self.delay();
        self.plan_after(delay, super::Happening::Written { place, record });
    }
}
