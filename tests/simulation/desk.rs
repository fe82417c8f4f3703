//! What `regatta serve` does around the coordinator: reads the log, hears beats, takes office and loses it, dies and comes
//! back.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use regatta_schemas::beat::Beat;
use regatta_schemas::snapshot::LogPosition;
use regatta_schemas::{AgentId, PoolId, Term};
use regatta_search::office::{Candidacy, Office};
use regatta_search::{Command, Coordinator, Event, Settings, Time};

use crate::broker::Message;
use crate::link::Link;
use crate::mail::Outbox;
use crate::world::World;

const RETRY_AFTER: Duration = Duration::from_millis(200);
/// Records taken in before the commands are carried out.
const RECORDS_AT_ONCE: usize = 512;

/// One coordinator's place, where a process runs, or will again.
pub struct Desk {
    number: usize,
    /// Processes that there were.
    life: u64,
    is_running: bool,
    /// None while it is down, and between two terms.
    pub machine: Option<Coordinator>,
    pub office: Office,
    pub candidacy: Candidacy,
    /// What the machine was told of the log.
    read: LogPosition,
    /// What waits in the inbox, and what lies before it.
    taken: LogPosition,
    inbox: VecDeque<News>,
    pub outbox: Outbox,
    pub link: Link,
    paused_until: Time,
    wake_at: Option<Time>,
    /// Tells what one term planned from what the next one does; no other of any desk has the same.
    pub term: u64,
}

/// What a desk waits to be told.
pub enum News {
    Happened(Event),
    Read(Message),
    /// The candidate heard from the broker.
    Stood,
    Reconnected,
    /// What was read is not in the log any more.
    TailLost,
}

impl fmt::Display for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "coordinator-{}-{}", self.number, self.life)
    }
}

impl Desk {
    pub fn read(&self) -> usize {
        self.read.sequence as usize
    }

    pub fn read_what_is_in(&self, log: &[Message]) -> bool {
        is_in(log, self.read)
    }

    /// How long it stays paused.
    pub fn pause_left(&self, now: Time) -> Option<Duration> {
        (now < self.paused_until).then(|| self.paused_until.since(now))
    }

    /// Whether it does what it should, as far as it depends on itself.
    pub fn is_well(&self, now: Time) -> bool {
        self.is_running && self.pause_left(now).is_none() && !self.link.is_slow
    }

    /// Whether nobody else can have been elected since.
    pub fn is_sure(&self, now: Time) -> bool {
        self.office.fence().is_some_and(|fence| self.candidacy.standing().is_sure_of(fence, now))
    }

    fn take_in(&mut self, now: Time, message: Message) {
        self.read = position(self.read(), &message);
        match message {
            Message::Record { entry, .. } => {
                if let Some(machine) = &mut self.machine {
                    machine.handle(now, Event::Logged { place: entry.place, record: entry.record, at: entry.at });
                }
            }
            Message::Elected { at, .. } => self.office.read(self.read.sequence, at),
        }
    }

    /// All that the process held is gone.
    fn clear(&mut self, term: u64) {
        self.term = term;
        self.machine = None;
        (self.office, self.candidacy) = Default::default();
        (self.read, self.taken) = Default::default();
        self.inbox.clear();
        self.outbox = Outbox::default();
        self.wake_at = None;
    }
}

/// That of the message after so many others.
fn position(before: usize, message: &Message) -> LogPosition {
    LogPosition { sequence: before as u64 + 1, at_us: message.at().as_micros() }
}

fn is_in(log: &[Message], read: LogPosition) -> bool {
    let Some(before) = (read.sequence as usize).checked_sub(1) else { return true };
    log.get(before).is_some_and(|message| position(before, message) == read)
}

impl World {
    pub fn open_desk(&mut self) {
        let number = self.desks.len();
        self.desks.push(Desk {
            number,
            life: 0,
            is_running: false,
            machine: None,
            office: Office::default(),
            candidacy: Candidacy::default(),
            read: LogPosition::default(),
            taken: LogPosition::default(),
            inbox: VecDeque::new(),
            outbox: Outbox::default(),
            link: Link::default(),
            paused_until: Time::default(),
            wake_at: None,
            term: 0,
        });
        self.start_process(number);
        let faults = self.faults.clone();
        self.strike(number, faults.coordinator_crash_every, ["leader killed", "stand-by killed"], World::kill_desk);
        self.strike(number, faults.coordinator_pause_every, ["leader paused", "stand-by paused"], World::pause_desk);
        self.strike(number, faults.coordinator_cut_every, ["leader cut off", "stand-by cut off"], World::cut_desk);
        let slow = ["leader slowed down", "stand-by slowed down"];
        self.strike(number, faults.coordinator_slow_every, slow, World::slow_desk_down);
        self.strike(number, faults.coordinator_leave_every, ["handed over", "stand-by stopped"], World::leave_desk);
    }

    /// `names`: of what befalls the one that leads, and another.
    fn strike(&mut self, desk: usize, every: Option<Duration>, names: [&'static str; 2], fault: fn(&mut World, usize)) {
        self.repeat(every, move |world| {
            if world.desks[desk].is_running {
                let [leads, stands_by] = names;
                world.count(if world.leads(desk) { leads } else { stands_by });
                fault(world, desk);
            }
        });
    }

    fn start_process(&mut self, desk: usize) {
        self.desks[desk].is_running = true;
        self.desks[desk].life += 1;
        self.start_term(desk);
    }

    fn start_term(&mut self, desk: usize) {
        if !self.is_desk_connected(desk) {
            return self.in_term(desk, RETRY_AFTER, move |world| world.start_term(desk));
        }
        let term = Term(u32::try_from(self.desks[desk].term).expect("a world has few terms").max(1));
        let settings = Settings { term, ..Settings::default() };
        self.desks[desk].machine = Some(Coordinator::new(settings));
        self.read_log(desk);
        self.campaign(desk);
    }

    /// The term is over; the next begins with the beginning of the log.
    pub fn begin_anew(&mut self, desk: usize) {
        self.give_key_back(desk);
        let term = self.next_number();
        self.desks[desk].clear(term);
        let delay = self.delay();
        self.in_term(desk, delay, move |world| world.start_term(desk));
    }

    pub fn kill_desk(&mut self, desk: usize) {
        let term = self.next_number();
        self.desks[desk].clear(term);
        self.desks[desk].link.forget_what_was_kept();
        self.desks[desk].is_running = false;
        self.desks[desk].paused_until = Time::default();
        let down = self.absence() / 2;
        self.plan(down, move |world| world.start_process(desk));
    }

    /// SIGTERM: what is under way is left so, and the key is given back.
    fn leave_desk(&mut self, desk: usize) {
        if self.desks[desk].pause_left(self.now).is_none() {
            self.give_key_back(desk);
            self.kill_desk(desk);
        }
    }

    /// SIGSTOP: nothing is done or heard for a while, then everything that waited.
    pub fn pause_desk(&mut self, desk: usize) {
        self.desks[desk].paused_until = self.now + self.absence();
    }

    fn give_key_back(&mut self, desk: usize) {
        let holder = self.desks[desk].to_string();
        self.send_to_broker(desk, move |world| world.broker.release(&holder));
    }

    /// Every coordinator is sent what was appended.
    pub fn announce_record(&mut self) {
        for desk in 0..self.desks.len() {
            if self.is_desk_connected(desk) {
                self.hear_from_broker(desk, move |world| world.read_log(desk));
            }
        }
    }

    pub fn read_log(&mut self, desk: usize) {
        if self.desks[desk].machine.is_none() || !self.is_desk_connected(desk) {
            return;
        }
        if !is_in(&self.broker.log, self.desks[desk].taken) {
            return self.tell(desk, News::TailLost);
        }
        let taken = self.desks[desk].taken.sequence as usize;
        for (before, message) in self.broker.log.iter().enumerate().skip(taken) {
            self.desks[desk].taken = position(before, message);
            self.desks[desk].inbox.push_back(News::Read(message.clone()));
        }
        self.work(desk);
    }

    pub fn hear_beat(&mut self, agent: &AgentId, beat: &Beat) {
        for desk in 0..self.desks.len() {
            if self.is_desk_connected(desk) {
                let (pool, agent, beat) = (PoolId::default(), agent.clone(), beat.clone());
                self.hear_from_broker(desk, move |world| {
                    world.tell(desk, News::Happened(Event::BeatHeard { pool, agent, beat }));
                });
            }
        }
    }

    pub fn tell(&mut self, desk: usize, news: News) {
        self.desks[desk].inbox.push_back(news);
        self.work(desk);
    }

    /// Tells the machine what waits, until there is something to carry out.
    pub fn work(&mut self, number: usize) {
        while !self.desks[number].outbox.is_busy() {
            let (now, desk) = (self.now, &mut self.desks[number]);
            let Some(machine) = &mut desk.machine else { return desk.inbox.clear() };
            match desk.inbox.pop_front() {
                None => return self.plan_wake(number),
                Some(News::TailLost) => {
                    self.count("coordinator noticed that the log lost its end");
                    return self.begin_anew(number);
                }
                Some(News::Reconnected) if !desk.outbox.is_in(&self.broker, desk.link.broken) => {
                    self.count("leader noticed that what it decided was forgotten");
                    return self.begin_anew(number);
                }
                Some(News::Reconnected) => machine.handle(now, Event::ConnectionRestored),
                Some(News::Happened(event)) => machine.handle(now, event),
                Some(News::Stood) => {}
                Some(News::Read(message)) => {
                    desk.take_in(now, message);
                    for _ in 1..RECORDS_AT_ONCE {
                        let next = desk.inbox.pop_front_if(|news| matches!(news, News::Read(_)));
                        let Some(News::Read(message)) = next else { break };
                        desk.take_in(now, message);
                    }
                }
            }
            if desk.office.is_lost() {
                self.count("leaders that read that they were deposed");
                return self.begin_anew(number);
            }
            let elected = desk.candidacy.standing().elected;
            let Some(machine) = &mut desk.machine else { return };
            if desk.office.enter(elected).is_some() {
                machine.handle(now, Event::CaughtUp);
            }
            let commands: Vec<Command> = std::iter::from_fn(|| machine.next_command()).collect();
            if !commands.is_empty() {
                self.carry_out(number, commands);
            }
        }
    }

    fn plan_wake(&mut self, desk: usize) {
        let Some(deadline) = self.desks[desk].machine.as_ref().and_then(Coordinator::next_deadline) else { return };
        if self.is_desk_connected(desk) && self.desks[desk].wake_at.is_none_or(|planned| deadline < planned) {
            self.desks[desk].wake_at = Some(deadline);
            self.wake_at(desk, deadline.since(self.now));
        }
    }

    fn wake_at(&mut self, desk: usize, delay: Duration) {
        let term = self.desks[desk].term;
        self.plan(delay, move |world| {
            if world.desks[desk].term != term {
                return;
            }
            // What was heard while it was paused is told before the time is.
            if let Some(left) = world.desks[desk].pause_left(world.now) {
                return world.wake_at(desk, left + Duration::from_millis(1));
            }
            world.desks[desk].wake_at = None;
            world.look_at_clock(desk);
        });
    }
}
