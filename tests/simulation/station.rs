//! What an agent's shell does around the real `Agent` and the real `Spool`: pulls, sends, listens, and plays the lanes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use regatta_agent::agent::{Agent, Command, Ending, Event, Lane, Now, Settings, Ticket};
use regatta_agent::spool::{Parcel, Spool};
use regatta_schemas::beat::Beat;
use regatta_schemas::log::{Checkpoint, Place, Point, Record};
use regatta_schemas::offer::Offer;
use regatta_schemas::reasons::FailCause;
use regatta_schemas::stop::Stop;
use regatta_schemas::{AgentId, Attempt, Params, StudyId, TrialId};
use regatta_search::Time;

use crate::world::World;

const PULL_EXPIRES: Duration = Duration::from_secs(5);
const RETRY_AFTER: Duration = Duration::from_millis(200);
const ACK_TIMEOUT: Duration = Duration::from_secs(3);
/// Until another agent is in the place of one that is gone.
const REPLACEMENT: Duration = Duration::from_secs(4);
/// Points and lines that wait while the broker is away: few, so that they are thinned.
const SPOOL_BYTES_MAX: usize = 2_000;
const CHECKPOINT_EVERY: u32 = 2;
const STEPS_PER_EPOCH: u64 = 100;

/// One agent's process.
pub struct Station {
    id: AgentId,
    machine: Agent,
    spool: Spool<u64>,
    lanes: Vec<Option<Run>>,
    /// The delivery that answers each ticket.
    tickets: BTreeMap<Ticket, u64>,
    flying: BTreeMap<u64, Parcel<u64>>,
    pull: Option<u64>,
    paused_until: Option<Time>,
    is_cut: bool,
    is_retrying: bool,
    wake_at: Option<Time>,
    pub is_gone: bool,
    started_at: Time,
    /// Counts pulls, tickets, flights and runs.
    count: u64,
}

/// A training that is played.
struct Run {
    number: u64,
    offer: Box<Offer>,
    epochs_done: u32,
    interrupted: bool,
}

/// What an epoch measures: a trial improves towards `x`, its only parameter.
pub fn value_of(params: &Params, epoch: u32) -> f64 {
    let x = params["x"].as_f64().expect("x is a number");
    x * (1.0 - (-f64::from(epoch) / 3.0).exp())
}

impl Station {
    pub fn is_idle(&self) -> bool {
        self.spool.is_empty() && self.lanes.iter().all(Option::is_none)
    }

    fn next(&mut self) -> u64 {
        self.count += 1;
        self.count
    }
}

impl fmt::Display for Station {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let runs = self.lanes.iter().flatten().map(|run| format!("{}/{}", run.offer.study, run.offer.trial));
        let runs = runs.collect::<Vec<_>>();
        write!(f, "{} trains {runs:?}, spool empty: {}", self.id, self.spool.is_empty())
    }
}

impl World {
    pub fn join(&mut self, lanes: u32) {
        let agent = self.stations.len();
        let id = AgentId::new(format!("agent-{agent}")).unwrap();
        let settings = Settings {
            agent: id.clone(),
            lanes,
            device: "played".to_owned(),
            programs: BTreeSet::new(),
            beat_every: Duration::from_secs(1),
            batch_for: Duration::from_millis(10),
        };
        self.stations.push(Station {
            id,
            machine: Agent::new(settings, Now(0)),
            spool: Spool::new(SPOOL_BYTES_MAX),
            lanes: (0..lanes).map(|_| None).collect(),
            tickets: BTreeMap::new(),
            flying: BTreeMap::new(),
            pull: None,
            paused_until: None,
            is_cut: false,
            is_retrying: false,
            wake_at: None,
            is_gone: false,
            started_at: self.now,
            count: 0,
        });
        self.obey(agent);
        let faults = self.faults.clone();
        self.befall(agent, faults.agent_crash_every, "agent killed", |world, agent| world.leave(agent));
        self.befall(agent, faults.agent_pause_every, "agent paused", |world, agent| {
            let until = world.now + world.absence();
            world.stations[agent].paused_until = Some(until);
        });
        self.befall(agent, faults.agent_cut_every, "agent cut off", |world, agent| {
            world.stations[agent].is_cut = true;
            let away = world.absence();
            world.plan(away, move |world| {
                world.stations[agent].is_cut = false;
                world.reconnect(agent);
            });
        });
        self.befall(agent, faults.agent_drain_every, "agent drained", |world, agent| {
            world.at_agent(agent, Duration::ZERO, move |world| world.tell_agent(agent, Event::DrainRequested));
        });
    }

    fn befall(&mut self, agent: usize, every: Option<Duration>, name: &'static str, fault: fn(&mut World, usize)) {
        let Some(mean) = every else { return };
        let delay = self.around(mean);
        self.plan(delay, move |world| {
            if world.faults_go_on() && !world.stations[agent].is_gone {
                world.count(name);
                fault(world, agent);
                world.befall(agent, every, name, fault);
            }
        });
    }

    /// The process is gone with all that it held; another one comes.
    fn leave(&mut self, agent: usize) {
        let lanes = self.stations[agent].lanes.len() as u32;
        self.stations[agent].is_gone = true;
        self.plan(REPLACEMENT, move |world| world.join(lanes));
    }

    /// Plans something that the agent does; a paused one does it when it goes on, a gone one never.
    pub fn at_agent(&mut self, agent: usize, delay: Duration, action: impl FnOnce(&mut World) + 'static) {
        self.plan(delay, move |world| {
            let station = &world.stations[agent];
            match station.paused_until {
                _ if station.is_gone => {}
                Some(until) if until > world.now => {
                    let rest = until.since(world.now);
                    world.at_agent(agent, rest, action);
                }
                _ => action(world),
            }
        });
    }

    fn is_connected(&self, agent: usize) -> bool {
        self.broker.is_up && !self.stations[agent].is_cut
    }

    /// The connection is there again: a pull that waited is forgotten, kept stops are read, the spool is sent.
    pub fn reconnect(&mut self, agent: usize) {
        self.at_agent(agent, Duration::ZERO, move |world| {
            if !world.is_connected(agent) {
                return;
            }
            if world.stations[agent].pull.take().is_some() {
                world.tell_agent(agent, Event::PullEnded);
            }
            for ((study, trial), stop) in world.broker.stops.clone() {
                world.tell_agent(agent, Event::StopHeard { study, trial, stop });
            }
            world.send(agent);
        });
    }

    pub fn spread_stop(&mut self, study: &StudyId, trial: Option<TrialId>, stop: &Stop) {
        for agent in 0..self.stations.len() {
            if self.is_connected(agent) && !self.is_lost() {
                let (delay, study, stop) = (self.delay(), study.clone(), stop.clone());
                self.at_agent(agent, delay, move |world| {
                    world.tell_agent(agent, Event::StopHeard { study, trial, stop });
                });
            }
        }
    }

    pub fn receive_offer(&mut self, agent: usize, pull: u64, delivery: u64, offer: Box<Offer>) {
        if self.stations[agent].pull != Some(pull) || !self.is_connected(agent) {
            return;
        }
        let station = &mut self.stations[agent];
        station.pull = None;
        let ticket = Ticket(station.next());
        station.tickets.insert(ticket, delivery);
        self.tell_agent(agent, Event::OfferReceived { ticket, offer, deliveries: 1 });
    }

    fn tell_agent(&mut self, agent: usize, event: Event) {
        let now = self.agent_time(agent);
        self.stations[agent].machine.handle(now, event);
        self.obey(agent);
    }

    fn agent_time(&self, agent: usize) -> Now {
        Now(u64::try_from(self.now.since(self.stations[agent].started_at).as_millis()).unwrap())
    }

    fn obey(&mut self, agent: usize) {
        while let Some(command) = self.stations[agent].machine.next_command() {
            match command {
                Command::Pull => self.pull(agent),
                Command::Accept { ticket, place, record } => {
                    let delivery = self.stations[agent].tickets.remove(&ticket);
                    self.stations[agent].spool.push(Parcel::record(&place, &record, delivery));
                }
                Command::Return { ticket, .. } => {
                    if let Some(delivery) = self.stations[agent].tickets.remove(&ticket)
                        && self.is_connected(agent)
                    {
                        let delay = self.delay();
                        self.plan(delay, move |world| world.redeliver(delivery));
                    }
                }
                Command::Publish { place, record } => {
                    self.stations[agent].spool.push(Parcel::record(&place, &record, None));
                }
                Command::Start { lane, offer } => self.start(agent, lane, offer),
                Command::Interrupt { lane, keep } => {
                    let delay = self.delay();
                    self.at_agent(agent, delay, move |world| world.interrupt(agent, lane, keep));
                }
                Command::Clear { lane } => self.stations[agent].lanes[lane.0 as usize] = None,
                Command::Beat(mut beat) => {
                    beat.leases.extend(self.stations[agent].spool.ending().cloned());
                    self.send_beat(agent, beat);
                }
                Command::Exit => {
                    // It stays until its last records are stored.
                    let lanes = self.stations[agent].lanes.len() as u32;
                    self.plan(REPLACEMENT, move |world| world.join(lanes));
                }
            }
        }
        self.send(agent);
        let deadline = self.stations[agent].machine.next_deadline();
        let at = self.stations[agent].started_at + Duration::from_millis(deadline.0);
        if self.stations[agent].wake_at.is_none_or(|planned| at < planned) {
            self.stations[agent].wake_at = Some(at);
            let delay = at.since(self.now).max(Duration::from_millis(1));
            self.at_agent(agent, delay, move |world| {
                world.stations[agent].wake_at = None;
                world.tell_agent(agent, Event::TimePassed);
            });
        }
    }

    fn pull(&mut self, agent: usize) {
        let pull = self.stations[agent].next();
        self.stations[agent].pull = Some(pull);
        let is_sent = self.is_connected(agent) && !self.is_lost();
        if is_sent {
            let delay = self.delay();
            self.plan(delay, move |world| {
                if world.broker.is_up {
                    world.wait_for_offer(agent, pull, PULL_EXPIRES);
                }
            });
        }
        let patience = if self.is_connected(agent) { PULL_EXPIRES + RETRY_AFTER } else { RETRY_AFTER };
        self.at_agent(agent, patience, move |world| {
            if world.stations[agent].pull == Some(pull) {
                world.stations[agent].pull = None;
                world.tell_agent(agent, Event::PullEnded);
            }
        });
    }

    fn send_beat(&mut self, agent: usize, beat: Beat) {
        if self.is_connected(agent) && !self.is_lost() {
            let (id, delay) = (self.stations[agent].id.clone(), self.delay());
            self.plan(delay, move |world| world.hear_beat(&id, &beat));
        }
    }

    /// Sends what the spool gives.
    fn send(&mut self, agent: usize) {
        while !self.stations[agent].is_retrying {
            if !self.is_connected(agent) {
                return self.send_later(agent);
            }
            let Some(parcel) = self.stations[agent].spool.take() else { return };
            let flight = self.stations[agent].next();
            let (subject, payload, id) = (parcel.subject.clone(), parcel.payload.clone(), parcel.message_id.clone());
            self.stations[agent].flying.insert(flight, parcel);
            if !self.is_lost() {
                let delay = self.delay();
                self.plan(delay, move |world| {
                    if !world.stations[agent].is_cut && world.store(&subject, &payload, id) {
                        world.confirm(agent, flight);
                    }
                });
            }
            self.at_agent(agent, ACK_TIMEOUT, move |world| {
                if let Some(parcel) = world.stations[agent].flying.remove(&flight) {
                    world.stations[agent].spool.put_back(parcel);
                    world.send_later(agent);
                }
            });
        }
    }

    fn send_later(&mut self, agent: usize) {
        if !std::mem::replace(&mut self.stations[agent].is_retrying, true) {
            self.at_agent(agent, RETRY_AFTER, move |world| {
                world.stations[agent].is_retrying = false;
                world.send(agent);
            });
        }
    }

    /// The log's acknowledgement travels back; then the offer's goes out.
    fn confirm(&mut self, agent: usize, flight: u64) {
        if self.is_lost() {
            return;
        }
        let (delay, losses) = (self.delay(), self.broker.losses);
        self.at_agent(agent, delay, move |world| {
            if !world.is_connected(agent) || world.broker.losses != losses {
                return;
            }
            let Some(parcel) = world.stations[agent].flying.remove(&flight) else { return };
            world.stations[agent].spool.stored(&parcel);
            world.acknowledged.extend(parcel.message_id);
            if let Some(delivery) = parcel.then_ack
                && !world.is_lost()
            {
                let delay = world.delay();
                world.plan(delay, move |world| world.acknowledge(delivery));
            }
            world.send(agent);
        });
    }

    fn start(&mut self, agent: usize, lane: Lane, offer: Box<Offer>) {
        let number = self.stations[agent].next();
        let epochs_done = offer.resume.as_ref().map_or(0, |checkpoint| checkpoint.resource);
        let key = (offer.study.clone(), Some(offer.trial));
        self.stations[agent].lanes[lane.0 as usize] = Some(Run { number, offer, epochs_done, interrupted: false });
        let delay = self.delay();
        self.at_agent(agent, delay, move |world| {
            if let Some(stop) = world.broker.stops.get(&key).filter(|_| world.is_connected(agent)).cloned() {
                world.tell_agent(agent, Event::StopHeard { study: key.0, trial: key.1, stop });
            }
            world.supply(agent, lane, number);
        });
    }

    fn supply(&mut self, agent: usize, lane: Lane, number: u64) {
        let Some(run) = self.run(agent, lane, number) else { return };
        let resume = run.offer.resume.clone();
        let place = Place::trial(run.offer.study.clone(), run.offer.trial);
        let attempt = run.offer.attempt;
        let missing = resume.filter(|checkpoint| !self.broker.checkpoints.contains(&checkpoint.object));
        if let Some(checkpoint) = missing {
            // An offer that has been overtaken may name one that nobody needs any more; and a power cut forgets that one
            // which was deleted is needed after all.
            assert!(
                self.broker.losses > 0 || !self.is_current(agent, &place, attempt),
                "{place:?} attempt {attempt}: {checkpoint:?} was deleted too early"
            );
            self.count("an overtaken offer named a deleted checkpoint");
            let ending = Ending::Failed { cause: FailCause::Checkpoint, detail: "it is gone".to_owned() };
            return self.end_run(agent, lane, ending);
        }
        self.plan_epoch(agent, lane, number);
    }

    /// Whether this attempt is the last of a trial that goes on, and this agent the first to take it, as the log has it.
    fn is_current(&self, agent: usize, place: &Place, attempt: Attempt) -> bool {
        let me = &self.stations[agent].id;
        let of_trial = self.broker.entries().filter(|entry| entry.place == *place);
        let mut last = Attempt(0);
        for entry in of_trial {
            match &entry.record {
                Record::Offered(offered) => last = last.max(offered.attempt),
                Record::Accepted(accepted) if accepted.attempt == attempt && accepted.agent != *me => return false,
                Record::Stopped(_) | Record::Concluded(_) | Record::Finished(_) => return false,
                _ => {}
            }
        }
        last == attempt
    }

    fn run(&mut self, agent: usize, lane: Lane, number: u64) -> Option<&mut Run> {
        self.stations[agent].lanes[lane.0 as usize].as_mut().filter(|run| run.number == number)
    }

    fn plan_epoch(&mut self, agent: usize, lane: Lane, number: u64) {
        let delay = self.around(Duration::from_secs(1));
        self.at_agent(agent, delay, move |world| world.end_epoch(agent, lane, number));
    }

    fn end_epoch(&mut self, agent: usize, lane: Lane, number: u64) {
        let is_failing = self.faults_go_on() && self.chance(self.faults.failures);
        let Some(run) = self.run(agent, lane, number).filter(|run| !run.interrupted) else { return };
        run.epochs_done += 1;
        let (done, resource, until) = (run.epochs_done, run.offer.resource, run.offer.until);
        let value = value_of(&run.offer.params, done);
        let metrics = BTreeMap::from([("validation_accuracy".to_owned(), value)]);
        let elapsed_s = f64::from(done);
        let point = Point { step: u64::from(done) * STEPS_PER_EPOCH, resource: done, elapsed_s, metrics };
        self.tell_agent(agent, Event::LaneMeasured { lane, point });
        let is_set_aside = done < resource && until.is_some_and(|until| done >= until);
        if is_set_aside || done % CHECKPOINT_EVERY == 0 {
            self.keep(agent, lane, number);
        }
        if is_failing {
            self.end_run(agent, lane, Ending::Failed { cause: FailCause::Device, detail: "played".to_owned() });
        } else if is_set_aside {
            self.end_run(agent, lane, Ending::Paused { resource: done });
        } else if done >= resource {
            self.end_run(agent, lane, Ending::Finished { resource, elapsed_s });
        } else {
            self.plan_epoch(agent, lane, number);
        }
    }

    fn interrupt(&mut self, agent: usize, lane: Lane, keep: bool) {
        let Some(run) = self.stations[agent].lanes[lane.0 as usize].as_mut() else { return };
        if std::mem::replace(&mut run.interrupted, true) {
            return;
        }
        let (number, resource) = (run.number, run.epochs_done);
        if keep && resource > 0 {
            self.keep(agent, lane, number);
        }
        self.end_run(agent, lane, Ending::Interrupted { resource });
    }

    /// A checkpoint is made, and stored a while later. Its name follows from what it holds, and that from its owner.
    fn keep(&mut self, agent: usize, lane: Lane, number: u64) {
        let Some(run) = self.run(agent, lane, number) else { return };
        let (resource, offer) = (run.epochs_done, run.offer.clone());
        let owner = format!("{}.{}.{}.{agent}", offer.study, offer.trial, offer.attempt);
        let checkpoint = Checkpoint {
            object: format!("{owner}-{resource}"),
            bytes: 1,
            step: u64::from(resource) * STEPS_PER_EPOCH,
            resource,
            elapsed_ms: u64::from(resource) * 1_000,
        };
        self.tell_agent(agent, Event::CheckpointBegun { lane });
        let delay = self.delay();
        self.at_agent(agent, delay, move |world| {
            if world.is_connected(agent) && !world.is_lost() {
                world.broker.checkpoints.insert(checkpoint.object.clone());
                world.tell_agent(agent, Event::CheckpointStored { lane, checkpoint });
            } else {
                world.tell_agent(agent, Event::CheckpointLost { lane });
            }
        });
    }

    fn end_run(&mut self, agent: usize, lane: Lane, ending: Ending) {
        if let Some(run) = &mut self.stations[agent].lanes[lane.0 as usize] {
            run.interrupted = true;
        }
        self.tell_agent(agent, Event::LaneEnded { lane, ending });
    }
}
