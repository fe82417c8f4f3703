//! NATS's own protocol, spoken without a client: what a server refuses it says at once, and a client would hide.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nkeys::KeyPair;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// A connection that has shown its key.
pub struct RawClient {
    stream: BufReader<TcpStream>,
}

impl RawClient {
    /// Connects with a key's seed, or as nobody. None where the server does not let it in.
    pub async fn connect(port: u16, seed: Option<&str>) -> Option<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.expect("the server listens");
        let mut client = Self { stream: BufReader::new(stream) };
        let info = client.line().await?;
        let info: Value = serde_json::from_str(info.strip_prefix("INFO ")?).expect("the server tells what it is");
        let mut hello = json!({"verbose": false, "pedantic": false, "headers": true, "no_responders": true});
        if let Some(seed) = seed {
            let key = KeyPair::from_seed(seed).expect("a seed");
            let nonce = info["nonce"].as_str().unwrap_or_default();
            hello["nkey"] = key.public_key().into();
            hello["sig"] = URL_SAFE_NO_PAD.encode(key.sign(nonce.as_bytes()).expect("a seed signs")).into();
        }
        client.send(&format!("CONNECT {hello}\r\nPING\r\n")).await;
        let is_in = client.line().await? == "PONG";
        is_in.then_some(client)
    }

    /// Whether the server refuses to pass on a message on this subject.
    pub async fn is_refused_to_publish(&mut self, subject: &str) -> bool {
        self.is_refused(&format!("PUB {subject} 2\r\n{{}}\r\n")).await
    }

    /// Whether the server refuses to tell what is said on this subject.
    pub async fn is_refused_to_subscribe(&mut self, subject: &str) -> bool {
        self.is_refused(&format!("SUB {subject} 1\r\nUNSUB 1\r\n")).await
    }

    async fn is_refused(&mut self, operation: &str) -> bool {
        self.send(&format!("{operation}PING\r\n")).await;
        let mut is_refused = false;
        loop {
            let line = self.line().await.expect("the connection lasts");
            match line.split(' ').next() {
                Some("PONG") => return is_refused,
                Some("-ERR") => is_refused = true,
                Some("MSG" | "HMSG") => {
                    let bytes: usize = line.rsplit(' ').next().and_then(|size| size.parse().ok()).expect("a size");
                    self.stream.read_exact(&mut vec![0; bytes + 2]).await.expect("a message follows");
                }
                _ => {}
            }
        }
    }

    async fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.expect("the connection lasts");
    }

    /// The next line; None where the server hung up.
    async fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let count = self.stream.read_line(&mut line).await.ok()?;
        (count > 0).then(|| line.trim_end().to_owned())
    }
}
