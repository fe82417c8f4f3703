//! The embedded cluster: a nats-server, a coordinator and agents on this machine, all gone at the end.
//!
//! The coordinator runs in this process; the others are children that the kernel ends when this
//! process dies, however it dies.

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use futures_util::stream::{FuturesUnordered, StreamExt};
use regatta_broker::{Connection, Link, Server, connect};
use regatta_schemas::TenantId;
use regatta_schemas::roles::Role;
use regatta_temporary::TemporaryFolder;
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::auth;
use crate::cli::{self, SWEEP_AGE_S};
use crate::find;
use crate::serve;

/// What folders of clusters are called, beside the system's other temporary ones.
const PREFIX: &str = "regatta-local-";
const NATS_LOG: &str = "nats-server.log";
/// Folders of a cluster's own.
const KEYS: &str = "keys";
const STORE: &str = "nats";
/// Lines of a child's log that are shown when it died.
const LAST_WORDS: usize = 10;
/// How often an agent that was killed is started again.
const RESTARTS_MAX: u32 = 3;
/// How long a child may take to start or to end.
const PATIENCE: Duration = Duration::from_secs(15);

/// A running cluster.
pub struct LocalCluster {
    /// A connection to its server.
    pub link: Link,
    folder: Folder,
    nats: Child,
    agents: Vec<Agent>,
    coordinator: JoinHandle<anyhow::Result<()>>,
    shutdown: watch::Sender<bool>,
}

/// An agent, and how to start it again.
struct Agent {
    child: Child,
    index: usize,
    arguments: Vec<OsString>,
    restarts: u32,
}

enum Folder {
    Kept(PathBuf),
    Temporary(TemporaryFolder),
}

/// What becomes of what was measured and trained here.
pub fn remains(place: &cli::Place) -> String {
    let Some(folder) = &place.folder else {
        return "results and models are gone with the local cluster; --folder FOLDER keeps them".to_owned();
    };
    let nats = find::nats_server().unwrap_or_else(|_| "nats-server".into());
    let keys = folder.join(KEYS);
    let key = |role| auth::key_file(&keys, &TenantId::default(), role).display().to_string();
    format!(
        "results and models are kept in {folder}; to look at them:\n  \
         {nats} --addr 127.0.0.1 --jetstream --store_dir {store} --config {configuration} &\n  \
         regatta --credentials {coordinator} serve &\n  \
         export REGATTA_CREDENTIALS={publisher}",
        folder = folder.display(),
        nats = nats.display(),
        store = folder.join(STORE).display(),
        configuration = auth::configuration(&keys).display(),
        coordinator = key(Role::Coordinator),
        publisher = key(Role::Publisher),
    )
}

impl Folder {
    fn path(&self) -> &Path {
        match self {
            Self::Kept(path) => path,
            Self::Temporary(folder) => folder.path(),
        }
    }
}

impl LocalCluster {
    /// Starts everything. Call it from the main thread: the children die with the thread that made them.
    ///
    /// # Errors
    /// When a program is missing or does not start, with what it said.
    pub async fn start(place: &cli::Place) -> anyhow::Result<Self> {
        let folder = match &place.folder {
            Some(path) => {
                std::fs::create_dir_all(path).with_context(|| format!("cannot make the folder {}", path.display()))?;
                Folder::Kept(path.clone())
            }
            None => {
                TemporaryFolder::sweep(PREFIX);
                Folder::Temporary(TemporaryFolder::new(PREFIX).context("cannot make a temporary folder")?)
            }
        };
        let keys = folder.path().join(KEYS);
        auth::init(&cli::AuthInit { folder: keys.clone(), ..Default::default() })?;
        let (nats, url) = start_nats(folder.path(), &auth::configuration(&keys)).await?;
        let server_of = |role| {
            let credentials = Some(auth::key_file(&keys, &TenantId::default(), role));
            Server { credentials, ..Server::at(&url) }
        };
        let as_role =
            |role, name: &str| Connection { server: server_of(role), name: name.to_owned(), wait_for_server: false };
        let link = connect(&as_role(Role::Publisher, "regatta run")).await?;
        let (shutdown, shutdown_heard) = watch::channel(false);
        let serving = connect(&as_role(Role::Coordinator, "coordinator")).await?;
        let setup = serve::Setup::from(&cli::Serve::for_local());
        regatta_broker::ensure_everything(&serving, 1).await?;
        let coordinator = tokio::spawn(serve::serve(serving, setup, shutdown_heard));
        let key = auth::key_file(&keys, &TenantId::default(), Role::Agent);
        let agents = start_agents(place, folder.path(), &url, &key)?;
        Ok(Self { link, folder, nats, agents, coordinator, shutdown })
    }

    /// Completes the moment that a part of the cluster has died that should not have, with what it said last. There is
    /// nothing to be done with the rest but [`abandon`](Self::abandon) it. An agent that was killed, as for want of
    /// memory, is started again a few times; its trials go on from their checkpoints.
    pub async fn broken(&mut self) -> anyhow::Error {
        let folder = self.folder.path();
        let mut agents: FuturesUnordered<_> = self.agents.iter_mut().map(|agent| agent.lost(folder)).collect();
        tokio::select! {
            status = self.nats.wait() => obituary("nats-server", status, &folder.join(NATS_LOG)),
            Some(error) = agents.next() => error,
            ended = &mut self.coordinator => match ended {
                Ok(Ok(())) => anyhow::anyhow!("the coordinator ended before the study did"),
                Ok(Err(error)) => error.context("the coordinator ended before the study did"),
                Err(error) => anyhow::Error::new(error).context("the coordinator broke off"),
            },
        }
    }

    /// Ends what is left of a cluster that is broken. Nothing is kept that is not stored by now.
    pub async fn abandon(mut self) {
        self.coordinator.abort();
        for agent in &mut self.agents {
            // It may be the one that ended by itself.
            drop(agent.child.kill().await);
        }
        terminate(&mut self.nats);
        end(&mut self.nats).await;
    }

    /// Stops everything, agents first, and waits for each.
    ///
    /// # Errors
    /// When a part had failed.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        for agent in &mut self.agents {
            terminate(&mut agent.child);
        }
        for agent in &mut self.agents {
            end(&mut agent.child).await;
        }
        self.shutdown.send_replace(true);
        let coordinator = tokio::time::timeout(PATIENCE, &mut self.coordinator).await;
        terminate(&mut self.nats);
        end(&mut self.nats).await;
        match coordinator {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(error)) => Err(error).context("the coordinator broke off"),
            Err(_) => {
                self.coordinator.abort();
                bail!("the coordinator did not stop in time")
            }
        }
    }
}

impl Agent {
    /// Completes when the agent has ended for good.
    async fn lost(&mut self, folder: &Path) -> anyhow::Error {
        let name = format!("agent {}", self.index);
        loop {
            let status = self.child.wait().await;
            let signal = status.as_ref().ok().and_then(ExitStatus::signal);
            if signal.is_none() || self.restarts == RESTARTS_MAX {
                return obituary(&name, status, &folder.join(agent_log(self.index, self.restarts)));
            }
            self.restarts += 1;
            let told = status.map_or_else(|error| error.to_string(), |status| status.to_string());
            eprintln!("{name} was killed ({told}) and is started again: {} of {RESTARTS_MAX} times", self.restarts);
            match start_agent(&self.arguments, &folder.join(agent_log(self.index, self.restarts))) {
                Ok(child) => self.child = child,
                Err(error) => return error.context(format!("{name} was killed ({told})")),
            }
        }
    }
}

fn obituary(who: &str, status: std::io::Result<ExitStatus>, log: &Path) -> anyhow::Error {
    let status = status.map_or_else(|error| error.to_string(), |status| status.to_string());
    let text = std::fs::read_to_string(log).unwrap_or_else(|error| format!("{}: {error}", log.display()));
    let mut tail: Vec<&str> = text.lines().rev().take(LAST_WORDS).collect();
    tail.reverse();
    anyhow::anyhow!("{who} ended before the study did ({status}); it said last:\n{}", tail.join("\n"))
}

impl cli::Serve {
    fn for_local() -> Self {
        Self { lease_timeout_s: 5.0, backlog: 0, replicas: 1, sweep_age_s: SWEEP_AGE_S, log_json: false }
    }
}

/// One for each start.
fn agent_log(index: usize, restarts: u32) -> String {
    match restarts {
        0 => format!("agent-{index}.log"),
        restarts => format!("agent-{index}-{restarts}.log"),
    }
}

fn start_agent(arguments: &[OsString], log: &Path) -> anyhow::Result<Child> {
    let mut command = Command::new(find::agent()?);
    command.args(arguments);
    spawn(command, log)
}

fn start_agents(place: &cli::Place, folder: &Path, url: &str, key: &Path) -> anyhow::Result<Vec<Agent>> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let per_agent = (cores / place.agents as usize).max(1);
    let lanes = place.lanes.map_or(per_agent, |lanes| lanes as usize);
    let (lanes, threads) = (lanes.to_string(), (per_agent / lanes).max(1).to_string());
    let mut arguments: Vec<OsString> =
        [["--nats", url], ["--device", &place.device], ["--lanes", &lanes], ["--threads", &threads]]
            .concat()
            .into_iter()
            .chain(place.allow.iter().flat_map(|program| ["--allow", program]))
            .map(OsString::from)
            .collect();
    arguments.extend(["--credentials".into(), key.into()]);
    let agent = |index| {
        let child = start_agent(&arguments, &folder.join(agent_log(index, 0)))?;
        Ok(Agent { child, index, arguments: arguments.clone(), restarts: 0 })
    };
    (0..place.agents as usize).map(agent).collect()
}

/// A server that only this cluster can use, whoever else is on this machine.
async fn start_nats(folder: &Path, configuration: &Path) -> anyhow::Result<(Child, String)> {
    let program = find::nats_server()?;
    let log = folder.join(NATS_LOG);
    let mut command = Command::new(&program);
    command
        .args(["--addr", "127.0.0.1", "--port", "-1", "--jetstream", "--config"])
        .arg(configuration)
        .arg("--store_dir")
        .arg(folder.join(STORE))
        .arg("--ports_file_dir")
        .arg(folder);
    let mut child = spawn(command, &log)?;
    let ports = folder.join(format!("nats-server_{}.ports", child.id().unwrap_or_default()));
    let started = tokio::time::Instant::now();
    loop {
        if let Some(url) = read_url(&ports) {
            return Ok((child, url));
        }
        if let Some(status) = child.try_wait()? {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            bail!("{} ended ({status}):\n{text}", program.display());
        }
        if started.elapsed() > PATIENCE {
            bail!("{} did not open a port within {PATIENCE:?}; see {}", program.display(), log.display());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The client URL in the file that nats-server writes once it listens; None until it is whole.
fn read_url(ports: &Path) -> Option<String> {
    let text = std::fs::read_to_string(ports).ok()?;
    let value: serde_json::Value = serde_json::from_str(&text).ok()?;
    Some(value.get("nats")?.get(0)?.as_str()?.to_owned())
}

/// Starts a child that writes to a log file and dies with this process.
fn spawn(mut command: Command, log: &Path) -> anyhow::Result<Child> {
    let file = std::fs::File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    command
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file)
        // Ctrl-C at the terminal is for us alone; the children are stopped in order.
        .process_group(0)
        .kill_on_drop(true);
    die_with_parent(&mut command);
    command.spawn().with_context(|| format!("cannot start {}", command.as_std().get_program().display()))
}

#[cfg(target_os = "linux")]
#[allow(unsafe_code, reason = "the one way to run code between fork and exec")]
fn die_with_parent(command: &mut Command) {
    use rustix::process::{Signal, getppid, set_parent_process_death_signal};
    let parent = rustix::process::getpid();
    // SAFETY: only system calls that are safe between fork and exec; nothing is allocated.
    unsafe {
        command.pre_exec(move || {
            set_parent_process_death_signal(Some(Signal::KILL))?;
            if getppid() == Some(parent) { Ok(()) } else { Err(std::io::Error::from(std::io::ErrorKind::Interrupted)) }
        });
    }
}

#[cfg(not(target_os = "linux"))]
fn die_with_parent(_: &mut Command) {}

fn terminate(child: &mut Child) {
    use rustix::process::{Pid, Signal, kill_process};
    let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    if let Some(pid) = pid {
        // It may have ended by itself just now; then there is nothing to do.
        let _ended_already = kill_process(pid, Signal::TERM);
    }
}

async fn end(child: &mut Child) {
    if tokio::time::timeout(PATIENCE, child.wait()).await.is_err() {
        tracing::warn!("a child did not end in time; it is killed");
        // It may have ended by itself just now; then there is nothing to do.
        drop(child.kill().await);
    }
}
