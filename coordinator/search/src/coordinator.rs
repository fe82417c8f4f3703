//! The coordinator: every study and the fleet they share, as one machine.
//!
//! It must not know NATS, a clock, or how a record gets into the log. State is a fold of the log: it changes
//! only when a record is read back ([`Event::Logged`]), also for the coordinator's own decisions. Whoever
//! drives it calls [`Coordinator::handle`] or [`Coordinator::request`], then drains
//! [`Coordinator::next_command`], and sends [`Event::TimePassed`] at [`Coordinator::next_deadline`].

use std::collections::VecDeque;
use std::time::Duration;

use regatta_schemas::api::{
    Done, FleetShown, Rejection, RejectionCode, Request, StudyList, StudyShown, StudyStarted, TrialList, TrialShown,
    TrialSubmitted,
};
use regatta_schemas::beat::Beat;
use regatta_schemas::log::{Place, Record};
use regatta_schemas::offer::Offer;
use regatta_schemas::stop::Stop;
use regatta_schemas::{AgentId, PoolId, StudyId, TrialId};

use crate::time::Time;

/// What the coordinator is told.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A record was read from the log, in the log's order; `at` is the log's time.
    Logged { place: Place, record: Record, at: Time },
    /// An agent gave a sign of life.
    BeatHeard { pool: PoolId, agent: AgentId, beat: Beat },
    /// All that the log held at start was read; from here on decisions are taken.
    CaughtUp,
    /// The deadline is reached.
    TimePassed,
}

/// What the coordinator wants done, in this order.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Write a record into the log. It must arrive, or the coordinator be started anew: the decision is
    /// remembered as taken until its record is read back.
    Append { place: Place, record: Record },
    /// Put an offer into a pool's queue. The same attempt may be offered again after a restart.
    Offer { pool: PoolId, offer: Box<Offer> },
    /// Tell agents to stop; a trial of None means every trial of the study.
    Stop { study: StudyId, trial: Option<TrialId>, stop: Stop },
    /// Nothing refers to this checkpoint any more.
    DeleteCheckpoint { object: String },
    /// Remove the study's log, output and stops.
    DeleteStudy { study: StudyId },
}

/// What can be set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// An agent that is silent for so long loses its leases.
    pub lease_timeout: Duration,
    /// Offers kept waiting in each pool beyond its free lanes, so that an autoscaler sees demand.
    pub backlog: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self { lease_timeout: Duration::from_secs(5), backlog: 0 }
    }
}

/// The answer to a request that was not rejected. Where commands came with it, send it once they are carried out.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    StudyStarted(StudyStarted),
    StudyList(StudyList),
    StudyShown(StudyShown),
    Done(Done),
    TrialSubmitted(TrialSubmitted),
    TrialList(TrialList),
    TrialShown(TrialShown),
    FleetShown(FleetShown),
}

/// All studies and their fleet.
#[derive(Debug)]
pub struct Coordinator {
    settings: Settings,
    commands: VecDeque<Command>,
}

impl Coordinator {
    /// One that has read nothing yet.
    pub fn new(settings: Settings) -> Self {
        Self { settings, commands: VecDeque::new() }
    }

    /// Takes in one event. Afterwards, drain [`Self::next_command`].
    pub fn handle(&mut self, now: Time, event: Event) {
        let _ = (now, event, &self.settings);
    }

    /// Checks a request, and answers or rejects it. Afterwards, drain [`Self::next_command`]; the answer goes
    /// out once those commands are carried out. `new_id` names the study that the request makes, if it makes one.
    ///
    /// # Errors
    /// Why the request was refused; then there is no command.
    pub fn request(&mut self, now: Time, request: &Request, new_id: StudyId) -> Result<Answer, Rejection> {
        let _ = (now, request, new_id);
        Err(Rejection { code: RejectionCode::NotReady, message: "not yet".to_owned(), faults: Vec::new() })
    }

    pub fn next_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    /// When to send [`Event::TimePassed`], if nothing else happens before.
    pub fn next_deadline(&self) -> Option<Time> {
        None
    }

    /// Whether the log is read and decisions are taken.
    pub fn is_caught_up(&self) -> bool {
        false
    }
}
