//! Which coordinator leads: told in the log itself, so that its decisions can be fenced.
//!
//! A coordinator that holds the key [`crate::streams::LEADER_KEY`] appends `elected` to [`crate::subjects::LEADER`],
//! on the condition that no other did so since it looked. Each of its decisions is stored on the condition that its own
//! `elected` is still the last one: what a deposed coordinator sends late is refused by the server.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// From here on this coordinator decides, and nobody else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename = "elected")]
pub struct Elected {
    /// The name that the coordinator took when it started.
    pub coordinator: String,
}
