//! What every program of Regatta does alike with NATS: connect, make the streams of
//! [`regatta_schemas::streams`], keep blobs by their content.
//!
//! It knows no study, no trial and no decision.

mod connect;
mod copies;
mod credentials;
mod objects;
mod server;
mod streams;

use std::error::Error;

pub use async_nats;
use async_nats::jetstream::context::PublishError;
use async_nats::jetstream::{self, ErrorCode};
pub use connect::{Connection, Link, connect};
pub use copies::is_copy;
pub use credentials::Credentials;
pub use objects::{Objects, sha256_hex};
pub use server::{Server, Urls};
pub use streams::{ensure_everything, offers_consumer};

/// What can go wrong between a program and NATS, split by what the caller does.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// Try again later: the server is away or slow.
    #[error("NATS does not answer ({what}): {cause}")]
    Away { what: &'static str, cause: Box<dyn std::error::Error + Send + Sync> },
    /// The server answers, and stores nothing more until somebody makes room.
    #[error(
        "NATS stores no more ({what}): {cause}. Make room: its disk, its max_file_store or the tenant's storage, or delete \
         studies; start nats-server anew if its disk was full"
    )]
    NoRoom { what: &'static str, cause: Box<dyn std::error::Error + Send + Sync> },
    /// The disk of this machine does not take what was fetched.
    #[error("cannot write to this machine's disk: {0}")]
    Unwritable(std::io::Error),
    /// The object is not there.
    #[error("bucket {bucket} has no object {object}")]
    NoObject { bucket: &'static str, object: String },
    /// The object is not what its name says.
    #[error("object {object} of bucket {bucket} is damaged: {problem}")]
    Damaged { bucket: &'static str, object: String, problem: String },
    /// What was read is not there any more: begin anew with what is.
    #[error("the server lost the end of stream {stream}, as in a power cut: what it has now counts")]
    TailLost { stream: &'static str },
    /// A setting is wrong: stop the program.
    #[error("{0}")]
    Setting(String),
}

impl BrokerError {
    /// Turns whatever the client says into `Away`, with what was being tried.
    pub fn away<E>(what: &'static str) -> impl FnOnce(E) -> Self
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        move |cause| Self::Away { what, cause: cause.into() }
    }

    /// Why a message was not stored: `NoRoom` where the server says so, else `Away`.
    pub fn unstored(what: &'static str) -> impl FnOnce(PublishError) -> Self {
        move |cause| {
            let refusal = cause.source().and_then(|source| source.downcast_ref::<jetstream::Error>());
            if refusal.is_some_and(|refusal| NO_ROOM.contains(&refusal.error_code())) {
                Self::NoRoom { what, cause: cause.into() }
            } else {
                Self::Away { what, cause: cause.into() }
            }
        }
    }
}

/// What the server says when a limit of the account, of the server or of the stream is reached.
const NO_ROOM: [ErrorCode; 5] = [
    ErrorCode::ACCOUNT_RESOURCES_EXCEEDED,
    ErrorCode::INSUFFICIENT_RESOURCES,
    ErrorCode::STORAGE_RESOURCES_EXCEEDED,
    ErrorCode::STREAM_STORE_FAILED,
    ErrorCode::TEMP_STORAGE_FAILED,
];
