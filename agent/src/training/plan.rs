//! What is to be trained, every value resolved, and its split into a shape (which compiles) and numbers.

use regatta_autodiff::families::{Mlp, Model};
use regatta_autodiff::graph::{Dtype, Provider};
use regatta_autodiff::step::{self, Optimizer, Scalar, ScalarRole, StepPlan, Update};

pub use regatta_autodiff::families::Activation;

use super::TrainingError;
use super::dataset::{Feature, Split, Target};
use crate::runtime::Array;

/// One trial, resolved. Independent of the wire's types.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    pub model: ModelPlan,
    pub loss: Loss,
    pub optimizer: OptimizerPlan,
    /// Rows of a minibatch. A training split with fewer rows is one minibatch; a last, smaller one is left out.
    pub batch_size: usize,
    /// The joint norm that gradients are clipped to.
    pub clip_norm: Option<f32>,
    pub seed: u64,
}

#[derive(Debug, Clone, PartialEq)]
pub enum ModelPlan {
    Mlp {
        hidden: Vec<usize>,
        activation: Activation,
        /// The share of each hidden layer's outputs that is dropped, in `0 .. 1`.
        dropout: f32,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    CrossEntropy,
    MeanSquaredError,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum OptimizerPlan {
    Sgd {
        learning_rate: f64,
        momentum: f64,
        nesterov: bool,
        weight_decay: f64,
    },
    Adam(Adam),
    /// With decoupled weight decay.
    AdamW(Adam),
}

/// The numbers of Adam and AdamW.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Adam {
    pub learning_rate: f64,
    pub beta1: f64,
    pub beta2: f64,
    pub epsilon: f64,
    pub weight_decay: f64,
}

impl Plan {
    /// Whether every number is in its range.
    pub(super) fn check(&self) -> Result<(), TrainingError> {
        let ModelPlan::Mlp { dropout, .. } = self.model;
        let positive = |number: f64| number.is_finite() && number > 0.0;
        let not_negative = |number: f64| number.is_finite() && number >= 0.0;
        let share = |number: f64| (0.0..1.0).contains(&number);
        let mut rules = vec![
            ("batch_size is at least 1", self.batch_size > 0),
            ("dropout is in 0 .. 1", share(f64::from(dropout))),
            ("clip_norm is above 0", self.clip_norm.is_none_or(|norm| positive(f64::from(norm)))),
        ];
        match self.optimizer {
            OptimizerPlan::Sgd { learning_rate, momentum, nesterov, weight_decay } => rules.extend([
                ("learning_rate is not negative", not_negative(learning_rate)),
                ("weight_decay is not negative", not_negative(weight_decay)),
                ("momentum is not negative", not_negative(momentum)),
                ("nesterov needs momentum", !nesterov || momentum > 0.0),
            ]),
            OptimizerPlan::Adam(adam) | OptimizerPlan::AdamW(adam) => rules.extend([
                ("learning_rate is not negative", not_negative(adam.learning_rate)),
                ("weight_decay is not negative", not_negative(adam.weight_decay)),
                ("beta1 is in 0 .. 1", share(adam.beta1)),
                ("beta2 is in 0 .. 1", share(adam.beta2)),
                ("epsilon is not negative", not_negative(adam.epsilon)),
            ]),
        }
        match rules.into_iter().find(|(_, holds)| !holds) {
            Some((rule, _)) => Err(TrainingError::Configuration { reason: format!("it does not hold that {rule}") }),
            None => Ok(()),
        }
    }

    /// What of the plan decides the graph. Plans of the same shape share a compiled one.
    pub(super) fn shape(&self, train: &Split, provider: Provider) -> Result<StepPlan, TrainingError> {
        let (loss, outputs) = match (self.loss, &train.target) {
            (Loss::CrossEntropy, Target::Classes { classes, .. }) => {
                (step::Loss::CrossEntropy { classes: *classes }, *classes)
            }
            (Loss::MeanSquaredError, target @ Target::Values { .. }) => {
                (step::Loss::MeanSquaredError { width: target.width() }, target.width())
            }
            (Loss::CrossEntropy, Target::Values { .. }) | (Loss::MeanSquaredError, Target::Classes { .. }) => {
                let reason = "cross-entropy goes with classes, squared errors with values".into();
                return Err(TrainingError::Configuration { reason });
            }
        };
        let ModelPlan::Mlp { hidden, activation, dropout } = &self.model;
        let mlp = Mlp {
            inputs: train.features.iter().map(Feature::width).sum(),
            hidden: hidden.clone(),
            activation: *activation,
            dropout: *dropout > 0.0,
            outputs,
        };
        Ok(StepPlan {
            model: Model::Mlp(mlp),
            loss,
            update: self.optimizer.update(),
            clip: self.clip_norm.is_some(),
            rows: train.rows(),
            batch: self.batch_size.min(train.rows()),
            provider,
        })
    }

    /// What a scalar input of the plan's graph is set to.
    pub(super) fn scalar(&self, scalar: &Scalar) -> Array {
        if scalar.role == ScalarRole::DropoutSeed {
            return Array::I64(vec![self.seed.cast_signed()]);
        }
        let ModelPlan::Mlp { dropout, .. } = self.model;
        let mut numbers = self.optimizer.numbers();
        numbers.push((ScalarRole::DropoutRate, f64::from(dropout)));
        numbers.extend(self.clip_norm.map(|norm| (ScalarRole::ClipNorm, f64::from(norm))));
        let number = numbers.into_iter().find(|(role, _)| *role == scalar.role);
        let (_, number) = number.expect("a graph asks only for numbers that its plan has");
        #[expect(clippy::cast_possible_truncation, reason = "the graph says how precise it takes the number")]
        match scalar.input.dtype {
            Dtype::F64 => Array::F64(vec![number]),
            Dtype::F16 | Dtype::Bf16 | Dtype::F32 | Dtype::U8 | Dtype::I32 | Dtype::I64 | Dtype::Bool => {
                Array::F32(vec![number as f32])
            }
        }
    }
}

impl OptimizerPlan {
    fn update(&self) -> Update {
        match *self {
            Self::Sgd { momentum, nesterov, weight_decay, .. } => Update {
                optimizer: if momentum > 0.0 { Optimizer::Momentum { nesterov } } else { Optimizer::Sgd },
                weight_decay: weight_decay > 0.0,
            },
            Self::Adam(adam) => Update { optimizer: Optimizer::Adam, weight_decay: adam.weight_decay > 0.0 },
            Self::AdamW(adam) => Update { optimizer: Optimizer::AdamW, weight_decay: adam.weight_decay > 0.0 },
        }
    }
    fn numbers(&self) -> Vec<(ScalarRole, f64)> {
        match *self {
            Self::Sgd { learning_rate, momentum, weight_decay, .. } => vec![
                (ScalarRole::LearningRate, learning_rate),
                (ScalarRole::Momentum, momentum),
                (ScalarRole::WeightDecay, weight_decay),
            ],
            Self::Adam(adam) | Self::AdamW(adam) => vec![
                (ScalarRole::LearningRate, adam.learning_rate),
                (ScalarRole::Beta1, adam.beta1),
                (ScalarRole::Beta2, adam.beta2),
                (ScalarRole::Epsilon, adam.epsilon),
                (ScalarRole::WeightDecay, adam.weight_decay),
            ],
        }
    }
}
