//! The study file: what a person writes to start a search.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use crate::ablation::{Ablation, Component, Design};
use crate::ids::{PoolId, SamplerId};
use crate::params::{ParamValue, Params};

/// A search: what is sought, where, by whom judged, and what it may cost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StudyFile {
    pub name: String,
    pub objective: Objective,
    /// What is sought beside it; the study then seeks the trials that no other dominates.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub further_objectives: Vec<Objective>,
    /// What every trial must keep to count.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub constraints: Vec<Constraint>,
    /// Parameter name to its domain; empty in an ablation.
    #[serde(default)]
    pub space: BTreeMap<String, Parameter>,
    /// What to leave out, in the place of a search.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ablation: Option<Ablation>,
    /// Configurations to try first, in this order, before the sampler is asked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub initial: Vec<Params>,
    /// What earlier trials measured, of this study's space: the sampler begins with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub earlier: Vec<Earlier>,
    #[serde(default)]
    pub sampler: Sampler,
    #[serde(default)]
    pub stopper: Stopper,
    pub budget: Budget,
    #[serde(default)]
    pub seed: u64,
    /// The agents that train it.
    #[serde(default)]
    pub pool: PoolId,
    /// The study's share of a fleet that several studies want: twice the weight, twice the lanes.
    #[serde(default = "default_weight")]
    pub weight: f64,
    /// How often a trial is tried again for causes that a retry can mend.
    #[serde(default = "default_retries")]
    pub retries: u32,
    /// Of how many trials that have ended the checkpoints are kept, the best trials'; absent: of all. Those of trials that
    /// go on or may go on are kept in any case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_checkpoints: Option<u32>,
    /// A recipe in which any value may be `$parameter`; a field whose parameter is inactive is left out.
    pub recipe: RecipeTemplate,
}

impl StudyFile {
    /// The study's objective, and those beside it.
    pub fn objectives(&self) -> impl Iterator<Item = &Objective> {
        std::iter::once(&self.objective).chain(&self.further_objectives)
    }

    /// The metrics that judge a trial: of its objectives, and of its constraints.
    pub fn judging_metrics(&self) -> impl Iterator<Item = &String> {
        self.objectives()
            .map(|objective| &objective.metric)
            .chain(self.constraints.iter().map(|constraint| &constraint.metric))
    }
}

fn default_weight() -> f64 {
    1.0
}

/// How often a trial is tried again where nobody said.
pub fn default_retries() -> u32 {
    3
}

/// The recipe before its `$parameter` references are resolved.
pub type RecipeTemplate = Map<String, Value>;

/// The result of a trial that is no trial of the study.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Earlier {
    pub params: Params,
    /// The study's objectives, and what its constraints name; finite.
    pub metrics: BTreeMap<String, f64>,
    /// Epochs after which it was measured; absent: the study's whole budget.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Objective {
    /// The metric that trials report, for example `validation_accuracy`.
    pub metric: String,
    pub goal: Goal,
}

/// Bounds of a metric that trials report; both are allowed values.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Constraint {
    pub metric: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    Maximize,
    Minimize,
}

impl Goal {
    /// The value as one to be made small; of a loss, the value.
    pub fn loss(self, value: f64) -> f64 {
        match self {
            Self::Minimize => value,
            Self::Maximize => -value,
        }
    }

    /// Whether `a` is strictly better than `b`. A value that is not a number is never better.
    pub fn is_better(self, a: f64, b: f64) -> bool {
        match self {
            Self::Maximize => a > b || (!a.is_nan() && b.is_nan()),
            Self::Minimize => a < b || (!a.is_nan() && b.is_nan()),
        }
    }

    /// Whether `a` is better than `b` by more than `delta`.
    pub fn is_better_by(self, a: f64, b: f64, delta: f64) -> bool {
        match self {
            Self::Maximize => self.is_better(a, b + delta),
            Self::Minimize => self.is_better(a, b - delta),
        }
    }
}

/// One parameter's domain, and when it exists at all.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Parameter {
    #[serde(flatten)]
    pub domain: Domain,
    /// The parameter exists only where each named parameter has (one of) the value(s).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub when: BTreeMap<String, OneOrMany>,
    /// Where its user expects the good values. In a file, the value alone will do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prior: Option<Prior>,
}

/// What a user believes of a parameter. Samplers look there first, and never there alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Prior {
    /// The value that is probably good.
    pub value: ParamValue,
    #[serde(default)]
    pub confidence: Confidence,
}

/// How sure a user is of a prior. Numbers are believed to lie around its value with a standard deviation of so much of
/// their range (of its logarithm, where that is searched); of choices, it is so many times as probable as each other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Confidence {
    /// A quarter; twice.
    Low,
    /// An eighth; four times.
    #[default]
    Medium,
    /// A sixteenth; eight times.
    High,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Domain {
    /// Both bounds included.
    Float {
        low: f64,
        high: f64,
        /// Uniform in the logarithm.
        #[serde(default)]
        log: bool,
        /// Only `low`, `low + step`, `low + 2 step`...
        #[serde(default, skip_serializing_if = "Option::is_none")]
        step: Option<f64>,
    },
    /// Both bounds included.
    Int {
        low: i64,
        high: i64,
        #[serde(default)]
        log: bool,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        step: Option<i64>,
    },
    /// Choices without an order.
    Categorical {
        choices: Vec<ParamValue>,
    },
    /// Choices in the order given.
    Ordinal {
        choices: Vec<ParamValue>,
    },
    Bool,
}

/// One value, or any of several.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum OneOrMany {
    One(ParamValue),
    Many(Vec<ParamValue>),
}

impl OneOrMany {
    pub fn contains(&self, value: &ParamValue) -> bool {
        match self {
            Self::One(one) => one == value,
            Self::Many(many) => many.contains(value),
        }
    }
}

/// Who proposes configurations. In a file, the name alone will do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "name", rename_all = "snake_case")]
pub enum Sampler {
    /// The one that suits the space, the budget and the objectives.
    #[default]
    Auto,
    /// At random: evenly over the space, or by its priors.
    Random,
    /// Random, but evenly spread: a scrambled Sobol sequence.
    Sobol,
    /// Tree-structured Parzen estimator (Bergstra et al., 2011).
    Tpe,
    /// Every combination of what the parameters take, in order.
    Grid {
        /// How many values a continuous parameter without a step takes.
        #[serde(default = "default_points")]
        points: u32,
    },
    /// For several objectives: a steady-state NSGA-II (Deb et al., 2002).
    Nsga2,
    /// Conformal quantile regression (Salinas et al., 2023): cheap, and at home with rungs and noise.
    Cqr,
    /// Expected improvement under a Gaussian process (Jones et al., 1998), over configurations and learning curves.
    Gp,
    /// CMA-ES (Hansen, 2016): for many trials of few numbers; choices are drawn each on its own.
    CmaEs,
    /// Regularized evolution (Real et al., 2019): for many trials of mixed, conditional and architecture spaces.
    Evolution,
    /// A program of your own, which answers on `regatta.v1.sampler.<service>`.
    External {
        /// The name that it serves under.
        service: SamplerId,
        /// Seconds that it may take for an answer.
        #[serde(default = "default_timeout")]
        timeout_s: u32,
        /// Who proposes in its place where it gives no good answer.
        #[serde(default = "default_fallback")]
        fallback: Box<Sampler>,
    },
}

fn default_timeout() -> u32 {
    5
}

fn default_fallback() -> Box<Sampler> {
    Box::new(Sampler::Random)
}

fn default_points() -> u32 {
    5
}

/// Who judges running trials. In a file, the name alone will do.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "name", rename_all = "snake_case")]
pub enum Stopper {
    /// Nobody: every trial trains to its end.
    #[default]
    None,
    /// Stops a trial whose best value is worse than the median, over the finished trials, of their running
    /// averages up to the same resource (Golovin et al., Google Vizier, 2017, as Maggy has it).
    Median {
        /// Trials that must have finished before any is judged.
        #[serde(default = "default_es_min")]
        es_min: u32,
        /// Epochs that a trial is left alone.
        #[serde(default = "default_grace")]
        grace: u32,
    },
    /// Stops a trial whose best value is worse than the best `percentile` percent of the running averages up to the
    /// same resource, over the finished trials; 50 is the median rule.
    Percentile {
        /// How many percent are good enough.
        #[serde(default = "default_percentile")]
        percentile: f64,
        /// Trials that must have finished before any is judged.
        #[serde(default = "default_es_min")]
        es_min: u32,
        /// Epochs that a trial is left alone.
        #[serde(default = "default_grace")]
        grace: u32,
    },
    /// Stops a trial whose value is outside of bounds; give one of them, or both.
    Threshold {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        lower: Option<f64>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        upper: Option<f64>,
        /// Epochs that a trial is left alone.
        #[serde(default = "default_grace")]
        grace: u32,
    },
    /// Stops a trial that has come to a plateau.
    Patience {
        /// Epochs without an improvement.
        #[serde(default = "default_patience")]
        epochs: u32,
        /// An improvement is by more than this.
        #[serde(default)]
        min_delta: f64,
    },
    /// Stops a trial whose learning curve, extrapolated to its end, will hardly be better than the best finished trial
    /// (Domhan et al., 2015).
    Curve {
        /// How probable it must be that it is.
        #[serde(default = "default_probability")]
        probability: f64,
        /// Epochs that a trial is left alone.
        #[serde(default = "default_curve_grace")]
        grace: u32,
    },
    /// Asynchronous successive halving (Li et al., 2020).
    Asha {
        /// The best 1 in `eta` goes on at each rung.
        #[serde(default = "default_eta")]
        eta: u32,
        /// The first rung, in epochs; left out: a ninth of `resource`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        min_resource: Option<u32>,
        #[serde(default = "default_brackets")]
        brackets: u32,
        /// What becomes of a trial at a rung.
        #[serde(default, skip_serializing_if = "AshaMode::is_stop")]
        #[schemars(extend("default" = "stop"))]
        mode: AshaMode,
    },
    /// Asynchronous Hyperband: each trial's first rung is drawn, the more often the better values there have foretold
    /// the final ones (Li et al., Hyper-Tune, 2022).
    Hyperband {
        /// The best 1 in `eta` goes on at each rung.
        #[serde(default = "default_eta")]
        eta: u32,
        /// The lowest rung, in epochs.
        #[serde(default = "default_lowest_resource")]
        min_resource: u32,
        /// What becomes of a trial at a rung.
        #[serde(default)]
        mode: AshaMode,
    },
    /// Promotes as ASHA does, but trains longer only as long as that still changes the ranking (Bohdal et al., 2023).
    Pasha {
        /// The best 1 in `eta` goes on at each rung.
        #[serde(default = "default_eta")]
        eta: u32,
        /// The first rung, in epochs; left out: as for ASHA.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        min_resource: Option<u32>,
    },
    /// Synchronous successive halving (Jamieson and Talwalkar, 2016), for comparisons: nobody goes on from a rung before
    /// the last of its cohort has come.
    Halving {
        /// The best 1 in `eta` goes on at each rung.
        #[serde(default = "default_eta")]
        eta: u32,
        /// The first rung, in epochs; left out: as for ASHA.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        min_resource: Option<u32>,
    },
    /// Trials in stages, as a bulk-synchronous engine runs them, for comparisons: none begins before all of the stage
    /// before have ended.
    Stages {
        /// Trials of a stage.
        #[serde(default = "default_stage")]
        size: u32,
        #[serde(default)]
        early_stopping: EarlyStopping,
    },
    /// Population-based training (Jaderberg et al., 2017): of trials that train side by side, those that fall behind are
    /// replaced by copies of those ahead, with values changed on the way. US patent 11,941,527 covers it as published.
    Pbt {
        /// Trials that train side by side.
        #[serde(default = "default_population")]
        population: u32,
        /// Epochs between two comparisons; left out: a tenth of `resource`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        interval: Option<u32>,
        /// The share that is replaced at a comparison, and the share that is copied.
        #[serde(default = "default_quantile")]
        quantile: f64,
        /// Parameters whose values a copy changes; left out: all that may change during a training.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        perturb: Option<Vec<String>>,
    },
}

/// What becomes of a trial that arrives at a rung.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AshaMode {
    /// It goes on if it is among the best 1 in `eta` of those that came before it; else it ends.
    #[default]
    Stop,
    /// It is set aside with a checkpoint, and goes on, on any agent, as soon as it is among the best 1 in `eta`.
    Promote,
}

impl AshaMode {
    /// Files written before there was a choice do not name it.
    fn is_stop(&self) -> bool {
        *self == Self::Stop
    }
}

/// Who ends a trial of a stage early. Its lane stays idle until the stage ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EarlyStopping {
    /// Nobody.
    #[default]
    None,
    /// Its agent, which knows this trial and no other: at a plateau, by `patience` with its defaults.
    Agent,
    /// Who knows all trials: by `median` with its defaults.
    Global,
}

/// Trials that must have finished before any is judged, where nobody said.
pub fn default_es_min() -> u32 {
    10
}

/// Epochs that a trial is left alone, where nobody said.
pub fn default_grace() -> u32 {
    1
}

/// Epochs without an improvement that make a plateau, where nobody said.
pub fn default_patience() -> u32 {
    5
}

fn default_percentile() -> f64 {
    50.0
}

fn default_probability() -> f64 {
    0.05
}

fn default_curve_grace() -> u32 {
    4
}

pub(crate) fn default_eta() -> u32 {
    3
}

fn default_lowest_resource() -> u32 {
    1
}

/// The first rung, in epochs of `resource`, where it may be left out: a ninth, so that two halvings by 3 come before
/// the end. The very first values rank badly: of 1,500 random networks on each of five LCBench tasks (52 epochs), the
/// ranks after 1 epoch correlate with the final ones by -0.05 to 0.33, after 6 by 0.65 to 0.95.
pub fn first_rung(min_resource: Option<u32>, resource: u32) -> u32 {
    min_resource.unwrap_or_else(|| resource.div_ceil(9)).max(1)
}

fn default_stage() -> u32 {
    8
}

pub(crate) fn default_population() -> u32 {
    8
}

pub(crate) fn default_quantile() -> f64 {
    0.25
}

/// Epochs between two comparisons of a population, where they may be left out: a tenth of `resource`.
pub fn pbt_interval(interval: Option<u32>, resource: u32) -> u32 {
    interval.unwrap_or_else(|| resource.div_ceil(10)).max(1)
}

pub(crate) fn default_brackets() -> u32 {
    1
}

/// What the study may cost; every limit counts for the study as a whole, and exactly.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Budget {
    /// Configurations tried. In an ablation, which knows how many it needs, it may be left out.
    pub trials: u32,
    /// Epochs of a trial that is not stopped.
    pub resource: u32,
    /// Seconds from the study's creation to its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wall_time_s: Option<f64>,
    /// The study ends when a trial reaches this value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<f64>,
    /// The study ends when more trials promise no more than noise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub converged: Option<Converged>,
    /// Trials that may fail: the study ends when one more has. Absent: any number, once a
    /// trial has given a value; before that, ten that come to nothing by themselves end it, but for a grid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failures: Option<u32>,
}

/// When a study has converged.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Converged {
    /// Trials in a row, each trained as far as its stopper let it, that have not improved the best value.
    pub trials: u32,
    /// An improvement is by more than this; left out: by more than the metric's noise, as the curves show it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_delta: Option<f64>,
}

impl Parameter {
    /// Whether the parameter exists beside these; they must hold every parameter that its condition names
    /// and that exists.
    pub fn is_active(&self, params: &Params) -> bool {
        self.when.iter().all(|(parent, values)| params.get(parent).is_some_and(|value| values.contains(value)))
    }
}
