//! Turns the wire's recipe into the training's plan.

use regatta_schemas::recipe::{self, Recipe};

use crate::training::{Activation, Adam, Loss, ModelPlan, OptimizerPlan, Plan, TrainingError};

/// The plan of a trial. Whether its numbers make sense is for the training to say.
///
/// # Errors
/// The recipe asks for what this agent does not train.
pub fn plan(recipe: &Recipe, seed: u64) -> Result<Plan, TrainingError> {
    #[expect(clippy::cast_possible_truncation, reason = "the training is in single precision")]
    let single = |number: f64| number as f32;
    let recipe::Model::Mlp(mlp) = &recipe.model else { return Err(unknown("model")) };
    Ok(Plan {
        model: ModelPlan::Mlp {
            hidden: mlp.hidden_widths().into_iter().map(|width| width as usize).collect(),
            activation: match mlp.activation {
                recipe::Activation::Relu => Activation::Relu,
                recipe::Activation::Tanh => Activation::Tanh,
                recipe::Activation::Sigmoid => Activation::Sigmoid,
                recipe::Activation::Gelu => Activation::Gelu,
                _ => return Err(unknown("activation")),
            },
            dropout: single(mlp.dropout),
        },
        loss: match recipe.loss.name() {
            recipe::LossName::CrossEntropy => Loss::CrossEntropy,
            recipe::LossName::MeanSquaredError => Loss::MeanSquaredError,
            _ => return Err(unknown("loss")),
        },
        optimizer: match &recipe.optimizer {
            recipe::Optimizer::Sgd(sgd) => OptimizerPlan::Sgd {
                learning_rate: sgd.learning_rate,
                momentum: sgd.momentum,
                nesterov: sgd.nesterov,
                weight_decay: sgd.weight_decay,
            },
            recipe::Optimizer::Adam(numbers) => OptimizerPlan::Adam(adam(numbers)),
            recipe::Optimizer::AdamW(numbers) => OptimizerPlan::AdamW(adam(numbers)),
            _ => return Err(unknown("optimizer")),
        },
        batch_size: recipe.batch_size as usize,
        clip_norm: recipe.clip_norm.map(single),
        seed,
    })
}

fn unknown(what: &str) -> TrainingError {
    TrainingError::Configuration { reason: format!("this agent does not know the {what} of the recipe") }
}

fn adam(numbers: &recipe::Adam) -> Adam {
    Adam {
        learning_rate: numbers.learning_rate,
        beta1: numbers.beta1,
        beta2: numbers.beta2,
        epsilon: numbers.epsilon,
        weight_decay: numbers.weight_decay,
    }
}
