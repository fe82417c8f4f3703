//! Where the NATS server is and as whom to connect, as the command line of every program takes it.

use std::convert::Infallible;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use async_nats::ServerAddr;

use crate::BrokerError;

/// The options of a program's command line that say how to reach NATS.
#[derive(Debug, Clone, clap::Args)]
pub struct Server {
    /// The NATS server; several of one cluster with commas between them.
    #[arg(
        long = "nats",
        global = true,
        env = "REGATTA_NATS",
        hide_env_values = true,
        default_value = "nats://127.0.0.1:4222"
    )]
    pub urls: Urls,

    /// Who we are to it: an nkey file that `regatta auth init` wrote, or NATS credentials. Read again at every reconnect.
    #[arg(long, global = true, env = "REGATTA_CREDENTIALS", value_name = "FILE")]
    pub credentials: Option<PathBuf>,

    /// Use TLS, and trust the certificates of this authority.
    #[arg(long, global = true, env = "REGATTA_TLS_CA", value_name = "FILE")]
    pub tls_ca: Option<PathBuf>,

    /// Use TLS, and show the server this certificate.
    #[arg(long, global = true, env = "REGATTA_TLS_CERT", value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,

    /// The key of the certificate.
    #[arg(long, global = true, env = "REGATTA_TLS_KEY", value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
}

impl Server {
    /// A server without TLS that wants no credentials.
    pub fn at(url: &str) -> Self {
        Self { urls: Urls(url.to_owned()), credentials: None, tls_ca: None, tls_cert: None, tls_key: None }
    }
}

/// One URL, or several of one cluster with commas between them. It shows itself without what would let others in.
#[derive(Clone, PartialEq, Eq)]
pub struct Urls(String);

impl Urls {
    /// # Errors
    /// `Setting` when one of them is no URL of a NATS server.
    pub fn addresses(&self) -> Result<Vec<ServerAddr>, BrokerError> {
        self.0
            .split(',')
            .map(|url| url.trim().parse())
            .collect::<Result<_, _>>()
            .map_err(|error| BrokerError::Setting(format!("`{self}` is not a NATS URL: {error}")))
    }
}

impl FromStr for Urls {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Urls {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown: Vec<String> = self.0.split(',').map(without_secret).collect();
        formatter.write_str(&shown.join(","))
    }
}

impl fmt::Debug for Urls {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// A URL whose user and password, or token, are left out.
fn without_secret(url: &str) -> String {
    let Some((before, host)) = url.rsplit_once('@') else { return url.to_owned() };
    match before.split_once("://") {
        Some((scheme, _)) => format!("{scheme}://***@{host}"),
        None => format!("***@{host}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_not_shown() {
        for (url, shown) in [
            ("nats://127.0.0.1:4222", "nats://127.0.0.1:4222"),
            ("nats://ada:secret@host:1,tls://token@other", "nats://***@host:1,tls://***@other"),
            ("ada:se@cret@host", "***@host"),
        ] {
            let urls = Urls(url.to_owned());
            assert_eq!(urls.to_string(), shown);
            assert_eq!(format!("{urls:?}"), shown);
        }
    }
}
