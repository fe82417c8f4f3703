//! A thousand agents on one nats-server: each the real machine, spool and wire over a connection of its own, with a
//! clock in place of a lane that trains. Prints what was reported, what was read back, and what it cost.
//!
//! `cargo run --release -p regatta-tests --example load -- [AGENTS] [REPORTS_PER_SECOND] [SECONDS]`

#![allow(clippy::unwrap_used, reason = "whoever runs it reads why it stopped")]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use regatta_agent::agent::{Agent, Command, Ending, Event, Lane, Now, Settings, Ticket};
use regatta_agent::nats::{Acker, HeardStop, Parcel, Pulled, Puller, Wire};
use regatta_broker::async_nats::jetstream::consumer::pull;
use regatta_broker::{Connection, Link, Server, connect};
use regatta_schemas::log::{Place, Point, Record};
use regatta_schemas::offer::Offer;
use regatta_schemas::streams::LOG;
use regatta_schemas::{AgentId, PoolId, StudyId, TrialId, decode, subjects};
use regatta_tests::{Cluster, Process, digits_study, until};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// Reports of one trial; fewer than 128.
const EPOCHS: u32 = 100;
/// A service runs one study after the other: what is over leaves the coordinator's memory.
const TRIALS_PER_STUDY: u32 = 5_000;
const STUDIES_AT_ONCE: usize = 2;
/// Agents that are cut off and come back, each second.
const RECONNECTS_PER_SECOND: usize = 5;
const SPOOL_BYTES_MAX: usize = 64 << 20;

#[tokio::main]
async fn main() {
    let mut numbers = std::env::args().skip(1).map(|text| text.parse::<u32>().expect("a number"));
    let agents = numbers.next().unwrap_or(1_000);
    let per_second = numbers.next().unwrap_or(10_000);
    let seconds = numbers.next().unwrap_or(30);
    let trials = (per_second * seconds / EPOCHS).max(1);
    let every = Duration::from_secs_f64(f64::from(agents) / f64::from(per_second));

    let mut cluster = Cluster::start().await;
    let coordinator = cluster.coordinator(&["--lease-timeout-s", "20"]);
    until("the coordinator answers", || async { cluster.cli(&["study", "list"]).await.status.success().then_some(()) })
        .await;
    let mut unstarted =
        (0..trials).step_by(TRIALS_PER_STUDY as usize).map(|first| TRIALS_PER_STUDY.min(trials - first));
    let mut started = 0;
    let (mut stations, mut links) = (JoinSet::new(), Vec::new());
    for number in 0..agents {
        let link = connect_agent(&cluster, number).await;
        links.push(link.clone());
        stations.spawn(Station::start(link, number, every).run());
    }
    println!("{agents} agents are connected; {trials} trials of {EPOCHS} reports, {per_second} a second");
    for trials in unstarted.by_ref().take(STUDIES_AT_ONCE) {
        start_study(&cluster, trials).await;
        started += 1;
    }

    let begun = Instant::now();
    let cpu_before = cpu_seconds(&coordinator);
    let mut restarted = false;
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let second = begun.elapsed().as_secs() as usize;
        for number in 0..RECONNECTS_PER_SECOND {
            let struck = (second * RECONNECTS_PER_SECOND + number) * 7 % links.len();
            links[struck].client.force_reconnect().await.unwrap();
        }
        if !restarted && second > seconds as usize / 2 {
            restarted = true;
            cluster.kill_nats();
            cluster.start_nats().await;
            println!("{second:>6} s: nats-server was killed and is back");
        }
        if second.is_multiple_of((seconds as usize / 10).max(1)) {
            let rss = rss_mib(&coordinator);
            println!("{second:>6} s: coordinator {rss:.0} MiB, {:.1} s of CPU", cpu_seconds(&coordinator) - cpu_before);
        }
        let listed = cluster.cli(&["study", "list", "--json"]).await.stdout;
        let listed: serde_json::Value = serde_json::from_slice(&listed).unwrap_or_default();
        let Some(studies) = listed["studies"].as_array() else { continue };
        let going_on = studies.iter().filter(|study| study["status"] != "concluded").count();
        for trials in unstarted.by_ref().take(STUDIES_AT_ONCE - going_on.min(STUDIES_AT_ONCE)) {
            start_study(&cluster, trials).await;
            started += 1;
        }
        if going_on == 0 && studies.len() == started {
            let spent: u64 = studies.iter().filter_map(|study| study["resource_spent"].as_u64()).sum();
            assert_eq!(spent, u64::from(trials * EPOCHS), "the coordinator read every report once");
            break;
        }
    }
    let took = begun.elapsed().as_secs_f64();
    let cpu = cpu_seconds(&coordinator) - cpu_before;
    let rss = rss_mib(&coordinator);
    println!("all {started} studies are over after {took:.1} s; reading the log");
    let log = Log::read(&cluster.link().await).await;
    log.report(u64::from(trials * EPOCHS), took);
    println!("coordinator: {:.0} % of a core, {rss:.0} MiB", 100.0 * cpu / took);
    stations.shutdown().await;
}

/// What is loaded is the way of the messages, not a model of so many trials.
async fn start_study(cluster: &Cluster, trials: u32) {
    let mut study = digits_study("load", trials, EPOCHS);
    study["recipe"]["checkpoint"] = json!({"every_s": 3_600.0});
    study["sampler"] = json!("random");
    cluster.start_study(&study).await;
}

/// What all of the log says at the end.
#[derive(Default)]
struct Log {
    points: u64,
    /// Of each trial the epochs reported, as bits.
    seen: BTreeMap<(StudyId, TrialId), u128>,
    handed_over_us: Vec<u64>,
}

impl Log {
    async fn read(link: &Link) -> Self {
        let mut log = Self::default();
        let mut waiting = VecDeque::new();
        let mut stream = link.jetstream.get_stream(LOG.name).await.unwrap();
        let last = stream.info().await.unwrap().state.last_sequence;
        let consumer = stream.create_consumer(pull::OrderedConfig::default()).await.unwrap();
        let mut messages = consumer.messages().await.unwrap();
        while let Some(message) = messages.next().await {
            let message = message.unwrap();
            let info = message.info().unwrap();
            let at_us = u64::try_from(info.published.unix_timestamp_nanos() / 1_000).unwrap();
            if let Some(Place { study, trial: Some(trial) }) = subjects::read_log(&message.subject) {
                match decode::<Record>(&message.payload).unwrap() {
                    Record::Measured(measured) => {
                        log.points += measured.points.len() as u64;
                        let seen = log.seen.entry((study, trial)).or_default();
                        measured.points.iter().for_each(|point| *seen |= 1 << point.resource);
                    }
                    Record::Finished(_) => waiting.push_back(at_us),
                    Record::Offered(_) => {
                        let since = waiting.pop_front().and_then(|since| at_us.checked_sub(since));
                        log.handed_over_us.extend(since);
                    }
                    _ => {}
                }
            }
            if info.stream_sequence >= last {
                break;
            }
        }
        log.handed_over_us.sort_unstable();
        log
    }

    fn report(&self, expected: u64, took: f64) {
        let Self { points, seen, handed_over_us } = self;
        let at = |share: f64| {
            let place = (handed_over_us.len().saturating_sub(1) as f64 * share) as usize;
            handed_over_us.get(place).map_or(f64::NAN, |us| *us as f64 / 1e3)
        };
        let different: u64 = seen.values().map(|epochs| u64::from(epochs.count_ones())).sum();
        println!(
            "{points} reports in the log in {took:.1} s ({:.0} a second), {different} of {expected} different ones: {} lost, {} more than once",
            *points as f64 / took,
            expected - different,
            points - different
        );
        println!("a trial's end to the next offer: p50 {:.1} ms, p99 {:.1} ms", at(0.5), at(0.99));
        assert_eq!(different, expected);
    }
}

async fn connect_agent(cluster: &Cluster, number: u32) -> Link {
    let connection =
        Connection { server: Server::at(&cluster.url()), name: format!("load-{number}"), wait_for_server: true };
    connect(&connection).await.unwrap()
}

/// One agent.
struct Station {
    wire: Wire,
    machine: Agent,
    begun: Instant,
    every: Duration,
    training: Option<Training>,
    tickets: BTreeMap<Ticket, Acker>,
    count: u64,
    pulls: mpsc::Sender<()>,
    pulled: mpsc::Receiver<Option<Pulled>>,
    parcels: mpsc::Sender<Parcel>,
    stops: (mpsc::Sender<HeardStop>, mpsc::Receiver<HeardStop>),
    tasks: JoinSet<()>,
    /// Listens for the stops of the trial.
    listening: Option<tokio::task::AbortHandle>,
}

struct Training {
    offer: Box<Offer>,
    done: u32,
    next: Instant,
}

impl Station {
    fn start(link: Link, number: u32, every: Duration) -> Self {
        let agent = AgentId::new(format!("load-{number}")).unwrap();
        let wire = Wire::new(link, PoolId::default(), agent.clone());
        let settings = Settings {
            agent,
            lanes: 1,
            device: "none".to_owned(),
            programs: BTreeSet::new(),
            beat_every: Duration::from_secs(1),
            batch_for: Duration::from_millis(10),
        };
        let mut tasks = JoinSet::new();
        let (pulls, mut orders) = mpsc::channel(1);
        let (pulled_to, pulled) = mpsc::channel(1);
        let (parcels, parcel_orders) = mpsc::channel(64);
        tasks.spawn(wire.outbox(SPOOL_BYTES_MAX).run(parcel_orders));
        let (mut puller, waiting) = (Puller::new(wire.clone()), wire.clone());
        tasks.spawn(async move {
            waiting.wait_for_coordinator().await;
            while orders.recv().await.is_some() {
                if pulled_to.send(puller.pull().await).await.is_err() {
                    return;
                }
            }
        });
        Self {
            wire,
            machine: Agent::new(settings, Now(0)),
            begun: Instant::now(),
            every,
            training: None,
            tickets: BTreeMap::new(),
            count: 0,
            pulls,
            pulled,
            parcels,
            stops: mpsc::channel(16),
            tasks,
            listening: None,
        }
    }

    async fn run(mut self) {
        self.obey().await;
        loop {
            let deadline = self.begun + Duration::from_millis(self.machine.next_deadline().0);
            let next = self.training.as_ref().map_or(deadline, |training| training.next.min(deadline));
            tokio::select! {
                Some(pulled) = self.pulled.recv() => match pulled {
                    Some(Pulled { offer, acker, deliveries }) => {
                        self.count += 1;
                        self.tickets.insert(Ticket(self.count), acker);
                        self.tell(Event::OfferReceived { ticket: Ticket(self.count), offer, deliveries });
                    }
                    None => self.tell(Event::PullEnded),
                },
                Some(HeardStop { study, trial, stop }) = self.stops.1.recv() => {
                    self.tell(Event::StopHeard { study, trial, stop });
                }
                () = tokio::time::sleep_until(next.into()) => {
                    self.measure();
                    self.tell(Event::TimePassed);
                }
            }
            self.obey().await;
        }
    }

    fn tell(&mut self, event: Event) {
        let now = Now(u64::try_from(self.begun.elapsed().as_millis()).unwrap());
        self.machine.handle(now, event);
    }

    fn measure(&mut self) {
        let every = self.every;
        let Some(training) = self.training.as_mut().filter(|training| training.next <= Instant::now()) else { return };
        training.done += 1;
        training.next += every;
        let (done, resource) = (training.done, training.offer.resource);
        let elapsed_s = f64::from(done) * every.as_secs_f64();
        let metrics = BTreeMap::from([
            ("validation_accuracy".to_owned(), 1.0 - 1.0 / f64::from(done + 1)),
            ("validation_loss".to_owned(), 1.0 / f64::from(done)),
        ]);
        let point = Point { step: u64::from(done), resource: done, elapsed_s, metrics };
        self.tell(Event::LaneMeasured { lane: Lane(0), point });
        if done >= resource {
            self.training = None;
            self.tell(Event::LaneEnded { lane: Lane(0), ending: Ending::Finished { resource, elapsed_s } });
        }
    }

    async fn obey(&mut self) {
        while let Some(command) = self.machine.next_command() {
            match command {
                Command::Pull => self.pulls.send(()).await.unwrap(),
                Command::Accept { ticket, place, record } => {
                    let acker = self.tickets.remove(&ticket);
                    self.parcels.send(Parcel::record(&place, &record, acker)).await.unwrap();
                }
                Command::Return { ticket, why } => {
                    if let Some(acker) = self.tickets.remove(&ticket) {
                        self.wire.give_back(acker, why.wait()).await;
                    }
                }
                Command::Publish { place, record } => {
                    self.parcels.send(Parcel::record(&place, &record, None)).await.unwrap();
                }
                Command::Start { offer, .. } => self.begin(offer),
                Command::Interrupt { lane, .. } => {
                    let resource = self.training.take().map_or(0, |training| training.done);
                    self.tell(Event::LaneEnded { lane, ending: Ending::Interrupted { resource } });
                }
                Command::Clear { .. } => {
                    if let Some(listening) = self.listening.take() {
                        listening.abort();
                    }
                    while self.tasks.try_join_next().is_some() {}
                }
                Command::Beat(beat) => self.wire.beat(&beat).await,
                Command::Exit => return,
            }
        }
    }

    fn begin(&mut self, offer: Box<Offer>) {
        let (wire, to) = (self.wire.clone(), self.stops.0.clone());
        let (study, trial) = (offer.study.clone(), offer.trial);
        self.listening = Some(self.tasks.spawn(async move { wire.hear_stops(study, trial, to).await }));
        self.training = Some(Training { offer, done: 0, next: Instant::now() + self.every });
    }
}

fn rss_mib(process: &Process) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<f64>().unwrap() / 1024.0
}

/// User and system time so far, at the kernel's 100 ticks a second.
fn cpu_seconds(process: &Process) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.id())).unwrap();
    let (_, fields) = stat.rsplit_once(')').unwrap();
    let ticks: Vec<f64> = fields.split_whitespace().skip(11).take(2).map(|field| field.parse().unwrap()).collect();
    (ticks[0] + ticks[1]) / 100.0
}
