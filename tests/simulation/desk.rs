//! What `regatta serve` does around the coordinator: reads the log, publishes, hears beats, dies and comes back.

use std::collections::VecDeque;
use std::time::Duration;

use regatta_schemas::beat::Beat;
use regatta_schemas::offer::Offer;
use regatta_schemas::{AgentId, PoolId, Term};
use regatta_search::{Command, Coordinator, Event, Settings, Time};

use crate::world::World;

const RETRY_AFTER: Duration = Duration::from_millis(200);
/// The chance that it dies between two records of one decision.
const DIES_IN_BETWEEN: f64 = 0.01;

#[derive(Default)]
pub struct Desk {
    /// None while it is down.
    pub machine: Option<Coordinator>,
    /// Entries of the log that the machine has been told.
    pub read: usize,
    /// Entries of the log that wait in the inbox, and those before them.
    taken: usize,
    /// While commands are carried out, what happens waits here.
    inbox: VecDeque<Event>,
    is_busy: bool,
    is_cut: bool,
    wake_at: Option<Time>,
    /// Power cuts of which it knows.
    pub losses: u64,
    /// Tells what a life planned from what the next one does.
    life: u64,
}

impl World {
    fn is_coordinator_connected(&self) -> bool {
        self.is_broker_up && !self.desk.is_cut
    }

    pub fn start_coordinator(&mut self) {
        if !self.is_coordinator_connected() {
            return self.plan(RETRY_AFTER, World::start_coordinator);
        }
        let life = self.desk.life + 1;
        let term = Term(u32::try_from(life).expect("a world has few lives"));
        let mut machine = Coordinator::new(Settings { term, ..Settings::default() });
        for entry in self.log.clone() {
            machine.handle(self.now, Event::Logged { place: entry.place, record: entry.record, at: entry.at });
        }
        let (read, losses) = (self.log.len(), self.losses);
        self.desk = Desk { machine: Some(machine), read, taken: read, losses, life, ..Desk::default() };
        self.tell(Event::CaughtUp);
    }

    pub fn crash_coordinator(&mut self) {
        if self.desk.machine.take().is_some() {
            self.desk.inbox.clear();
            self.desk.life += 1;
            let down = self.absence() / 2;
            self.plan(down, World::start_coordinator);
        }
    }

    pub fn cut_coordinator(&mut self) {
        self.desk.is_cut = true;
        let away = self.absence();
        self.plan(away, |world| {
            world.desk.is_cut = false;
            world.reconnect_coordinator();
        });
    }

    pub fn reconnect_coordinator(&mut self) {
        if !self.is_coordinator_connected() || self.desk.machine.is_none() {
            return;
        }
        if self.desk.losses == self.losses {
            self.tell(Event::ConnectionRestored);
            self.read_log();
        } else {
            // Until it has noticed, what it decided before may still go out.
            let delay = self.delay();
            self.of_this_life(delay, World::start_coordinator);
        }
    }

    pub fn read_log(&mut self) {
        while self.is_coordinator_connected()
            && self.desk.machine.is_some()
            && self.desk.losses == self.losses
            && self.desk.taken < self.log.len()
        {
            let entry = self.log[self.desk.taken].clone();
            self.desk.taken += 1;
            self.tell(Event::Logged { place: entry.place, record: entry.record, at: entry.at });
        }
    }

    pub fn hear_beat(&mut self, agent: AgentId, beat: Beat) {
        if self.is_coordinator_connected() {
            self.tell(Event::BeatHeard { pool: PoolId::default(), agent, beat });
        }
    }

    fn tell(&mut self, event: Event) {
        if self.desk.machine.is_none() {
            return;
        }
        self.desk.inbox.push_back(event);
        while !self.desk.is_busy
            && let Some(event) = self.desk.inbox.pop_front()
        {
            let Some(machine) = &mut self.desk.machine else { return };
            self.desk.read += usize::from(matches!(event, Event::Logged { .. }));
            machine.handle(self.now, event);
            let commands: Vec<Command> = std::iter::from_fn(|| machine.next_command()).collect();
            if commands.is_empty() {
                self.plan_wake();
            } else {
                self.desk.is_busy = true;
                self.of_this_life(Duration::ZERO, |world| world.publish(commands));
            }
        }
    }

    /// Plans something that does not happen when the coordinator has died meanwhile.
    fn of_this_life(&mut self, delay: Duration, action: impl FnOnce(&mut World) + 'static) {
        let life = self.desk.life;
        self.plan(delay, move |world| {
            if world.desk.life == life {
                action(world);
            }
        });
    }

    /// First records and stops, then, when these are stored, the offers that rest on them.
    fn publish(&mut self, commands: Vec<Command>) {
        if !self.is_coordinator_connected() {
            return self.of_this_life(RETRY_AFTER, |world| world.publish(commands));
        }
        let mut offers = Vec::new();
        for command in commands {
            if self.faults_go_on() && self.faults.coordinator_crash_every.is_some() && self.chance(DIES_IN_BETWEEN) {
                *self.happened.entry("coordinator died between two records").or_default() += 1;
                return self.crash_coordinator();
            }
            match command {
                Command::Append { place, record } => self.append(place, record),
                Command::Stop { study, trial, stop } => {
                    self.stops.insert((study.clone(), trial), stop.clone());
                    self.spread_stop(&study, trial, &stop);
                }
                Command::Offer { offer, .. } => offers.push(*offer),
                Command::DeleteCheckpoint { object } => {
                    let delay = self.delay();
                    self.plan(delay, move |world| {
                        world.checkpoints.remove(&object);
                    });
                }
                Command::Ask { .. } => panic!("no study has an external sampler"),
                Command::DeleteStudy { .. } => panic!("nobody asked for that"),
            }
        }
        let delay = self.delay() / 4;
        self.of_this_life(delay, |world| world.publish_offers(offers));
    }

    fn publish_offers(&mut self, offers: Vec<Offer>) {
        if !self.is_coordinator_connected() {
            return self.of_this_life(RETRY_AFTER, |world| world.publish_offers(offers));
        }
        offers.into_iter().for_each(|offer| self.enqueue(Box::new(offer)));
        self.desk.is_busy = false;
        // Whatever waits is told now, and the time is looked at.
        self.tell(Event::TimePassed);
    }

    /// While nobody can be heard no time passes for leases.
    fn plan_wake(&mut self) {
        let Some(deadline) = self.desk.machine.as_ref().and_then(Coordinator::next_deadline) else { return };
        if self.is_coordinator_connected() && self.desk.wake_at.is_none_or(|planned| deadline < planned) {
            self.desk.wake_at = Some(deadline);
            let delay = deadline.since(self.now);
            self.of_this_life(delay, |world| {
                world.desk.wake_at = None;
                if world.is_coordinator_connected() {
                    world.tell(Event::TimePassed);
                }
            });
        }
    }
}
