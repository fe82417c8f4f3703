//! The optimizer of a recipe, and how its learning rate runs.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The optimizer, with the names and defaults of PyTorch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "name", rename_all = "snake_case")]
pub enum Optimizer {
    Sgd(Sgd),
    /// Weight decay is added to the gradient.
    Adam(Adam),
    /// Weight decay is decoupled from the gradient.
    #[serde(rename = "adamw")]
    AdamW(Adam),
    /// Weight decay is added to the gradient.
    Rmsprop(Rmsprop),
    /// Weight decay is added to the gradient.
    Adagrad(Adagrad),
    /// Layer-wise adaptive rates over Adam (You et al., 2020); weight decay is decoupled.
    Lamb(Adam),
    /// The sign of a momentum (Chen et al., 2023); weight decay is decoupled.
    Lion(Lion),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Sgd {
    pub learning_rate: f64,
    #[serde(default)]
    pub momentum: f64,
    #[serde(default)]
    pub nesterov: bool,
    #[serde(default)]
    pub weight_decay: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Adam {
    pub learning_rate: f64,
    #[serde(default = "default_beta1")]
    pub beta1: f64,
    #[serde(default = "default_beta2")]
    pub beta2: f64,
    #[serde(default = "default_epsilon")]
    pub epsilon: f64,
    #[serde(default)]
    pub weight_decay: f64,
}

fn default_beta1() -> f64 {
    0.9
}

fn default_beta2() -> f64 {
    0.999
}

fn default_epsilon() -> f64 {
    1e-8
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Rmsprop {
    pub learning_rate: f64,
    /// How much of the mean square is kept.
    #[serde(default = "default_alpha")]
    pub alpha: f64,
    #[serde(default = "default_epsilon")]
    pub epsilon: f64,
    #[serde(default)]
    pub momentum: f64,
    #[serde(default)]
    pub weight_decay: f64,
}

fn default_alpha() -> f64 {
    0.99
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Adagrad {
    pub learning_rate: f64,
    #[serde(default = "default_adagrad_epsilon")]
    pub epsilon: f64,
    #[serde(default)]
    pub weight_decay: f64,
}

fn default_adagrad_epsilon() -> f64 {
    1e-10
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Lion {
    pub learning_rate: f64,
    #[serde(default = "default_beta1")]
    pub beta1: f64,
    #[serde(default = "default_lion_beta2")]
    pub beta2: f64,
    #[serde(default)]
    pub weight_decay: f64,
}

fn default_lion_beta2() -> f64 {
    0.99
}

/// How the learning rate runs over the steps of a trial: a factor of the optimizer's own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "name", rename_all = "snake_case")]
pub enum Schedule {
    /// The optimizer's own.
    Constant {
        /// The share of the resource, below one, in which the learning rate first rises in a straight line to the
        /// optimizer's own; the schedule runs over the rest.
        #[serde(default, skip_serializing_if = "super::is_zero")]
        #[schemars(extend("default" = 0.0))]
        warm_up: f64,
    },
    /// Times `factor` after every `every` epochs.
    Step {
        every: u32,
        #[serde(default = "default_factor")]
        factor: f64,
        /// The share of the resource, below one, in which the learning rate first rises in a straight line to the
        /// optimizer's own; the schedule runs over the rest.
        #[serde(default, skip_serializing_if = "super::is_zero")]
        #[schemars(extend("default" = 0.0))]
        warm_up: f64,
    },
    /// Half a cosine, from one down to `floor`, over the whole resource.
    Cosine {
        #[serde(default)]
        floor: f64,
        /// The share of the resource, below one, in which the learning rate first rises in a straight line to the
        /// optimizer's own; the schedule runs over the rest.
        #[serde(default, skip_serializing_if = "super::is_zero")]
        #[schemars(extend("default" = 0.0))]
        warm_up: f64,
    },
    /// A straight line from one down to `floor`, over the whole resource.
    Linear {
        #[serde(default)]
        floor: f64,
        /// The share of the resource, below one, in which the learning rate first rises in a straight line to the
        /// optimizer's own; the schedule runs over the rest.
        #[serde(default, skip_serializing_if = "super::is_zero")]
        #[schemars(extend("default" = 0.0))]
        warm_up: f64,
    },
    /// Up from `start` to one over the share `rise` of the resource, then down to `floor`, both by half cosines
    /// (Smith and Topin, 2019).
    OneCycle {
        #[serde(default = "default_rise")]
        rise: f64,
        #[serde(default = "default_start")]
        start: f64,
        #[serde(default)]
        floor: f64,
    },
    /// Times `factor` after every epoch.
    Exponential {
        factor: f64,
        /// The share of the resource, below one, in which the learning rate first rises in a straight line to the
        /// optimizer's own; the schedule runs over the rest.
        #[serde(default, skip_serializing_if = "super::is_zero")]
        #[schemars(extend("default" = 0.0))]
        warm_up: f64,
    },
    /// Times `factor` once the validation loss has not fallen for `patience` epochs.
    Plateau {
        #[serde(default = "default_factor")]
        factor: f64,
        #[serde(default = "default_patience")]
        patience: u32,
    },
}

impl Default for Schedule {
    fn default() -> Self {
        Self::Constant { warm_up: 0.0 }
    }
}

impl Schedule {
    /// The share of the resource in which the learning rate first rises to the optimizer's own.
    pub fn warm_up(&self) -> f64 {
        match *self {
            Self::Constant { warm_up }
            | Self::Step { warm_up, .. }
            | Self::Cosine { warm_up, .. }
            | Self::Linear { warm_up, .. }
            | Self::Exponential { warm_up, .. } => warm_up,
            Self::OneCycle { .. } | Self::Plateau { .. } => 0.0,
        }
    }
}

fn default_factor() -> f64 {
    0.1
}

fn default_rise() -> f64 {
    0.3
}

fn default_start() -> f64 {
    0.04
}

fn default_patience() -> u32 {
    10
}
