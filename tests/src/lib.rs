//! A real cluster for tests: a nats-server with JetStream, coordinators and agents as processes, and the log they wrote.

mod process;
mod record;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use regatta_broker::{Connection, Link, connect};
use regatta_schemas::StudyId;
use serde_json::Value;

pub use process::Process;
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
}

impl Cluster {
    /// Starts nats-server on a free port of the loopback address.
    pub async fn start() -> Self {
        let mut cluster = Self::on(None);
        cluster.start_nats().await;
        cluster
    }

    /// On the servers with these URLs, with commas between them.
    pub fn on_servers(urls: String) -> Self {
        Self::on(Some(urls))
    }

    fn on(urls: Option<String>) -> Self {
        let folder = tempfile::Builder::new().prefix("regatta-test-").tempdir().expect("a temporary folder");
        Self { folder, urls, port: 0, nats: None }
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
        let mut command = Command::new(nats_server());
        command.args(["--addr", "127.0.0.1", "--port", &port, "--jetstream", "--store_dir"]);
        command.arg(self.folder.path().join("nats")).arg("--ports_file_dir").arg(self.folder.path());
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
        let mut command = Command::new(program("regatta"));
        command.args(["--nats", &self.url(), "serve"]).args(args);
        self.process(command, "coordinator")
    }

    pub fn agent(&self, args: &[&str]) -> Process {
        self.agent_through(&self.url(), args)
    }

    /// An agent that connects to another address, from where the server can be reached.
    pub fn agent_through(&self, url: &str, args: &[&str]) -> Process {
        let mut command = Command::new(program("regatta-agent"));
        command.args(["--nats", url, "--device", "cpu", "--threads", "1"]).args(args);
        self.process(command, "agent")
    }

    fn process(&self, command: Command, name: &str) -> Process {
        let count = std::fs::read_dir(self.folder.path()).map_or(0, Iterator::count);
        Process::start(command, &self.folder.path().join(format!("{name}-{count}.log")))
    }

    /// Runs `regatta` to its end.
    pub async fn cli(&self, args: &[&str]) -> Output {
        let mut command = tokio::process::Command::new(program("regatta"));
        command.args(["--nats", &self.url()]).args(args).stdin(Stdio::null()).kill_on_drop(true);
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

    pub async fn link(&self) -> Link {
        connect(&Connection { urls: self.url(), name: "test".to_owned(), credentials: None, wait_for_server: true })
            .await
            .expect("the server is there")
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
