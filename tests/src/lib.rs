//! A real cluster for tests: a nats-server with JetStream, coordinators and agents as processes, and the log they wrote.

mod disk;
mod process;
mod raw;
mod record;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use regatta_broker::{BrokerError, Connection, Link, Server, connect};
use regatta_schemas::roles::Role;
use regatta_schemas::{StudyId, TenantId};
use serde_json::Value;

pub use disk::SmallDisk;
pub use process::Process;
pub use raw::RawClient;
pub use record::{Entry, History, check_history};

/// The longest that anything in a test may take before the test gives up, saying what it waited for.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// A nats-server of its own, or several that the test runs, and what is run on it.
pub struct Cluster {
    folder: tempfile::TempDir,
    /// Of servers that the test runs.
    urls: Option<String>,
    port: u16,
    nats: Option<Process>,
    /// Where the server's streams lie, if not among everybody's files.
    pub disk: Option<SmallDisk>,
    keys: Option<PathBuf>,
    /// As whose roles everything connects, where there are keys.
    pub tenant: TenantId,
    /// With whose certificate the server shows that it is the right one, where it speaks TLS.
    pub tls_ca: Option<PathBuf>,
}

impl Cluster {
    fn on(urls: Option<String>) -> Self {
        let folder = tempfile::Builder::new().prefix("regatta-test-").tempdir().expect("a temporary folder");
        Self { folder, urls, port: 0, nats: None, disk: None, keys: None, tenant: TenantId::default(), tls_ca: None }
    }

    /// Starts nats-server on a free port of the loopback address.
    pub async fn start() -> Self {
        let mut cluster = Self::on(None);
        cluster.start_nats().await;
        cluster
    }

    /// Starts it with its streams on a disk of its own, of so many MiB. None where no such disk can be had.
    pub async fn start_on_small_disk(mebibytes: u32) -> Option<Self> {
        let mut cluster = Self::on(None);
        cluster.disk = Some(SmallDisk::mount(&cluster.folder().join("nats"), mebibytes).await?);
        cluster.start_nats().await;
        Some(cluster)
    }

    /// On the servers with these URLs, with commas between them.
    pub fn on_servers(urls: String) -> Self {
        Self::on(Some(urls))
    }

    /// Starts it with the configuration that `regatta auth init` makes with these options: everybody needs a key.
    pub async fn start_secured(options: &[&str]) -> Self {
        let mut cluster = Self::on(None);
        let keys = cluster.folder().join("keys");
        cluster.keys = Some(keys.clone());
        cluster.auth(&[&["init", &keys.display().to_string()], options].concat());
        cluster.start_nats().await;
        cluster
    }

    /// `regatta auth`, which must succeed.
    pub fn auth(&self, args: &[&str]) {
        let done = Command::new(program("regatta")).arg("auth").args(args).output().expect("regatta starts");
        assert!(done.status.success(), "regatta auth {args:?}: {}", String::from_utf8_lossy(&done.stderr));
    }

    /// The folder that `regatta auth init` made.
    pub fn keys(&self) -> &Path {
        self.keys.as_deref().expect("the cluster has keys")
    }

    pub fn key(&self, tenant: &TenantId, role: Role) -> PathBuf {
        self.keys().join("tenants").join(tenant.as_str()).join(role.name()).join("nkey")
    }

    /// Has the server read its configuration again.
    pub fn reload_nats(&self) {
        self.nats.as_ref().expect("the server runs").reload();
    }

    /// How a role reaches the server.
    pub fn server(&self, role: Role) -> Server {
        let credentials = self.keys.as_ref().map(|_| self.key(&self.tenant, role));
        Server { credentials, tls_ca: self.tls_ca.clone(), ..Server::at(&self.url()) }
    }

    /// A program of a role.
    fn command(&self, name: &str, role: Role) -> Command {
        self.command_at(&self.url(), name, role)
    }

    fn command_at(&self, url: &str, name: &str, role: Role) -> Command {
        let Server { credentials, tls_ca, .. } = self.server(role);
        let mut command = Command::new(program(name));
        command.args(["--nats", url]);
        for (option, file) in [("--credentials", credentials), ("--tls-ca", tls_ca)] {
            if let Some(file) = file {
                command.arg(option).arg(file);
            }
        }
        command
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn url(&self) -> String {
        self.urls.clone().unwrap_or_else(|| format!("nats://127.0.0.1:{}", self.port))
    }

    /// Where clients of the server that this started connect.
    pub fn address(&self) -> std::net::SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Starts the server, again or for the first time, on the same store. The first time it takes a free port, and
    /// tells which: a port that was found free beforehand may be another server's by then.
    pub async fn start_nats(&mut self) {
        let port = if self.port == 0 { "-1".to_owned() } else { self.port.to_string() };
        let mut command = match &self.disk {
            Some(disk) => disk.command(&nats_server()),
            None => Command::new(nats_server()),
        };
        command.args(["--addr", "127.0.0.1", "--port", &port, "--jetstream", "--store_dir"]);
        command.arg(self.folder.path().join("nats")).arg("--ports_file_dir").arg(self.folder.path());
        if let Some(keys) = &self.keys {
            command.arg("--config").arg(keys.join("server/nats.conf"));
        } else if self.disk.is_some() {
            // As if it had found a large disk when it started.
            let configuration = self.folder.path().join("nats.conf");
            std::fs::write(&configuration, "jetstream { max_file_store: 1GB }\n").expect("the folder can be written");
            command.arg("--config").arg(configuration);
        }
        let nats = Process::start(command, &self.folder.path().join("nats-server.log"));
        let ports = self.folder.path().join(format!("nats-server_{}.ports", nats.id()));
        self.nats = Some(nats);
        self.port = until("nats-server says its port", || async { port_in(&ports) }).await;
        until("nats-server listens", || async { tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await.ok() })
            .await;
    }

    /// kill -9 of the server.
    pub fn kill_nats(&mut self) {
        self.nats.take().expect("the server runs").kill();
    }

    /// SIGSTOP: the server keeps its connections and answers nothing.
    pub fn pause_nats(&self) {
        self.nats.as_ref().expect("the server runs").pause();
    }

    pub fn coordinator(&self, args: &[&str]) -> Process {
        let mut command = self.command("regatta", Role::Coordinator);
        command.arg("serve").args(args);
        self.process(command, "coordinator")
    }

    pub fn agent(&self, args: &[&str]) -> Process {
        self.agent_through(&self.url(), args)
    }

    /// An agent that connects to another address, from where the server can be reached.
    pub fn agent_through(&self, url: &str, args: &[&str]) -> Process {
        let mut command = self.command_at(url, "regatta-agent", Role::Agent);
        command.args(["--device", "cpu", "--threads", "1"]).args(args);
        self.process(command, "agent")
    }

    /// An agent that sees a disk, and has its temporary files there.
    pub fn agent_on(&self, disk: &SmallDisk, args: &[&str]) -> Process {
        let plain = self.command("regatta-agent", Role::Agent);
        let mut command = disk.command(Path::new(plain.get_program()));
        command.args(plain.get_args()).args(["--device", "cpu", "--threads", "1"]).args(args);
        command.env("TMPDIR", disk.folder());
        self.process(command, "agent")
    }

    fn process(&self, command: Command, name: &str) -> Process {
        let count = std::fs::read_dir(self.folder.path()).map_or(0, Iterator::count);
        Process::start(command, &self.folder.path().join(format!("{name}-{count}.log")))
    }

    /// Runs `regatta` to its end.
    pub async fn cli(&self, args: &[&str]) -> Output {
        self.cli_as(Role::Publisher, args).await
    }

    /// The same, with the key of a role.
    pub async fn cli_as(&self, role: Role, args: &[&str]) -> Output {
        let mut command = tokio::process::Command::from(self.command("regatta", role));
        command.args(args).stdin(Stdio::null()).kill_on_drop(true);
        tokio::time::timeout(PATIENCE, command.output())
            .await
            .unwrap_or_else(|_| panic!("regatta {args:?} did not end"))
            .expect("regatta starts")
    }

    /// Runs `regatta`, which must succeed, and returns what it printed.
    pub async fn cli_ok(&self, args: &[&str]) -> String {
        let output = self.cli(args).await;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "regatta {args:?} failed:\n{text}\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
        text
    }

    /// A connection that may do everything.
    pub async fn link(&self) -> Link {
        self.link_as(Role::Coordinator).await
    }

    pub async fn link_as(&self, role: Role) -> Link {
        reach(self.server(role)).await.expect("the server is there and knows the key")
    }

    /// Starts a study from its file's content and returns its id.
    pub async fn start_study(&self, study: &Value) -> StudyId {
        let count = std::fs::read_dir(self.folder.path()).map_or(0, Iterator::count);
        let file = self.folder.path().join(format!("study-{count}.json"));
        std::fs::write(&file, study.to_string()).expect("the folder can be written");
        let id = self.cli_ok(&["run", "--detach", &file.display().to_string()]).await;
        id.trim().parse().expect("an id is printed")
    }

    /// The study's log so far.
    pub async fn history(&self, study: &StudyId) -> History {
        History::read(&self.link().await, study).await
    }

    /// Waits until the study's log satisfies `is_so`.
    pub async fn until_log(&self, study: &StudyId, what: &str, is_so: impl Fn(&History) -> bool) -> History {
        let link = self.link().await;
        until(what, || async {
            let history = History::read(&link, study).await;
            is_so(&history).then_some(history)
        })
        .await
    }

    /// Waits until the study has concluded, checks what must hold of every log, and returns it.
    pub async fn until_concluded(&self, study: &StudyId) -> History {
        let history = self.until_log(study, "the study concludes", History::is_concluded).await;
        check_history(&history);
        history
    }
}

/// Connects, at once or not at all.
pub async fn reach(server: Server) -> Result<Link, BrokerError> {
    connect(&Connection { server, name: "test".to_owned(), wait_for_server: false }).await
}

/// A study on the digits that takes `milliseconds` rather than seconds; change what a test is about.
pub fn digits_study(name: &str, trials: u32, epochs: u32) -> Value {
    serde_json::json!({
        "name": name,
        "objective": {"metric": "validation_accuracy", "goal": "maximize"},
        "space": {"rate": {"type": "float", "low": 1e-4, "high": 1e-1, "log": true}},
        "budget": {"trials": trials, "resource": epochs},
        "seed": 7,
        "recipe": {
            "data": {
                "file": repository().join("examples/data/digits.npz"),
                "format": "npz", "task": "classification", "target": "y", "normalize": "scale"
            },
            "model": {"family": "mlp", "hidden": [32]},
            "loss": "cross_entropy",
            "optimizer": {"name": "adamw", "learning_rate": "$rate"},
            "batch_size": 32,
            "checkpoint": {"every_s": 0.0}
        }
    })
}

/// Tries again and again until there is an answer; fails the test when that takes longer than [`PATIENCE`].
pub async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut attempt: impl FnMut() -> F) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = attempt().await {
            return answer;
        }
        assert!(start.elapsed() < PATIENCE, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests lie in the repository").to_owned()
}

/// A program of this workspace, built beside this test.
pub fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its path");
    let folder = test.ancestors().nth(2).expect("a test lies in target/<profile>/deps");
    let path = folder.join(name);
    assert!(path.is_file(), "{} is missing: build it first with `cargo build --workspace`", path.display());
    path
}

/// The server's program.
pub fn nats_server() -> PathBuf {
    let fetched = repository().join(".regatta/bin/nats-server");
    match std::env::var_os("REGATTA_NATS_SERVER") {
        Some(path) => path.into(),
        None if fetched.is_file() => fetched,
        None => "nats-server".into(),
    }
}

/// The port for clients in what a server wrote of its ports; `None` while it has not.
fn port_in(ports: &Path) -> Option<u16> {
    let ports: Value = serde_json::from_slice(&std::fs::read(ports).ok()?).ok()?;
    ports["nats"][0].as_str()?.rsplit_once(':')?.1.parse().ok()
}
