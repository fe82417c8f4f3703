//! `regatta serve`: feeds the pure coordinator with what happens, and carries out what it commands.
//!
//! Any number of coordinators may run: each reads the log and so knows all, one leads. The others take over from it,
//! without reading anything anew.

mod desk;
mod intake;

use std::convert::Infallible;
use std::time::Duration;

use anyhow::Context;
use futures_util::StreamExt;
use regatta_broker::{BrokerError, Link, ensure_everything};
use regatta_schemas::api::Leader;
use regatta_schemas::snapshot::Snapshot;
use regatta_search::office::{Office, Standing};
use regatta_search::{Event, Settings, Time};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::cli;
use crate::clock;
use crate::nats::{Asked, Candidate, Read, Wire, serve_requests, snapshots};
use desk::{Desk, Outgoing};
use intake::{read_log, recall_studies};

/// Requests that wait at most.
const REQUESTS_WAITING_MAX: usize = 256;
/// Checkpoints that wait to be deleted at most.
const DELETIONS_WAITING_MAX: usize = 10_000;
/// Records taken in before the commands are carried out, so that one round trip serves several decisions.
const RECORDS_AT_ONCE: usize = 512;
/// Studies that wait to be read again at most.
const RECALLS_WAITING_MAX: usize = 64;
/// Before a coordinator whose parts failed begins anew.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// How often checkpoints that were left behind are looked for, in the time after which they count as such.
const SWEEPS_PER_AGE: u32 = 24;
/// How long a coordinator that stops may take to store its last snapshot, and to give its office back.
const RESIGN_WITHIN: Duration = Duration::from_secs(2);

/// What a coordinator is told when it starts.
#[derive(Debug, Clone)]
pub struct Setup {
    pub settings: Settings,
    /// Copies that NATS keeps of each stream.
    pub replicas: usize,
    /// Age at which a checkpoint that no trial needs is deleted: the record of a younger one may be on its way.
    pub sweep_age: Duration,
}

impl From<&cli::Serve> for Setup {
    fn from(args: &cli::Serve) -> Self {
        Self {
            settings: Settings {
                lease_timeout: Duration::from_secs_f64(args.lease_timeout_s),
                backlog: args.backlog,
                ..Settings::default()
            },
            replicas: usize::from(args.replicas),
            sweep_age: Duration::from_secs_f64(args.sweep_age_s),
        }
    }
}

/// Coordinates until `shutdown` turns true, or stands by while another does. What is lost by an end is nothing: the
/// log holds the state.
///
/// The streams and buckets must be there ([`ensure_everything`]).
///
/// # Errors
/// When NATS cannot be used from the start.
pub async fn serve(link: Link, setup: Setup, shutdown: watch::Receiver<bool>) -> anyhow::Result<()> {
    let name = format!("coordinator-{}", &uuid::Uuid::new_v4().simple().to_string()[..8]);
    let mut has_served = false;
    let outcome = loop {
        match serve_a_term(&link, &name, &setup, shutdown.clone(), has_served).await {
            Ok(End::Deposed) => tracing::warn!(name, "another coordinator leads; this one stands by"),
            Ok(End::Shutdown) => break Ok(()),
            Err(error) if has_served || is_tail_lost(&error) => {
                tracing::warn!(error = format!("{error:#}"), "beginning anew");
                tokio::time::sleep(RETRY_AFTER).await;
            }
            Err(error) => break Err(error),
        }
        has_served = true;
    };
    tracing::info!("coordinator stops; the log holds its state");
    outcome
}

/// Each term has an election of its own: what lies before it in the log is read before anything is decided.
async fn serve_a_term(
    link: &Link,
    name: &str,
    setup: &Setup,
    shutdown: watch::Receiver<bool>,
    has_served: bool,
) -> anyhow::Result<End> {
    // Whoever started it has seen to that the first time; a server that lost its disk has nothing any more.
    if has_served {
        ensure_everything(link, setup.replicas).await?;
    }
    let (candidate, standing) = Candidate::new(link, name).await?;
    let (withdraw, withdrawn) = watch::channel(false);
    let candidacy = tokio::spawn(candidate.stand(withdrawn));
    let ended = Term { link, name, setup, standing, shutdown }.serve().await;
    withdraw.send_replace(true);
    // Without an answer the lease runs out by itself.
    drop(tokio::time::timeout(RESIGN_WITHIN, candidacy).await);
    ended
}

enum End {
    Shutdown,
    Deposed,
}

/// Whether what was read is not in the log any more: the log is what counts.
fn is_tail_lost(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(BrokerError::TailLost { .. }))
}

/// From the beginning of the log, through standing by and leading, to the end of either.
struct Term<'a> {
    link: &'a Link,
    name: &'a str,
    setup: &'a Setup,
    standing: watch::Receiver<Standing>,
    shutdown: watch::Receiver<bool>,
}

impl Term<'_> {
    async fn serve(mut self) -> anyhow::Result<End> {
        let wire = Wire::new(self.link.clone());
        let mut connections = self.link.connections.clone();
        connections.mark_unchanged();
        let beats = wire.beats().await?;
        let mut beats = std::pin::pin!(beats);
        let (ask, mut asked) = mpsc::channel(REQUESTS_WAITING_MAX);
        let (entries, mut logged) = mpsc::channel(RECORDS_AT_ONCE * 4);
        let (deletions, doomed) = mpsc::channel(DELETIONS_WAITING_MAX);
        let (recalls, wanted) = mpsc::channel(RECALLS_WAITING_MAX);
        let (recall, mut recalled) = mpsc::channel(1);
        let (snapshots, taken) = mpsc::channel(1);
        let (stored, mut listed) = mpsc::channel(1);
        let mut tasks = JoinSet::new();
        tasks.spawn(delete_checkpoints(wire.clone(), doomed));
        tasks.spawn(recall_studies(self.link.clone(), wanted, recall));
        tasks.spawn(keep_snapshots(self.link.clone(), taken));
        tasks.spawn(list_checkpoints(wire.clone(), self.setup.sweep_age, stored));
        let mut office = Office::default();
        let mut desk = Desk::new(wire, self.setup.settings.clone(), Outgoing { deletions, recalls, snapshots });
        let mut snapshot = snapshots::last(self.link).await?;
        if let Some(snapshot) = &mut snapshot {
            let sequence = snapshot.position.sequence;
            tracing::info!(sequence, over = snapshot.over.len(), "beginning from the snapshot");
            desk.restore(std::mem::take(&mut snapshot.over), snapshot.position);
        }
        let refusal = desk.wire.refusal();
        tracing::info!(name = self.name, "reading the log");
        tasks.spawn(read_log(self.link.clone(), snapshot, entries));
        loop {
            // While the server is away nobody can be heard: no lease ends for that.
            let deadline = if desk.wire.is_connected() { desk.machine.next_deadline() } else { None };
            let mut is_reconnected = false;
            tokio::select! {
                // In this order: a beat that was heard must be told before the time of a lease is.
                biased;
                _ = self.shutdown.wait_for(|is_over| *is_over) => break,
                Some(ended) = tasks.join_next() => {
                    ended.context("a part of the coordinator broke off")??;
                    anyhow::bail!("a part of the coordinator ended");
                }
                Ok(()) = connections.changed() => is_reconnected = true,
                Some((pool, agent, beat)) = beats.next() => desk.tell(Event::BeatHeard { pool, agent, beat }),
                Some(asked) = asked.recv() => desk.answer(asked),
                Some(objects) = listed.recv() => desk.sweep(objects),
                Some(recalled) = recalled.recv() => desk.recall(recalled),
                Some(answered) = desk.questions.join_next() => {
                    desk.tell(answered.context("a question to a sampler broke off")?);
                }
                Ok(()) = self.standing.changed() => {}
                Some(reading) = logged.recv() => {
                    take_in(self.name, reading, &mut office, &mut desk);
                    // What lies ready is taken in together.
                    for _ in 1..RECORDS_AT_ONCE {
                        let Ok(reading) = logged.try_recv() else { break };
                        take_in(self.name, reading, &mut office, &mut desk);
                    }
                }
                () = wait_until(deadline) => {
                    if desk.wire.is_connected() {
                        desk.tell(Event::TimePassed);
                    }
                }
            }
            if is_reconnected {
                desk.reconnect().await?;
            }
            if office.is_lost() {
                return Ok(End::Deposed);
            }
            let elected = self.standing.borrow_and_update().elected;
            if let Some(fence) = office.enter(elected) {
                tracing::info!(name = self.name, "leading");
                let leader = Leader { coordinator: self.name.to_owned(), since_ms: office.since().as_millis() };
                desk.lead(fence, self.standing.clone(), leader);
                let (link, ask) = (self.link.clone(), ask.clone());
                tasks.spawn(async move { serve_requests(link, ask).await.context("the api cannot be served") });
            }
            tokio::select! {
                _ = self.shutdown.wait_for(|is_over| *is_over) => break,
                carried_out = desk.carry_out() => if carried_out.is_err() {
                    return Ok(End::Deposed);
                },
                never = turn_away(refusal.clone(), &mut asked) => match never {},
            }
            desk.take_snapshot();
        }
        tasks.shutdown().await;
        if let Some(snapshot) = desk.last_snapshot() {
            let kept = tokio::time::timeout(RESIGN_WITHIN, snapshots::keep(self.link, &snapshot)).await;
            if !matches!(kept, Ok(Ok(()))) {
                tracing::warn!("no last snapshot was stored: the next start reads more of the log");
            }
        }
        Ok(End::Shutdown)
    }
}

/// Tells what was read to whom it concerns.
fn take_in(name: &str, read: Read, office: &mut Office, desk: &mut Desk) {
    match read {
        Read::Record(entry) => desk.read(*entry),
        Read::Elected { elected, sequence, at_us } => {
            office.read(sequence, Time::from_micros(at_us));
            if elected.coordinator != name {
                tracing::info!(name, leader = elected.coordinator, "another coordinator was elected");
            }
        }
        Read::Foreign | Read::End => {}
    }
}

/// Stores snapshots one after the other; one that is lost costs a longer start.
async fn keep_snapshots(link: Link, mut taken: mpsc::Receiver<Snapshot>) -> anyhow::Result<()> {
    while let Some(snapshot) = taken.recv().await {
        match snapshots::keep(&link, &snapshot).await {
            Ok(()) => {
                let sequence = snapshot.position.sequence;
                tracing::info!(sequence, over = snapshot.over.len(), "snapshot taken");
            }
            Err(error) => tracing::warn!(%error, "a snapshot was not stored"),
        }
    }
    Ok(())
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

/// Lists, again and again, the checkpoints that have been stored for so long.
async fn list_checkpoints(wire: Wire, age: Duration, to: mpsc::Sender<Vec<String>>) -> anyhow::Result<()> {
    loop {
        tokio::time::sleep(age / SWEEPS_PER_AGE).await;
        for objects in wire.buckets() {
            match objects.remove_remains(age).await {
                Ok(0) => {}
                Ok(uploads) => tracing::info!(uploads, "what uploads left that broke off is deleted"),
                Err(error) => tracing::warn!(%error, "what uploads left cannot be looked for"),
            }
        }
        match wire.checkpoints().list().await {
            Ok(objects) => {
                let is_old = |at_us: u64| clock::now().since(Time::from_micros(at_us)) >= age;
                let old = objects.into_iter().filter(|(_, at_us)| is_old(*at_us));
                to.send(old.map(|(object, _)| object).collect()).await?;
            }
            Err(error) => tracing::warn!(%error, "checkpoints that were left behind cannot be looked for"),
        }
    }
}

/// While the server stores no decision, says so to whoever asks, instead of letting them wait.
async fn turn_away(mut refusal: watch::Receiver<Option<String>>, asked: &mut mpsc::Receiver<Asked>) -> Infallible {
    loop {
        let Ok(Some(why)) = refusal.wait_for(Option::is_some).await.map(|why| why.clone()) else {
            return std::future::pending().await;
        };
        tokio::select! {
            Some(asked) = asked.recv() => asked.turn_away(format!("the coordinator waits: {why}")),
            _ = refusal.changed() => {}
        }
    }
}

async fn wait_until(deadline: Option<Time>) {
    match deadline {
        Some(deadline) => tokio::time::sleep(clock::until(deadline)).await,
        None => std::future::pending().await,
    }
}
