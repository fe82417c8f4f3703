//! The agent: takes offers for its free lanes, passes on what the lanes measure, obeys stops.
//!
//! A pure machine: it knows no NATS, no clock and no ONNX Runtime. Its shell feeds events and carries
//! out commands. A lane goes through
//!
//! ```text
//! free --OfferReceived--> held (accepted is published, training starts)
//! held --LaneMeasured--> held (points are batched)
//! held --StopHeard / DrainRequested--> ending (the training is interrupted between two steps)
//! held, ending --LaneEnded--> [waits for checkpoints under way] --> free (finished, failed or released is published)
//! ```

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use regatta_schemas::beat::{Beat, Held};
use regatta_schemas::limits::LIMITS;
use regatta_schemas::log::{
    Accepted, Checkpoint, Checkpointed, Failed, Finished, Measured, Place, Point, Record, Released,
};
use regatta_schemas::offer::Offer;
use regatta_schemas::reasons::{FailCause, ReleaseReason};
use regatta_schemas::stop::Stop;
use regatta_schemas::{AgentId, Sequence, StudyId, Term, TrialId};

/// Milliseconds of a clock that only goes forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Now(pub u64);

/// A lane's number, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lane(pub u32);

/// Names an offer that the shell received, until it is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// What happened.
#[derive(Debug)]
pub enum Event {
    /// The pull that was under way brought an offer, which was put before agents so many times in all.
    OfferReceived { ticket: Ticket, offer: Box<Offer>, deliveries: u64 },
    /// The pull that was under way ended without one.
    PullEnded,
    /// A stop was heard, live or on return. Without a trial it is for all of the study.
    StopHeard { study: StudyId, trial: Option<TrialId>, stop: Stop },
    /// A lane measured.
    LaneMeasured { lane: Lane, point: Point },
    /// A lane made a checkpoint, which the shell is now storing.
    CheckpointBegun { lane: Lane },
    /// The checkpoint lies whole in the store.
    CheckpointStored { lane: Lane, checkpoint: Checkpoint },
    /// The checkpoint could not be stored.
    CheckpointLost { lane: Lane },
    /// A lane's training ended.
    LaneEnded { lane: Lane, ending: Ending },
    /// The agent is to take no more and go.
    DrainRequested,
    /// A deadline passed.
    TimePassed,
}

/// How a lane's training ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Ending {
    /// It spent the whole resource.
    Finished {
        resource: u32,
        elapsed_s: f64,
    },
    Failed {
        cause: FailCause,
        detail: String,
    },
    /// It reached the rung until which it was offered, and left a checkpoint.
    Paused {
        resource: u32,
    },
    /// It obeyed an interruption.
    Interrupted {
        resource: u32,
    },
}

/// What the shell is to do.
#[derive(Debug)]
pub enum Command {
    /// Ask for one offer; exactly one of `OfferReceived` and `PullEnded` answers.
    Pull,
    /// Publish the record; once it is stored, acknowledge the offer.
    Accept { ticket: Ticket, place: Place, record: Record },
    /// Give the offer back to the queue, which puts it before an agent again after [`Why::wait`].
    Return { ticket: Ticket, why: Why },
    /// Publish the record, after all earlier ones of its lane.
    Publish { place: Place, record: Record },
    /// Begin to train, and to listen for stops of this trial.
    Start { lane: Lane, offer: Box<Offer> },
    /// End the lane's training between two steps; with `keep`, make a checkpoint first.
    Interrupt { lane: Lane, keep: bool },
    /// The lane is free: stop listening for its trial's stops.
    Clear { lane: Lane },
    /// Send the beat.
    Beat(Beat),
    /// All lanes are empty and nothing more is taken.
    Exit,
}

/// Why an offer goes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// No lane is free.
    Full,
    /// This machine has just failed a trial.
    Resting,
    /// Its program is not allowed here: it is left to other agents.
    ProgramNotAllowed,
    /// A lane still trains an attempt of the same number that the log has forgotten; that one ends first.
    Forgotten,
}

impl Why {
    /// Until the queue puts the offer before an agent again.
    pub fn wait(self) -> Duration {
        match self {
            Self::Full | Self::Resting => Duration::ZERO,
            Self::ProgramNotAllowed | Self::Forgotten => Duration::from_millis(500),
        }
    }
}

/// Attempts remembered after they were taken: more than an agent can take while an offer may come again.
const TAKEN_REMEMBERED: usize = 4_096;

/// An offer of a program that is not allowed here goes back so often, for an agent that allows it. After that no agent of
/// the pool seems to, and one of them says so by failing the trial.
const FOREIGN_DELIVERIES_MAX: u64 = 20;

/// After a trial failed because of this machine no other is taken for so long, twice as long after the next one, and so
/// on up to a limit: an agent that fails fast would otherwise take what agents that are well could train.
const REST: Duration = Duration::from_secs(1);
const REST_MAX: Duration = Duration::from_secs(60);

/// The agent's settings, each with its unit.
#[derive(Debug, Clone)]
pub struct Settings {
    pub agent: AgentId,
    pub lanes: u32,
    pub device: String,
    /// The names of the programs that its operator allows.
    pub programs: BTreeSet<String>,
    /// Between two beats.
    pub beat_every: Duration,
    /// The shortest time between two messages of a lane's points; what is measured between them shares one.
    pub batch_for: Duration,
}

/// The machine.
#[derive(Debug)]
pub struct Agent {
    settings: Settings,
    lanes: Vec<Option<Lease>>,
    /// The last attempts taken, for offers that come twice.
    taken: VecDeque<(Held, Accepted)>,
    is_pulling: bool,
    is_draining: bool,
    has_exited: bool,
    next_beat: Now,
    rest: Option<Rest>,
    commands: VecDeque<Command>,
}

/// No trial is taken until then.
#[derive(Debug)]
struct Rest {
    until: Now,
    lasts: Duration,
}

/// An attempt that a lane holds.
#[derive(Debug)]
struct Lease {
    place: Place,
    held: Held,
    term: Term,
    next_sequence: Sequence,
    points: Vec<Point>,
    flush_at: Option<Now>,
    flushed_at: Option<Now>,
    checkpoints_under_way: u32,
    /// Whether its recipe wants a checkpoint when it has ended.
    keeps_at_end: bool,
    interrupted_for: Option<ReleaseReason>,
    ending: Option<Ending>,
}

impl Agent {
    pub fn new(settings: Settings, now: Now) -> Self {
        let mut agent = Self {
            lanes: (0..settings.lanes).map(|_| None).collect(),
            settings,
            taken: VecDeque::new(),
            is_pulling: false,
            is_draining: false,
            has_exited: false,
            next_beat: now,
            rest: None,
            commands: VecDeque::new(),
        };
        agent.pull_if_a_lane_is_free(now);
        agent
    }

    /// Takes in what happened. Drain [`Agent::next_command`] afterwards.
    pub fn handle(&mut self, now: Now, event: Event) {
        match event {
            Event::OfferReceived { ticket, offer, deliveries } => self.take_offer(now, ticket, offer, deliveries),
            Event::PullEnded => {
                self.is_pulling = false;
                self.pull_if_a_lane_is_free(now);
            }
            Event::StopHeard { study, trial, stop } => self.obey_stop(&study, trial, &stop),
            Event::LaneMeasured { lane, point } => self.collect_point(now, lane, point),
            Event::CheckpointBegun { lane } => {
                if let Some(lease) = self.lease_mut(lane) {
                    lease.checkpoints_under_way += 1;
                }
            }
            Event::CheckpointStored { lane, checkpoint } => self.announce_checkpoint(now, lane, Some(checkpoint)),
            Event::CheckpointLost { lane } => self.announce_checkpoint(now, lane, None),
            Event::LaneEnded { lane, ending } => {
                self.rest_after(now, &ending);
                if let Some(lease) = self.lease_mut(lane) {
                    lease.ending = Some(ending);
                }
                self.end_if_ready(now, lane);
            }
            Event::DrainRequested => self.drain(),
            Event::TimePassed => self.pull_if_a_lane_is_free(now),
        }
        self.keep_time(now);
    }

    pub fn next_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    /// When `TimePassed` is due at the latest.
    pub fn next_deadline(&self) -> Now {
        let flushes = self.leases().filter_map(|lease| lease.flush_at);
        flushes.chain(self.end_of_rest()).fold(self.next_beat, Now::min)
    }

    fn held(&self) -> impl Iterator<Item = &Held> {
        self.leases().map(|lease| &lease.held)
    }

    /// When the rest ends that keeps a free lane from work.
    fn end_of_rest(&self) -> Option<Now> {
        self.rest.as_ref().map(|rest| rest.until).filter(|_| self.wants_offer())
    }

    fn take_offer(&mut self, now: Now, ticket: Ticket, offer: Box<Offer>, deliveries: u64) {
        self.is_pulling = false;
        if let Some(accepted) = self.accepted_before(&offer) {
            // The queue missed the answer: it is given again, and changes nothing a second time.
            let place = Place::trial(offer.study.clone(), offer.trial);
            self.commands.push_back(Command::Accept { ticket, place, record: Record::Accepted(accepted) });
            self.pull_if_a_lane_is_free(now);
            return;
        }
        if self.is_given_up_for(&offer) {
            self.commands.push_back(Command::Return { ticket, why: Why::Forgotten });
            self.pull_if_a_lane_is_free(now);
            return;
        }
        let free = self.lanes.iter().position(Option::is_none);
        let is_resting = self.is_resting(now);
        let Some(index) = free.filter(|_| !self.is_draining && !is_resting) else {
            let why = if is_resting { Why::Resting } else { Why::Full };
            self.commands.push_back(Command::Return { ticket, why });
            return;
        };
        let is_allowed = offer.recipe.program().is_none_or(|program| self.settings.programs.contains(program));
        if !is_allowed && deliveries < FOREIGN_DELIVERIES_MAX {
            self.commands.push_back(Command::Return { ticket, why: Why::ProgramNotAllowed });
            self.pull_if_a_lane_is_free(now);
            return;
        }
        let lane = Lane(u32::try_from(index).expect("there are at most u32::MAX lanes"));
        let mut lease = Lease::new(&offer);
        let accepted = Accepted {
            attempt: offer.attempt,
            term: offer.term,
            sequence: lease.take_sequence(),
            agent: self.settings.agent.clone(),
            lane: lane.0,
        };
        if self.taken.len() == TAKEN_REMEMBERED {
            self.taken.pop_front();
        }
        self.taken.push_back((lease.held.clone(), accepted.clone()));
        let record = Record::Accepted(accepted);
        let place = lease.place.clone();
        self.lanes[index] = Some(lease);
        self.commands.push_back(Command::Accept { ticket, place, record });
        self.commands.push_back(Command::Start { lane, offer });
        self.pull_if_a_lane_is_free(now);
    }

    /// What was answered to an offer of the same attempt, if there was one lately.
    fn accepted_before(&self, offer: &Offer) -> Option<Accepted> {
        let is_same = |held: &Held, accepted: &Accepted| is_of(held, offer) && accepted.term == offer.term;
        let taken = self.taken.iter().find(|(held, accepted)| is_same(held, accepted));
        taken.map(|(_, accepted)| accepted.clone())
    }

    /// Whether a lane holds an attempt of the same number, of another term: the log has forgotten that one. It ends now.
    fn is_given_up_for(&mut self, offer: &Offer) -> bool {
        let mut is_held = false;
        for lane in self.lane_numbers() {
            if self.lease_mut(lane).is_some_and(|lease| is_of(&lease.held, offer)) {
                is_held = true;
                self.stop_lane(lane, false);
            }
        }
        is_held
    }

    fn obey_stop(&mut self, study: &StudyId, trial: Option<TrialId>, stop: &Stop) {
        let agent = self.settings.agent.clone();
        for lane in self.lane_numbers() {
            let Some(lease) = self.lease_mut(lane) else { continue };
            let is_named = lease.held.study == *study && trial.is_none_or(|trial| trial == lease.held.trial);
            if is_named && stop.is_for(&agent, lease.held.attempt, lease.term) {
                self.stop_lane(lane, stop.keep);
            }
        }
    }

    /// Ends the lane's training for good, once; with `keep`, what it has learnt is kept, unless its recipe keeps nothing at
    /// the end.
    fn stop_lane(&mut self, lane: Lane, keep: bool) {
        let Some(lease) = self.lease_mut(lane) else { return };
        if lease.ending.is_none() && lease.interrupted_for != Some(ReleaseReason::Stopped) {
            lease.interrupted_for = Some(ReleaseReason::Stopped);
            let keep = keep && lease.keeps_at_end;
            self.commands.push_back(Command::Interrupt { lane, keep });
        }
    }

    fn collect_point(&mut self, now: Now, lane: Lane, point: Point) {
        let batch_for = millis(self.settings.batch_for);
        let Some(lease) = self.lease_mut(lane) else { return };
        lease.points.push(point);
        // The first point after a quiet time goes at once: a decision waits for it.
        let earliest = lease.flushed_at.map_or(now, |last| Now(last.0 + batch_for).max(now));
        let flush_at = *lease.flush_at.get_or_insert(earliest);
        if lease.points.len() >= LIMITS.points_per_message_max || flush_at <= now {
            lease.flushed_at = Some(now);
            self.flush(lane);
        }
    }

    fn flush(&mut self, lane: Lane) {
        let agent = self.settings.agent.clone();
        let Some(lease) = self.lease_mut(lane) else { return };
        lease.flush_at = None;
        if lease.points.is_empty() {
            return;
        }
        let record = Record::Measured(Measured {
            attempt: lease.held.attempt,
            term: lease.term,
            sequence: lease.take_sequence(),
            agent,
            points: std::mem::take(&mut lease.points),
        });
        let place = lease.place.clone();
        self.commands.push_back(Command::Publish { place, record });
    }

    fn announce_checkpoint(&mut self, now: Now, lane: Lane, stored: Option<Checkpoint>) {
        self.flush(lane);
        let agent = self.settings.agent.clone();
        let Some(lease) = self.lease_mut(lane) else { return };
        lease.checkpoints_under_way = lease.checkpoints_under_way.saturating_sub(1);
        if let Some(checkpoint) = stored {
            let record = Record::Checkpointed(Checkpointed {
                attempt: lease.held.attempt,
                term: lease.term,
                sequence: lease.take_sequence(),
                agent,
                checkpoint,
            });
            let place = lease.place.clone();
            self.commands.push_back(Command::Publish { place, record });
        }
        self.end_if_ready(now, lane);
    }

    fn end_if_ready(&mut self, now: Now, lane: Lane) {
        let is_ready =
            self.lease_mut(lane).is_some_and(|lease| lease.ending.is_some() && lease.checkpoints_under_way == 0);
        if !is_ready {
            return;
        }
        self.flush(lane);
        let Some(mut lease) = self.lanes[lane.0 as usize].take() else { return };
        let Some(ending) = lease.ending.take() else { return };
        let place = lease.place.clone();
        let record = lease.ended(self.settings.agent.clone(), ending);
        self.commands.push_back(Command::Publish { place, record });
        self.commands.push_back(Command::Clear { lane });
        self.pull_if_a_lane_is_free(now);
        self.exit_if_empty();
    }

    fn drain(&mut self) {
        if self.is_draining {
            return;
        }
        self.is_draining = true;
        for lane in self.lane_numbers() {
            let Some(lease) = self.lease_mut(lane) else { continue };
            if lease.ending.is_none() && lease.interrupted_for.is_none() {
                lease.interrupted_for = Some(ReleaseReason::Draining);
                self.commands.push_back(Command::Interrupt { lane, keep: true });
            }
        }
        self.beat();
        self.exit_if_empty();
    }

    fn exit_if_empty(&mut self) {
        if self.is_draining && !self.has_exited && self.leases().next().is_none() {
            self.has_exited = true;
            self.beat();
            self.commands.push_back(Command::Exit);
        }
    }

    fn pull_if_a_lane_is_free(&mut self, now: Now) {
        if self.wants_offer() && !self.is_resting(now) {
            self.is_pulling = true;
            self.commands.push_back(Command::Pull);
        }
    }

    fn wants_offer(&self) -> bool {
        let has_free = self.lanes.iter().any(Option::is_none);
        has_free && !self.is_pulling && !self.is_draining
    }

    fn is_resting(&self, now: Now) -> bool {
        self.rest.as_ref().is_some_and(|rest| now < rest.until)
    }

    fn rest_after(&mut self, now: Now, ending: &Ending) {
        self.rest = matches!(ending, Ending::Failed { cause: FailCause::Device, .. }).then(|| {
            let lasts = self.rest.as_ref().map_or(REST, |last| (last.lasts * 2).min(REST_MAX));
            Rest { until: Now(now.0 + millis(lasts)), lasts }
        });
    }

    fn keep_time(&mut self, now: Now) {
        for lane in self.lane_numbers() {
            let is_due = self.lease_mut(lane).is_some_and(|lease| lease.flush_at.is_some_and(|at| at <= now));
            if is_due {
                if let Some(lease) = self.lease_mut(lane) {
                    lease.flushed_at = Some(now);
                }
                self.flush(lane);
            }
        }
        if self.next_beat <= now && !self.has_exited {
            self.beat();
            self.next_beat = Now(now.0 + millis(self.settings.beat_every));
        }
    }

    fn beat(&mut self) {
        let beat = Beat {
            lanes: if self.is_draining { 0 } else { self.settings.lanes },
            leases: self.held().cloned().collect(),
            device: self.settings.device.clone(),
            draining: self.is_draining,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            load: None,
            trouble: None,
        };
        self.commands.push_back(Command::Beat(beat));
    }

    fn leases(&self) -> impl Iterator<Item = &Lease> {
        self.lanes.iter().flatten()
    }

    fn lease_mut(&mut self, lane: Lane) -> Option<&mut Lease> {
        self.lanes.get_mut(lane.0 as usize)?.as_mut()
    }

    fn lane_numbers(&self) -> impl Iterator<Item = Lane> + use<> {
        (0..self.settings.lanes).map(Lane)
    }
}

impl Lease {
    fn new(offer: &Offer) -> Self {
        Self {
            place: Place::trial(offer.study.clone(), offer.trial),
            held: Held { study: offer.study.clone(), trial: offer.trial, attempt: offer.attempt },
            term: offer.term,
            next_sequence: Sequence(0),
            points: Vec::new(),
            flush_at: None,
            flushed_at: None,
            checkpoints_under_way: 0,
            keeps_at_end: offer.recipe.keeps_at_end(),
            interrupted_for: None,
            ending: None,
        }
    }

    fn take_sequence(&mut self) -> Sequence {
        let sequence = self.next_sequence;
        self.next_sequence = sequence.next();
        sequence
    }

    fn ended(&mut self, agent: AgentId, ending: Ending) -> Record {
        let (attempt, term, sequence) = (self.held.attempt, self.term, self.take_sequence());
        match ending {
            Ending::Finished { resource, elapsed_s } => {
                Record::Finished(Finished { attempt, term, sequence, agent, resource, elapsed_s })
            }
            Ending::Failed { cause, detail } => Record::Failed(Failed {
                attempt,
                term,
                sequence,
                agent,
                cause,
                detail: detail.chars().take(LIMITS.text_chars_max).collect(),
            }),
            Ending::Paused { resource } => {
                Record::Released(Released { attempt, term, sequence, agent, reason: ReleaseReason::Paused, resource })
            }
            Ending::Interrupted { resource } => Record::Released(Released {
                attempt,
                term,
                sequence,
                agent,
                reason: self.interrupted_for.unwrap_or(ReleaseReason::Stopped),
                resource,
            }),
        }
    }
}

fn is_of(held: &Held, offer: &Offer) -> bool {
    held.study == offer.study && held.trial == offer.trial && held.attempt == offer.attempt
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[path = "agent_tests.rs"]
mod tests;
