//! Every identifier and counter of the wire, each a type of its own so that no two can be swapped.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::limits::LIMITS;

/// A text that cannot be an identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a {what}: use 1 to {max} of the characters a-z A-Z 0-9 _ -", max = LIMITS.id_chars_max)]
pub struct IdError {
    pub what: &'static str,
    pub text: String,
}

fn is_token(text: &str) -> bool {
    (1..=LIMITS.id_chars_max).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}

macro_rules! token_id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        #[serde(try_from = "String", into = "String")]
        #[schemars(extend("pattern" = "^[A-Za-z0-9_-]{1,64}$"))]
        pub struct $name(String);

        impl $name {
            /// # Errors
            /// When the text is no single token of a NATS subject, or too long.
            pub fn new(text: impl Into<String>) -> Result<Self, IdError> {
                let text = text.into();
                if is_token(&text) {
                    Ok(Self(text))
                } else {
                    Err(IdError { what: $what, text })
                }
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                Self::new(text)
            }
        }

        impl std::str::FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

token_id!(
    /// A study: its name made fit for a subject, and a few characters that make it unique.
    StudyId,
    "study id"
);
token_id!(
    /// One agent process. A new process is a new agent.
    AgentId,
    "agent id"
);
token_id!(
    /// A named queue of like agents.
    PoolId,
    "pool name"
);

token_id!(
    /// The name that a sampler of a user's own serves under.
    SamplerId,
    "sampler name"
);

token_id!(
    /// Who shares a server with others and sees nothing of them: an account of the server.
    TenantId,
    "tenant name"
);

impl Default for PoolId {
    fn default() -> Self {
        Self("default".to_owned())
    }
}

impl Default for TenantId {
    fn default() -> Self {
        Self("default".to_owned())
    }
}

macro_rules! counter_id {
    ($(#[$doc:meta])* $name:ident, $inner:ty) => {
        $(#[$doc])*
        #[derive(
            Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
        )]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl $name {
            #[must_use]
            pub fn next(self) -> Self {
                Self(self.0 + 1)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = std::num::ParseIntError;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }
    };
}

counter_id!(
    /// A trial's number within its study, in the order of proposal, from 0.
    TrialId,
    u32
);
counter_id!(
    /// Grows each time a trial is offered again (the epoch of a lease); the first offer is attempt 1.
    Attempt,
    u32
);
counter_id!(
    /// The time in office of the coordinator that made an offer: a number drawn at random, 0 where it is not said. It tells an
    /// attempt from another of the same number that a server forgot with the end of its log, as in a power cut.
    Term,
    u32
);
counter_id!(
    /// Numbers the messages of one attempt, from 0 (`accepted`); with trial and attempt it makes a message unique.
    Sequence,
    u64
);

impl Term {
    pub fn is_unknown(&self) -> bool {
        *self == Self::default()
    }

    /// Whether both may mean the same: whoever does not say is believed.
    pub fn may_be(self, other: Self) -> bool {
        self == other || self.is_unknown() || other.is_unknown()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_one_token_of_a_subject() {
        for good in ["a", "digits-3f2a", "A_b-9"] {
            assert!(StudyId::new(good).is_ok(), "{good}");
        }
        let long = "a".repeat(LIMITS.id_chars_max + 1);
        for bad in ["", "a.b", "a b", "*", ">", "ä", long.as_str()] {
            assert!(StudyId::new(bad).is_err(), "{bad}");
        }
    }
}
