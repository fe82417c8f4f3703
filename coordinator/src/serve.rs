//! `regatta serve`: feeds the pure coordinator with what happens, and carries out what it commands.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context;
use futures_util::StreamExt;
use regatta_broker::Link;
use regatta_schemas::StudyId;
use regatta_schemas::api::{Rejection, Reply, Request};
use regatta_schemas::encode;
use regatta_schemas::log::{Place, Record};
use regatta_search::{Answer, Command, Coordinator, Event, Settings, Time};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

use crate::cli;
use crate::clock;
use crate::nats::{Asked, Entry, Letter, LogReader, Read, Until, Wire, serve_requests};

/// Requests that wait at most.
const REQUESTS_WAITING_MAX: usize = 256;
/// Checkpoints that wait to be deleted at most.
const DELETIONS_WAITING_MAX: usize = 10_000;
/// Records taken in before the commands are carried out, so that one round trip serves several decisions.
const RECORDS_AT_ONCE: usize = 64;
/// After the log could not be read.
const RETRY_AFTER: Duration = Duration::from_millis(200);

pub fn settings(args: &cli::Serve) -> Settings {
    Settings { lease_timeout: Duration::from_secs_f64(args.lease_timeout_s), backlog: args.backlog }
}

/// Coordinates until `shutdown` turns true. What is lost by that is nothing: the log holds the state.
///
/// # Errors
/// When NATS cannot be used from the start.
pub async fn serve(link: Link, settings: Settings, mut shutdown: watch::Receiver<bool>) -> anyhow::Result<()> {
    let wire = Wire::new(link.clone());
    let mut connections = link.connections.clone();
    connections.mark_unchanged();
    let beats = wire.beats().await?;
    let mut beats = std::pin::pin!(beats);
    let (ask, mut asked) = mpsc::channel(REQUESTS_WAITING_MAX);
    let (entries, mut logged) = mpsc::channel(RECORDS_AT_ONCE * 16);
    let (deletions, doomed) = mpsc::channel(DELETIONS_WAITING_MAX);
    let log = LogReader::open(&link, None, Until::Forever).await?;
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { serve_requests(link, ask).await.context("the api cannot be served") });
    tasks.spawn(read_log(log, entries));
    tasks.spawn(delete_checkpoints(wire.clone(), doomed));
    let mut desk = Desk::new(wire, settings, deletions);
    tracing::info!("replaying the log");
    loop {
        // While the server is away nobody can be heard: no lease ends for that.
        let deadline = if desk.wire.is_connected() { desk.machine.next_deadline() } else { None };
        tokio::select! {
            // In this order: a beat that was heard must be told before the time of a lease is.
            biased;
            _ = shutdown.wait_for(|is_over| *is_over) => break,
            Some(ended) = tasks.join_next() => {
                ended.context("a part of the coordinator broke off")??;
                anyhow::bail!("a part of the coordinator ended");
            }
            Ok(()) = connections.changed() => desk.tell(Event::ConnectionRestored),
            Some((pool, agent, beat)) = beats.next() => desk.tell(Event::BeatHeard { pool, agent, beat }),
            Some(asked) = asked.recv() => desk.answer(asked),
            Some(reading) = logged.recv() => {
                desk.read(reading);
                // What lies ready is taken in together.
                for _ in 1..RECORDS_AT_ONCE {
                    let Ok(reading) = logged.try_recv() else { break };
                    desk.read(reading);
                }
            }
            () = wait_until(deadline) => {
                if desk.wire.is_connected() {
                    desk.tell(Event::TimePassed);
                }
            }
        }
        tokio::select! {
            _ = shutdown.wait_for(|is_over| *is_over) => break,
            () = desk.carry_out() => {}
        }
    }
    tracing::info!("coordinator stops; the log holds its state");
    tasks.shutdown().await;
    Ok(())
}

/// What the log's reader found.
enum Reading {
    Record(Box<Entry>),
    /// All that was there at start is read.
    Head,
}

async fn read_log(mut log: LogReader, to: mpsc::Sender<Reading>) -> anyhow::Result<()> {
    let mut is_at_head = false;
    loop {
        if !is_at_head && log.is_caught_up() {
            is_at_head = true;
            to.send(Reading::Head).await?;
        }
        match log.next().await {
            Ok(Read::Record(entry)) => to.send(Reading::Record(entry)).await?,
            Ok(Read::Foreign) => {}
            Ok(Read::End) => return Ok(()),
            Err(error) => {
                tracing::warn!(%error, "the log cannot be read; trying again");
                tokio::time::sleep(RETRY_AFTER).await;
            }
        }
    }
}

/// Deletes one after the other what nobody needs; decisions do not wait for that.
async fn delete_checkpoints(wire: Wire, mut doomed: mpsc::Receiver<String>) -> anyhow::Result<()> {
    while let Some(object) = doomed.recv().await {
        if let Err(error) = wire.checkpoints().delete(&object).await {
            tracing::warn!(%error, object, "a checkpoint that nobody needs was not deleted");
        }
    }
    Ok(())
}

async fn wait_until(deadline: Option<Time>) {
    match deadline {
        Some(deadline) => tokio::time::sleep(clock::until(deadline)).await,
        None => std::future::pending().await,
    }
}

/// An encoded reply, and who waits for it.
type Ready = (Vec<u8>, oneshot::Sender<Vec<u8>>);

/// The machine and what its commands touch.
struct Desk {
    wire: Wire,
    machine: Coordinator,
    /// Makes the ids of decisions unique: this process, and a count.
    process: String,
    decisions: u64,
    deletions: mpsc::Sender<String>,
    /// The number of the last record read.
    read: u64,
    /// Answers to requests whose commands are not carried out yet.
    answers: Vec<Ready>,
    /// Answers that go out once the record of this number is read back: who asks next sees what was done.
    answers_by_record: BTreeMap<u64, Vec<Ready>>,
}

impl Desk {
    fn new(wire: Wire, settings: Settings, deletions: mpsc::Sender<String>) -> Self {
        Self {
            wire,
            machine: Coordinator::new(settings),
            process: uuid::Uuid::new_v4().simple().to_string(),
            decisions: 0,
            deletions,
            read: 0,
            answers: Vec::new(),
            answers_by_record: BTreeMap::new(),
        }
    }

    fn tell(&mut self, event: Event) {
        self.machine.handle(clock::now(), event);
    }

    fn read(&mut self, reading: Reading) {
        match reading {
            Reading::Head => {
                tracing::info!("the log is read; coordinating");
                self.tell(Event::CaughtUp);
            }
            Reading::Record(entry) => {
                tracing::debug!(study = %entry.place.study, trial = ?entry.place.trial, kind = entry.record.kind(), sequence = entry.sequence, "record");
                let Entry { place, record, at_us, sequence } = *entry;
                let at = Time::from_micros(at_us);
                self.tell(Event::Logged { place, record, at });
                self.read = sequence;
                self.send_answers();
            }
        }
    }

    fn answer(&mut self, asked: Asked) {
        let new_id = new_study_id(&asked.request);
        let outcome = self.machine.request(clock::now(), &asked.request, new_id);
        self.answers.push((encode_reply(outcome), asked.answer));
    }

    /// Carries out all commands: first stops and records, then, when the records are stored, the offers that rest on them.
    async fn carry_out(&mut self) {
        let (mut records, mut stops, mut offers) = (Vec::new(), Vec::new(), Vec::new());
        let mut last_record = 0;
        while let Some(command) = self.machine.next_command() {
            match command {
                Command::Append { place, record } => {
                    log_decision(&place, &record);
                    records.push(Letter::record(&place, &record, &self.unique()));
                    if matches!(record, Record::StudyCreated(_)) {
                        // Nothing of a study may come before it, whatever has to be sent again.
                        last_record = self.wire.publish(&std::mem::take(&mut records)).await;
                    }
                }
                Command::Stop { study, trial, stop } => {
                    stops.push(Letter::stop(&study, trial, &stop, &self.unique()));
                }
                Command::Offer { pool, offer } => offers.push(Letter::offer(&pool, &offer)),
                Command::DeleteCheckpoint { object } => {
                    if let Err(error) = self.deletions.try_send(object) {
                        tracing::warn!(%error, "a checkpoint that nobody needs stays");
                    }
                }
                Command::DeleteStudy { study } => self.wire.delete_study(&study).await,
            }
        }
        let (_, last_of_these) = tokio::join!(self.wire.publish(&stops), self.wire.publish(&records));
        last_record = last_record.max(last_of_these);
        self.wire.publish(&offers).await;
        if !self.answers.is_empty() {
            self.answers_by_record.entry(last_record).or_default().append(&mut self.answers);
            self.send_answers();
        }
    }

    /// Sends the answers whose records have been read back.
    fn send_answers(&mut self) {
        while let Some(entry) = self.answers_by_record.first_entry() {
            if *entry.key() > self.read {
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
        Ok(Answer::FleetShown(answer)) => encode(&Reply::Ok(answer)),
        Err(rejection) => encode(&Reply::<()>::Rejected(rejection)),
    }
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
