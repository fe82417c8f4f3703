//! Three nats-servers that keep one another's streams.

use std::process::Command;

use regatta_tests::{Process, nats_server, until};

pub struct Nodes {
    folder: tempfile::TempDir,
    nodes: Vec<Option<Process>>,
}

const NODES: u8 = 3;

impl Nodes {
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut nodes = Self { folder, nodes: Vec::new() };
        for node in 0..NODES {
            nodes.nodes.push(None);
            nodes.start_node(node);
        }
        for node in 0..NODES {
            let address = format!("{}:4222", ip(node));
            until("a node listens", || async { tokio::net::TcpStream::connect(&address).await.ok() }).await;
        }
        nodes
    }

    pub fn urls(&self) -> String {
        (0..NODES).map(|node| format!("nats://{}:4222", ip(node))).collect::<Vec<_>>().join(",")
    }

    pub fn start_node(&mut self, node: u8) {
        let routes = (0..NODES).map(|node| format!("nats-route://{}:6222", ip(node))).collect::<Vec<_>>().join(", ");
        let (own, folder) = (ip(node), self.folder.path());
        let store = folder.join(format!("store-{node}"));
        let config = format!(
            "server_name: n{node}\nlisten: \"{own}:4222\"\njetstream {{ store_dir: \"{}\" }}\n\
             cluster {{ name: nodes, listen: \"{own}:6222\", routes: [{routes}] }}\n",
            store.display()
        );
        let file = folder.join(format!("node-{node}.conf"));
        std::fs::write(&file, config).expect("the folder can be written");
        let mut command = Command::new(nats_server());
        command.arg("--config").arg(file);
        self.nodes[usize::from(node)] = Some(Process::start(command, &folder.join(format!("node-{node}.log"))));
    }

    /// kill -9.
    pub fn kill_node(&mut self, node: u8) {
        self.nodes[usize::from(node)].take().expect("it runs").kill();
    }
}

/// An address of the loopback network that is this process's alone, so that ports can be what they always are.
fn ip(node: u8) -> String {
    let process = std::process::id();
    format!("127.{}.{}.{}", 1 + (process >> 8) % 250, process & 0xff, node + 1)
}
