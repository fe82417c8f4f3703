//! How a coordinator's commands reach the broker: first records and stops, then, when these are stored, the offers that
//! rest on them; each again and again, until it is stored or another coordinator leads.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use regatta_schemas::log::{Place, Record};
use regatta_schemas::offer::Offer;
use regatta_schemas::stop::Stop;
use regatta_schemas::{StudyId, TrialId};
use regatta_search::office::{Receipt, Receipts};
use regatta_search::{Command, Event};

use crate::broker::{Broker, Mandate, Stored};
use crate::desk::News;
use crate::world::{Action, World};

const RETRY_AFTER: Duration = Duration::from_millis(100);
/// The chance that a coordinator dies between two letters of one decision, and that it hangs there.
const DIES_IN_BETWEEN: f64 = 0.01;
const HANGS_IN_BETWEEN: f64 = 0.005;

/// What goes to the broker; its id makes a second try harmless.
#[derive(Debug, Clone)]
pub struct Letter {
    pub contents: Contents,
    pub id: String,
}

#[derive(Debug, Clone)]
pub enum Contents {
    /// The only ones that the broker stores on the condition that their sender leads.
    Decision {
        place: Place,
        record: Record,
    },
    Stop {
        study: StudyId,
        trial: Option<TrialId>,
        stop: Stop,
    },
    Offer(Box<Offer>),
}

/// What goes out together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Tray {
    Decisions,
    Stops,
    Offers,
}

/// What is to be stored before the machine is told anything more.
#[derive(Default)]
pub struct Outbox {
    is_busy: bool,
    batches: BTreeMap<Tray, Batch>,
    offers: VecDeque<Letter>,
    written: u64,
    /// Decisions that are stored and not read back yet.
    receipts: Receipts,
}

#[derive(Default)]
struct Batch {
    waiting: VecDeque<Letter>,
    under_way: usize,
    unstored: VecDeque<Letter>,
    is_one_by_one: bool,
}

impl Outbox {
    pub fn is_busy(&self) -> bool {
        self.is_busy
    }

    /// Whether the log has what was sent on the connections before this one.
    pub fn is_in(&self, broker: &Broker, broken: u64) -> bool {
        self.receipts.to_look_for(broken).is_none_or(|receipt| broker.has(&receipt.message_id))
    }
}

impl World {
    pub fn carry_out(&mut self, desk: usize, commands: Vec<Command>) {
        let read = self.desks[desk].read() as u64;
        self.desks[desk].outbox.is_busy = true;
        self.desks[desk].outbox.receipts.read(read);
        let (mut decisions, mut stops, mut offers) = (VecDeque::new(), VecDeque::new(), VecDeque::new());
        for command in commands {
            let contents = match command {
                Command::Append { place, record } => Contents::Decision { place, record },
                Command::Stop { study, trial, stop } => Contents::Stop { study, trial, stop },
                Command::Offer { offer, .. } => Contents::Offer(offer),
                Command::DeleteCheckpoint { object } => {
                    self.send_to_broker(desk, move |world| {
                        world.broker.checkpoints.remove(&object);
                    });
                    continue;
                }
                Command::Ask { .. } => panic!("no study has an external sampler"),
                Command::DeleteStudy { .. } => panic!("nobody asked for that"),
            };
            let tray = match &contents {
                Contents::Decision { .. } => &mut decisions,
                Contents::Stop { .. } => &mut stops,
                Contents::Offer(_) => &mut offers,
            };
            tray.push_back(Letter { id: self.new_id(desk, &contents), contents });
        }
        self.desks[desk].outbox.offers = offers;
        self.fill(desk, Tray::Decisions, decisions);
        self.fill(desk, Tray::Stops, stops);
    }

    fn new_id(&mut self, desk: usize, contents: &Contents) -> String {
        let desk = &mut self.desks[desk];
        desk.outbox.written += 1;
        match contents {
            Contents::Offer(offer) => format!("{}.{}.{}.{}", offer.study, offer.trial, offer.attempt, offer.term),
            Contents::Decision { .. } | Contents::Stop { .. } => {
                format!("{desk}.{}.{}", desk.term, desk.outbox.written)
            }
        }
    }

    fn fill(&mut self, desk: usize, tray: Tray, waiting: VecDeque<Letter>) {
        let is_to_be_sure = tray != Tray::Decisions && !waiting.is_empty();
        self.desks[desk].outbox.batches.insert(tray, Batch { waiting, ..Batch::default() });
        let post = move |world: &mut World| world.post(desk, tray);
        if is_to_be_sure && !self.desks[desk].is_sure(self.now) {
            self.count("unsure leaders that asked before they sent");
            self.ask_who_leads(desk, Box::new(post));
        } else {
            self.in_term(desk, Duration::ZERO, post);
        }
    }

    /// Sends what waits: all, or one where that was of no avail.
    fn post(&mut self, desk: usize, tray: Tray) {
        while let Some(batch) = self.desks[desk].outbox.batches.get_mut(&tray) {
            if batch.under_way > 0 && batch.is_one_by_one {
                return;
            }
            let Some(letter) = batch.waiting.pop_front() else { break };
            if self.befalls(self.faults.coordinator_crash_every, DIES_IN_BETWEEN) {
                self.count("coordinator died between two letters");
                return self.kill_desk(desk);
            }
            if self.befalls(self.faults.coordinator_pause_every, HANGS_IN_BETWEEN) {
                self.count("coordinator hung between two letters");
                self.pause_desk(desk);
                let batch = self.desks[desk].outbox.batches.get_mut(&tray).expect("it was there");
                batch.waiting.push_front(letter);
                return self.in_term(desk, Duration::ZERO, move |world| world.post(desk, tray));
            }
            self.post_letter(desk, tray, letter);
        }
        self.settle(desk, tray);
    }

    fn befalls(&mut self, every: Option<Duration>, chance: f64) -> bool {
        self.faults_go_on() && every.is_some() && self.chance(chance)
    }

    fn post_letter(&mut self, desk: usize, tray: Tray, letter: Letter) {
        let (mandate, broken) = (self.mandate(desk), self.desks[desk].link.broken);
        self.batch(desk, tray).under_way += 1;
        let sent = letter.clone();
        let store = move |world: &mut World| world.store_letter(sent, mandate);
        self.ask_broker(desk, store, move |world, answer| match answer {
            Some(Stored::As(number)) => {
                if tray == Tray::Decisions {
                    let receipt = Receipt { number, message_id: letter.id.clone(), connection: broken };
                    world.desks[desk].outbox.receipts.add([receipt]);
                }
                world.acknowledged.insert(letter.id);
                world.batch(desk, tray).under_way -= 1;
                world.post(desk, tray);
            }
            Some(Stored::Fenced) => {
                world.ask_who_leads(desk, Box::new(move |world| world.put_by(desk, tray, letter)));
            }
            Some(Stored::Busy) | None => world.put_by(desk, tray, letter),
        });
    }

    fn put_by(&mut self, desk: usize, tray: Tray, letter: Letter) {
        let batch = self.batch(desk, tray);
        batch.unstored.push_back(letter);
        batch.under_way -= 1;
        self.post(desk, tray);
    }

    fn batch(&mut self, desk: usize, tray: Tray) -> &mut Batch {
        self.desks[desk].outbox.batches.get_mut(&tray).expect("a letter of it is under way")
    }

    fn mandate(&self, desk: usize) -> Mandate {
        let fence = self.desks[desk].office.fence().expect("only who leads decides");
        Mandate { coordinator: self.desks[desk].to_string(), fence }
    }

    /// Once every letter has its answer: what was not stored is sent again, else what comes next.
    fn settle(&mut self, desk: usize, tray: Tray) {
        let outbox = &mut self.desks[desk].outbox;
        let Some(batch) = outbox.batches.get_mut(&tray) else { return };
        if batch.under_way > 0 {
            return;
        }
        if !batch.unstored.is_empty() {
            batch.waiting = std::mem::take(&mut batch.unstored);
            batch.is_one_by_one = true;
            return self.in_term(desk, RETRY_AFTER, move |world| world.post(desk, tray));
        }
        outbox.batches.remove(&tray);
        if !outbox.batches.is_empty() {
            return;
        }
        let offers = std::mem::take(&mut outbox.offers);
        if !offers.is_empty() {
            return self.fill(desk, Tray::Offers, offers);
        }
        outbox.is_busy = false;
        // Whatever waits is told now, and the time is looked at.
        self.look_at_clock(desk);
    }

    /// Asks the log whether this coordinator still leads, for as long as it takes; what follows if it does.
    fn ask_who_leads(&mut self, desk: usize, then: Action) {
        let fence = self.mandate(desk).fence;
        self.ask_broker(
            desk,
            |world| world.broker.last_elected,
            move |world, last| match last {
                Some(last) if last == fence => then(world),
                Some(_) => {
                    world.count("leaders that learnt from the broker that they were deposed");
                    world.begin_anew(desk);
                }
                None => world.in_term(desk, RETRY_AFTER, move |world| world.ask_who_leads(desk, then)),
            },
        );
    }

    /// While nobody can be heard no time passes for leases.
    pub fn look_at_clock(&mut self, desk: usize) {
        if self.is_desk_connected(desk) {
            self.tell(desk, News::Happened(Event::TimePassed));
        } else {
            self.work(desk);
        }
    }
}
