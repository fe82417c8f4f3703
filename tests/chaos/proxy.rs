//! A way to the server that can be cut, blocked or made slow: what a network does to one agent.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Way {
    Open,
    /// Connections break, and none is made.
    Cut,
    /// Connections stay, and nothing arrives.
    Blocked,
    /// What is sent arrives so much later.
    Slow(Duration),
}

pub struct Proxy {
    address: SocketAddr,
    way: watch::Sender<Way>,
    _serving: JoinSet<()>,
}

impl Proxy {
    pub async fn start(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let (way, ways) = watch::channel(Way::Open);
        let mut serving = JoinSet::new();
        serving.spawn(serve(listener, server, ways));
        Self { address, way, _serving: serving }
    }

    pub fn url(&self) -> String {
        format!("nats://{}", self.address)
    }

    pub fn set(&self, way: Way) {
        self.way.send_replace(way);
    }
}

async fn serve(listener: TcpListener, server: SocketAddr, ways: watch::Receiver<Way>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        if *ways.borrow() != Way::Cut {
            connections.spawn(connect(client, server, ways.clone()));
        }
        while connections.try_join_next().is_some() {}
    }
}

/// Carries both directions until one of them ends or the way is cut.
async fn connect(client: TcpStream, server: SocketAddr, ways: watch::Receiver<Way>) {
    let Ok(server) = TcpStream::connect(server).await else { return };
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    let mut until_cut = ways.clone();
    tokio::select! {
        () = carry(from_client, to_server, ways.clone()) => {}
        () = carry(from_server, to_client, ways) => {}
        _ = until_cut.wait_for(|way| *way == Way::Cut) => {}
    }
}

async fn carry(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    mut ways: watch::Receiver<Way>,
) {
    let mut piece = vec![0; 64 * 1024];
    loop {
        let count = match from.read(&mut piece).await {
            Ok(0) | Err(_) => return,
            Ok(count) => count,
        };
        let way = *ways.borrow_and_update();
        if let Way::Slow(delay) = way {
            tokio::time::sleep(delay).await;
        }
        if ways.wait_for(|way| *way != Way::Blocked).await.is_err() || to.write_all(&piece[..count]).await.is_err() {
            return;
        }
    }
}
