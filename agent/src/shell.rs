//! The shell around the machine: waits for what happens, tells the machine, does what it commands.

use std::collections::BTreeMap;
use std::time::Duration;

use regatta_broker::Objects;
use regatta_schemas::AgentId;
use regatta_schemas::beat::{self, Beat};
use regatta_schemas::limits::LIMITS;
use regatta_schemas::log::Checkpoint;
use regatta_schemas::offer::Offer;
use regatta_schemas::output::Output;
use regatta_schemas::reasons::FailCause;
use regatta_schemas::subjects;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};

use crate::agent::{Agent, Command, Ending, Event, Lane, Settings, Ticket, Why};
use crate::clock::Clock;
use crate::lane::{Assignment, EngineSettings, LaneThread, Report, Snapshot};
use crate::nats::{Acker, HeardStop, Outbox, Parcel, Pulled, Puller, Wire};
use crate::runtime::RuntimeError;
use crate::supplies::{Supplies, SupplyError};

/// Messages between two tasks of the shell.
const CHANNEL_LENGTH: usize = 1_024;
/// The longest that the last records may take to be stored once the agent goes.
const FAREWELL: Duration = Duration::from_secs(10);

/// What the shell's tasks tell its loop.
enum News {
    Pulled(Option<Box<Pulled>>),
    Supplied(Lane, Box<Result<Assignment, SupplyError>>),
    /// Or why it is not kept.
    Stored(Lane, Result<Checkpoint, String>),
}

/// One agent process.
pub struct Shell {
    wire: Wire,
    supplies: Supplies,
    agent_id: AgentId,
    clock: Clock,
    machine: Agent,
    lanes: Vec<LaneThread>,
    held: BTreeMap<Lane, Held>,
    tickets: BTreeMap<Ticket, Acker>,
    next_ticket: u64,
    /// Lines printed so far.
    lines: u64,
    pulls: mpsc::Sender<()>,
    parcels: mpsc::Sender<Parcel>,
    /// Attempts that have ended with a record that is not stored yet.
    ending: watch::Receiver<Vec<beat::Held>>,
    /// Why records wait although the server is there, while they do.
    refusal: watch::Receiver<Option<String>>,
    /// What went wrong last on a lane and was no fault of its trial's, until something goes well there.
    troubles: BTreeMap<Lane, String>,
    stops: mpsc::Sender<HeardStop>,
    news: mpsc::Sender<News>,
    tasks: JoinSet<()>,
    has_exited: bool,
}

/// What the shell keeps for a lane that holds an attempt.
struct Held {
    offer: Box<Offer>,
    listening: JoinHandle<()>,
    has_missed_checkpoint: bool,
}

/// The ends of the channels that the loop reads.
struct Inbox {
    reports: mpsc::Receiver<(Lane, Report)>,
    stops: mpsc::Receiver<HeardStop>,
    news: mpsc::Receiver<News>,
}

/// Runs an agent until it has drained. `drain` completes when it is asked to.
///
/// # Errors
/// When a lane's engine cannot be had, with what is missing.
pub async fn run(
    wire: Wire,
    supplies: Supplies,
    settings: Settings,
    engine: EngineSettings,
    outbox: Outbox,
    drain: impl Future<Output = ()>,
) -> Result<(), RuntimeError> {
    let (report_to, reports) = mpsc::channel(CHANNEL_LENGTH);
    let (stop_to, stops) = mpsc::channel(CHANNEL_LENGTH);
    let (news_to, news) = mpsc::channel(CHANNEL_LENGTH);
    let lanes = (0..settings.lanes)
        .map(|lane| LaneThread::start(Lane(lane), &settings.agent, &engine, report_to.clone()))
        .collect::<Result<Vec<_>, _>>()?;
    let (pulls, pull_orders) = mpsc::channel(1);
    let (parcels, parcel_orders) = mpsc::channel(CHANNEL_LENGTH);
    let (ending, refusal) = (outbox.ending(), outbox.refusal());
    let sending = tokio::spawn(outbox.run(parcel_orders));
    let clock = Clock::new();
    let mut tasks = JoinSet::new();
    tasks.spawn(pull_on_order(Puller::new(wire.clone()), pull_orders, news_to.clone()));
    let shell = Shell {
        wire,
        supplies,
        agent_id: settings.agent.clone(),
        machine: Agent::new(settings, clock.now()),
        clock,
        lanes,
        held: BTreeMap::new(),
        tickets: BTreeMap::new(),
        next_ticket: 0,
        lines: 0,
        pulls,
        parcels,
        ending,
        refusal,
        troubles: BTreeMap::new(),
        stops: stop_to,
        news: news_to,
        tasks,
        has_exited: false,
    };
    shell.go(Inbox { reports, stops, news }, drain).await;
    if tokio::time::timeout(FAREWELL, sending).await.is_err() {
        tracing::warn!("NATS is away: the last records were not stored; the coordinator will miss the agent instead");
    }
    Ok(())
}

impl Shell {
    async fn go(mut self, mut inbox: Inbox, drain: impl Future<Output = ()>) {
        let mut drain = std::pin::pin!(drain);
        let mut is_drain_heard = false;
        self.obey().await;
        while !self.has_exited {
            let until_deadline = self.clock.until(self.machine.next_deadline());
            tokio::select! {
                Some(news) = inbox.news.recv() => self.take_news(news).await,
                Some(heard) = inbox.stops.recv() => {
                    let HeardStop { study, trial, stop } = heard;
                    self.tell(Event::StopHeard { study, trial, stop });
                }
                Some((lane, report)) = inbox.reports.recv() => self.take_report(lane, report).await,
                () = &mut drain, if !is_drain_heard => {
                    is_drain_heard = true;
                    tracing::info!("draining: trials are kept as checkpoints and given back");
                    self.tell(Event::DrainRequested);
                }
                () = tokio::time::sleep(until_deadline) => self.tell(Event::TimePassed),
            }
            self.obey().await;
        }
        self.tasks.shutdown().await;
    }

    fn tell(&mut self, event: Event) {
        self.machine.handle(self.clock.now(), event);
    }

    async fn take_news(&mut self, news: News) {
        match news {
            News::Pulled(None) => self.tell(Event::PullEnded),
            News::Pulled(Some(pulled)) => {
                let Pulled { offer, acker, deliveries } = *pulled;
                let ticket = Ticket(self.next_ticket);
                self.next_ticket += 1;
                self.tickets.insert(ticket, acker);
                self.tell(Event::OfferReceived { ticket, offer, deliveries });
            }
            News::Supplied(lane, supplied) => self.begin(lane, *supplied).await,
            News::Stored(lane, Ok(checkpoint)) => {
                if self.troubles.remove(&lane).is_some() {
                    tracing::info!(lane = lane.0, "checkpoints are kept again");
                }
                self.tell(Event::CheckpointStored { lane, checkpoint });
            }
            News::Stored(lane, Err(why)) => {
                self.miss_checkpoint(lane, &why).await;
                self.tell(Event::CheckpointLost { lane });
            }
        }
    }

    async fn begin(&mut self, lane: Lane, supplied: Result<Assignment, SupplyError>) {
        let ending = match supplied {
            Ok(assignment) => {
                if self.lanes[lane.0 as usize].assign(assignment) {
                    return;
                }
                Ending::Failed { cause: FailCause::Internal, detail: "the lane's thread is gone".to_owned() }
            }
            Err(error) => Ending::Failed { cause: error.cause, detail: error.detail },
        };
        self.take_ending(lane, &ending).await;
        self.tell(Event::LaneEnded { lane, ending });
    }

    async fn take_report(&mut self, lane: Lane, report: Report) {
        match report {
            Report::Measured(point) => self.tell(Event::LaneMeasured { lane, point }),
            Report::Checkpoint(snapshot) => {
                self.tell(Event::CheckpointBegun { lane });
                let (checkpoints, news) = (self.wire.checkpoints(), self.news.clone());
                self.tasks.spawn(async move {
                    let stored = store(&checkpoints, snapshot).await;
                    // A closed channel means that the agent is gone.
                    drop(news.send(News::Stored(lane, stored)).await);
                });
            }
            Report::Line(line) => self.print(lane, line).await,
            Report::Ended(ending) => {
                if let Some(Held { offer, .. }) = self.held.get(&lane) {
                    tracing::info!(study = %offer.study, trial = %offer.trial, attempt = %offer.attempt, lane = lane.0, ?ending, "training ended");
                }
                self.take_ending(lane, &ending).await;
                self.tell(Event::LaneEnded { lane, ending });
            }
        }
    }

    async fn take_ending(&mut self, lane: Lane, ending: &Ending) {
        match ending {
            Ending::Failed { cause, detail } => {
                if *cause == FailCause::Device {
                    self.troubles.insert(lane, format!("the last trial failed because of this machine: {detail}"));
                }
                self.print(lane, format!("failed ({cause}): {detail}")).await;
            }
            Ending::Finished { .. } => drop(self.troubles.remove(&lane)),
            Ending::Paused { .. } | Ending::Interrupted { .. } => {}
        }
    }

    /// Tells of it once for each trial.
    async fn miss_checkpoint(&mut self, lane: Lane, why: &str) {
        let trouble = format!("a checkpoint is not kept, training goes on without: {why}");
        self.troubles.insert(lane, trouble.clone());
        let Some(held) = self.held.get_mut(&lane) else { return };
        if !std::mem::replace(&mut held.has_missed_checkpoint, true) {
            tracing::warn!(lane = lane.0, study = %held.offer.study, trial = %held.offer.trial, "{trouble}");
            self.print(lane, format!("agent: {trouble}")).await;
        }
    }

    async fn print(&mut self, lane: Lane, line: String) {
        let Some(held) = self.held.get(&lane) else { return };
        let line = line.chars().take(LIMITS.text_chars_max).collect();
        let output = Output { attempt: held.offer.attempt, agent: self.agent_id.clone(), line };
        self.lines += 1;
        let message_id = format!("{}.{}", self.agent_id, self.lines);
        let subject = subjects::output(&held.offer.study, held.offer.trial);
        self.send(Parcel::line(subject, &output, message_id)).await;
    }

    async fn obey(&mut self) {
        while let Some(command) = self.machine.next_command() {
            match command {
                // The puller is idle when the machine asks: there is room for one order.
                Command::Pull => drop(self.pulls.send(()).await),
                Command::Accept { ticket, place, record } => {
                    let acker = self.tickets.remove(&ticket);
                    self.send(Parcel::record(&place, &record, acker)).await;
                }
                Command::Return { ticket, why } => {
                    if why == Why::ProgramNotAllowed {
                        tracing::warn!(
                            "an offer goes back for other agents: its program is not allowed here (--allow)"
                        );
                    }
                    if let Some(acker) = self.tickets.remove(&ticket) {
                        self.wire.give_back(acker, why.wait()).await;
                    }
                }
                Command::Publish { place, record } => self.send(Parcel::record(&place, &record, None)).await,
                Command::Start { lane, offer } => self.start(lane, offer),
                Command::Interrupt { lane, keep } => self.lanes[lane.0 as usize].interrupt.end(keep),
                Command::Clear { lane } => {
                    if let Some(held) = self.held.remove(&lane) {
                        held.listening.abort();
                    }
                }
                Command::Beat(beat) => self.beat(beat).await,
                Command::Exit => self.has_exited = true,
            }
        }
        // What has ended is forgotten, so that the set does not grow.
        while self.tasks.try_join_next().is_some() {}
    }

    /// A trial is this agent's until its last record is stored.
    async fn beat(&self, mut beat: Beat) {
        beat.leases.extend(self.ending.borrow().iter().cloned());
        let trouble = self.refusal.borrow().clone().or_else(|| self.troubles.values().next().cloned());
        let trouble = trouble.map(|trouble| trouble.chars().take(LIMITS.text_chars_max).collect());
        self.wire.beat(&Beat { load: load_per_core(), trouble, ..beat }).await;
    }

    fn start(&mut self, lane: Lane, offer: Box<Offer>) {
        tracing::info!(study = %offer.study, trial = %offer.trial, attempt = %offer.attempt, lane = lane.0, "trial accepted");
        self.lanes[lane.0 as usize].interrupt.reset();
        let (wire, stops) = (self.wire.clone(), self.stops.clone());
        let (study, trial) = (offer.study.clone(), offer.trial);
        let listening = tokio::spawn(async move { wire.hear_stops(study, trial, stops).await });
        let (supplies, news, copy) = (self.supplies.clone(), self.news.clone(), offer.clone());
        self.held.insert(lane, Held { offer, listening, has_missed_checkpoint: false });
        self.tasks.spawn(async move {
            let supplied = Box::new(supplies.fetch(copy).await);
            // A closed channel means that the agent is gone.
            drop(news.send(News::Supplied(lane, supplied)).await);
        });
    }

    async fn send(&self, parcel: Parcel) {
        if self.parcels.send(parcel).await.is_err() {
            tracing::error!("the outbox is gone; a record is lost");
        }
    }
}

/// Runnable processes per core over the last minute, where the system says so.
fn load_per_core() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/loadavg").ok()?;
    let load: f64 = text.split_whitespace().next()?.parse().ok()?;
    Some(load / std::thread::available_parallelism().ok()?.get() as f64)
}

async fn pull_on_order(mut puller: Puller, mut orders: mpsc::Receiver<()>, news: mpsc::Sender<News>) {
    while orders.recv().await.is_some() {
        let pulled = puller.pull().await.map(Box::new);
        if news.send(News::Pulled(pulled)).await.is_err() {
            return;
        }
    }
}

async fn store(checkpoints: &Objects, snapshot: Snapshot) -> Result<Checkpoint, String> {
    let Snapshot { bytes, step, resource, elapsed, pending } = snapshot;
    let size = bytes.len() as u64;
    if size > LIMITS.checkpoint_bytes_max {
        return Err(format!(
            "it has {size} bytes, and at most {} are kept; a model's is smaller with `keep_best: false` in its recipe",
            LIMITS.checkpoint_bytes_max
        ));
    }
    let stored = checkpoints.put(bytes).await;
    drop(pending);
    let object = stored.map_err(|error| error.to_string())?;
    let elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
    Ok(Checkpoint { object, bytes: size, step, resource, elapsed_ms })
}
