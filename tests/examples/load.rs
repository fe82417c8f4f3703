//! A thousand agents on one nats-server: each the real machine, spool and wire over a connection of its own, with a
//! clock in place of a lane that trains. Prints what was reported, what was read back, and what it cost.
//!
//! `cargo run -p regatta-tests --example load -- [AGENTS] [REPORTS_PER_SECOND] [SECONDS]`

#![allow(clippy::unwrap_used, reason = "whoever runs it reads why it stopped")]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use regatta_agent::agent::{Agent, Command, Ending, Event, Lane, Now, Settings, Ticket};
use regatta_agent::nats::{Acker, HeardStop, Parcel, Pulled, Puller, Wire};
use regatta_broker::{Connection, Link, Server, connect};
use regatta_schemas::log::{Point, Record};
use regatta_schemas::offer::Offer;
use regatta_schemas::{AgentId, PoolId};
use regatta_tests::{Cluster, History, Process, digits_study, until};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// Reports of one trial.
const EPOCHS: u32 = 100;
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
    let mut study = digits_study("load", trials, EPOCHS);
    study["recipe"]["checkpoint"] = json!({"every_s": 3_600.0});
    // What is loaded is the way of the messages, not a model of a thousand trials.
    study["sampler"] = json!("random");
    let id = cluster.start_study(&study).await;
    let (mut stations, mut links) = (JoinSet::new(), Vec::new());
    for number in 0..agents {
        let link = connect_agent(&cluster, number).await;
        links.push(link.clone());
        stations.spawn(Station::start(link, number, every).run());
    }
    println!("{agents} agents are connected; {trials} trials of {EPOCHS} reports, {per_second} a second");

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
        // From the coordinator's memory: to show the study, all of its log would be read each time.
        let listed = cluster.cli(&["study", "list", "--json"]).await.stdout;
        let listed: serde_json::Value = serde_json::from_slice(&listed).unwrap_or_default();
        if listed["studies"][0]["status"] == "concluded" {
            break;
        }
    }
    let took = begun.elapsed().as_secs_f64();
    let cpu = cpu_seconds(&coordinator) - cpu_before;
    let rss = rss_mib(&coordinator);
    let history = cluster.history(&id).await;
    report(&history, trials, took, cpu, rss);
    let shown: serde_json::Value =
        serde_json::from_str(&cluster.cli_ok(&["study", "show", id.as_str(), "--json"]).await).unwrap();
    assert_eq!(shown["resource_spent"], trials * EPOCHS, "the coordinator read every report once");
    stations.shutdown().await;
}

fn report(history: &History, trials: u32, took: f64, cpu: f64, rss: f64) {
    let (mut points, mut seen, mut waiting, mut handed_over) = (0_u64, BTreeSet::new(), VecDeque::new(), Vec::new());
    for entry in &history.0 {
        match &entry.record {
            Record::Measured(measured) => {
                for point in &measured.points {
                    points += 1;
                    seen.insert((entry.trial, point.resource));
                }
            }
            Record::Finished(_) => waiting.push_back(entry.at_us),
            Record::Offered(_) => {
                handed_over.extend(waiting.pop_front().and_then(|since| entry.at_us.checked_sub(since)))
            }
            _ => {}
        }
    }
    handed_over.sort_unstable();
    let at = |share: f64| {
        let place = (handed_over.len().saturating_sub(1) as f64 * share) as usize;
        handed_over.get(place).map_or(f64::NAN, |us| *us as f64 / 1e3)
    };
    let expected = u64::from(trials) * u64::from(EPOCHS);
    println!(
        "{points} reports in the log in {took:.1} s ({:.0} a second), {} of {expected} different ones: {} lost, {} more than once",
        points as f64 / took,
        seen.len(),
        expected - seen.len() as u64,
        points - seen.len() as u64
    );
    println!("a trial's end to the next offer: p50 {:.1} ms, p99 {:.1} ms", at(0.5), at(0.99));
    println!(
        "coordinator: {:.0} % of a core, {rss:.0} MiB, {:.0} bytes a report",
        100.0 * cpu / took,
        rss * 1048576.0 / points as f64
    );
    assert_eq!(seen.len() as u64, expected);
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
