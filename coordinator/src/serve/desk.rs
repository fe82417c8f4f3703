//! The coordinator's machine, and what its commands touch.

use std::collections::BTreeMap;

use regatta_broker::BrokerError;
use regatta_schemas::api::{Leader, Rejection, Reply, Request};
use regatta_schemas::log::{Lineage, Place, Proposed, Record};
use regatta_schemas::snapshot::{LogPosition, OverStudy, Snapshot};
use regatta_schemas::streams::LOG;
use regatta_schemas::{StudyId, Term, encode};
use regatta_search::office::{Receipts, Standing};
use regatta_search::{Answer, Command, Coordinator, Event, Settings, Time};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

use super::intake::Recalled;
use crate::clock;
use crate::nats::{Asked, Deposed, Entry, Letter, Wire};

/// An encoded reply, and who waits for it.
type Ready = (Vec<u8>, oneshot::Sender<Vec<u8>>);

/// Where a desk puts what others do in their own time.
pub struct Outgoing {
    pub deletions: mpsc::Sender<String>,
    pub recalls: mpsc::Sender<(StudyId, Asked)>,
    pub snapshots: mpsc::Sender<Snapshot>,
}

/// What a snapshot would spare the next coordinator.
#[derive(Default)]
struct News {
    records: u64,
    has_concluded: bool,
}

/// A snapshot is taken when so many records came since the last, and a study has concluded since.
const RECORDS_PER_SNAPSHOT: u64 = 2_000;

/// The machine and what its commands touch.
pub struct Desk {
    pub wire: Wire,
    pub machine: Coordinator,
    /// Makes the ids of decisions unique: this process, and a count.
    process: String,
    decisions: u64,
    outgoing: Outgoing,
    /// Questions to external samplers, at most one a study.
    pub questions: JoinSet<Event>,
    /// The last record read.
    read: LogPosition,
    /// This coordinator, once it leads.
    leader: Option<Leader>,
    /// Records read, and studies over, since the last snapshot.
    news: News,
    /// Decisions that are stored and not read back yet.
    receipts: Receipts,
    /// Answers to requests whose commands are not carried out yet.
    answers: Vec<Ready>,
    /// Answers that go out once the record of this number is read back: who asks next sees what was done.
    answers_by_record: BTreeMap<u64, Vec<Ready>>,
}

impl Desk {
    pub fn new(wire: Wire, settings: Settings, outgoing: Outgoing) -> Self {
        Self {
            wire,
            machine: Coordinator::new(Settings { term: new_term(), ..settings }),
            process: uuid::Uuid::new_v4().simple().to_string(),
            decisions: 0,
            outgoing,
            questions: JoinSet::new(),
            read: LogPosition::default(),
            leader: None,
            news: News::default(),
            receipts: Receipts::default(),
            answers: Vec::new(),
            answers_by_record: BTreeMap::new(),
        }
    }

    pub fn tell(&mut self, event: Event) {
        self.machine.handle(clock::now(), event);
    }

    /// Takes office: from here on decisions are taken, fenced by the number of this coordinator's `elected`.
    pub fn lead(&mut self, fence: u64, standing: watch::Receiver<Standing>, leader: Leader) {
        self.leader = Some(leader);
        self.wire = self.wire.clone().in_office(fence, standing);
        self.tell(Event::CaughtUp);
    }

    /// Goes on with a new connection.
    ///
    /// # Errors
    /// `TailLost` when the log has not all any more that this coordinator decided: what it forgot in a power cut before it
    /// was read back, the machine would wait for in vain.
    pub async fn reconnect(&mut self) -> Result<(), BrokerError> {
        if !self.wire.still_has(&self.receipts).await {
            return Err(BrokerError::TailLost { stream: LOG.name });
        }
        self.tell(Event::ConnectionRestored);
        Ok(())
    }

    /// Begins where a snapshot ends.
    pub fn restore(&mut self, over: Vec<OverStudy>, position: LogPosition) {
        self.machine.restore(over);
        self.read = position;
    }

    /// Takes a snapshot, if it is time for one and the last one is stored.
    pub fn take_snapshot(&mut self) {
        let is_worth_it = self.news.has_concluded && self.news.records >= RECORDS_PER_SNAPSHOT;
        if is_worth_it
            && self.machine.is_caught_up()
            && let Ok(place) = self.outgoing.snapshots.try_reserve()
        {
            self.machine.archive_over();
            place.send(self.machine.snapshot(self.read));
            self.news = News::default();
        }
    }

    /// What this coordinator leaves behind when it stops in order, if there is anything new to say.
    pub fn last_snapshot(&self) -> Option<Snapshot> {
        let is_worth_it = self.news.has_concluded && self.machine.is_caught_up();
        is_worth_it.then(|| self.machine.snapshot(self.read))
    }

    /// Deletes those of these checkpoints that no trial needs: an agent died between storing and announcing one, or the
    /// coordinator between a decision and what followed from it.
    pub fn sweep(&mut self, objects: Vec<String>) {
        if !self.machine.is_caught_up() {
            return;
        }
        for object in objects.into_iter().filter(|object| !self.machine.needs_checkpoint(object)) {
            tracing::info!(object, "a checkpoint was left behind; it is deleted");
            self.delete(object);
        }
    }

    fn delete(&self, object: String) {
        if let Err(error) = self.outgoing.deletions.try_send(object) {
            tracing::warn!(%error, "a checkpoint that nobody needs stays for now");
        }
    }

    pub fn read(&mut self, entry: Entry) {
        let Entry { place, record, at_us, sequence } = entry;
        tracing::debug!(study = %place.study, trial = ?place.trial, kind = record.kind(), sequence, "record");
        let at = Time::from_micros(at_us);
        self.news.records += 1;
        self.news.has_concluded |= matches!(record, Record::StudyConcluded(_));
        self.tell(Event::Logged { place, record, at });
        if sequence > self.read.sequence {
            self.read = LogPosition { sequence, at_us };
        }
        self.send_answers();
    }

    pub fn answer(&mut self, asked: Asked) {
        if let Some(study) = self.machine.to_recall(&asked.request) {
            if self.outgoing.recalls.try_send((study, asked)).is_err() {
                tracing::warn!("too many studies that are over are asked for at once; who asked will ask again");
            }
            return;
        }
        let new_id = new_study_id(&asked.request);
        let mut outcome = self.machine.request(clock::now(), &asked.request, new_id);
        if let Ok(Answer::FleetShown(fleet)) = &mut outcome {
            // Which coordinator a machine is the machine of, it does not know.
            fleet.leader.clone_from(&self.leader);
        }
        self.answers.push((encode_reply(outcome), asked.answer));
    }

    /// Answers, now that the study is read again.
    pub fn recall(&mut self, recalled: Recalled) {
        let Recalled { study, records, asked } = recalled;
        self.machine.recall(clock::now(), &study, records);
        self.answer(asked);
    }

    /// Carries out all commands: first stops and records, then, when the records are stored, the offers that rest on them.
    ///
    /// # Errors
    /// `Deposed` when another coordinator leads; then this desk's machine has decided what never was.
    pub async fn carry_out(&mut self) -> Result<(), Deposed> {
        let (mut records, mut stops, mut offers) = (Vec::new(), Vec::new(), Vec::new());
        let mut stored = Vec::new();
        while let Some(command) = self.machine.next_command() {
            match command {
                Command::Append { place, record } => {
                    log_decision(&place, &record);
                    records.push(Letter::record(&place, &record, &self.unique()));
                    if matches!(record, Record::StudyCreated(_)) {
                        // Nothing of a study may come before it, whatever has to be sent again.
                        stored.append(&mut self.wire.publish(&std::mem::take(&mut records)).await?);
                    }
                }
                Command::Stop { study, trial, stop } => {
                    stops.push(Letter::stop(&study, trial, &stop, &self.unique()));
                }
                Command::Offer { pool, offer } => offers.push(Letter::offer(&pool, &offer)),
                Command::Ask { service, timeout, ask } => {
                    let wire = self.wire.clone();
                    self.questions.spawn(async move {
                        let answer = wire.ask(&service, timeout, &ask).await;
                        Event::Answered { study: ask.study, index: ask.index, answer }
                    });
                }
                Command::DeleteCheckpoint { object } => self.delete(object),
                Command::DeleteStudy { study } => self.wire.delete_study(&study).await,
            }
        }
        let (_, mut rest) = tokio::try_join!(self.wire.publish(&stops), self.wire.publish(&records))?;
        stored.append(&mut rest);
        let last_record = stored.iter().map(|receipt| receipt.number).max().unwrap_or(0);
        self.receipts.read(self.read.sequence);
        self.receipts.add(stored);
        self.wire.publish(&offers).await?;
        if !self.answers.is_empty() {
            self.answers_by_record.entry(last_record).or_default().append(&mut self.answers);
            self.send_answers();
        }
        Ok(())
    }

    /// Sends the answers whose records have been read back.
    fn send_answers(&mut self) {
        while let Some(entry) = self.answers_by_record.first_entry() {
            if *entry.key() > self.read.sequence {
                return;
            }
            for (reply, answer) in entry.remove() {
                // Whoever asked may have gone.
                drop(answer.send(reply));
            }
        }
    }

    fn unique(&mut self) -> String {
        self.decisions += 1;
        format!("{}.{}", self.process, self.decisions)
    }
}

fn log_decision(place: &Place, record: &Record) {
    let (study, kind) = (&place.study, record.kind());
    match (place.trial, record) {
        (Some(trial), Record::Stopped(stopped)) => tracing::info!(%study, %trial, reason = %stopped.reason, "{kind}"),
        (Some(trial), Record::Offered(offered)) => {
            tracing::info!(%study, %trial, attempt = %offered.attempt, reason = ?offered.reason, "{kind}");
        }
        (Some(trial), Record::Proposed(Proposed { lineage: Lineage::Sampled { fallback: Some(failure), .. }, .. })) => {
            tracing::warn!(%study, %trial, %failure, "{kind} by the fallback of the external sampler")
        }
        (Some(trial), _) => tracing::info!(%study, %trial, "{kind}"),
        (None, Record::StudyConcluded(end)) => tracing::info!(%study, reason = %end.reason, "{kind}"),
        (None, _) => tracing::info!(%study, "{kind}"),
    }
}

fn encode_reply(outcome: Result<Answer, Rejection>) -> Vec<u8> {
    match outcome {
        Ok(Answer::StudyStarted(answer)) => encode(&Reply::Ok(answer)),
        Ok(Answer::StudyList(answer)) => encode(&Reply::Ok(answer)),
        Ok(Answer::StudyShown(answer)) => encode(&Reply::Ok(answer)),
        Ok(Answer::Done(answer)) => encode(&Reply::Ok(answer)),
        Ok(Answer::TrialSubmitted(answer)) => encode(&Reply::Ok(answer)),
        Ok(Answer::TrialList(answer)) => encode(&Reply::Ok(answer)),
        Ok(Answer::TrialShown(answer)) => encode(&Reply::Ok(answer)),
        Ok(Answer::TrialSuggested(answer)) => encode(&Reply::Ok(answer)),
        Ok(Answer::TrialObserved(answer)) => encode(&Reply::Ok(answer)),
        Ok(Answer::FleetShown(answer)) => encode(&Reply::Ok(answer)),
        Err(rejection) => encode(&Reply::<()>::Rejected(rejection)),
    }
}

/// No other time in office of any coordinator has the same, but for chance.
fn new_term() -> Term {
    Term((uuid::Uuid::new_v4().as_u128() as u32).max(1))
}

/// An id for the study that the request may make: its name, made fit for a subject, and what makes it unique.
fn new_study_id(request: &Request) -> StudyId {
    const NAME_CHARS_MAX: usize = 48;
    let name = match request {
        Request::StudyCreate(create) => create.study.get("name").and_then(|name| name.as_str()).unwrap_or("study"),
        _ => "trial",
    };
    let slug: String = name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' })
        .take(NAME_CHARS_MAX)
        .collect();
    let unique = &uuid::Uuid::new_v4().simple().to_string()[..8];
    StudyId::new(format!("{slug}-{unique}")).expect("a slug of at most 48 characters and 8 more are an id")
}
