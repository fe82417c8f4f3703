//! A study that was searched before, with all that its trials measured: from its log, or from an export.

use std::path::Path;

use anyhow::Context;
use regatta_broker::Link;
use regatta_schemas::StudyId;
use regatta_schemas::api::{StudyShown, TrialShown};
use serde::{Deserialize, Serialize};

use crate::ask;
use crate::history::History;

/// As `regatta export --format json` writes it.
#[derive(Serialize, Deserialize)]
pub struct Recorded {
    pub study: StudyShown,
    pub trials: Vec<TrialShown>,
}

impl Recorded {
    /// # Errors
    /// When the file cannot be read, or is no export.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_slice(&bytes)
            .with_context(|| format!("{} is not what `regatta export --format json` writes", path.display()))
    }

    /// # Errors
    /// When the server is away, or there is no such study.
    pub async fn fetch(link: &Link, id: &StudyId) -> anyhow::Result<Self> {
        Self::of(&ask::history(link, id).await?)
    }

    /// # Errors
    /// When the study is gone.
    pub fn of(history: &History) -> anyhow::Result<Self> {
        let study = history.shown().context("the study has just been deleted")?;
        let trials = history.trials().into_iter().filter_map(|trial| history.trial(trial.trial)).collect();
        Ok(Self { study, trials })
    }
}
