//! Who may say what and hear what: the roles, each with the least subjects that it needs.
//!
//! A role is a user of the NATS server, a tenant an account of it. Reading happens through JetStream's API, so what a role
//! may read shows in what it may publish.

use std::fmt;
use std::str::FromStr;

use crate::api::Endpoint;
use crate::ids::PoolId;
use crate::log::AGENT_KINDS;
use crate::streams::{self, CHECKPOINTS_BUCKET, DATA_BUCKET, LOG, MODELS_BUCKET, OUTPUT, STOPS, TRIALS};
use crate::subjects::{self, jetstream};

/// A part that a program or a person plays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Decides: proposes, offers, stops. It owns the streams.
    Coordinator,
    /// Takes offers and reports what became of them.
    Agent,
    /// Starts studies and trials, and sees what comes of them.
    Publisher,
    /// Sees everything but the data, and changes nothing.
    Viewer,
    /// Proposes the configurations of studies that ask it.
    Sampler,
}

/// No role has this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no role: coordinator, agent, publisher, viewer or sampler")]
pub struct NoRole(String);

/// What a user may do; everything else is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permissions {
    pub publish: Vec<String>,
    pub subscribe: Vec<String>,
    /// Whether it may answer wherever it was asked for an answer.
    pub answers: bool,
}

impl Role {
    pub const ALL: [Self; 5] = [Self::Coordinator, Self::Agent, Self::Publisher, Self::Viewer, Self::Sampler];

    pub fn name(self) -> &'static str {
        match self {
            Self::Coordinator => "coordinator",
            Self::Agent => "agent",
            Self::Publisher => "publisher",
            Self::Viewer => "viewer",
            Self::Sampler => "sampler",
        }
    }

    /// What the answers to its questions are sent to begins so; no other role may listen there.
    pub fn inbox(self) -> String {
        subjects::inbox(self.name())
    }

    /// What the role may do. Agents are kept to these pools; where there are none, they may serve any.
    pub fn permissions(self, pools: &[PoolId]) -> Permissions {
        let publish = match self {
            Self::Coordinator => coordinator_publishes(),
            Self::Agent => agent_publishes(pools),
            Self::Publisher => publisher_publishes(),
            Self::Viewer => viewer_publishes(),
            Self::Sampler => Vec::new(),
        };
        let mut subscribe = vec![subjects::inboxes(self.name())];
        match self {
            Self::Coordinator => {
                subscribe.extend([subjects::API_ALL, subjects::BEATS_ALL, jetstream::SERVICES_ALL].map(str::to_owned));
            }
            Self::Agent => subscribe.push(subjects::STOPS_ALL.to_owned()),
            Self::Sampler => subscribe.push(subjects::SAMPLERS_ALL.to_owned()),
            Self::Publisher | Self::Viewer => {}
        }
        Permissions { publish, subscribe, answers: matches!(self, Self::Coordinator | Self::Sampler) }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl FromStr for Role {
    type Err = NoRole;

    fn from_str(text: &str) -> Result<Self, NoRole> {
        Self::ALL.into_iter().find(|role| role.name() == text).ok_or_else(|| NoRole(text.to_owned()))
    }
}

fn coordinator_publishes() -> Vec<String> {
    [
        subjects::OFFERS_ALL,
        subjects::LOG_ALL,
        subjects::STOPS_ALL,
        subjects::API_ALL,
        subjects::SAMPLERS_ALL,
        jetstream::API_ALL,
        jetstream::ACKS_ALL,
        jetstream::FLOW_ALL,
        jetstream::KEYS_ALL,
        jetstream::OBJECTS_ALL,
    ]
    .map(str::to_owned)
    .to_vec()
}

fn agent_publishes(pools: &[PoolId]) -> Vec<String> {
    let mut allowed: Vec<String> = AGENT_KINDS.into_iter().map(subjects::log_of_kind).collect();
    allowed.push(subjects::OUTPUT_ALL.to_owned());
    if pools.is_empty() {
        allowed.push(subjects::BEATS_ALL.to_owned());
        allowed.extend(jetstream::take_from(&TRIALS, "*", TRIALS.subject));
    }
    for pool in pools {
        allowed.push(subjects::beats_of_pool(pool));
        allowed.extend(jetstream::take_from(&TRIALS, &streams::offers_consumer(pool), &subjects::offers(pool)));
    }
    allowed.push(jetstream::read_last(&STOPS));
    for bucket in [DATA_BUCKET, MODELS_BUCKET, CHECKPOINTS_BUCKET] {
        allowed.extend(jetstream::read_objects(bucket));
    }
    allowed.extend(jetstream::write_objects(CHECKPOINTS_BUCKET));
    allowed
}

fn publisher_publishes() -> Vec<String> {
    let mut allowed: Vec<String> = Endpoint::ALL.into_iter().map(subjects::api).collect();
    allowed.extend(reads_results());
    for bucket in [DATA_BUCKET, MODELS_BUCKET] {
        allowed.extend(jetstream::read_objects(bucket));
        allowed.extend(jetstream::write_objects(bucket));
    }
    allowed
}

fn viewer_publishes() -> Vec<String> {
    let reading = Endpoint::ALL.into_iter().filter(|endpoint| !endpoint.changes_something());
    let mut allowed: Vec<String> = reading.map(subjects::api).collect();
    allowed.extend(reads_results());
    allowed
}

/// What was measured, decided and printed, and the models that came of it.
fn reads_results() -> Vec<String> {
    let mut allowed = jetstream::read_stream(&LOG);
    allowed.extend(jetstream::read_stream(&OUTPUT));
    allowed.extend(jetstream::read_objects(CHECKPOINTS_BUCKET));
    allowed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::StudyId;

    /// Whether a subject lies within a pattern, by the rules of NATS.
    fn covers(pattern: &str, subject: &str) -> bool {
        let (mut pattern, mut subject) = (pattern.split('.'), subject.split('.'));
        loop {
            match (pattern.next(), subject.next()) {
                (Some(">"), Some(_)) | (None, None) => return true,
                (Some("*"), Some(_)) => {}
                (Some(one), Some(other)) if one == other => {}
                _ => return false,
            }
        }
    }

    fn may_publish(role: Role, pools: &[PoolId], subject: &str) -> bool {
        role.permissions(pools).publish.iter().any(|pattern| covers(pattern, subject))
    }

    #[test]
    fn only_the_coordinator_decides() {
        let study = StudyId::new("s").unwrap();
        let decisions = [
            subjects::offers(&PoolId::default()),
            subjects::stop_study(&study),
            subjects::LEADER.to_owned(),
            "regatta.v1.log.s.1.proposed".to_owned(),
            "regatta.v1.log.s.1.offered".to_owned(),
            "regatta.v1.log.s.1.stopped".to_owned(),
            "regatta.v1.log.s.1.concluded".to_owned(),
            "regatta.v1.log.s.study.study_created".to_owned(),
        ];
        for role in Role::ALL {
            for decision in &decisions {
                assert_eq!(may_publish(role, &[], decision), role == Role::Coordinator, "{role} {decision}");
            }
        }
    }

    #[test]
    fn an_agent_of_one_pool_takes_no_offers_of_another() {
        let (mine, other) = (PoolId::new("mine").unwrap(), PoolId::new("other").unwrap());
        let pull =
            |pool: &PoolId| format!("$JS.API.CONSUMER.MSG.NEXT.{}.{}", TRIALS.name, streams::offers_consumer(pool));
        for (pools, allowed) in [(vec![mine.clone()], false), (vec![mine.clone(), other.clone()], true), (vec![], true)]
        {
            assert!(may_publish(Role::Agent, &pools, &pull(&mine)));
            assert_eq!(may_publish(Role::Agent, &pools, &pull(&other)), allowed, "{pools:?}");
        }
    }

    #[test]
    fn a_viewer_asks_and_changes_nothing() {
        for endpoint in Endpoint::ALL {
            let reads = ["list", "show"].iter().any(|word| endpoint.name().ends_with(word));
            assert_eq!(may_publish(Role::Viewer, &[], &subjects::api(endpoint)), reads, "{endpoint:?}");
            assert!(may_publish(Role::Publisher, &[], &subjects::api(endpoint)), "{endpoint:?}");
        }
    }

    #[test]
    fn a_name_is_read_back() {
        for role in Role::ALL {
            assert_eq!(role.name().parse(), Ok(role));
        }
        assert!("admin".parse::<Role>().is_err());
    }
}
