//! Decisions on their way: appended, and not yet read back from the log. They keep a decision from being taken twice.
//!
//! None of this is part of the state: a coordinator that starts anew has none of it, and decides afresh by the log.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use regatta_schemas::log::Record;
use regatta_schemas::reasons::StudyEnd;
use regatta_schemas::{AgentId, Attempt, Params, Sequence, TrialId};

#[derive(Debug, Default)]
pub struct Intents {
    proposals: BTreeMap<TrialId, Proposal>,
    /// Trials with a lane set aside: to be offered, or closed as they cannot be.
    pub lanes: BTreeSet<TrialId>,
    /// Those of `lanes` that callers get, who need none.
    pub called: BTreeSet<TrialId>,
    /// The last record of each attempt that a caller reported.
    pub observed: BTreeMap<TrialId, (Attempt, Sequence)>,
    /// Trials that are being stopped or concluded.
    pub closings: BTreeSet<TrialId>,
    /// Trials whose agent fell silent.
    pub lost: BTreeMap<TrialId, Loss>,
    pub ending: Option<StudyEnd>,
    pub is_concluded: bool,
    /// The sampler has no configuration left.
    pub is_exhausted: bool,
}

/// What is known of a trial that is on its way.
#[derive(Debug)]
pub enum Proposal {
    Sampled(Sampled),
    /// It takes the place of a trial and goes on from a checkpoint that may be nobody else's any more.
    Inherited {
        replaced: TrialId,
        object: String,
    },
    /// Somebody sent it.
    Submitted,
}

#[derive(Debug)]
pub struct Sampled {
    pub index: u64,
    pub params: Params,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    pub agent: AgentId,
    pub silent: Duration,
}

impl Intents {
    pub fn propose(&mut self, trial: TrialId, proposal: Proposal) {
        self.proposals.insert(trial, proposal);
    }

    pub fn proposals(&self) -> usize {
        self.proposals.len()
    }

    pub fn is_proposed(&self, trial: TrialId) -> bool {
        self.proposals.contains_key(&trial)
    }

    /// Configurations proposed and not yet read back, in the order of their trials.
    pub fn sampled(&self) -> impl Iterator<Item = &Sampled> {
        self.proposals.values().filter_map(|proposal| match proposal {
            Proposal::Sampled(sampled) => Some(sampled),
            Proposal::Inherited { .. } | Proposal::Submitted => None,
        })
    }

    /// Whether a trial on its way takes this one's place.
    pub fn is_replaced(&self, trial: TrialId) -> bool {
        let takes =
            |proposal: &Proposal| matches!(proposal, Proposal::Inherited { replaced, .. } if *replaced == trial);
        self.proposals.values().any(takes)
    }

    /// Whether a trial on its way goes on from this checkpoint.
    pub fn needs(&self, checkpoint: &str) -> bool {
        let needs =
            |proposal: &Proposal| matches!(proposal, Proposal::Inherited { object, .. } if object == checkpoint);
        self.proposals.values().any(needs)
    }

    /// A record of this trial was read: what it fulfils is no intent any more.
    pub fn read_back(&mut self, trial: TrialId, record: &Record) {
        match record {
            Record::Proposed(_) => drop(self.proposals.remove(&trial)),
            Record::Offered(_) => {
                self.lanes.remove(&trial);
                self.called.remove(&trial);
            }
            Record::Stopped(_) | Record::Concluded(_) => {
                self.lanes.remove(&trial);
                self.called.remove(&trial);
                self.closings.remove(&trial);
            }
            Record::StudyCreated(_)
            | Record::StudyPaused(_)
            | Record::StudyResumed(_)
            | Record::StudyConcluded(_)
            | Record::StudyDeleted(_)
            | Record::Accepted(_)
            | Record::Measured(_)
            | Record::Checkpointed(_)
            | Record::Finished(_)
            | Record::Failed(_)
            | Record::Released(_)
            | Record::Paused(_)
            | Record::Unknown => {}
        }
    }
}
