//! The fleet: agents as their beats show them, and the leases that the beats renew.
//!
//! It knows no study. Nothing here is in the log: a coordinator that starts anew learns its agents from their next
//! beats, and gives every lease that the log leaves open a fresh grace.

use std::collections::BTreeMap;
use std::time::Duration;

use regatta_schemas::api::AgentSummary;
use regatta_schemas::beat::{Beat, Held};
use regatta_schemas::{AgentId, Attempt, PoolId, StudyId, TrialId};

use crate::time::Time;

#[derive(Debug)]
pub struct Fleet {
    lease_timeout: Duration,
    agents: BTreeMap<AgentId, Agent>,
    leases: BTreeMap<(StudyId, TrialId), Lease>,
    /// No agent and no lease is overdue before this moment.
    next_check: Option<Time>,
}

#[derive(Debug)]
struct Agent {
    pool: PoolId,
    beat: Beat,
    heard_at: Time,
}

#[derive(Debug)]
struct Lease {
    attempt: Attempt,
    agent: AgentId,
    renewed_at: Time,
    timeout: Duration,
}

/// Whose silence ends an attempt, and after how long; None: as long as any agent's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leaseholder<'a> {
    pub attempt: Attempt,
    pub agent: &'a AgentId,
    pub timeout: Option<Duration>,
}

/// A lease that ended by silence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expired {
    pub study: StudyId,
    pub trial: TrialId,
    pub agent: AgentId,
    pub silent: Duration,
}

impl Fleet {
    pub fn new(lease_timeout: Duration) -> Self {
        Self { lease_timeout, agents: BTreeMap::new(), leases: BTreeMap::new(), next_check: None }
    }

    /// Takes in a beat; it renews the leases that it lists, and no others.
    pub fn beat(&mut self, now: Time, pool: PoolId, agent: AgentId, beat: Beat) {
        for Held { study, trial, attempt } in &beat.leases {
            if let Some(lease) = self.leases.get_mut(&(study.clone(), *trial))
                && lease.attempt == *attempt
                && lease.agent == agent
            {
                lease.renewed_at = now;
            }
        }
        self.agents.insert(agent, Agent { pool, beat, heard_at: now });
        self.check_after(now);
    }

    /// Makes the trial's lease what the study says: this holder's, new or as it was, or none.
    pub fn set_lease(&mut self, now: Time, study: &StudyId, trial: TrialId, holder: Option<Leaseholder>) {
        let key = (study.clone(), trial);
        let Some(Leaseholder { attempt, agent, timeout }) = holder else {
            self.leases.remove(&key);
            return;
        };
        let is_same = |lease: &Lease| lease.attempt == attempt && lease.agent == *agent;
        if !self.leases.get(&key).is_some_and(is_same) {
            let timeout = timeout.unwrap_or(self.lease_timeout);
            self.leases.insert(key, Lease { attempt, agent: agent.clone(), renewed_at: now, timeout });
            self.check_at(now + timeout);
        }
    }

    /// The trial's holder was heard by another way than a beat.
    pub fn renew(&mut self, now: Time, study: &StudyId, trial: TrialId) {
        if let Some(lease) = self.leases.get_mut(&(study.clone(), trial)) {
            lease.renewed_at = now;
        }
    }

    pub fn forget_study(&mut self, study: &StudyId) {
        self.leases.retain(|(of, _), _| of != study);
    }

    /// Every lease and every agent is as if it were heard just now.
    pub fn give_grace(&mut self, now: Time) {
        for lease in self.leases.values_mut() {
            lease.renewed_at = now;
        }
        for agent in self.agents.values_mut() {
            agent.heard_at = now;
        }
        self.check_after(now);
    }

    /// Drops the agents that were silent too long, and returns the leases that ended so.
    pub fn expire(&mut self, now: Time) -> Vec<Expired> {
        if self.next_check.is_none_or(|check| now < check) {
            return Vec::new();
        }
        let is_overdue = |lease: &Lease| now >= lease.renewed_at + lease.timeout;
        self.agents.retain(|_, agent| now < agent.heard_at + self.lease_timeout);
        let overdue = self.leases.iter().filter(|(_, lease)| is_overdue(lease));
        let expired: Vec<Expired> = overdue
            .map(|((study, trial), lease)| Expired {
                study: study.clone(),
                trial: *trial,
                agent: lease.agent.clone(),
                silent: now - lease.renewed_at,
            })
            .collect();
        self.leases.retain(|_, lease| !is_overdue(lease));
        let agents_due = self.agents.values().map(|agent| agent.heard_at + self.lease_timeout);
        let leases_due = self.leases.values().map(|lease| lease.renewed_at + lease.timeout);
        self.next_check = agents_due.chain(leases_due).min();
        expired
    }

    /// When to look for silent agents. It may turn out that there is none: a beat only ever moves the true moment later.
    pub fn next_deadline(&self) -> Option<Time> {
        self.next_check
    }

    /// Lanes of the pool's agents that take trials.
    pub fn lanes(&self, pool: &PoolId) -> usize {
        self.takers(pool).map(|agent| agent.beat.lanes as usize).sum()
    }

    pub fn has_agents(&self, pool: &PoolId) -> bool {
        self.takers(pool).next().is_some()
    }

    pub fn summaries(&self, now: Time) -> Vec<AgentSummary> {
        let summary = |(id, agent): (&AgentId, &Agent)| AgentSummary {
            agent: id.clone(),
            pool: agent.pool.clone(),
            lanes: agent.beat.lanes,
            busy: agent.beat.leases.len() as u32,
            device: agent.beat.device.clone(),
            draining: agent.beat.draining,
            silent_ms: (now - agent.heard_at).as_millis() as u64,
            trouble: agent.beat.trouble.clone(),
        };
        self.agents.iter().map(summary).collect()
    }

    /// What hinders one of the agents that hold trials of this study.
    pub fn trouble_of(&self, study: &StudyId) -> Option<String> {
        let holds_one = |agent: &&Agent| agent.beat.leases.iter().any(|held| held.study == *study);
        self.agents.values().filter(holds_one).find_map(|agent| agent.beat.trouble.clone())
    }

    fn takers(&self, pool: &PoolId) -> impl Iterator<Item = &Agent> {
        self.agents.values().filter(move |agent| agent.pool == *pool && !agent.beat.draining && agent.beat.lanes > 0)
    }

    fn check_after(&mut self, now: Time) {
        self.check_at(now + self.lease_timeout);
    }

    fn check_at(&mut self, check: Time) {
        self.next_check = Some(self.next_check.map_or(check, |known| known.min(check)));
    }
}
