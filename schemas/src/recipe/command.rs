//! A recipe of kind `command`: a program of the agents' operators trains, in the place of a model that is described.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Checkpointing, DataObject};
use crate::params::ParamValue;

/// A trial that a program trains. No code travels: the recipe has the program's name, each agent's operator its path.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CommandRecipe {
    pub command: Command,
    /// When checkpoints that the program announces are kept.
    #[serde(default)]
    pub checkpoint: Checkpointing,
    /// Seconds of training after which the trial fails; absent: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_limit_s: Option<f64>,
    /// Seconds without a line of output after which the program counts as hung and the trial fails; absent: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub silence_limit_s: Option<f64>,
}

/// What is run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Command {
    /// The name by which the agents' operators allow the program; never a path.
    pub program: String,
    /// Handed over one by one, as they are: no shell reads them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub arguments: Vec<ParamValue>,
    /// Files that the program finds in its folder of files, by the names that they have there.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<String, CommandFile>,
}

/// Where a file comes from. Exactly one of `file` and `object` says it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CommandFile {
    /// In a study file: a path relative to it, which `regatta` uploads. In an offer: a path below the agent's data folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// An object in the bucket of data sets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<DataObject>,
}
