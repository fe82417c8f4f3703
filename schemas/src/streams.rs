//! Every stream, consumer and bucket, in this one place: as data, which each program turns into its client's types.

use std::time::Duration;

use crate::ids::PoolId;
use crate::subjects;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// What a JetStream stream must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamSpec {
    pub name: &'static str,
    pub description: &'static str,
    pub subject: &'static str,
    /// Whether an acknowledged message leaves the stream (WorkQueue); otherwise limits alone end it.
    pub work_queue: bool,
    /// None: messages do not age.
    pub message_age_max: Option<Duration>,
    /// None: any number.
    pub messages_per_subject_max: Option<i64>,
    /// None: any number. The oldest go first. The server sets this much of its disk aside.
    pub bytes_max: Option<i64>,
    /// Within this time a `Nats-Msg-Id` is stored once.
    pub duplicate_window: Duration,
}

/// Offers that no agent has taken yet.
pub const TRIALS: StreamSpec = StreamSpec {
    name: "REGATTA_TRIALS",
    description: "Offers that wait for an agent",
    subject: subjects::OFFERS_ALL,
    work_queue: true,
    message_age_max: None,
    messages_per_subject_max: None,
    bytes_max: None,
    duplicate_window: Duration::from_secs(120),
};

/// The one order of everything that was reported and decided.
pub const LOG: StreamSpec = StreamSpec {
    name: "REGATTA_LOG",
    description: "What agents reported and what the coordinator decided, in one order",
    subject: subjects::LOG_ALL,
    work_queue: false,
    message_age_max: None,
    messages_per_subject_max: None,
    bytes_max: None,
    duplicate_window: Duration::from_secs(120),
};

/// The last stop of each trial, for agents that were away when it was sent.
pub const STOPS: StreamSpec = StreamSpec {
    name: "REGATTA_STOPS",
    description: "The last stop of each trial",
    subject: subjects::STOPS_ALL,
    work_queue: false,
    message_age_max: Some(DAY),
    messages_per_subject_max: Some(1),
    bytes_max: Some(64 * 1024 * 1024),
    duplicate_window: Duration::from_secs(120),
};

/// What trials print.
pub const OUTPUT: StreamSpec = StreamSpec {
    name: "REGATTA_OUTPUT",
    description: "What trials print",
    subject: subjects::OUTPUT_ALL,
    work_queue: false,
    message_age_max: Some(DAY.saturating_mul(30)),
    messages_per_subject_max: Some(100_000),
    bytes_max: Some(512 * 1024 * 1024),
    duplicate_window: Duration::from_secs(120),
};

pub const STREAMS: [StreamSpec; 4] = [TRIALS, LOG, STOPS, OUTPUT];

/// Object store buckets. An object's name is the SHA-256 of its bytes, where nothing else is said.
pub const DATA_BUCKET: &str = "regatta-data";
pub const MODELS_BUCKET: &str = "regatta-models";
pub const CHECKPOINTS_BUCKET: &str = "regatta-checkpoints";
/// Its one object is replaced, and named [`SNAPSHOT_OBJECT`].
pub const SNAPSHOTS_BUCKET: &str = "regatta-snapshots";
pub const SNAPSHOT_OBJECT: &str = "coordinator";
pub const BUCKETS: [&str; 4] = [DATA_BUCKET, MODELS_BUCKET, CHECKPOINTS_BUCKET, SNAPSHOTS_BUCKET];

/// The bucket whose one key the coordinator that leads keeps; a key that is not written again in time is gone.
pub const LEADER_BUCKET: &str = "regatta-leader";
pub const LEADER_KEY: &str = "coordinator";
/// How long the key lives without its coordinator: what a takeover waits for.
pub const LEADER_LEASE: Duration = Duration::from_secs(3);

/// How long an agent may take from receiving an offer to having its `accepted` in the log; then NATS offers it to another.
pub const OFFER_ACK_WAIT: Duration = Duration::from_secs(10);

/// The durable pull consumer that all agents of a pool share.
pub fn offers_consumer(pool: &PoolId) -> String {
    format!("offers-{pool}")
}
