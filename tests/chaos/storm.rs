//! Faults at random from a seed, one after the other or at once, while a study runs.

use std::time::{Duration, Instant, SystemTime};

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use regatta_schemas::AgentId;
use regatta_tests::{Cluster, Process, until};

use crate::proxy::{Proxy, Way};

pub const COORDINATOR_ARGS: [&str; 2] = ["--lease-timeout-s", "2"];
const AGENTS: usize = 3;

/// What is done to a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    AgentKilled,
    /// SIGSTOP for longer than a lease lasts: a zombie returns.
    AgentPaused,
    /// SIGSTOP for less than a lease lasts.
    AgentHeldUp,
    AgentCutOff,
    AgentBlocked,
    AgentSlow,
    /// The one that leads: another takes over.
    LeaderKilled,
    ServerKilled,
}

impl Fault {
    /// How often each is drawn: what ends leases most, since what kills the leader or the server gives them all a new
    /// start.
    const WEIGHTS: [(Self, u64); 8] = [
        (Self::AgentKilled, 3),
        (Self::AgentPaused, 3),
        (Self::AgentHeldUp, 1),
        (Self::AgentCutOff, 3),
        (Self::AgentBlocked, 3),
        (Self::AgentSlow, 1),
        (Self::LeaderKilled, 1),
        (Self::ServerKilled, 1),
    ];

    fn draw(mut number: u64) -> Self {
        number %= Self::WEIGHTS.iter().map(|(_, weight)| weight).sum::<u64>();
        for (fault, weight) in Self::WEIGHTS {
            match number.checked_sub(weight) {
                Some(rest) => number = rest,
                None => return fault,
            }
        }
        unreachable!("the number is below the sum of the weights")
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::AgentKilled => "agent: kill -9",
            Self::AgentPaused => "agent: SIGSTOP 4 s, then back (zombie)",
            Self::AgentHeldUp => "agent: SIGSTOP 0.5 s",
            Self::AgentCutOff => "agent: connection cut 4 s",
            Self::AgentBlocked => "agent: packets held 4 s",
            Self::AgentSlow => "agent: 100 ms slower for 3 s",
            Self::LeaderKilled => "coordinator that leads: kill -9",
            Self::ServerKilled => "nats-server: kill -9, back after 0.5 s",
        }
    }

    /// Whether the coordinator ought to take the agent's trials away.
    pub fn ends_leases(self) -> bool {
        matches!(self, Self::AgentKilled | Self::AgentPaused | Self::AgentCutOff | Self::AgentBlocked)
    }
}

/// A fault that was injected.
#[derive(Debug, Clone)]
pub struct Injected {
    pub fault: Fault,
    /// Microseconds since 1970.
    pub at_us: u64,
    /// The agent that it struck.
    pub agent: Option<AgentId>,
}

/// An agent, and its way to the server.
struct Station {
    process: Process,
    proxy: Proxy,
    id: AgentId,
    /// When what was done to it is over.
    mended_at: Option<Instant>,
}

/// A study's cluster, and who strikes it.
pub struct Storm {
    random: ChaCha8Rng,
    cluster: Cluster,
    /// The one that leads, and the one that stands by.
    coordinators: Vec<Process>,
    stations: Vec<Station>,
    pub injected: Vec<Injected>,
}

impl Storm {
    pub async fn begin(seed: u64) -> Self {
        let cluster = Cluster::start().await;
        let coordinators = vec![cluster.coordinator(&COORDINATOR_ARGS), cluster.coordinator(&COORDINATOR_ARGS)];
        let mut stations = Vec::new();
        for _ in 0..AGENTS {
            stations.push(Station::start(&cluster).await);
        }
        let random = ChaCha8Rng::seed_from_u64(seed);
        Self { random, cluster, coordinators, stations, injected: Vec::new() }
    }

    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Waits a while, then strikes.
    pub async fn strike(&mut self) {
        let pause = Duration::from_millis(300 + self.below(900));
        tokio::time::sleep(pause).await;
        self.mend_what_is_due();
        let fault = Fault::draw(self.random.next_u64());
        let struck = usize::try_from(self.below(AGENTS as u64)).expect("it is small");
        let is_of_agent = !matches!(fault, Fault::LeaderKilled | Fault::ServerKilled);
        if is_of_agent && self.stations[struck].mended_at.is_some() {
            return;
        }
        let agent = is_of_agent.then(|| self.stations[struck].id.clone());
        self.injected.push(Injected { fault, at_us: now_us(), agent });
        self.inject(fault, struck).await;
    }

    async fn inject(&mut self, fault: Fault, struck: usize) {
        let station = &mut self.stations[struck];
        let (way, lasting) = match fault {
            Fault::AgentKilled => {
                station.process.kill();
                *station = Station::start(&self.cluster).await;
                return;
            }
            Fault::LeaderKilled => {
                let leads = self.coordinators.iter().rposition(leads).unwrap_or_default();
                self.coordinators[leads].kill();
                self.coordinators[leads] = self.cluster.coordinator(&COORDINATOR_ARGS);
                return;
            }
            Fault::ServerKilled => {
                self.cluster.kill_nats();
                tokio::time::sleep(Duration::from_millis(500)).await;
                self.cluster.start_nats().await;
                return;
            }
            Fault::AgentPaused => (None, 4_000),
            Fault::AgentHeldUp => (None, 500),
            Fault::AgentCutOff => (Some(Way::Cut), 4_000),
            Fault::AgentBlocked => (Some(Way::Blocked), 4_000),
            Fault::AgentSlow => (Some(Way::Slow(Duration::from_millis(100))), 3_000),
        };
        match way {
            Some(way) => station.proxy.set(way),
            None => station.process.pause(),
        }
        station.mended_at = Some(Instant::now() + Duration::from_millis(lasting));
    }

    fn mend_what_is_due(&mut self) {
        for station in &mut self.stations {
            if station.mended_at.is_some_and(|at| at <= Instant::now()) {
                station.mend();
            }
        }
    }

    /// Everything is well again.
    pub fn end(&mut self) {
        self.stations.iter_mut().for_each(Station::mend);
    }

    /// All coordinators die, and another one begins with what the server keeps.
    pub fn replace_coordinators(&mut self) {
        self.coordinators.iter_mut().for_each(Process::kill);
        self.coordinators = vec![self.cluster.coordinator(&COORDINATOR_ARGS)];
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.random.next_u64() % bound
    }
}

impl Station {
    async fn start(cluster: &Cluster) -> Self {
        let proxy = Proxy::start(cluster.address()).await;
        let process = cluster.agent_through(&proxy.url(), &[]);
        let id = until("the agent says who it is", || async { id_in(&process.log()) }).await;
        Self { process, proxy, id, mended_at: None }
    }

    fn mend(&mut self) {
        if self.mended_at.take().is_some() {
            self.proxy.set(Way::Open);
            self.process.resume();
        }
    }
}

/// Whether the coordinator was elected, and not another since.
fn leads(coordinator: &Process) -> bool {
    let log = coordinator.log();
    log.rfind(" leading").is_some_and(|elected| !log[elected..].contains("this one stands by"))
}

fn id_in(log: &str) -> Option<AgentId> {
    let (_, rest) = log.split_once("agent=agent-")?;
    let id: String = rest.chars().take_while(char::is_ascii_hexdigit).collect();
    AgentId::new(format!("agent-{id}")).ok().filter(|_| rest.len() > id.len())
}

pub fn now_us() -> u64 {
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("the clock is right");
    u64::try_from(since_1970.as_micros()).expect("the clock is right")
}
