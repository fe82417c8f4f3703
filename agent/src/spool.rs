//! What waits to be published: in order, bounded in memory, thinned where it grows beyond that.
//!
//! A pure machine: it knows no NATS and no clock. Its shell asks what to send ([`Spool::take`]) and tells what became
//! of it ([`Spool::stored`], [`Spool::put_back`]). Beyond the bound every second message of points and every second
//! line of each attempt goes, but never its first, never its newest, and never the record of something that happened to
//! it: of those there are few, since an agent that is cut off gets no new trials and stores no checkpoints.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use regatta_schemas::beat::Held;
use regatta_schemas::log::{Place, Record};
use regatta_schemas::output::Output;
use regatta_schemas::{Attempt, Term, encode, subjects};

/// Messages on their way without an acknowledgement, at most.
const WINDOW: usize = 256;

/// Something to publish. `A` is what acknowledges an offer.
#[derive(Debug)]
pub struct Parcel<A> {
    pub subject: String,
    pub payload: Bytes,
    /// The same id twice is stored once.
    pub message_id: Option<String>,
    /// What is acknowledged once the parcel is stored.
    pub then_ack: Option<A>,
    kind: Kind,
    /// The attempt that has ended with it.
    ends: Option<Held>,
    /// Its place in the order.
    number: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// Goes only after everything before it is stored; never dropped.
    Lifecycle,
    /// Points, or a line that a trial printed, of this attempt: an agent may get two of a trial, and the newest of each counts.
    Droppable(Attempt, Term),
}

impl<A> Parcel<A> {
    /// A record; once it is stored, `then_ack` is acknowledged.
    pub fn record(place: &Place, record: &Record, then_ack: Option<A>) -> Self {
        let kind = match record {
            Record::Measured(measured) => Kind::Droppable(measured.attempt, measured.term),
            _ => Kind::Lifecycle,
        };
        Self {
            subject: subjects::log(place, record),
            payload: encode(record).into(),
            message_id: record.message_id(place),
            then_ack,
            kind,
            ends: ended(place, record),
            number: 0,
        }
    }

    /// A line that a trial printed; its id differs from that of every other line.
    pub fn line(subject: String, output: &Output, message_id: String) -> Self {
        Self {
            subject,
            payload: encode(output).into(),
            message_id: Some(message_id),
            then_ack: None,
            kind: Kind::Droppable(output.attempt, Term::default()),
            ends: None,
            number: 0,
        }
    }

    fn droppable_bytes(&self) -> usize {
        match self.kind {
            Kind::Lifecycle => 0,
            Kind::Droppable(..) => {
                size_of::<Self>()
                    + self.subject.len()
                    + self.payload.len()
                    + self.message_id.as_ref().map_or(0, String::len)
            }
        }
    }
}

/// The attempt that a record ends.
fn ended(place: &Place, record: &Record) -> Option<Held> {
    let is_end = matches!(record, Record::Finished(_) | Record::Failed(_) | Record::Released(_));
    let attempt = record.key().filter(|_| is_end)?.attempt;
    Some(Held { study: place.study.clone(), trial: place.trial?, attempt })
}

/// The queue, and how much of it is on its way.
#[derive(Debug)]
pub struct Spool<A> {
    waiting: VecDeque<Parcel<A>>,
    /// Sent and not stored, by number; they wait until nothing is on its way any more.
    returned: BTreeMap<u64, Parcel<A>>,
    flying: usize,
    /// Attempts that have ended, with a record that is not stored yet, by its number.
    ends: BTreeMap<u64, Held>,
    pushed: u64,
    /// Of the droppable parcels that wait.
    bytes: usize,
    bytes_max: usize,
    dropped: u64,
}

impl<A> Spool<A> {
    /// At most so many bytes of points and lines wait.
    pub fn new(bytes_max: usize) -> Self {
        Self {
            waiting: VecDeque::new(),
            returned: BTreeMap::new(),
            flying: 0,
            ends: BTreeMap::new(),
            pushed: 0,
            bytes: 0,
            bytes_max,
            dropped: 0,
        }
    }

    /// Puts a parcel behind all others. Answers how many were dropped for it.
    pub fn push(&mut self, parcel: Parcel<A>) -> usize {
        self.bytes += parcel.droppable_bytes();
        if let Some(held) = &parcel.ends {
            self.ends.insert(self.pushed, held.clone());
        }
        self.waiting.push_back(Parcel { number: self.pushed, ..parcel });
        self.pushed += 1;
        self.thin()
    }

    /// What may be sent now; answer with [`stored`](Self::stored) or [`put_back`](Self::put_back).
    pub fn take(&mut self) -> Option<Parcel<A>> {
        if self.flying == 0 {
            self.queue_again();
        }
        let is_next = match self.waiting.front()?.kind {
            Kind::Lifecycle => self.flying == 0,
            Kind::Droppable(..) => self.flying < WINDOW,
        };
        if !is_next || !self.returned.is_empty() {
            return None;
        }
        let parcel = self.waiting.pop_front()?;
        self.bytes -= parcel.droppable_bytes();
        self.flying += 1;
        Some(parcel)
    }

    /// A parcel that was taken is stored.
    pub fn stored(&mut self, parcel: &Parcel<A>) {
        self.flying -= 1;
        self.ends.remove(&parcel.number);
    }

    /// Attempts whose last record is not stored yet. Beats go on naming them: nobody must train them again meanwhile.
    pub fn ending(&self) -> impl Iterator<Item = &Held> {
        self.ends.values()
    }

    /// A parcel that was taken may not be stored: it goes again, in its old place.
    pub fn put_back(&mut self, parcel: Parcel<A>) {
        self.flying -= 1;
        self.returned.insert(parcel.number, parcel);
    }

    /// Whether all that was pushed is stored or dropped.
    pub fn is_empty(&self) -> bool {
        self.flying == 0 && self.returned.is_empty() && self.waiting.is_empty()
    }

    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    fn queue_again(&mut self) {
        for (_, parcel) in std::mem::take(&mut self.returned).into_iter().rev() {
            self.bytes += parcel.droppable_bytes();
            self.waiting.push_front(parcel);
        }
    }

    /// Drops every second of what may be dropped, until the rest fits or only the ends are left.
    fn thin(&mut self) -> usize {
        let before = self.waiting.len();
        while self.bytes > self.bytes_max {
            let had = self.waiting.len();
            self.drop_every_second();
            if self.waiting.len() == had {
                break;
            }
        }
        let dropped = before - self.waiting.len();
        self.dropped += dropped as u64;
        dropped
    }

    fn drop_every_second(&mut self) {
        let attempt = |parcel: &Parcel<A>| (parcel.subject.clone(), parcel.kind);
        let mut left_by_attempt: BTreeMap<(String, Kind), usize> = BTreeMap::new();
        for parcel in self.waiting.iter().filter(|parcel| parcel.kind != Kind::Lifecycle) {
            *left_by_attempt.entry(attempt(parcel)).or_default() += 1;
        }
        let mut seen_by_attempt: BTreeMap<(String, Kind), usize> = BTreeMap::new();
        let bytes = &mut self.bytes;
        self.waiting.retain(|parcel| {
            if parcel.kind == Kind::Lifecycle {
                return true;
            }
            let attempt = attempt(parcel);
            let left = left_by_attempt[&attempt];
            let seen = seen_by_attempt.entry(attempt).or_default();
            let is_newest = *seen + 1 == left;
            let is_kept = is_newest || seen.is_multiple_of(2);
            *seen += 1;
            if !is_kept {
                *bytes -= parcel.droppable_bytes();
            }
            is_kept
        });
    }
}

#[cfg(test)]
#[path = "spool_tests.rs"]
mod tests;
