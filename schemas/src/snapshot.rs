//! What a coordinator writes down of its log from time to time, so that another need not read all of it.
//!
//! Of studies that are over it has what is shown of them and which checkpoints they need; their logs are read again only
//! when somebody asks for more. Of the others it has the names: their logs are read from the beginning.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::StudySummary;
use crate::ids::StudyId;

/// The version that is written, and the only one that is read: one that cannot be read costs time, nothing else.
pub const SNAPSHOT_VERSION: u32 = 2;

/// All that the log held up to a record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename = "snapshot")]
pub struct Snapshot {
    pub version: u32,
    /// The last record that counts here.
    #[serde(flatten)]
    pub position: LogPosition,
    /// Studies of which something may still run or be decided.
    pub going_on: Vec<StudyId>,
    pub over: Vec<OverStudy>,
}

/// A message of the log. Both are needed to know it again: a server that lost the end of its log, as after a power cut,
/// gives the same numbers to other messages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LogPosition {
    /// Its number in the stream; 0 before the first.
    pub sequence: u64,
    /// When the server stored it: microseconds since 1970, by the server's clock.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub at_us: u64,
}

/// A study that has concluded, and of which nothing runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct OverStudy {
    pub summary: StudySummary,
    /// The objects that its trials would go on from or be exported from, one a trial.
    pub checkpoints: Vec<String>,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}
